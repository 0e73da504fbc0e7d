"""Checked configuration: an unknown key or an impossible value is an error that names the key and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self  # it comes with pydantic; typing has it since Python 3.11


class ConfigError(ValueError):
    """A configuration that cannot be meant as written."""


class Config(BaseModel):
    """A frozen record whose every field is checked against its type and range."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: dict[str, Any], where: str | None = None) -> Self:
        """Builds the record; `where` says in an error whose values they are (e.g. "experiments.yaml: profiles.digits").

        Raises:
            ConfigError: every unknown key (with the nearest known one) and every value out of range, at once.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            prefix = where or cls.__name__
            lines = [f"{prefix}: {cls._explain(problem)}" for problem in error.errors()]
            raise ConfigError("\n".join(lines)) from None

    @classmethod
    def _explain(cls, problem: dict[str, Any]) -> str:
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, cls.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(cls.model_fields))}"
            return f"unknown key {key!r}; {hint}"
        if problem["type"] == "missing":
            return f"key {key!r} is missing"
        return f"{key or 'values'} = {problem['input']!r}: {problem['msg']}"

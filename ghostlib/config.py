"""Checked configuration: an unknown key or an impossible value is an error that names the key and what is allowed."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from typing_extensions import Self  # it comes with pydantic; typing has it since Python 3.11

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

LINES = 3  # of an error: more are not read
_WIDTH = 80  # characters of a value in an error


class ConfigError(ValueError):
    """A configuration that cannot be meant as written."""


class Config(BaseModel):
    """A frozen record whose every field is checked against its type and range."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuses true and false where neither is meant; pydantic takes them for 1 and 0."""
        if _holds_truth(value) and not _may_be_truth(cls.model_fields[field.field_name].annotation):
            raise ValueError("true and false are no values of it; a word is written in quotes")
        return value

    @classmethod
    def parse(cls, values: dict[str, Any], where: str | None = None) -> Self:
        """Builds the record; `where` says in an error whose values they are (e.g. "experiments.yaml: profiles.digits").

        Raises:
            ConfigError: the first unknown keys (with the nearest known one) and values out of range, in three lines.
        """
        prefix = where or cls.__name__
        try:
            return cls.model_validate(mapping(values, prefix))
        except ValidationError as error:
            lines = [f"{prefix}: {cls._explain(problem)}" for problem in error.errors()]
            if len(lines) > LINES:
                lines = [*lines[:LINES - 1], f"and {len(lines) - LINES + 1} more"]
            raise ConfigError("\n".join(lines)) from None

    @classmethod
    def _explain(cls, problem: dict[str, Any]) -> str:
        *path, last = problem["loc"] or ("",)
        key, record = ".".join(map(str, problem["loc"])), _record_at(cls, path)
        if problem["type"] == "extra_forbidden":
            return f"unknown key {key!r}; {hint(last, record.model_fields)}"
        if problem["type"] == "missing":
            return f"key {key!r} is missing"
        told = problem["msg"].removeprefix("Value error, ")
        if not key:  # of several values together, which the message names
            return told
        field = record.model_fields.get(last)
        return f"{key} = {short(problem['input'])}: {told}" + (f" ({field.description})" if field and field.description
                                                               else "")


def hint(name: Any, known: Iterable[Any]) -> str:
    """What an unknown name may have been meant to be: the nearest known one, or else all of them."""
    known = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"


def short(value: Any) -> str:
    """A value for an error: as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH - 1]}…"


def mapping(values: Any, where: str) -> dict[str, Any]:
    """The values, if they are keys with values.

    Raises:
        ConfigError: they are something else, such as the nothing behind a key without a value.
    """
    if isinstance(values, dict):
        return values
    holds = "nothing" if values is None else short(values)
    raise ConfigError(f"{where} holds {holds}, where keys with values are meant; fill it in or remove it")


def check_keys(values: dict[str, Any], known: Iterable[str], where: str) -> None:
    """Refuses unknown keys, keys without a value, and what has no keys.

    Raises:
        ConfigError: it names the first of them.
    """
    known = list(known)
    for key, value in mapping(values, where).items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; {hint(key, known)}")
        if value is None:
            raise ConfigError(f"{where}: {key} holds nothing; fill it in or remove it")


def read_yaml(path: Path | Traversable) -> Any:
    """The content of a YAML file, read as DVC reads it.

    Raises:
        ConfigError: it is absent, not UTF-8, not YAML, or has a key twice in one place; with the line.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import ReusedAnchorWarning, YAMLError

    warnings.simplefilter("ignore", ReusedAnchorWarning)  # of a section that was copied, with its anchors
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{Path(str(path)).resolve()} does not exist; run from the repository's root") from None
    except UnicodeDecodeError as error:
        line = error.object[:error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file in "
                          "that encoding") from None
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f"{path}, line {mark.line + 1}" if mark else str(path)
        # The library quotes both values whole, which may be whole sections.
        if twice := re.match(r'found duplicate key "(.*?)" with value', problem or ""):
            raise ConfigError(f"{place}: key {twice[1]!r} stands twice in one place; remove one of them") from None
        raise ConfigError(f"{path} is not valid YAML" + (f": line {mark.line + 1}, {problem}" if mark
                                                         else f": {str(error).splitlines()[0]}")) from None


def _record_at(record: type[BaseModel], path: Iterable[Any]) -> type[BaseModel]:
    """The record that a path of keys leads to; items of lists and of mappings belong to the record they are in."""
    for part in path:
        if part in record.model_fields:
            record = _record_in(record.model_fields[part].annotation) or record
    return record


def _record_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_record_in, get_args(annotation))), None)


def _holds_truth(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_truth, value.values()))
    return any(map(_holds_truth, value)) if isinstance(value, list | tuple) else isinstance(value, bool)


def _may_be_truth(annotation: Any) -> bool:
    """Whether true or false may be meant; a record looks after its own fields."""
    return annotation in (bool, Any) or _record_in(annotation) is not None or any(
        map(_may_be_truth, get_args(annotation)))

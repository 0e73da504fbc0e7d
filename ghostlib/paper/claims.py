"""Every checkable claim of the paper as data: claims.yaml and latency.yaml, read and checked.

    claims.load()  +  results/<profile>/runs/*.csv
      -> evidence.evidence()    a row a comparison
      -> verdicts.judge()       a row a claim
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from ghostlib.config import Config, ConfigError
from ghostlib.exhibits import latency
from ghostlib.paper import numbers
from ghostlib.training.recipe import Share

_KINDS = ("better", "counts", "latencies", "ranks", "not_attempted")
_Cell = Annotated[tuple[str, ...], Field(min_length=2, max_length=3)]


class Rule(Config):
    """The numbers of `rule:` in claims.yaml, which says there what each means."""

    confidence: Share
    power: Share
    significant_seeds: int = Field(ge=6, description="of five, no sign-flip p is below 0.06")
    tolerance: Share
    latency_tolerance: Share
    rank_agreement: Share
    ceiling: float = Field(ge=0, le=100, description="%")
    reliability: Share

    @property
    def alpha(self) -> float:
        """The level of the tests."""
        return 1 - self.confidence


class Pair(Config):
    """`cell` is claimed to be better than `than`."""

    cell: _Cell
    than: _Cell


class Counts(Config):
    """Rows of a table (all, if none is named) with the printed counts, or with those of the rows `like`."""

    table: Literal["table_9", "table_10"]
    rows: tuple[str, ...] = ()
    like: tuple[str, ...] = ()


class Ratio(Config):
    """An entry of latency.yaml, which says there what each key means."""

    id: str
    row: str
    to: str
    claim: str
    direction: Literal["at most", "at least"]
    bound: Literal["printed", "same", "shorter"]


class Claim(Config):
    """An entry of claims.yaml, which says there what each key means."""

    id: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    statement: str
    place: str
    experiment: str
    better: tuple[Pair, ...] = ()
    counts: Counts | None = None
    latencies: tuple[str, ...] = ()
    ranks: str | None = None
    not_attempted: str | None = None
    caveat: str = ""
    headline: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Claim:
        if sum(bool(getattr(self, kind)) for kind in _KINDS) != 1:
            raise ValueError(f"a claim has exactly one of {', '.join(_KINDS)}")
        return self

    def locate(self, cell: tuple[str, ...]) -> tuple[str, ...]:
        """(table, row, column) of a cell that may leave out the claim's own table."""
        return cell if len(cell) == 3 else (self.experiment, *cell)


@functools.cache
def load() -> tuple[Rule, tuple[Claim, ...]]:
    """The rule and the claims of claims.yaml, checked as `parse` does."""
    return parse(yaml.safe_load(resources.files(__package__).joinpath("claims.yaml").read_text(encoding="utf-8")))


def parse(values: Mapping[str, Any]) -> tuple[Rule, tuple[Claim, ...]]:
    """The rule and the claims of a mapping as claims.yaml holds it.

    Raises:
        ConfigError: an unknown key, table, row, column or latency, or an id used twice; it names the claim and the key.
    """
    rule = Rule.parse(values["rule"], "claims.yaml: rule")
    claims: dict[str, Claim] = {}
    for entry in values["claims"]:
        claim = Claim.parse(entry, f"claims.yaml: {entry.get('id')}")
        if claim.id in claims:
            raise ConfigError(f"claims.yaml: {claim.id}: id: another claim has it")
        try:
            _check(claim)
        except ValueError as error:
            raise ConfigError(f"claims.yaml: {claim.id}: {error}") from None
        claims[claim.id] = claim
    return rule, tuple(claims.values())


@functools.cache
def ratios() -> dict[str, Ratio]:
    """The entries of latency.yaml by their id."""
    return {entry["id"]: Ratio.parse(entry, f"latency.yaml: {entry['id']}") for entry in latency.claims()}


def _check(claim: Claim) -> None:
    known = [*numbers.load(), "complexity", "latency"]
    if claim.experiment not in known:
        raise ValueError(f"experiment: unknown {claim.experiment!r}; known: {', '.join(known)}")
    for pair in claim.better:
        for key, cell in pair:
            try:
                numbers.value(*claim.locate(cell))
            except ValueError as error:
                raise ValueError(f"better.{key}: {error}") from None
    if claim.counts:
        rows, like = claim.counts.rows, claim.counts.like
        if unknown := {*rows, *like} - {*numbers.table(claim.counts.table).index}:
            raise ValueError(f"counts: {claim.counts.table} has no row {', '.join(sorted(unknown))}")
        if like and len(like) != len(rows):
            raise ValueError("counts.like: needs one row for each of counts.rows")
    if unknown := {*claim.latencies} - {*ratios()}:
        raise ValueError(f"latencies: unknown {', '.join(sorted(unknown))}; known: {', '.join(ratios())}")
    if claim.ranks and claim.ranks not in numbers.table("table_9"):
        raise ValueError(f"ranks: table_9 has no column {claim.ranks!r}")

"""Every checkable claim of the paper as data: claims.yaml and latency.yaml, read and checked."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from ghostlib.config import Config, ConfigError
from ghostlib.paper import exhibits, numbers

_KINDS = ("better", "counts", "latencies", "ranks", "not_attempted")
_Cell = Annotated[tuple[str, ...], Field(min_length=2, max_length=3)]
_Share = Annotated[float, Field(ge=0, le=1)]
# What claims are about, in the order in which they are counted, by what tests them; the other experiments measure
# accuracies.
ACCURACY = "accuracy"
_SUBJECTS = {"complexity": "sizes and operations", "latency": "CPU time", "table_10": "object detection"}
SUBJECTS = (ACCURACY, *_SUBJECTS.values())


class Rule(Config):
    """The numbers of `rule:` in claims.yaml, which says there what each means."""

    confidence: _Share
    margin: float = Field(gt=0, description="points of top-1 accuracy")
    bounded_seeds: int = Field(ge=2)
    power: _Share
    significant_seeds: int = Field(ge=6, description="of five, no sign-flip p is below 0.06")
    tolerance: _Share
    latency_tolerance: _Share
    rank_agreement: _Share
    ceiling: float = Field(ge=0, le=100, description="%")
    reliability: _Share

    @property
    def alpha(self) -> float:
        """The level of the tests."""
        return 1 - self.confidence


class Pair(Config):
    """`cell` is claimed to be better than `than`."""

    cell: _Cell
    than: _Cell
    label: str = ""


class Aside(Config):
    """Comparisons that stand beside a verdict and decide nothing; claims.yaml says what each key means."""

    says: str
    pairs: tuple[Pair, ...] = Field(min_length=1)
    average: bool = False
    otherwise: str = ""


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
    exhibit: str = ""
    better: tuple[Pair, ...] = ()
    counts: Counts | None = None
    latencies: tuple[str, ...] = ()
    ranks: str | None = None
    not_attempted: str | None = None
    asides: tuple[Aside, ...] = ()
    caveat: str = ""
    but: str = ""
    headline: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Claim:
        if sum(bool(getattr(self, kind)) for kind in _KINDS) != 1:
            raise ValueError(f"a claim has exactly one of {', '.join(_KINDS)}")
        return self

    @property
    def subject(self) -> str:
        """What the claim is about, one of `SUBJECTS`."""
        return _SUBJECTS.get(self.experiment, ACCURACY)

    @property
    def shown_at(self) -> str:
        """The exhibit that the claim is about: what tests it, unless it names another."""
        return self.exhibit or self.experiment

    def locate(self, cell: tuple[str, ...]) -> tuple[str, ...]:
        """(table, row, column) of a cell that may leave out the claim's own table."""
        return cell if len(cell) == 3 else (self.experiment, *cell)


@functools.cache
def load() -> tuple[Rule, tuple[Claim, ...]]:
    """The rule and the claims of claims.yaml, checked as `parse` does."""
    return parse(_data())


def history() -> str:
    """When the rule and the claims were fixed and what was changed since, as git shows it, in sentences."""
    return _data()["history"].strip()


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
    entries = yaml.safe_load(resources.files(__package__).joinpath("latency.yaml").read_text(encoding="utf-8"))
    return {entry["id"]: Ratio.parse(entry, f"latency.yaml: {entry['id']}") for entry in entries}


@functools.cache
def _data() -> dict[str, Any]:
    return yaml.safe_load(resources.files(__package__).joinpath("claims.yaml").read_text(encoding="utf-8"))


def _check(claim: Claim) -> None:
    known = [*numbers.load(), "complexity", "latency"]
    if claim.experiment not in known:
        raise ValueError(f"experiment: unknown {claim.experiment!r}; known: {', '.join(known)}")
    if claim.shown_at not in exhibits.load():
        raise ValueError(f"exhibit: {claim.shown_at!r} is none; known: {', '.join(exhibits.load())}")
    named = [("better", pair) for pair in claim.better]
    named += [("asides", pair) for aside in claim.asides for pair in aside.pairs]
    for place, pair in named:
        for key in ("cell", "than"):
            try:
                numbers.value(*claim.locate(getattr(pair, key)))
            except ValueError as error:
                raise ValueError(f"{place}.{key}: {error}") from None
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

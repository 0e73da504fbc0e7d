"""Every checkable claim of the paper as data: claims.yaml and latency.yaml, read and checked."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ghostlib.config import Config, ConfigError, check_keys, mapping, read_yaml
from ghostlib.measures import pretrained
from ghostlib.paper import exhibits, numbers

_KINDS = ("better", "not_better", "correlates", "counts", "latencies", "ranks", "undominated", "weights",
          "not_attempted")
# Experiments of ours, no tables of the paper's; experiments.yaml says what they train. Each has one of these names in a
# comparison.
OWN = {"rivals": "without branches and teacher", "plain_distilled": "with the teacher and without branches",
       "causes": "in the search for causes"}
_Cell = Annotated[tuple[str, ...], Field(min_length=2, max_length=3)]
_Share = Annotated[float, Field(ge=0, le=1)]
# What claims are about, in the order in which they are counted, by what tests them; the other experiments measure
# accuracies.
ACCURACY = "accuracy"
_SUBJECTS = {"complexity": "sizes and operations", "latency": "CPU time", "table_10": "object detection",
             "published": "published weights"}
SUBJECTS = (ACCURACY, *_SUBJECTS.values())


class Rule(Config):
    """The numbers of `rule:` in claims.yaml, which says there what each means."""

    confidence: _Share
    margin: float = Field(gt=0, description="points of top-1 accuracy")
    bounded_seeds: int = Field(ge=2)
    power: _Share
    significant_seeds: int = Field(ge=6, description="of five, no sign-flip p is below 0.06")
    tolerance: _Share
    weights_tolerance: float = Field(gt=0, description="points of top-1 accuracy")
    latency_tolerance: _Share
    latency_sessions: int = Field(ge=2)
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


class Correlation(Config):
    """Rows and columns of the claim's own table; a row stands for a teacher, at the accuracy (%) the paper prints."""

    teachers: dict[str, float] = Field(min_length=2)
    columns: tuple[str, ...] = Field(min_length=1)


class Counts(Config):
    """Rows of a table (all, if none is named) with the printed counts, with those of the rows `like`, or with fewer
    multiply-accumulates than the rows `fewer_than`."""

    table: Literal["table_9", "table_10"]
    rows: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    fewer_than: tuple[str, ...] = ()


class Undominated(Config):
    """Rows of Table 9, and the column in which no row of at least their published accuracy is below them."""

    rows: tuple[str, ...] = Field(min_length=1)
    cost: str


class Ratio(Config):
    """An entry of latency.yaml, which says there what each key means."""

    id: str
    row: str
    to: str
    claim: str
    direction: Literal["at most", "at least"]
    bound: Literal["same"] | Annotated[float, Field(gt=0)]


class Claim(Config):
    """An entry of claims.yaml, which says there what each key means."""

    id: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    statement: str
    place: str
    experiment: str
    exhibit: str = ""
    better: tuple[Pair, ...] = ()
    not_better: tuple[Pair, ...] = ()
    correlates: Correlation | None = None
    counts: Counts | None = None
    latencies: tuple[str, ...] = ()
    ranks: str | None = None
    undominated: Undominated | None = None
    weights: tuple[str, ...] = ()
    not_attempted: str | None = None
    asides: tuple[Aside, ...] = ()
    caveat: str = ""
    but: str = ""
    headline: bool = False
    ours: bool = False

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
    def claimed_by(self) -> str:
        """Who claims it, or chose what is compared: "the paper" or "us"."""
        return "us" if self.ours else "the paper"

    @property
    def shown_at(self) -> str:
        """The exhibit that the claim is about: what tests it, unless it names another."""
        return self.exhibit or self.experiment

    def locate(self, cell: tuple[str, ...]) -> tuple[str, ...]:
        """(table, row, column) of a cell that may leave out the claim's own table."""
        return cell if len(cell) == 3 else (self.experiment, *cell)


def published(cell: tuple[str, ...]) -> float:
    """What the paper prints in a (table, row, column); NaN where it prints nothing, as in all experiments of ours.

    Raises:
        ValueError: the paper has no such cell.
    """
    return math.nan if cell[0] in OWN else numbers.value(*cell)


def as_accurate(row: str) -> list[str]:
    """The other rows of Table 9 with at least the row's published top-1 accuracy."""
    accuracies = numbers.table("table_9")[numbers.TOP1]
    return [other for other, accuracy in accuracies.items() if other != row and accuracy >= accuracies[row]]


@functools.cache
def load() -> tuple[Rule, tuple[Claim, ...]]:
    """The rule and the claims of claims.yaml, checked as `parse` does."""
    return parse(_data())


def history() -> str:
    """Markdown: when the rule and the claims were fixed and what was changed since, as git shows it, as a list."""
    return "\n".join(f"- {entry.strip()}" for entry in _data()["history"])


def parse(values: Mapping[str, Any]) -> tuple[Rule, tuple[Claim, ...]]:
    """The rule and the claims of a mapping as claims.yaml holds it.

    Raises:
        ConfigError: an unknown key, table, row, column or latency, or an id used twice; it names the claim and the key.
    """
    rule = Rule.parse(values["rule"], "claims.yaml: rule")
    claims: dict[str, Claim] = {}
    for entry in values["claims"]:
        claim = Claim.parse(entry, f"claims.yaml: {mapping(entry, 'claims.yaml: claims').get('id')}")
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
    entries = read_yaml(resources.files(__package__).joinpath("latency.yaml"))
    return {entry["id"]: Ratio.parse(entry, f"latency.yaml: {entry['id']}") for entry in entries}


@functools.cache
def _data() -> dict[str, Any]:
    values, keys = read_yaml(resources.files(__package__).joinpath("claims.yaml")), ("rule", "claims", "history")
    check_keys(values, keys, "claims.yaml")
    if missing := [key for key in keys if key not in values]:
        raise ConfigError(f"claims.yaml lacks {', '.join(missing)}")
    return values


def cells_of(claim: Claim) -> list[tuple[str, tuple[str, ...]]]:
    """Every cell that a claim names, with the key that it stands under."""
    pairs = {"better": claim.better, "not_better": claim.not_better,
             "asides": [pair for aside in claim.asides for pair in aside.pairs]}
    cells = [(f"{place}.{key}", getattr(pair, key)) for place, of in pairs.items() for pair in of
             for key in ("cell", "than")]
    if claim.correlates:
        cells += [("correlates", (row, column)) for row in claim.correlates.teachers
                  for column in claim.correlates.columns]
    return cells


def _check(claim: Claim) -> None:
    known = list(dict.fromkeys([*numbers.load(), *_SUBJECTS]))  # none of `OWN`: these are compared in claims of others
    if claim.experiment not in known:
        raise ValueError(f"experiment: unknown {claim.experiment!r}; known: {', '.join(known)}")
    if claim.shown_at not in exhibits.load():
        raise ValueError(f"exhibit: {claim.shown_at!r} is none; known: {', '.join(exhibits.load())}")
    for place, cell in cells_of(claim):
        try:
            published(claim.locate(cell))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if any(claim.locate(pair.cell)[0] == "table_10" for pair in claim.not_better):
        raise ValueError("not_better: detectors' mAP has no margin")
    if claim.counts:
        rows, others = claim.counts.rows, {"like": claim.counts.like, "fewer_than": claim.counts.fewer_than}
        if unknown := {*rows, *others["like"], *others["fewer_than"]} - {*numbers.table(claim.counts.table).index}:
            raise ValueError(f"counts: {claim.counts.table} has no row {', '.join(sorted(unknown))}")
        if all(others.values()):
            raise ValueError("counts: like and fewer_than exclude each other")
        for key, other in others.items():
            if other and len(other) != len(rows):
                raise ValueError(f"counts.{key}: needs one row for each of counts.rows")
    if unknown := {*claim.latencies} - {*ratios()}:
        raise ValueError(f"latencies: unknown {', '.join(sorted(unknown))}; known: {', '.join(ratios())}")
    if claim.undominated:
        if claim.undominated.cost not in (known := (numbers.CPU, numbers.MACS)):
            raise ValueError(f"undominated.cost: {claim.undominated.cost!r} is neither {' nor '.join(known)}")
        if unknown := {*claim.undominated.rows} - {*numbers.table("table_9").index}:
            raise ValueError(f"undominated: table_9 has no row {', '.join(sorted(unknown))}")
        if first := [row for row in claim.undominated.rows if not as_accurate(row)]:
            raise ValueError(f"undominated: no row of table_9 is as accurate as {', '.join(first)}: nothing to compare")
    if without := [row for row in claim.weights if row not in (known := pretrained.sources()) or known[row].none]:
        raise ValueError(f"weights: published.yaml has none of {', '.join(without)}")
    if claim.ranks and claim.ranks not in numbers.table("table_9"):
        raise ValueError(f"ranks: table_9 has no column {claim.ranks!r}")

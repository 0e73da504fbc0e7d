"""Whether experiments.yaml, and claims.yaml about it, call rows and columns by names that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ghostlib.config import ConfigError, hint
from ghostlib.experiments import Grid
from ghostlib.paper import claims, numbers

_IN_PART = "table_9"  # the only one of which some rows and columns are not trained


def check(experiments: Mapping[str, Any]) -> None:
    """Looks at every label before anything is trained: a cell with another is beside no number and in no claim.

    Args:
        experiments: as experiments.yaml holds them.

    Raises:
        ConfigError: a label that the paper does not have, or lacks; or a cell of a claim that an experiment of ours
            does not have.
    """
    ours = {}
    for name, values in experiments.items():
        where = f"experiments.yaml: experiments.{name}"
        grid = Grid.parse(values, where)
        if name in claims.OWN:
            ours[name] = grid
        elif name in numbers.load():
            table = numbers.table(name)
            _compare(f"{where}.rows", grid.rows, table.index, whole=name != _IN_PART)
            _compare(f"{where}.columns", grid.columns, table.columns, whole=name != _IN_PART)
    for claim in claims.load()[1]:
        for place, cell in claims.cells_of(claim):
            table, row, column = claim.locate(cell)
            if table in ours:
                where = f"claims.yaml: {claim.id}: {place}: of {table}"
                _compare(f"{where}, rows", [row], ours[table].rows, whole=False)
                _compare(f"{where}, columns", [column], ours[table].columns, whole=False)


def _compare(where: str, labels: Iterable[str], known: Iterable[str], whole: bool) -> None:
    labels, known = list(labels), list(known)
    if unknown := [label for label in labels if label not in known]:
        raise ConfigError(f"{where}: unknown {unknown[0]!r}; {hint(unknown[0], known)}")
    if whole and (absent := [label for label in known if label not in labels]):
        raise ConfigError(f"{where}: {', '.join(map(repr, absent))} missing, which the paper has")

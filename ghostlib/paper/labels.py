"""The labels of rows and columns: experiments.yaml must use the paper's, and claims.yaml those of our experiments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ghostlib.config import ConfigError, hint
from ghostlib.experiments import Grid
from ghostlib.paper import claims, numbers

# A profile may train a part of these; the experiment `rivals` has the labels of Table 9.
_IN_PART = {"table_9": "table_9", "rivals": "table_9"}


def check(experiments: Mapping[str, Any]) -> None:
    """Checks every label before anything is trained: under a wrong one a cell would have no number and no claim.

    Args:
        experiments: as experiments.yaml holds them.

    Raises:
        ConfigError: an experiment has a label that the paper does not have, or lacks one of the paper's; or a claim
            names a cell that our experiment does not have.
    """
    ours = {}
    for name, values in experiments.items():
        where = f"experiments.yaml: experiments.{name}"
        grid = Grid.parse(values, where)
        rows, columns = grid.rows, grid.columns
        if (called := _IN_PART.get(name, name)) in numbers.load():
            table = numbers.table(called)
            rows, columns = table.index, table.columns
            _compare(f"{where}.rows", grid.rows, rows, whole=name not in _IN_PART)
            _compare(f"{where}.columns", grid.columns, columns, whole=name not in _IN_PART)
        if name in claims.OWN:
            ours[name] = rows, columns
    for claim in claims.load()[1]:
        for place, cell in claims.cells_of(claim):
            table, row, column = claim.locate(cell)
            if table in ours:
                where, (rows, columns) = f"claims.yaml: {claim.id}: {place}: of {table}", ours[table]
                _compare(f"{where}, rows", [row], rows, whole=False)
                _compare(f"{where}, columns", [column], columns, whole=False)


def _compare(where: str, labels: Iterable[str], known: Iterable[str], whole: bool) -> None:
    labels, known = list(labels), list(known)
    if unknown := [label for label in labels if label not in known]:
        raise ConfigError(f"{where}: unknown {unknown[0]!r}; {hint(unknown[0], known)}")
    if whole and (absent := [label for label in known if label not in labels]):
        raise ConfigError(f"{where}: {', '.join(map(repr, absent))} missing, which the paper has")

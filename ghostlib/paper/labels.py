"""Whether experiments.yaml, and claims.yaml about it, call rows and columns by names that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ghostlib.config import ConfigError, hint
from ghostlib.experiments import Grid
from ghostlib.paper import claims, numbers

# Of which a part may be trained; ours beside Table 9 has its labels.
_IN_PART = {"table_9": "table_9", "rivals": "table_9"}


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

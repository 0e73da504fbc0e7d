"""The numbers the paper published, addressed by table, row and column.

The data are in `numbers.yaml` beside this file. A value that the paper does not print is null there and NaN here.
"""

from __future__ import annotations

import functools
import math
from importlib import resources
from typing import TYPE_CHECKING

from ghostlib.config import read_yaml
from ghostlib.measures.places import MACS, PARAMS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CPU", "MACS", "MAP", "MOBILE", "PARAMS", "TOP1", "TOP5", "entry", "load", "table", "value"]

# The columns of Tables 9 and 10, with `PARAMS` and `MACS`, which the files of counts have as well.
CPU, MOBILE = "CPU latency (ms)", "Mobile latency (ms)"
TOP1, TOP5 = "Top-1 (%)", "Top-5 (%)"
MAP = "mAP"


@functools.cache
def load() -> dict:
    """Reads every table and figure of the paper.

    Returns:
        A mapping from an id such as `table_1` or `figure_3` to its quantity, notes, columns and rows.
        It is shared by all callers: do not change it.
    """
    return {name: {**data, "notes": list(data["notes"].values())} for name, data in _data().items()}


def note(name: str, note_id: str) -> str:
    """Returns one note on a table or figure, by its id in numbers.yaml.

    Raises:
        ValueError: The paper data have no such table or note.
    """
    return _pick(_pick(_data(), name, "table")["notes"], note_id, f"note of {name}")


def entry(name: str) -> dict:
    """Returns what `load()` holds of one table or figure.

    Raises:
        ValueError: The paper data have no such table.
    """
    return _pick(load(), name, "table")


def table(name: str) -> pd.DataFrame:
    """Returns one table or figure of the paper, rows and columns in the paper's order.

    Args:
        name: `table_1` to `table_10`, `figure_3` or `figure_4`.

    Raises:
        ValueError: The paper data have no such table.
    """
    import pandas as pd

    data = entry(name)
    return pd.DataFrame.from_dict(data["rows"], orient="index", columns=data["columns"], dtype=float)


def value(table: str, row: str, column: str) -> float:
    """Returns one published number, or NaN where the paper prints none.

    Args:
        table: An id as in `table()`.
        row: The row's label.
        column: The column's label.

    Raises:
        ValueError: The table, row or column does not exist.
    """
    data = entry(table)
    cells = dict(zip(data["columns"], _pick(data["rows"], row, f"row of {table}"), strict=True))
    cell = _pick(cells, column, f"column of {table}")
    return math.nan if cell is None else float(cell)


@functools.cache
def _data() -> dict:
    return read_yaml(resources.files(__package__).joinpath("numbers.yaml"))


def _pick(mapping: dict, key: str, kind: str):
    """Returns `mapping[key]`, or raises a ValueError that names the known keys."""
    if key not in mapping:
        raise ValueError(f"unknown {kind} {key!r}; known: {', '.join(mapping)}")
    return mapping[key]

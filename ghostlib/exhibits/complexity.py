"""Parameters and multiply-accumulates of every row of Tables 9 and 10 held against the paper's."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from ghostlib.config import read_yaml
from ghostlib.paper import claims, numbers
from ghostlib.paper.numbers import PARAMS

COLUMNS = ["table", "row", "network", "image_size", "quantity", "paper", "measured", "difference", "reason"]
# The file of a table -> the paper's table.
TABLES = {"complexity_9": "table_9", "complexity_10": "table_10"}
TITLES = {"complexity_9": "Parameters and multiply-accumulates of Table 9's networks, folded, counted here.",
          "complexity_10": "Multiply-accumulates of Table 10's backbones at the detectors' resolutions, counted here."}


def reasons() -> dict[str, dict[str, str]]:
    """Why a count differs from the paper's by more than `tolerance`: row -> quantity -> reason."""
    return read_yaml(resources.files("ghostlib.paper").joinpath("differences.yaml"))


def tolerance() -> float:
    """By which share the paper's counts and ours may differ before a reason is owed; verdicts use it, too."""
    return claims.load()[0].tolerance


def compare(counted: pd.DataFrame) -> pd.DataFrame:
    """What was counted beside the paper's: one row per table, row and quantity, with the columns `COLUMNS`.

    `difference` is (measured - paper) / paper. `reason` is text where that exceeds the tolerance and we can say why.

    Args:
        counted: as `measures.counts.read` gives it.
    """
    why, published = reasons(), {table: numbers.table(table) for table in TABLES.values()}
    paper = [published[cell.table].loc[cell.row, cell.quantity] for cell in counted.itertuples()]
    compared = counted.assign(paper=paper, difference=counted["measured"] / paper - 1)
    explained = [why.get(cell.row, {}).get(cell.quantity, "") if abs(cell.difference) > tolerance() else ""
                 for cell in compared.itertuples()]
    return compared.assign(reason=explained)[COLUMNS]


def flagged(comparison: pd.DataFrame) -> pd.DataFrame:
    """The rows of a comparison whose difference exceeds the tolerance."""
    return comparison[comparison["difference"].abs() > tolerance()]


def table_of_counts(comparison: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table `name` of `TABLES`: the paper's count, ours and the difference, which a star flags."""
    chosen = comparison[comparison["table"] == TABLES[name]]
    table = {}
    for quantity, cells in chosen.groupby("quantity", sort=False):
        digits = 2 if quantity == PARAMS else 1
        stars = cells["difference"].abs() > tolerance()
        table[quantity, "paper"] = [f"{value:g}" for value in cells["paper"]]
        table[quantity, "ours"] = [f"{value:.{digits}f}" for value in cells["measured"]]
        table[quantity, "difference"] = [f"{100 * difference:+.1f} %{'*' * star}"
                                         for difference, star in zip(cells["difference"], stars, strict=True)]
    return pd.DataFrame(table, index=pd.Index(chosen["row"].unique()))


def notes(comparison: pd.DataFrame, name: str) -> list[str]:
    """What stands below the table `name` of `TABLES`: how it was counted, and a reason for every star."""
    starred = flagged(comparison[comparison["table"] == TABLES[name]])
    return ["Counted with fvcore: convolutions, linear layers and matrix products; re-parameterised networks folded; "
            "images of 224 px, MobileViT's of 256 px, Table 10's as its rows say.",
            f"*: differs from the paper's number by more than {100 * tolerance():g} %.",
            *(f"{cell.row}, {cell.quantity}: {cell.reason or 'we do not know why.'}" for cell in starred.itertuples())]

"""From measurements, a row a seed, to what tables and figures show: mean, standard deviation, number of seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ghostlib.measures.places import DIVERGED


def over_seeds(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`measured` (mean), `sd` and `seeds` of the column `value`, for each combination of the columns `by` in its order.

    Missing values do not count. The standard deviation of one seed is NaN, not 0.
    """
    return results.groupby(by, sort=False)["value"].agg(measured="mean", sd="std", seeds="count")


def of_cells(results: pd.DataFrame, metrics: Mapping[str, str], by: Sequence[str] = ("row",)) -> pd.DataFrame:
    """`measured`, `sd`, `seeds` and `diverged` of each cell and quantity, indexed by `by` and "quantity".

    Where a seed diverged, which `diverged` counts, there is no mean: of the seeds that did not it would be too good.

    Args:
        results: in long format, with the columns `metric`, `value` and `by`. A training that diverged has the metric
            `DIVERGED` alone.
        metrics: metric -> the quantity that it is called.
        by: what a cell is.
    """
    by, lost = list(by), results["metric"] == DIVERGED
    measured = results[results["metric"].isin(metrics)].assign(quantity=results["metric"].map(metrics))
    found = over_seeds(measured, [*by, "quantity"])
    cells = results[by].drop_duplicates().merge(pd.DataFrame({"quantity": [*metrics.values()]}), how="cross")
    diverged = results[lost].groupby(by).size().rename("diverged").reset_index()
    found = cells.merge(found.reset_index(), how="left").merge(diverged, how="left").set_index([*by, "quantity"])
    found = found.fillna({"seeds": 0, "diverged": 0}).astype({"seeds": int, "diverged": int})
    found.loc[found["diverged"] > 0, ["measured", "sd"]] = float("nan")
    return found


def in_words(cell: Any, form: str = "{:.2f}") -> str:
    """A cell as a reader looks at it: its mean with the standard deviation, or how many of its trainings diverged.

    Args:
        cell: a row of what `of_cells` gives.
        form: of both numbers.
    """
    if cell.diverged > 0:  # a row that is not there has NaN
        return f"diverged ({cell.diverged} of {cell.diverged + cell.seeds})"
    return text(cell.measured, form, cell.sd, form)


def text(value: float, form: str = "{:g}", sd: float = float("nan"), sd_form: str = "{:.2f}") -> str:
    """A value as a reader looks at it: with its standard deviation if it has one, a dash where nothing is known."""
    if pd.isna(value):
        return "—"
    return form.format(value) + ("" if pd.isna(sd) else f" ± {sd_form.format(sd)}")

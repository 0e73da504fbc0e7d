"""From measurements, a row a seed, to what tables and figures show: mean, standard deviation, number of seeds."""

from __future__ import annotations

import pandas as pd


def over_seeds(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`measured` (mean), `sd` and `seeds` of the column `value`, for each combination of the columns `by` in its order.

    Missing values do not count. The standard deviation of one seed is NaN, not 0.
    """
    return results.groupby(by, sort=False)["value"].agg(measured="mean", sd="std", seeds="count")


def text(value: float, form: str = "{:g}", sd: float = float("nan"), sd_form: str = "{:.2f}") -> str:
    """A value as a reader looks at it: with its standard deviation if it has one, a dash where nothing is known."""
    if pd.isna(value):
        return "—"
    return form.format(value) + ("" if pd.isna(sd) else f" ± {sd_form.format(sd)}")

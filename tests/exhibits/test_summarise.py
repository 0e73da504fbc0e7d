"""The one aggregation over the seeds."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from ghostlib.exhibits.summarise import over_seeds, text


def test_mean_sd_and_number_of_seeds_in_the_order_of_the_rows():
    results = pd.DataFrame({"row": ["b", "b", "a", "a"], "value": [1.0, 3.0, 5.0, math.nan]})
    summary = over_seeds(results, ["row"])
    assert list(summary.index) == ["b", "a"]
    assert summary.loc["b"].tolist() == pytest.approx([2, 2 ** 0.5, 2])
    assert summary.loc["a", ["measured", "seeds"]].tolist() == [5, 1] and math.isnan(summary.loc["a", "sd"])


@pytest.mark.parametrize(("arguments", "expected"), [
    ((1.5,), "1.5"), ((math.nan,), "—"), ((1.234, "{:.2f}"), "1.23"), ((1.2, "{:.2f}", 0.456), "1.20 ± 0.46"),
    ((1.2, "{:.1f}", 0.456, "{:.1f}"), "1.2 ± 0.5"), ((math.nan, "{:.2f}", 1.0), "—")])
def test_a_value_is_text_with_its_spread_or_a_dash(arguments, expected):
    assert text(*arguments) == expected

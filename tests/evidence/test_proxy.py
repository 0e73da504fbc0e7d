"""A scale says when it cannot rank anything."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.evidence import proxy
from ghostlib.paper import numbers
from tests.evidence.files import cosine, write


def test_the_proxy_says_when_it_cannot_rank(tmp_path):
    write(tmp_path, "table_6", cosine([70], [80], [75]))
    write(tmp_path, "table_4", {(row, column): [99, 99.5] for row in ("α=0.5", "α=1.0") for column in ("τ=1", "τ=2")})
    write(tmp_path, "table_3", {(row, column): [60 + i, 60 - i] for i, row in enumerate(numbers.table("table_3").index)
                                for column in ("α=0.5",)})
    write(tmp_path, "table_7", {("w/ ReP&KD", column): [value, value + 1] for column, value in
                                numbers.table("table_7").loc["w/ ReP&KD"].items()})
    write(tmp_path, "figure_4", {("w/ ReP&KD", column): [60 + i, 61 + i] for i, column in
                                 enumerate(numbers.table("figure_4").columns)})
    found = proxy.proxy(tmp_path)
    assert list(found.columns) == proxy.COLUMNS and found["rankable"].dtype == bool
    judged = found.set_index("experiment")
    assert judged["rankable"].to_dict() == {
        "table_3": False, "table_4": False, "table_6": False, "table_7": True, "figure_4": True}
    why = judged["ranks"]
    assert (why.str.startswith("It ranks the cells") == judged["rankable"]).all()
    assert "one seed" in why["table_6"] and "100% of the cells reach 98 %" in why["table_4"]
    assert "ρ = −1.00 only" in why["table_3"] and "no values to compare with" in why["figure_4"]
    write(tmp_path, "rivals", {(f"{name} 1.0×", "Top-1 (%)"): [60.0 + 5 * i, 61 + 5 * i] for i, name in
                               enumerate(("GhostNetV2", "ShuffleNetV2", "MobileNetV2"))})
    own = proxy.proxy(tmp_path).set_index("experiment").loc["rivals"]
    assert own["rankable"] and "the paper prints no values to compare with" in own["ranks"]
    values = judged.loc["table_7", ["cells", "seeds", "spearman", "noise_ceiling", "at_ceiling"]]
    assert values.to_list() == pytest.approx([5, 2, 1, 1, 0])


def test_detectors_are_ranked_within_a_resolution(tmp_path):
    """At both the order is the paper's, and all of the higher one are below those of the lower."""
    names = ["GhostNetV3 1.0×", "GhostNetV2 1.0×", "MobileNetV2"]
    write(tmp_path, "table_10", {(f"{name} @{side}", "mAP"): [top - i + 0.01 * seed for seed in range(4)]
                                 for side, top in (("320", 30), ("416", 20)) for i, name in enumerate(names)}, "mAP")
    found = proxy.proxy(tmp_path).set_index("experiment").loc["table_10"]
    assert found["spearman"] == found["noise_ceiling"] == 1 and found["cells"] == 6


def test_a_cell_of_which_a_seed_diverged_is_not_ranked(tmp_path):
    write(tmp_path, "table_7", {("w/ ReP&KD", column): [value, value + 1] for column, value in
                                numbers.table("table_7").loc["w/ ReP&KD"].items()})
    runs = tmp_path / "runs" / "table_7.csv"
    results = pd.read_csv(runs, dtype={"column": str})
    results.loc[0, "metric"] = "diverged"
    results.to_csv(runs, index=False)
    assert proxy.proxy(tmp_path)["cells"].item() == 4
    results.assign(metric="diverged").to_csv(runs, index=False)
    assert not proxy.proxy(tmp_path)["rankable"].any()


def test_an_experiment_of_one_cell_has_no_order_and_no_row_but_one_of_which_one_cell_is_left_has(tmp_path):
    cells = {("w/ ReP&KD", column): [value, value + 1] for column, value in
             numbers.table("table_7").loc["w/ ReP&KD"].items()}
    write(tmp_path, "table_7", cells)
    write(tmp_path, "plain_distilled", {("w/ KD", "1.3×"): [70, 71]})
    assert proxy.proxy(tmp_path)["experiment"].to_list() == ["table_7"]
    runs = tmp_path / "runs" / "table_7.csv"
    results = pd.read_csv(runs, dtype={"column": str})
    results.loc[results["column"] != results["column"].iloc[0], "metric"] = "diverged"
    results.to_csv(runs, index=False)
    found = proxy.proxy(tmp_path)
    assert found["cells"].item() == 1 and not found["rankable"].item()


def test_nothing_measured_ranks_nothing(tmp_path):
    found = proxy.proxy(tmp_path)
    assert found.empty and found["rankable"].sum() == 0

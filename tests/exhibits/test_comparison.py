"""Table 9: measured beside published, and never the one for the other."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.exhibits import comparison
from ghostlib.measures import published
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.numbers import CPU, MACS, MOBILE, PARAMS, TOP1, TOP5


def compare(weights, *more):
    published = numbers.table("table_9")
    complexity = pd.DataFrame([("table_9", row, quantity, 2 * published.loc[row, quantity]) for row in published.index
                               for quantity in (PARAMS, MACS)], columns=["table", "row", "quantity", "measured"])
    times = pd.DataFrame([(name, engine, threads, 1.1 ** i + (engine != comparison.ENGINE or threads != 1) * 1000)
                          for i, name in enumerate(dict.fromkeys(catalog.deployed().values()))
                          for engine in (comparison.ENGINE, "other") for threads in (1, 2)],
                         columns=["network", "engine", "threads", "median_ms"])
    times = times.assign(p10_ms=0.9 * times["median_ms"], p90_ms=1.3 * times["median_ms"])
    accuracies = pd.DataFrame([(row, "test_top1", value) for row, values in {
        "GhostNetV3 1.0×": [80.0, 82.0], "MobileNetV2 1.0× + ours": [70.0]}.items() for value in values]
        + [("GhostNetV3 1.0×", "test_top5", 99.0), *more], columns=["row", "metric", "value"])
    rivals = pd.DataFrame([("MobileNetV2 1.0×", "test_top1", value) for value in (60.0, 61.0)],
                          columns=["row", "metric", "value"])
    return comparison.compare(complexity, times, accuracies, rivals, weights)


def test_a_row_of_which_a_seed_diverged_has_no_mean_and_says_why():
    lost = ("GhostNetV3 1.0×", "ShuffleNetV2 1.0× + ours")  # of the second no seed ended
    compared = compare(pd.DataFrame(columns=published.COLUMNS), *((row, "diverged", 1.0) for row in lost))
    cells = compared.query("quantity == @TOP1").set_index("row")
    assert cells.loc[[*lost], "measured"].isna().all() and cells.loc["MobileNetV2 1.0× + ours", "measured"] == 70
    shown = comparison.table_of_networks(compared, "a CPU", "digits")[TOP1, "ours, digits"]
    assert shown[[*lost]].tolist() == ["diverged (1 of 3)", "diverged (1 of 1)"] and shown["PiT-ti"] == "—"


@pytest.fixture(scope="module")
def compared():
    return compare(pd.DataFrame(columns=published.COLUMNS))


def cell(compared, row, quantity):
    return compared.set_index(["row", "quantity"]).loc[(row, quantity)]


def test_accuracy_is_measured_where_it_was_trained_and_nowhere_else(compared):
    trained = cell(compared, "GhostNetV3 1.0×", TOP1)
    assert trained["measured"] == 81 and trained["sd"] == pytest.approx(2 ** 0.5) and trained["seeds"] == 2
    assert cell(compared, "GhostNetV3 1.0×", TOP5)["measured"] == 99
    top1 = compared[compared["quantity"] == TOP1].dropna(subset="measured")
    assert list(top1["row"]) == ["MobileNetV2 1.0× + ours", "GhostNetV3 1.0×"]


def test_latency_is_the_one_engine_s_on_one_thread_and_no_phone_s(compared):
    assert compared.query("quantity == @CPU")["measured"].max() < 1000
    timed, others = compared[compared["quantity"] == CPU], compared[compared["quantity"] != CPU]
    assert (timed["high"] / timed["low"]).tolist() == pytest.approx([1.3 / 0.9] * len(timed))
    assert others[["low", "high"]].isna().all(axis=None)
    assert compared.query("quantity == @MOBILE")["measured"].isna().all()


def test_the_table_keeps_published_and_measured_apart(compared):
    table = comparison.table_of_networks(compared, "Some CPU", "digits")
    assert list(table.index) == list(catalog.rows())
    assert table.loc["GhostNetV3 1.0×", (TOP1, "paper, ImageNet")] == "77.1"
    assert table.loc["GhostNetV3 1.0×", (TOP1, "ours, digits")] == "81.00 ± 1.41"
    assert table.loc["DeiT-tiny", (TOP1, "ours, digits")] == "—"
    rival = (TOP1, "ours, without branches and teacher, digits")
    assert table.loc["MobileNetV2 1.0×", rival] == "60.50 ± 0.71" and table.loc["GhostNetV3 1.0×", rival] == "—"
    assert table.columns.get_loc(rival) == table.columns.get_loc((TOP1, "ours, digits")) + 1
    assert (CPU, "ONNX Runtime, 1 thread, Some CPU") in table.columns
    assert table[MOBILE].columns.tolist() == ["paper, Kirin 9000"]


def test_what_public_weights_give_stands_beside_the_paper_s_where_anything_was_scored(compared):
    scored = pd.DataFrame({"row": ["GhostNetV3 1.0×"], "top1": [77.134], "top5": [93.236]})
    before = comparison.table_of_networks(compared, "Some CPU", "digits")
    after = comparison.table_of_networks(compare(scored), "Some CPU", "digits")
    here = [(quantity, "published weights, measured here") for quantity in (TOP1, TOP5)]
    assert after.drop(columns=here).equals(before) and not set(here) & set(before.columns)
    assert after.loc["GhostNetV3 1.0×", here].to_list() == ["77.13", "93.24"]
    assert (after.drop(index="GhostNetV3 1.0×")[here] == "—").all(axis=None)
    assert list(after[TOP1].columns)[:3] == ["paper, ImageNet", "ours, digits", "published weights, measured here"]
    assert compare(scored).query("quantity == @TOP1 and row == 'GhostNetV3 1.0×'")["measured"].item() == 81

"""Why branches cost accuracy: gains are paired within seed and column, and the words follow the intervals."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.evidence import causes
from ghostlib.evidence.stats import t_interval

VALUES = {("w/o ReP", "rate × 1"): [80.0, 81.0, 82.0], ("w/ ReP", "rate × 1"): [78.0, 79.2, 80.1],
          ("remedy", "rate × 1"): [80.5, 80.5, 82.5], ("w/o ReP", "4 × the steps"): [85.0, 85.0, 85.0],
          ("w/ ReP", "4 × the steps"): [86.0, 86.1, 86.2], ("remedy", "4 × the steps"): [85.0, 86.0, 84.0]}


@pytest.fixture
def results():
    return pd.DataFrame([(row, column, seed, "test_top1", value) for (row, column), values in VALUES.items()
                         for seed, value in enumerate(values)], columns=["row", "column", "seed", "metric", "value"])


def test_gains_are_over_the_plain_network_of_the_same_column_and_seed(results):
    gains = causes.gains(results).set_index(["row", "column"])
    assert len(gains) == 4 and set(gains["seeds"]) == {3}
    assert gains.loc[("w/ ReP", "rate × 1"), ["ours", "low", "high"]].tolist() == pytest.approx(
        [-1.9, *t_interval([-2.0, -1.8, -1.9], 1 - 0.05 / 4)])


def test_a_cell_of_which_a_seed_diverged_is_left_out_and_counts(results):
    lost = (results["row"] == "remedy") & (results["column"] == "rate × 1") & (results["seed"] == 2)
    results.loc[lost, ["metric", "value"]] = "diverged", 1
    gains = causes.gains(results).set_index(["row", "column"])
    assert len(gains) == 3 and ("remedy", "rate × 1") not in gains.index
    assert gains.loc[("w/ ReP", "rate × 1"), "low"] == pytest.approx(t_interval([-2.0, -1.8, -1.9], 1 - 0.05 / 4)[0])


def test_the_document_says_where_a_seed_diverged(results, tiny):
    results.loc[(results["row"] == "w/o ReP") & (results["column"] == "rate × 1") & (results["seed"] == 0),
                ["metric", "value"]] = "diverged", 1
    document = causes.document(results, tiny)
    assert document.count("| a seed diverged") == 3 and "widened for the 4 cells" in document
    assert causes.conclusion(results).endswith("Of 2 more, or of their plain network, a seed diverged. "
                                               "In the other 1 of 2 cells neither is shown.")
    causes.figure(results, tiny)
    results.loc[(results["row"] == "w/o ReP") & (results["seed"] == 0), ["metric", "value"]] = "diverged", 1
    assert "Nothing can be said: of every cell or its plain network a seed diverged." in causes.document(results, tiny)
    causes.figure(results, tiny)


def test_the_conclusion_says_what_the_intervals_say(results):
    assert causes.conclusion(results) == (
        "w/ ReP at rate × 1: branches are behind the plain network. w/ ReP at 4 × the steps: branches are ahead of "
        "it. In the other 2 of 4 cells neither is shown.")
    same = results[results["column"] == "rate × 1"].assign(value=80.0)
    assert causes.conclusion(same) == ("In no cell do 3 seeds show branches behind the plain network. In no cell do 3 "
                                       "seeds show branches ahead of it.")


def test_the_document_and_the_figure_show_every_cell(results, tiny):
    document = causes.document(results, tiny)
    assert document.count("\n|") == 5 and "| w/o ReP, top-1 | 81.00 %" in document.replace("  ", " ")
    assert "+1.10 [" in document and causes.conclusion(results) in document and tiny.scale in document
    figure = causes.figure(results, tiny)
    for axis, drawn in zip(figure.axes, (["w/o ReP", "w/ ReP", "remedy"], ["w/ ReP", "remedy"]), strict=True):
        assert [text.get_text() for text in axis.get_xticklabels()] == ["rate × 1", "4 × the steps"]
        labels = [cells.get_label() for cells in axis.containers]
        assert [label for label in labels if not label.startswith("_")] == drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["w/o ReP", "w/ ReP", "remedy"]
    reached, gained = (axis.containers[-1].lines[0].get_ydata().tolist() for axis in figure.axes)
    assert reached == pytest.approx([81 + 1 / 6, 85]) and gained == pytest.approx([1 / 6, 0])


def test_a_profile_that_does_not_run_it_says_so(results, tiny):
    said = "Profile 'tiny' does not run this experiment"
    assert said in causes.document(results.head(0), tiny)
    assert said in causes.figure(results.head(0), tiny).texts[0].get_text()

"""Tables: the paper's number and ours in one cell, in every format."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from ghostlib.exhibits import tables
from ghostlib.paper import numbers


def results_of(name: str, seeds=(0,), value=lambda i, seed: 50 + i + seed) -> pd.DataFrame:
    """Results for every cell of a table; cell i with seed s measures `value(i, s)`."""
    published = numbers.table(name)
    places = [(row, column) for row in published.index for column in published.columns]
    return pd.DataFrame([
        {"experiment": name, "row": row, "column": column, "seed": seed, "run": f"{i}-{seed}", "metric": metric,
         "value": value(i, seed) if metric == "test_top1" else -1.0, "data": "d"}
        for i, (row, column) in enumerate(places) for seed in seeds for metric in ("test_top1", "val_top1")])


def test_a_cell_holds_the_paper_s_number_and_mean_and_sd_over_the_seeds():
    comparison = tables.compare("table_1", results_of("table_1", seeds=(0, 1, 2)))
    cell = comparison.set_index(["row", "column"]).loc[("w/ ReP", "1.3×")]
    assert cell["paper"] == 77.6
    assert cell["measured"] == pytest.approx(55)  # the fifth cell: 54, 55, 56
    assert cell["sd"] == pytest.approx(1) and cell["seeds"] == 3


def test_one_seed_has_no_spread():
    comparison = tables.compare("table_1", results_of("table_1"))
    assert comparison["sd"].isna().all() and (comparison["seeds"] == 1).all()
    assert tables.table_of_cells(comparison).loc["w/o ReP", ("1.0×", "ours")] == "50.00"


def test_a_cell_of_which_a_seed_diverged_has_no_mean():
    results = results_of("table_1", seeds=(0, 1, 2))
    lost = (results["row"] == "w/ ReP") & (results["column"] == "1.3×") & (results["seed"] == 1)
    diverged = results[lost].iloc[:1].assign(metric="diverged", value=1)
    comparison = tables.compare("table_1", pd.concat([results[~lost], diverged]))
    cell = comparison.set_index(["row", "column"]).loc[("w/ ReP", "1.3×")]
    assert pd.isna(cell["measured"]) and pd.isna(cell["sd"]) and (cell["seeds"], cell["diverged"]) == (2, 1)
    assert tables.table_of_cells(comparison).loc["w/ ReP", ("1.3×", "ours")] == "diverged (1 of 3)"
    assert comparison["measured"].isna().sum() == 1


def test_a_run_has_a_name_its_numbers_and_the_beginning_of_its_key():
    results = results_of("table_1", seeds=(0, 1)).assign(run="0123456789abcdef")
    losses = results[results["metric"] == "val_top1"].assign(metric="test_loss", value=0.25)
    table = tables.runs(pd.concat([results, losses]))
    assert len(table) == 12 and not {"row", "run key"} & set(table)
    assert table.iloc[1].to_dict() == {"run": "w/o ReP · 1.0× · seed 1", "top-1 (%)": "51.00",
                                       "log-loss (nats)": "0.2500", "key": "01234567"}
    assert list(tables.runs(results)) == ["run", "top-1 (%)", "key"]  # no log-loss is recorded


def test_a_run_that_diverged_is_listed_without_numbers():
    results = results_of("table_1")
    first = (results["row"] == "w/o ReP") & (results["column"] == "1.0×")
    table = tables.runs(pd.concat([results[first].iloc[:1].assign(metric="diverged", value=1), results[~first]]))
    assert len(table) == 6 and table["top-1 (%)"].tolist()[:2] == ["—", "51.00"]


def test_a_column_that_all_cells_share_is_no_part_of_a_run_s_name():
    results = results_of("table_1").assign(column="mAP", metric="mAP").drop_duplicates("row")
    assert tables.runs(results, "mAP", "mAP (%)")["run"].tolist() == ["w/o ReP · seed 0", "w/ ReP · seed 0"]


def test_the_order_is_the_paper_s_whatever_the_order_of_the_results():
    shuffled = results_of("table_3").sample(frac=1, random_state=0)
    comparison = tables.compare("table_3", shuffled)
    assert list(comparison["row"].unique()) == list(numbers.table("table_3").index)
    assert tables.table_of_cells(comparison).shape == (3, 6)


def test_what_the_paper_does_not_print_is_a_dash():
    table = tables.table_of_cells(tables.compare("figure_3", results_of("figure_3")))
    assert (table.xs("paper", axis=1, level=1) == "—").all(axis=None)


def test_where_the_experiment_is_left_out_the_paper_s_numbers_stand_alone():
    comparison = tables.compare("table_1", results_of("table_1").iloc[:0])
    assert comparison["paper"].notna().all() and comparison["measured"].isna().all() and not comparison["seeds"].any()
    assert (tables.table_of_cells(comparison).xs("ours", axis=1, level=1) == "—").all(axis=None)


@pytest.mark.parametrize("change", [lambda r: r[r["row"] != "w/ ReP"], lambda r: r.replace("1.0×", "2.0×")])
def test_a_cell_too_few_or_too_many_is_an_error(change):
    with pytest.raises(ValueError, match="table_1: .*differ in the cells"):
        tables.compare("table_1", change(results_of("table_1")))


def test_written_files_hold_the_numbers_the_title_and_the_notes(tmp_path):
    comparison = tables.compare("table_4", results_of("table_4", seeds=(0, 1)))
    tables.write(comparison, tmp_path, "table_4", "A title: 100 % of it", ["Measured at: a scale", "A second_note"])
    back = pd.read_csv(tmp_path / "table_4.csv")
    pd.testing.assert_frame_equal(back, comparison, check_exact=False, atol=1e-4)
    markdown = (tmp_path / "table_4.md").read_text()
    assert "A title: 100 % of it" in markdown and "79.13" in markdown and "50.50 ± 0.71" in markdown
    assert "- Measured at: a scale" in markdown
    shown = json.loads((tmp_path / "table_4.json").read_text())
    assert (shown["title"], shown["notes"]) == ("A title: 100 % of it", ["Measured at: a scale", "A second_note"])
    assert shown["index"] == ["α=0.5", "α=1.0"] and shown["columns"][:2] == [["τ=1", "paper"], ["τ=1", "ours"]]
    assert shown["rows"][0][:2] == ["79.13", "50.50 ± 0.71"] and {len(row) for row in shown["rows"]} == {6}
    latex = (tmp_path / "table_4.tex").read_text()
    assert r"\toprule" in latex and r"$\alpha$=0.5" in latex and r"50.50 $\pm$ 0.71" in latex and r"100 \%" in latex
    assert not [sign for sign in "×ατ±" if sign in latex.split(r"\begin", 1)[1]]


@pytest.mark.parametrize("name", ["table_6", "figure_3", "table_3"])
def test_latex_has_as_many_cells_a_row_as_columns_whatever_the_labels(name, tmp_path):
    labels = {"BEiTv2-B": "BEiTv2-B (stand-in, 99 %)"}
    comparison = tables.compare(name, results_of(name))
    tables.write(comparison, tmp_path, name, "t", [], labels)
    latex = (tmp_path / f"{name}.tex").read_text()
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    cells = [re.split(r"(?<!\\)&", re.sub(r"(?<!\\)%.*", "", line)) for line in body]
    assert [len(row) for row in cells] == [tables.table_of_cells(comparison).shape[1] + 1] * len(numbers.table(name))
    assert ("stand-in, 99 \\%" in latex) == (name == "table_3")
    assert list(pd.read_csv(tmp_path / f"{name}.csv")["row"].unique()) == list(numbers.table(name).index)


def test_a_missing_value_stays_missing_in_the_csv(tmp_path):
    comparison = tables.compare("figure_4", results_of("figure_4"))
    tables.write(comparison, tmp_path, "figure_4", "t", [])
    back = pd.read_csv(tmp_path / "figure_4.csv")
    assert back["paper"].isna().all() and np.isfinite(back["measured"]).all()


def test_a_crash_while_a_table_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    comparison = tables.compare("table_1", results_of("table_1"))
    tables.write(comparison, tmp_path, "table_1", "old", [])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(OSError, match="no space left"):
        tables.write(comparison, tmp_path, "table_1", "new", [])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

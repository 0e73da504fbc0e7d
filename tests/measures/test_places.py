"""Whether measured files answer params.yaml: told without torch and without data."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.measures import places

WANTED = [("0.01", "c", "aaa"), ("b", "c", "bbb")]


def test_a_file_that_holds_exactly_what_is_wanted_lacks_nothing(tmp_path):
    path = tmp_path / "runs" / "table_1.csv"
    assert places.lacking(path, WANTED) == "does not exist"
    frame = pd.DataFrame(WANTED, columns=["row", "column", places.SETTINGS]).assign(value=1 / 3)
    places.write_csv(pd.concat([frame, frame]), path)  # several metrics a cell
    assert places.lacking(path, WANTED) == ""
    assert places.read_csv(path)["value"].iloc[0] == 0.3333
    for other in (WANTED[:1], [*WANTED, ("d", "c", "ddd")], [WANTED[0], ("b", "c", "other")]):
        assert places.lacking(path, other) == "does not hold what params.yaml and experiments.yaml ask for"


@pytest.mark.parametrize("label", ["None", "NA", "null", "n/a", "nan", "101", "0.50", "True"])
def test_a_label_is_read_as_it_was_written(label, tmp_path):
    columns = ("row", "column", "kind", "backbone", "stands_in_for", places.SETTINGS)
    places.write_csv(pd.DataFrame([[label] * 6 + [None], [label] * 6 + [2.5]], columns=[*columns, "value"]),
                     tmp_path / "a.csv")
    assert places.lacking(tmp_path / "a.csv", [(label,) * 6], columns) == ""
    assert places.read_csv(tmp_path / "a.csv")["value"].isna().tolist() == [True, False]


def test_a_file_without_a_column_is_no_answer(tmp_path):
    places.write_csv(pd.DataFrame({"row": ["a"], "column": ["b"]}), tmp_path / "old.csv")
    assert places.lacking(tmp_path / "old.csv", WANTED) == "has no column 'settings'"


@pytest.mark.parametrize("content", [b"", b"row,column\na,b\na,b,c\n", b"row,column\n\xff,b\n", b"row,column\na,b\nc"])
def test_a_torn_file_is_named_with_a_remedy(content, tmp_path):
    (tmp_path / "table_1.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"table_1\.csv is torn \(.+\); take it from git or from"):
        places.lacking(tmp_path / "table_1.csv", WANTED)


def test_a_cell_of_which_a_seed_diverged_has_no_results():
    results = pd.DataFrame([("a", "x", 0, "top1", 1.0), ("a", "x", 1, places.DIVERGED, 1.0), ("a", "y", 0, "top1", 2.0),
                            ("b", "x", 0, "top1", 3.0)], columns=["row", "column", "seed", "metric", "value"])
    assert places.undiverged(results)["value"].tolist() == [2, 3]
    assert places.undiverged(results, ["row"])["value"].tolist() == [3]
    assert places.undiverged(results.head(0)).empty and len(places.undiverged(results.drop(index=1))) == 3


def test_the_scale_of_a_profile_is_what_decides_its_results_with_the_device_as_it_is_written(tiny, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: pytest.fail("the device is looked up"))
    automatic = tiny.model_copy(update={"device": "auto"})
    assert places.scale_of(automatic)["device"] == "auto"
    assert places.scale_of(tiny.model_copy(update={"scale": "other words", "workers": 3})) == places.scale_of(tiny)
    assert places.scale_of(tiny.model_copy(update={"width_scale": 0.2})) != places.scale_of(tiny)

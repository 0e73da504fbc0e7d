"""Experiments: the grids of params.yaml are the paper's tables, and results come out in long format."""

from __future__ import annotations

import json

import pytest

from ghostlib.config import ConfigError
from ghostlib.experiments import COLUMNS, Experiment
from ghostlib.files import write_atomic
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.training.profile import load_params
from ghostlib.training.recipe import Recipe

PARAMS = load_params()
EXPERIMENTS = list(PARAMS["experiments"])


@pytest.mark.parametrize("profile", PARAMS["profiles"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_the_paper_s_rows_and_columns(name, profile):
    cells = [(cell.row, cell.column) for cell in Experiment.load(name, profile).cells]
    published = [(row, column) for row in numbers.table(name).index for column in numbers.table(name).columns]
    # Of Table 9 only some rows are trained, and only their accuracy.
    assert cells == (published if name != "table_9" else [cell for cell in published if cell in cells])


def test_table_9_trains_every_row_whose_training_the_paper_or_its_predecessor_describes():
    trained = {cell.row: cell.recipe for cell in Experiment.load("table_9", "imagenet").cells}
    assert set(trained) == {row for row in numbers.table("table_9").index
                            if row.startswith(("GhostNetV2", "GhostNetV3", "MobileNetV2 1.0", "ShuffleNetV2 1.0"))}
    for row, recipe in trained.items():
        strategy = "GhostNetV3" in row or "ours" in row
        assert (recipe.branches, recipe.teacher) == ((3, "BEiTv2-B") if strategy else (0, None))
        assert catalog.rows()[row].replace("v3", "v2") == recipe.network
    ordinary = trained["GhostNetV2 1.0×"].model_copy(update={"batch_size": 1024})
    assert ordinary.effective_lr == pytest.approx(0.064, rel=1e-3)  # GhostNetV2's command


def test_the_paper_s_final_recipe_is_one_run_in_every_table_that_holds_it():
    final = {"table_3": ("BEiTv2-B", "α=0.5"), "table_4": ("α=0.5", "τ=1"), "table_5": ("w/ 1×1 DW", "N=3"),
             "table_6": ("w/ ReP&KD", "cosine_0"), "table_7": ("w/ ReP&KD", "0.05"),
             "table_8": ("RandAug + Erasing", "GhostNetV3"), "figure_3": ("w/ ReP&KD", "0.005"),
             "figure_4": ("w/ ReP&KD", "0.9999")}
    keys = {run.key for name, place in final.items() for cell, run in Experiment.load(name, "digits").runs()
            if (cell.row, cell.column) == place}
    assert len(keys) == 1


def test_figure_4_costs_no_run_of_its_own():
    def keys(name):
        return {run.key for _, run in Experiment.load(name, "digits").runs()}
    assert len(keys("figure_4")) == 2 and keys("figure_4") <= keys("figure_3")


def test_at_the_paper_s_scale_the_final_recipe_is_the_paper_s():
    cell = next(cell for cell in Experiment.load("table_6", "imagenet").cells if cell.column == "cosine_0")
    assert cell.recipe == Recipe()


@pytest.mark.parametrize(("change", "message"), [
    (dict(rows={"a": {"lrr": 1}}), r"experiments\.broken \(a, b\).*unknown key 'lrr'; did you mean 'lr'"),
    (dict(rows={"a": {"alpha": 2}}), "alpha = 2"),
    (dict(rows={"a": {"teacher": "Nobody"}}), "teacher = 'Nobody'.*BEiTv2-B"),
    (dict(rowz={}), "unknown key 'rowz'"),
])
def test_a_broken_grid_is_an_error_that_names_the_place(change, message):
    grid = {"rows": {"a": {}}, "columns": {"b": {}}, **change}
    with pytest.raises(ConfigError, match=message):
        Experiment.load("broken", "digits", {**PARAMS, "experiments": {"broken": grid}})


def test_an_unknown_experiment_names_the_known_ones():
    with pytest.raises(ConfigError, match="'table_99'.*table_1"):
        Experiment.load("table_99", "digits")


def test_results_are_long_and_cells_that_differ_in_the_average_only_share_a_run(tiny, store):
    grid = {"rows": {"plain": {"branches": 0, "teacher": None}},
            "columns": {"0.9999": {"ema_decay": 0.9999}, "0.99999": {"ema_decay": 0.99999}}}
    params = {"profile": "tiny", "recipe": {}, "experiments": {"decays": grid},
              "profiles": {"tiny": tiny.model_dump(exclude={"name"}) | {"seeds": [0, 1]}}}
    experiment = Experiment.load("decays", params=params)
    for _, run in experiment.runs():  # as if trained: each value says which seed and weights it is of
        scores = {metric: {"raw": 10 + run.seed, "0.9999": 20 + run.seed, "0.99999": 30 + run.seed}
                  for metric in ("top1", "top5")}
        history = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 10 * epoch} for epoch in (1, 2)]
        metrics = {"test": scores, "val": scores, "history": history}
        write_atomic(store.folder(run) / "metrics.json", json.dumps(metrics).encode())
    results = experiment.run(store=store)
    assert list(results.columns) == COLUMNS
    assert results["run"].nunique() == 2 and len(results) == 2 * 2 * 8
    assert results["data"].nunique() == 1
    values = results.set_index(["metric", "column", "seed"])["value"]
    assert values["test_top1"].to_dict() == {
        ("0.9999", 0): 20, ("0.9999", 1): 21, ("0.99999", 0): 30, ("0.99999", 1): 31}
    assert values["val_top5_raw"]["0.99999"].to_dict() == {0: 10, 1: 11}
    curves = experiment.curves(store)
    assert len(curves) == 2 * 2 * 2 and set(curves["accuracy"]) == {10, 20}


def test_the_overview_shows_what_a_cell_changes_from_the_final_recipe_and_nothing_else():
    overview = Experiment.load("table_8", "digits").overview().set_index(["row", "column"])["changes"]
    assert overview["RandAug + Erasing", "GhostNetV3"] == ""
    assert overview["RandAug + Mixup", "GhostNetV3"] == "erasing = 0.0, mixup = 0.2"

"""Experiments: the grids of params.yaml are the paper's tables, and results come out in long format."""

from __future__ import annotations

import copy
from dataclasses import replace

import pandas as pd
import pytest

from ghostlib.config import ConfigError
from ghostlib.experiments import STEPS_METRIC, Experiment
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.training.profile import load_params
from ghostlib.training.recipe import Recipe

PARAMS = load_params()
EXPERIMENTS = list(PARAMS["experiments"])


OURS = {"rivals", "plain_distilled", "causes"}  # the paper has no such table


@pytest.mark.parametrize("profile", PARAMS["profiles"])
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in OURS])
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


def test_a_rival_differs_from_the_strategy_in_its_branches_and_teacher_alone():
    ours = {cell.recipe.network: cell.recipe for cell in Experiment.load("table_9", "imagenet").cells
            if cell.recipe.optimizer == "lamb"}
    for cell in Experiment.load("rivals", "imagenet").cells:
        strategy = ours[cell.recipe.network]
        assert cell.recipe == strategy.model_copy(update={"branches": 0, "teacher": None})


def test_what_tells_branches_and_teacher_apart_differs_in_these_alone():
    def recipe(experiment: str, row: str, column: str) -> Recipe:
        cells = Experiment.load(experiment, "fashion").cells
        return next(cell.recipe for cell in cells if (cell.row, cell.column) == (row, column))

    both = recipe("table_5", "w/ 1×1 DW", "N=3")
    for other, changes in ((recipe("table_2", "N=3", "w/ 1×1 DW"), {"teacher": None}),
                           (recipe("plain_distilled", "w/ KD", "1.3×"), {"branches": 0}),
                           (recipe("figure_3", "w/o ReP&KD", "0.005"), {"teacher": None, "branches": 0})):
        assert other == both.model_copy(update={**changes, "lr_scale": other.lr_scale})


def test_a_rival_at_table_1_s_widths_costs_no_run_of_its_own():
    plain = {run.key for cell, run in Experiment.load("table_1", "digits").runs() if cell.row == "w/o ReP"}
    assert plain < {run.key for _, run in Experiment.load("rivals", "digits").runs()}


def test_an_experiment_may_be_of_one_profile_and_of_fewer_seeds():
    params = copy.deepcopy(PARAMS)
    params["experiments"]["few"] = {"profiles": ["fashion"], "seeds": 1, "rows": {"a": {}}, "columns": {"b": {}}}
    params["profiles"]["fashion"]["seeds"] = [5, 6]
    assert [run.seed for _, run in Experiment.load("few", "fashion", params).runs()] == [5]
    assert Experiment.load("few", "digits", params).cells == ()


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
    (dict(rowz={}), "unknown key 'rowz'"), (dict(profiles=["fashon"]), "profile 'fashon'; did you mean 'fashion'"),
    (dict(rows={"a": {"branches": True}}), "branches = True: true and false are no values"),
    (dict(rows={"a": None}), "rows.a = None"), (dict(columns={"": {}}), "a row or column has an empty name"),
])
def test_a_broken_grid_is_an_error_that_names_the_place(change, message):
    grid = {"rows": {"a": {}}, "columns": {"b": {}}, **change}
    with pytest.raises(ConfigError, match=message):
        Experiment.load("broken", "digits", {**PARAMS, "experiments": {"broken": grid}})


def test_an_unknown_experiment_names_the_nearest_or_all():
    with pytest.raises(ConfigError, match="unknown experiment 'table_99'; did you mean 'table_9'"):
        Experiment.load("table_99", "digits")
    with pytest.raises(ConfigError, match="known keys: causes, .*table_1"):
        Experiment.load("zzz", "digits")


def made_up(name: str, steps: int = 1000) -> pd.DataFrame:
    """Results of an experiment at the digits profile, a key for each cell and seed."""
    experiment = Experiment.load(name, "digits")
    return pd.DataFrame([{"row": cell.row, "column": cell.column, "seed": seed, "run": f"{i}-{seed}", "metric": metric,
                          "value": value} for i, cell in enumerate(experiment.cells)
                         for seed in experiment.seeds
                         for metric, value in (("test_top1", 50.0), (STEPS_METRIC, float(steps)))])


def test_the_overview_shows_what_a_cell_changes_from_the_final_recipe_and_nothing_else():
    overview = Experiment.load("table_8", "digits").overview(made_up("table_8")).set_index("run")
    assert overview["what it changes"]["RandAug + Erasing · GhostNetV3"] == "nothing"
    assert overview["what it changes"]["RandAug + Mixup · GhostNetV3"] == "erasing = 0.0, mixup = 0.2"
    assert overview["key"]["AutoAug · DeiT-tiny"] == "1-0"  # the second cell, from the file and not computed again


def test_a_remark_names_the_decays_that_so_few_steps_do_not_average_over():
    figure_4 = Experiment.load("figure_4", "digits")
    (remark,) = figure_4.remarks(made_up("figure_4", steps=100))
    assert "a training of 100 steps an average of 0.99 or 0.999 spans" in remark
    assert figure_4.remarks(made_up("figure_4", steps=375600)) == []
    assert Experiment.load("table_1", "digits").remarks(made_up("table_1", steps=2)) == []
    diverged = made_up("figure_4", steps=100).query("column != '0.999'")
    assert "an average of 0.99 spans" in figure_4.remarks(diverged)[0]


def test_a_run_is_labelled_with_its_place_and_the_label_is_no_part_of_it():
    (cell, run), *_ = Experiment.load("table_1", "digits").runs()
    assert run.label == "table_1 (w/o ReP, 1.0×), seed 0"
    assert replace(run, label="another").key == run.key

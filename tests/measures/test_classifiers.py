"""Classifiers: what comes out of the run store, when it is trained again, and that reading needs no torch."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save

from ghostlib.config import ConfigError
from ghostlib.experiments import COLUMNS, Experiment
from ghostlib.files import write_atomic
from ghostlib.measures import classifiers, places
from ghostlib.runs import engines
from ghostlib.runs.store import Store, StoreError
from ghostlib.training.bits import packed, unpacked
from ghostlib.training.profile import load_params
from tests.params import write_params

ROOT = Path(__file__).parents[2]
GRID = {"rows": {"plain": {"branches": 0, "teacher": None}},
        "columns": {"0.9999": {"ema_decay": 0.9999}, "0.99999": {"ema_decay": 0.99999}}}


@pytest.fixture
def params(tiny):
    return {"profile": "tiny", "recipe": {"weight_decay": 0.05}, "experiments": {"decays": copy.deepcopy(GRID)},
            "profiles": {"tiny": tiny.model_dump(exclude={"name", "base"}, mode="json") | {"seeds": [0, 1]}}}


def weights_of(key: str) -> bytes:
    return save({"x": torch.zeros(1)}, {"key": key})


def finish(job, store: Store) -> None:
    """As if trained: each value says which seed and weights it is of."""
    def scores(base):
        return {metric: {"raw": base + 10 + job.seed, "0.9999": base + 20 + job.seed, "0.99999": base + 30 + job.seed}
                for metric in ("top1", "top5", "loss")}

    test, val = scores(0), scores(100)
    correct = {name: packed(np.arange(40) < value) for name, value in test["top1"].items()}
    history = [{"epoch": epoch, "loss": 1 / epoch, "accuracy": 10 * epoch} for epoch in (1, 2)]
    write_atomic(store.folder(job) / "ema.safetensors", weights_of(job.key))
    write_atomic(store.folder(job) / "cost.json", json.dumps({"seconds": 1.5, "device": "a CPU", "date": "2026-01-02"}))
    write_atomic(store.folder(job) / "metrics.json", json.dumps(
        {"test": test, "val": val, "correct": correct, "history": history}))


@pytest.fixture
def repository(tmp_path, monkeypatch, params):
    """A folder with a params.yaml, where engines only pretend to train; returns what they were given, run by run."""
    trained = []

    def run(jobs, workers=None, store=None, **options):
        for job in jobs:
            if store.metrics(job) is None:
                trained.append(job)
                finish(job, store)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / ".runs"))
    monkeypatch.setattr(engines, "run", run)
    write_params(".", params)
    return trained


def test_results_are_long_and_cells_that_differ_in_the_average_only_share_a_run(params, store):
    experiment = Experiment.load("decays", params=params)
    for _, run in experiment.runs():
        finish(run, store)
    results = classifiers.results(experiment, store)
    assert list(results.columns) == COLUMNS
    assert results["run"].nunique() == 2 and len(results) == 2 * 2 * 13
    assert results["data"].nunique() == 1
    assert results["settings"].nunique() == 4  # a cell, a seed
    values = results.set_index(["metric", "column", "seed"])["value"]
    assert values["test_top1"].to_dict() == {
        ("0.9999", 0): 20, ("0.9999", 1): 21, ("0.99999", 0): 30, ("0.99999", 1): 31}
    assert values["val_top5_raw"]["0.99999"].to_dict() == {0: 110, 1: 111}
    assert set(values["steps"]) == {9}
    curves = classifiers.curves(experiment, store)
    assert len(curves) == 2 * 2 * 2 and set(curves["accuracy"]) == {10, 20}


def test_everything_is_measured_once_and_written(repository, tiny):
    classifiers.measure("tiny")
    assert [run.label for run in repository] == ["stand-in for weak", "stand-in for strong",
                                                 *(f"decays (plain, 0.9999), seed {seed}" for seed in (0, 1))]
    folder = places.RESULTS / "tiny"
    teachers = pd.read_csv(folder / "teachers.csv")
    assert list(teachers.columns) == classifiers.TEACHERS and list(teachers["stands_in_for"]) == ["weak", "strong"]
    for teacher in teachers.itertuples():
        assert teacher.test_top1 == 20
        weights = folder / "teachers" / f"{teacher.stands_in_for}.safetensors"
        assert weights.read_bytes() == weights_of(teacher.run)
    correct = pd.read_csv(folder / "correct" / "decays.csv")
    assert correct[["column", "seed"]].values.tolist() == [[0.9999, 0], [0.9999, 1], [0.99999, 0], [0.99999, 1]]
    assert [int(unpacked(row.correct, row.images).sum()) for row in correct.itertuples()] == [20, 21, 30, 31]
    costs = pd.read_csv(folder / "costs" / "classifiers.csv")
    assert costs.columns.tolist() == ["run", "kind", "seconds", "device", "date"]
    assert sorted(costs["kind"]) == ["classifier", "classifier", "teacher", "teacher"]
    classifiers.measure("tiny")
    classifiers.read("tiny", "decays")
    assert len(repository) == 4


@pytest.mark.parametrize("content", [b"torn", None], ids=["torn", "gone"])
def test_a_teacher_s_weights_that_are_torn_are_named_and_not_passed_on(repository, content):
    classifiers.measure("tiny")
    strong = pd.read_csv(places.RESULTS / "tiny" / "teachers.csv")["run"][1]
    path = Store().root / strong / "ema.safetensors"
    path.write_bytes(content) if content else path.unlink()
    with pytest.raises(StoreError, match=rf"{strong}/ema.safetensors is missing or torn .* remove the folder"):
        classifiers.measure("tiny")
    assert (places.RESULTS / "tiny" / "teachers" / "strong.safetensors").read_bytes() == weights_of(strong)


def test_a_notebook_by_itself_measures_what_it_lacks_and_says_so(repository, params, capsys):
    assert len(classifiers.read("tiny", "decays")) == 52
    assert "decays.csv does not exist: measuring" in capsys.readouterr().err
    assert len(classifiers.read_curves("tiny", "decays")) == 8 and capsys.readouterr().err == ""
    params["experiments"]["decays"]["rows"]["plain"]["lr"] = 0.001
    write_params(".", params)
    before = len(repository)
    classifiers.read("tiny", "decays")
    assert "does not hold what params.yaml and experiments.yaml ask for: measuring" in capsys.readouterr().err
    assert len(repository) == before + 2
    places.curves_file("tiny", "decays").unlink()
    classifiers.read_curves("tiny", "decays")
    assert "curves/decays.csv does not exist" in capsys.readouterr().err and len(repository) == before + 2


def test_results_of_other_settings_or_images_are_not_judged_beside_those_of_now(repository, params):
    classifiers.check("tiny")  # nothing is there yet
    classifiers.measure("tiny")
    classifiers.check("tiny")
    path = places.runs_file("tiny", "decays")
    params["experiments"]["others"] = params["experiments"]["decays"]
    write_params(".", params)
    other = path.with_name("others.csv")
    other.write_text(path.read_text().replace(pd.read_csv(path)["data"][0], "other images"))
    with pytest.raises(ConfigError, match=r"decays\.csv and .*others\.csv: trainings are of different images"):
        classifiers.check("tiny")
    other.unlink()
    places.write_csv(pd.DataFrame({"network": ["a"], "median_ms": [1.0]}), path.with_name("latency.csv"))
    kept = params["experiments"].pop("others"), params["experiments"].pop("decays")
    params["experiments"]["others"] = kept[0]
    write_params(".", params)
    with pytest.raises(ConfigError, match=r"decays\.csv: experiments\.yaml has no experiment 'decays', so .* remove"):
        classifiers.check("tiny")
    params["experiments"] = {"decays": kept[1]}
    params["experiments"]["decays"]["rows"]["plain"]["lr"] = 0.001
    write_params(".", params)
    with pytest.raises(ConfigError, match=r"decays\.csv does not hold what .* ask for; measure it again \(`ghostlib "
                                          r"measure classifiers tiny`\), or remove it"):
        classifiers.check("tiny")


def test_what_says_of_which_settings_results_are_is_written_last(repository, monkeypatch):
    written = []
    write = places.write_csv
    monkeypatch.setattr(places, "write_csv", lambda frame, path: (written.append(path), write(frame, path)))
    classifiers.measure("tiny")
    of_experiment = [path.parent.name for path in written if path.name == "decays.csv"]
    assert sorted(of_experiment) == ["correct", "curves", "runs"] and of_experiment[-1] == "runs"


def test_an_experiment_without_cells_has_empty_files(repository, params):
    params["profiles"]["another"] = params["profiles"]["tiny"]
    params["experiments"]["decays"]["profiles"] = ["another"]
    write_params(".", params)
    classifiers.measure("tiny")
    assert len(repository) == 2  # the teachers
    assert classifiers.read("tiny", "decays").columns.tolist() == COLUMNS and len(repository) == 2
    for file in (places.runs_file, places.curves_file, places.correct_file):
        assert file("tiny", "decays").read_text().count("\n") == 1


def test_another_teacher_makes_other_teachers_lacking(repository, params, capsys):
    classifiers.read_teachers("tiny")
    capsys.readouterr()
    params["profiles"]["tiny"]["teachers"]["weak"]["stand_in"]["epochs"] = 2
    write_params(".", params)
    assert list(classifiers.read_teachers("tiny")["epochs"]) == [2, 4]
    assert "teachers.csv does not hold what params.yaml and experiments.yaml ask for" in capsys.readouterr().err


def test_a_teacher_that_diverged_is_named_with_a_remedy(repository, params, monkeypatch):
    def diverge(jobs, store=None, **options):
        for job in jobs:
            write_atomic(store.folder(job) / "diverged.txt", "the loss is nan")
        raise engines.GridError("3 of 5 runs failed: it requires ...")  # its students

    monkeypatch.setattr(engines, "run", diverge)
    with pytest.raises(ConfigError, match=r"profiles\.tiny\.teachers\.\w+\.stand_in: it diverged \(the loss is nan\); "
                                          "give it a smaller lr_scale"):
        classifiers.measure("tiny")


def test_a_profile_without_stand_ins_has_an_empty_table_and_folder_of_teachers(repository, params):
    params["profiles"]["tiny"] |= {"teachers": {}, "recipe": params["profiles"]["tiny"]["recipe"] | {"teacher": None}}
    write_params(".", params)
    classifiers.measure("tiny")
    assert classifiers.read_teachers("tiny").empty and (places.RESULTS / "tiny" / "teachers").is_dir()


@pytest.mark.parametrize("change", [
    lambda p: p["experiments"]["decays"]["columns"]["0.9999"].update(lr=0.01),
    lambda p: p["profiles"]["tiny"].update(width_scale=0.2), lambda p: p["profiles"]["tiny"].update(seeds=[0, 2]),
    lambda p: p["experiments"]["decays"]["columns"].update(x={"lr": 0.02}),
    lambda p: p["recipe"].update(weight_decay=0.1)])
def test_whatever_decides_a_result_changes_what_is_asked(params, change):
    def settings():
        experiment = Experiment.load("decays", params=params)
        return {classifiers.settings_of(cell.recipe, experiment.profile, seed)
                for cell in experiment.cells for seed in experiment.seeds}

    before = settings()
    change(params)
    assert settings() != before


def test_a_teacher_s_recipe_is_part_of_what_its_student_asks(params):
    params["experiments"]["decays"] = {"rows": {"a": {"teacher": "weak"}}, "columns": {"b": {}}}

    def settings():
        experiment = Experiment.load("decays", params=params)
        return classifiers.settings_of(experiment.cells[0].recipe, experiment.profile, 0)

    before = settings()
    params["profiles"]["tiny"]["teachers"]["strong"]["stand_in"]["epochs"] = 5
    assert settings() == before
    params["profiles"]["tiny"]["teachers"]["weak"]["stand_in"]["epochs"] = 2
    assert settings() != before


def test_rendering_what_is_measured_imports_no_torch(repository, params):
    """The cells of the ablations' notebook as one script, on files that are all there."""
    params["experiments"] = {"table_6": load_params(ROOT / "params.yaml")["experiments"]["table_6"]}
    write_params(".", params)
    classifiers.measure("tiny")
    cells = json.loads((ROOT / "notebooks" / "ablation.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    code = code.replace('experiment = "table_1"', 'experiment = "table_6"').replace('"digits"', '"tiny"')
    code += "\nimport sys; print('heavy:', {'torch', 'scipy', 'seaborn', 'timm', 'mmengine'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={
        "PATH": "", "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "GHOSTLIB_RUNS": "nowhere",
        places.FOLDER: str(places.RESULTS)})  # as the pipeline runs it
    assert done.returncode == 0, done.stderr
    assert "heavy: set()" in done.stdout and "measuring" not in done.stderr
    assert (places.RESULTS / "tiny" / "figures" / "table_6.svg").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_notebook_imports_brings_no_torch(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    code = "\n".join(line for line in lines if line.startswith(("from ", "import ")))
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; sys.exit('torch' in sys.modules)"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

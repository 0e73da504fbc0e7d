"""Written results back in a store: what is measured from it is what was written, and weights are not pretended."""

from __future__ import annotations

import copy
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from ghostlib import cli, machine
from ghostlib.config import ConfigError
from ghostlib.experiments import Experiment
from ghostlib.measures import classifiers, places, rates, restored
from ghostlib.runs import engines
from ghostlib.runs.classifier import CODE
from ghostlib.runs.store import Store
from ghostlib.training.bits import packed, unpacked
from ghostlib.training.profile import load_params, load_profile
from ghostlib.training.progress import NonFiniteLoss
from tests.measures.test_classifiers import GRID, finish
from tests.params import write_params

DIVERGED = 1  # the seed that does


@pytest.fixture
def params(tiny):
    """Both averages of one cell are asked for; of another one of two; a third tracks just that."""
    one = {"rows": {"w/ ReP": {"teacher": None}}, "columns": {"all": {}}}
    return {"profile": "tiny", "recipe": {"weight_decay": 0.05}, "experiments": {
        "decays": copy.deepcopy(GRID), "other": one | {"rows": {"half": {"teacher": None, "lr": 0.1}}},
        "single": one | {"base": {"ema_decays": [0.9999]}}},
        "profiles": {"tiny": tiny.model_dump(exclude={"name", "base"}, mode="json") | {"seeds": [0, 1]}}}


@pytest.fixture
def written(tmp_path, monkeypatch, params) -> list[Path]:
    """The files of three experiments as `measure` writes them; the store that they came from is gone."""
    def run(jobs, workers=None, store=None, **options):
        for job in jobs:
            if job.recipe.ema_decays == (0.9999,) and job.seed == DIVERGED:
                store.take(job, None, {}, "a test")
            elif not store.finished(job):
                finish(job, store)
                metrics = store.metrics(job)
                for name in {"0.9999", "0.99999"} - {str(decay) for decay in job.recipe.ema_decays}:
                    for of in (*metrics["test"].values(), *metrics["val"].values(), metrics["correct"]):
                        of.pop(name)
                metrics["test"]["top1"] = {name: 100 * unpacked(hits, 40).mean()
                                           for name, hits in metrics["correct"].items()}
                metrics["val"]["top1"]["raw"] = 12.34567
                metrics["history"][-1] |= {"val_top1": 12.34567, "val_loss": 1.5}
                (store.folder(job) / "metrics.json").write_text(json.dumps(metrics))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engines, "run", run)
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / "gone"))
    write_params(".", params)
    classifiers.measure("tiny")
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / ".runs"))
    return [find("tiny", name) for name in params["experiments"]
            for find in (places.runs_file, places.curves_file, places.correct_file)]


def runs(name: str) -> list:
    return [run for _, run in Experiment.load(name, "tiny", load_params()).runs()]


def test_what_is_measured_from_restored_runs_is_what_was_written(written, params):
    store = Store()
    taken, left_out, others = restored.restore("tiny", store)
    assert not others and set(taken) == {run.key for name in ("decays", "single") for run in runs(name)}
    assert set(left_out) == {run.key for run in runs("other")}, "of one of its averages nothing is written"
    texts = {file: file.read_text() for file in written}
    for name in ("decays", "single"):
        experiment = Experiment.load(name, "tiny", load_params())
        for table, find in ((classifiers.results, places.runs_file), (classifiers.curves, places.curves_file),
                            (classifiers.correct, places.correct_file)):
            places.write_csv(table(experiment, store), find("tiny", name))
    assert {file: file.read_text() for file in written} == texts
    run = runs("decays")[0]
    assert store.cost(run) == {"seconds": 1.5, "device": "a CPU", "date": "2026-01-02"}
    assert json.loads((store.folder(run) / "run.json").read_text())["restored_from"] == "results/tiny"
    assert not list(store.folder(run).glob("*.safetensors"))


def test_a_training_that_diverged_is_restored_as_one(written):
    restored.restore("tiny", store := Store())
    whole, diverged = runs("single")
    assert store.metrics(whole) and store.metrics(diverged) is None
    with pytest.raises(NonFiniteLoss, match=r"seed 1 diverged, says results/tiny"):
        store.ensure(diverged)


def test_what_the_store_has_stays_and_the_rest_is_restored_once(written):
    store, run = Store(), runs("decays")[0]
    finish(run, store)
    before = (store.folder(run) / "metrics.json").read_text()
    assert run.key not in restored.restore("tiny", store)[0]
    assert (store.folder(run) / "metrics.json").read_text() == before
    assert restored.restore("tiny", store) == ([], [run.key for run in runs("other")], [])


def test_what_a_process_trains_is_not_taken_and_its_lock_is_free_afterwards(written):
    store, run = Store(), runs("decays")[0]
    store.folder(run).mkdir(parents=True)
    with FileLock(store.folder(run) / ".lock"):
        assert run.key not in restored.restore("tiny", store).taken and not store.finished(run)
    (store.folder(run) / "states").mkdir()
    assert restored.restore("tiny", store).taken == [run.key] and not store.held(run)
    assert not (store.folder(run) / "states").exists(), "it was half trained"


@pytest.mark.parametrize("lacking", [1, 2])
def test_what_is_half_written_is_left_out(written, lacking):
    file, run = written[lacking], runs("decays")[0]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("decays,plain,0.99999,0,")))
    assert run.key in restored.restore("tiny", store := Store()).left_out and not store.finished(run)


@pytest.mark.parametrize(("lacking", "old", "new"), [
    (1, "12.3457", "12.3557"), (2, packed(np.arange(40) < 20), packed(np.arange(40) < 21))])
def test_files_of_two_trainings_are_left_out(written, lacking, old, new):
    file, run = written[lacking], runs("decays")[0]
    lines = file.read_text().splitlines(keepends=True)
    of_cell = [line.startswith("decays,plain,0.9999,0,") for line in lines]
    file.write_text("".join(line.replace(old, new) if of else line for of, line in zip(of_cell, lines, strict=True)))
    assert run.key in restored.restore("tiny", store := Store()).left_out and not store.finished(run)


@pytest.mark.parametrize("odd", ["decays", "again", "once more"])
def test_of_a_cell_that_was_trained_on_two_machines_what_most_tables_tell_is_taken(written, params, odd):
    """One key, and other bits: here the learning curve shows it."""
    for name in ("again", "once more"):
        params["experiments"][name] = params["experiments"]["decays"]
        for find in (places.runs_file, places.curves_file, places.correct_file):
            find("tiny", name).write_text(find("tiny", "decays").read_text().replace("decays,", f"{name},"))
    file = places.curves_file("tiny", odd)
    file.write_text(file.read_text().replace("1.5000", "1.6000"))
    write_params(".", params)
    restored.restore("tiny", store := Store())
    assert [store.metrics(run)["history"][-1]["val_loss"] for run in runs("decays")] == 4 * [1.5]


def test_a_result_of_other_settings_is_not_restored(written, params):
    params["experiments"]["decays"]["rows"]["plain"]["lr"] = 0.001
    write_params(".", params)
    taken, _, others = restored.restore("tiny", store := Store())
    assert taken and len(others) == 2 and not any(store.finished(run) for run in runs("decays"))


def test_what_was_the_same_to_the_bit_is_so_of_the_code_of_now_alone(written, monkeypatch):
    assert restored._SAME_BITS.keys() <= {CODE}, "compare the bits of the code of now, or leave the entry out"
    monkeypatch.setattr(restored, "_SAME_BITS", {})
    later = replace(runs("decays")[0], code="another")
    assert restored._keys(later) == [later.key]
    monkeypatch.setattr(restored, "_SAME_BITS", {CODE: {"another": True}})
    assert restored._keys(runs("decays")[0]) == [runs("decays")[0].key, later.key]
    assert restored._keys(later) == [later.key]


def test_trials_of_learning_rates_are_restored(written, params):
    params["profiles"]["tiny"]["tune"] = {"seeds": [8], "rates": [1, 2, 3, 4]}
    write_params(".", params)
    rates.measure("tiny")
    files = [places.rates_file("tiny"), places.rates_curves_file("tiny"), places.costs_file("tiny", "rates")]
    texts = [file.read_text() for file in files]
    tried = rates.trials(load_profile("tiny", load_params()), load_params(), rates.known(load_profile("tiny", params)))
    shutil.rmtree(os.environ["GHOSTLIB_RUNS"])
    assert {run.key for _, run in tried} <= set(restored.restore("tiny", Store()).taken)
    for file in files:
        file.unlink()
    rates.measure("tiny")
    assert [file.read_text() for file in files] == texts


def test_what_detectors_start_from_is_trained_here(written, params, monkeypatch):
    backbone = runs("single")[0]
    monkeypatch.setattr(restored, "_wanted_weights", lambda profile, params, runs: {backbone.key})
    assert backbone.key in restored.restore("tiny", store := Store())[1] and not store.finished(backbone)


def test_the_backbones_of_a_profile_of_the_repository_are_among_what_its_tables_train():
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    trained = {run.key: run for _, run in Experiment.load("table_9", "digits", params).runs()}
    wanted = restored._wanted_weights("digits", params, trained.values())
    assert len(wanted) == 5 and len(wanted & trained.keys()) == 3  # a teacher, and GhostNetV1 is in no other table


def test_the_command_says_how_many(written):
    def invoke(*arguments):
        return CliRunner().invoke(cli.app, ["runs", *arguments], catch_exceptions=False).stdout

    told = invoke("--restore", "tiny")
    assert "4 runs restored from results/tiny, without their weights.\n2 left out: their weights" in told
    assert "They were trained on a CPU. What is trained here" in told
    again = invoke("--restore", "tiny")
    assert "0 runs restored" in again and "trained on" not in again


def test_of_this_machine_it_does_not_say_so(written, monkeypatch):
    monkeypatch.setattr(machine, "cpu_name", lambda: "a CPU")
    assert not restored.trained_elsewhere("tiny", restored.restore("tiny", Store()).taken)


def test_without_results_or_a_profile_the_error_says_so(written, params):
    with pytest.raises(ConfigError, match="unknown profile 'tinny'"):
        restored.restore("tinny", Store())
    for file in written:
        file.unlink()
    with pytest.raises(FileNotFoundError, match="results/tiny holds no results of classifiers"):
        restored.restore("tiny", Store())


def test_results_of_earlier_code_are_restored_where_their_bits_are_the_same(written, monkeypatch):
    file, run = written[0], runs("decays")[0]
    earlier = {key: replace(of, code="earlier").key for of in runs("decays") for key in [of.key]}
    text = file.read_text()
    for key, then in earlier.items():
        text = text.replace(key, then)
    file.write_text(text)
    assert set(restored.restore("tiny", Store()).others) == set(earlier.values())
    monkeypatch.setattr(restored, "_SAME_BITS", {CODE: {"earlier": False}})
    wanted = runs("decays")[-1]
    monkeypatch.setattr(restored, "_wanted_weights", lambda *_: {wanted.key})
    taken, left_out, _ = restored.restore("tiny", store := Store())
    assert {key for key in earlier.values() if key not in taken} == {earlier[wanted.key]} <= set(left_out)
    assert store.finished(run) and not store.finished(wanted), "its weights are wanted, whichever code it was"
    other = replace(run, recipe=run.recipe.model_copy(update={"optimizer": "rmsproptf", "branches": 3}))
    assert restored._keys(other) == [other.key]

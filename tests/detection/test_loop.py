"""A detector's training: killed, damaged, diverged; and what it reports."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ghostlib.detection import loop, metrics, states
from ghostlib.runs.store import Store
from ghostlib.training.progress import NonFiniteLoss


@pytest.fixture(autouse=True, scope="module")
def a_state_an_epoch():
    """However short the epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "SECONDS", 0)
        yield


def assert_same_results(run, store: Store, finished: Store) -> None:
    assert store.metrics(run) == finished.metrics(run)
    expected, weights = (load_file(of.folder(run) / "detector.safetensors") for of in (finished, store))
    assert expected.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in expected.items())
    assert len({(of.folder(run) / loop.DETECTIONS).read_bytes() for of in (finished, store)}) == 1


def test_a_killed_training_goes_on_and_ends_in_the_same_weights(tiny_run, finished, store):
    folder = store.folder(tiny_run)
    for dies_at in (1, 3):  # in the first of three epochs, before there is a state, and in the second
        def die(progress, step=dies_at):
            if progress.step == step:
                os.kill(os.getpid(), signal.SIGKILL)
        # A fork has imported all that a new process would import for seconds.
        killed = multiprocessing.get_context("fork").Process(target=store.ensure, args=(tiny_run, die))
        killed.start()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        assert (folder / "states" / "epoch_1.pth").exists() == (dies_at == 3) and not (folder / "metrics.json").exists()

    seen = []
    store.ensure(tiny_run, lambda progress: seen.append(progress.step))
    assert seen == [3, 4, 5, 6], "it goes on after the last whole epoch"
    assert not (folder / "states").exists()
    assert_same_results(tiny_run, store, finished)
    assert [epoch["epoch"] for epoch in store.metrics(tiny_run)["history"]] == [1, 2, 3]


def test_a_state_is_written_no_sooner_than_a_minute_after_the_last(tiny_run, store, monkeypatch):
    now = 0.0
    monkeypatch.setattr(states, "SECONDS", 60)
    monkeypatch.setattr(states.time, "monotonic", lambda: now)

    def report(progress):
        nonlocal now
        now += 29  # an epoch has two steps, so the first ends at 58 s and the second at 116
        if progress.step == 5:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        store.ensure(tiny_run, report)
    assert [path.name for path in (store.folder(tiny_run) / "states").glob("*.pth")] == ["epoch_2.pth"]


# -- damaged states


@pytest.fixture(scope="module")
def interrupted(tiny_run, finished, tmp_path_factory) -> Store:
    """A store where the run was interrupted in its third epoch, so that it has two states."""
    store = Store(tmp_path_factory.mktemp("interrupted"))
    shutil.copytree(finished.folder(tiny_run.backbone), store.folder(tiny_run.backbone))

    def report(progress):
        if progress.step == 5:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        store.ensure(tiny_run, report)
    return store


def truncate(state: Path) -> None:
    state.write_bytes(state.read_bytes()[:-1000])


def flip_a_bit(state: Path) -> None:
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1  # among the weights: PyTorch reads it without an error
    state.write_bytes(content)


def lose_the_digest(state: Path) -> None:
    state.with_name(f"{state.name}.sha256").unlink()


@pytest.fixture
def damaged(interrupted, tiny_run, tmp_path) -> Store:
    """A copy of the interrupted store whose states a test may damage."""
    return Store(shutil.copytree(interrupted.root, tmp_path / "runs"))


def test_a_damaged_state_is_passed_over_and_training_ends_in_the_same_weights(tiny_run, finished, damaged, capsys):
    folder = damaged.folder(tiny_run) / "states"
    flip_a_bit(folder / "epoch_2.pth")
    seen = []
    detector, scores = loop.train(tiny_run.config(damaged), "a run", 0, "cpu", folder.parent,
                                  lambda progress: seen.append(progress.step))
    assert f"{folder / 'epoch_2.pth'} is damaged" in capsys.readouterr().err
    assert seen == [3, 4, 5, 6] and scores == finished.metrics(tiny_run)
    expected = load_file(finished.folder(tiny_run) / "detector.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in detector.state_dict().items())
    assert sorted(path.name for path in folder.glob("epoch_*")) == [
        "epoch_2.pth", "epoch_2.pth.sha256", "epoch_3.pth", "epoch_3.pth.sha256"], "two states, each with its digest"


@pytest.mark.parametrize(("damage", "why"), [
    (truncate, "is damaged"), (flip_a_bit, "is damaged"), (lose_the_digest, "has no digest")])
def test_the_newest_whole_state_is_found_and_every_other_named(tiny_run, damaged, capsys, damage, why):
    folder = damaged.folder(tiny_run) / "states"
    older, newest = folder / "epoch_1.pth", folder / "epoch_2.pth"
    assert states.newest_whole(folder) == newest and not capsys.readouterr().err
    damage(newest)
    assert states.newest_whole(folder) == older
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{newest} {why}" in warning and "training goes on from epoch_1.pth" in warning
    damage(older)
    assert states.newest_whole(folder) is None
    assert f"{older} {why}" in (text := capsys.readouterr().err) and "training begins again" in text


# -- trainings that must not be stored


@pytest.mark.parametrize(("optimizer", "label"), [("AdamW", "table_10 (GhostNetV3 1.0× @320), seed 0"), ("SGD", "")])
def test_a_diverged_training_is_an_error_that_names_run_cell_and_remedy(tiny_run, store, optimizer, label):
    options = tiny_run.scale.options | {"optim_wrapper.optimizer": {"_delete_": True, "type": optimizer, "lr": 1e9}}
    run = replace(tiny_run, label=label, scale=tiny_run.scale.model_copy(update={"options": options}))
    with pytest.raises(NonFiniteLoss) as error:
        store.ensure(run)
    assert all(part in str(error.value) for part in (
        f"run {run.key}, {label}", "GhostNetV3 1.0× @320", "seed 0", "diverged", optimizer, "lr = 1000000000.0",
        "a lower lr", "experiments.yaml: detection.scales"))
    assert store.metrics(run) is None and not (store.folder(run) / "detector.safetensors").exists()
    assert not list(store.folder(run).glob("states/*.pth")), "no state holds what diverged"


# -- metrics


def test_without_a_detection_only_the_metrics_of_one_size_are_unknown(monkeypatch):
    assert metrics.scores({}) == {"mAP": 0.0, "AP50": 0.0, "AP75": 0.0, "AP small": None, "AP medium": None,
                                  "AP large": None}
    monkeypatch.setattr(metrics, "METRICS", (metrics.Metric("AP of all", "a"),
                                             metrics.Metric("the small ones", "b", of_one_size=True)))
    assert metrics.scores({}) == {"AP of all": 0.0, "the small ones": None}


def test_metrics_are_in_percent_and_none_where_there_is_no_object_of_a_size():
    found = {metric.coco: 0.25 for metric in metrics.METRICS} | {"coco/bbox_mAP_l": -1.0}
    assert metrics.scores(found) == {"mAP": 25.0, "AP50": 25.0, "AP75": 25.0, "AP small": 25.0, "AP medium": 25.0,
                                     "AP large": None}

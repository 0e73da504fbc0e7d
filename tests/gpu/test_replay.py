"""Steps that are recorded once and replayed: the training is that of steps that are launched one by one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from ghostlib.runs import local
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.training import distill, loop, replay
from ghostlib.training.arm import Arm
from ghostlib.training.replay import ReplayedArm
from ghostlib.training.split import Split

DOCS = Path(__file__).parents[2] / "docs"

V3 = dict(network="ghostnetv2_050", branches=2, dropout=0.2)


def trained(arm_of, run, folder, teacher=None):
    arm = arm_of(run.network(), run, folder, teacher)
    [(_, outcome)] = loop.train_together([arm])
    if isinstance(outcome, Exception):
        raise outcome
    return arm, outcome


@pytest.fixture
def anew():
    """Another device and precision than the other tests'."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def as_on_a_gpu(monkeypatch, record):
    """Steps are "recorded" wherever the tests run."""
    modes = []
    monkeypatch.setattr(ReplayedArm, "_recordable", lambda self, views: True)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    return modes


def recorder(calls):
    """What PyTorch does, but for the GPU: some passes are tried, and all calls have the same output in memory."""
    def record(model, views, **options):
        assert not torch.is_autocast_enabled("cpu"), "the backward pass is not recorded under autocast"
        for _ in range(3):
            model(*views).sum().backward()
        model.zero_grad()
        forward = model.forward

        def replay(views):
            calls.append(len(views))
            return forward(views)
        model.forward = replay
        return model
    return record


@pytest.mark.parametrize("changed", [{}, {"optimizer": "rmsproptf", "lr": 1e-3}])
def test_a_recording_leaves_no_trace_in_what_is_trained(make_run, tmp_path, monkeypatch, changed):
    run, calls = make_run(dropout=0.2, teacher="weak", alpha=0.5, **changed), []
    modes = as_on_a_gpu(monkeypatch, recorder(calls))
    teacher = distill.stand_in(run.teacher_run.network())
    arm, replayed = trained(ReplayedArm, run, tmp_path / "replayed", teacher)
    _, launched = trained(Arm, run, tmp_path / "launched", teacher)
    assert replayed == launched
    assert len(calls) == run.steps and set(calls) == {run.recipe.batch_size}
    assert modes == ["error", 0], "tried where waiting is an error, once"
    assert arm.recorded is None, "its memory is free when it ends"
    assert (tmp_path / "replayed/weights.safetensors").read_bytes() == (
        tmp_path / "launched/weights.safetensors").read_bytes()


def test_the_precision_is_that_of_launched_steps(anew, make_run, tiny, tmp_path, monkeypatch):
    run = make_run(profile=tiny.model_copy(update={"precision": "bf16"}))
    as_on_a_gpu(monkeypatch, recorder([]))
    assert trained(ReplayedArm, run, tmp_path / "replayed")[1] == trained(Arm, run, tmp_path / "launched")[1]


@pytest.mark.parametrize("message", ["operation not permitted when stream is capturing\nmore", ""])
def test_what_cannot_be_recorded_is_launched(make_run, tmp_path, monkeypatch, message):
    def refuse(model, views, **options):
        model(*views).sum().backward()
        raise RuntimeError(message)
    as_on_a_gpu(monkeypatch, refuse)
    run, said = make_run(), message.splitlines()[0] if message else r"RuntimeError\(''\)"
    with pytest.warns(UserWarning, match=f"run {run.key}: .*could not be recorded: {said}") as told:
        _, launched = trained(ReplayedArm, run, tmp_path / "replayed")
    assert sum("recorded" in str(warning.message) for warning in told) == 1, "once, not every step"
    assert launched == trained(Arm, run, tmp_path / "launched")[1]


@pytest.mark.parametrize(("batch", "passes", "changed"), [
    (2048, 1, {}), (32, 2, {}), (32, 1, {"compile": True}), (32, 1, {"workers": 4})])
def test_some_steps_are_not_to_be_recorded(make_run, tiny, tmp_path, monkeypatch, batch, passes, changed):
    class OnGpu:
        is_cuda = True

        def numel(self):
            return 3 * 224**2 * batch
    monkeypatch.setattr(replay, "_MODE", {})  # as where PyTorch cannot allow for another thread that pins memory

    def recordable(profile, split):
        arm = ReplayedArm(None, make_run(profile=profile), tmp_path)
        arm.split = split
        return arm._recordable(OnGpu())
    assert recordable(tiny, Split(32)) or batch > 32
    assert not recordable(tiny.model_copy(update=changed), Split(32, passes))


def test_a_cpu_records_nothing(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "record", None)
    trained(ReplayedArm, make_run(), tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_trains_the_same_replayed_and_launched(anew, make_run, tiny, tmp_path, monkeypatch):
    recordings = []
    monkeypatch.setattr(ReplayedArm, "deploy", lambda arm: recordings.append(arm.recorded) or Arm.deploy(arm))
    profile = tiny.model_copy(update={"device": "cuda"})
    run: ClassifierRun = make_run(profile=profile, **V3)
    _, replayed = trained(ReplayedArm, run, tmp_path / "replayed")
    assert all(recordings), "the steps were replayed"
    _, launched = trained(Arm, run, tmp_path / "launched")
    of = [[epoch["loss"] for epoch in metrics["history"]] for metrics in (replayed, launched)]
    assert of[0] == pytest.approx(of[1], rel=1e-3)
    assert replayed["test"]["loss"] == pytest.approx(launched["test"]["loss"], rel=1e-2)


def test_a_number_of_workers_is_one(monkeypatch, make_run):
    monkeypatch.setenv(local.WORKERS, "3")
    assert local.default_workers([make_run()]) == 3
    monkeypatch.setenv(local.WORKERS, "many")
    with pytest.raises(ValueError, match="GHOSTLIB_WORKERS = 'many' is no number of processes"):
        local.default_workers([make_run()])


def test_what_is_said_of_a_gpus_trainings_is_what_their_file_holds():
    found = pd.read_csv(DOCS / "gpu-fashion.csv")
    difference = found["gpu_top1"] - found["cpu_top1"]
    half = 1.993 * difference.std() / len(found) ** 0.5  # Student's t at 73 degrees of freedom
    spread = found.groupby(["network", "optimizer", "branches", "teacher"])["cpu_top1"].var().mean() ** 0.5
    mean, sd = difference.mean(), difference.std()
    text = " ".join((DOCS / "gpu.md").read_text(encoding="utf-8").split())
    for said in (f"{len(found)} trainings of students that were finished",
                 f"then end {-mean:.2f} points of top-1 lower",
                 f"interval −{half - mean:.2f} to +{half + mean:.2f}", f"deviation of {sd:.2f} points",
                 f"seed alone have {spread:.2f}, two of these would differ by {spread * 2**0.5:.2f}"):
        assert said in text, said

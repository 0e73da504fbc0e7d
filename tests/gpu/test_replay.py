"""Steps that are recorded once and replayed: the training is that of steps that are launched one by one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from ghostlib.runs import local
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.training import loop, replay
from ghostlib.training.arm import Arm
from ghostlib.training.replay import ReplayedArm

DOCS = Path(__file__).parents[2] / "docs"

V3 = dict(network="ghostnetv2_050", branches=2, dropout=0.2)


def trained(arm_of, run, folder):
    arm = arm_of(run.network(), run, folder)
    [(_, outcome)] = loop.train_together([arm])
    if isinstance(outcome, Exception):
        raise outcome
    return arm, outcome


def recorded_as_pytorch_does(monkeypatch):
    """Every step can be "recorded": as where there is a GPU, some passes are tried, and calls are counted."""
    calls = []

    def record(model, views, **options):
        for _ in range(3):
            model(*views).sum().backward()
        model.zero_grad()
        forward = model.forward
        model.forward = lambda views: calls.append(len(views)) or forward(views)
        return model
    monkeypatch.setattr(ReplayedArm, "_recordable", lambda self, views: True)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    return calls


def test_a_recording_leaves_no_trace_in_what_is_trained(make_run, tmp_path, monkeypatch):
    run, calls = make_run(dropout=0.2), recorded_as_pytorch_does(monkeypatch)
    arm, replayed = trained(ReplayedArm, run, tmp_path / "replayed")
    _, launched = trained(Arm, run, tmp_path / "launched")
    assert replayed == launched
    assert len(calls) == run.steps and set(calls) == {run.recipe.batch_size}
    assert (tmp_path / "replayed/weights.safetensors").read_bytes() == (
        tmp_path / "launched/weights.safetensors").read_bytes()


def test_what_cannot_be_recorded_is_launched(make_run, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")
    recorded_as_pytorch_does(monkeypatch)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    run = make_run()
    with pytest.warns(UserWarning, match=f"run {run.key}: .*could not be recorded: operation not permitted") as told:
        _, launched = trained(ReplayedArm, run, tmp_path / "replayed")
    assert sum("recorded" in str(warning.message) for warning in told) == 1, "once, not every step"
    assert launched == trained(Arm, run, tmp_path / "launched")[1]


def test_a_cpu_records_nothing(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "record", None)
    trained(ReplayedArm, make_run(), tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_trains_the_same_replayed_and_launched(make_run, tiny, tmp_path):
    AcceleratorState._reset_state(True)  # the other tests' is on the CPU
    profile = tiny.model_copy(update={"device": "cuda"})
    run: ClassifierRun = make_run(profile=profile, **V3)
    arm, replayed = trained(ReplayedArm, run, tmp_path / "replayed")
    assert arm.model is arm.recorded, "the steps were replayed"
    _, launched = trained(Arm, run, tmp_path / "launched")
    of = [[epoch["loss"] for epoch in metrics["history"]] for metrics in (replayed, launched)]
    assert of[0] == pytest.approx(of[1], rel=1e-3)
    assert replayed["test"]["loss"] == pytest.approx(launched["test"]["loss"], rel=1e-2)
    AcceleratorState._reset_state(True)


def test_a_number_of_workers_is_one(monkeypatch, make_run):
    monkeypatch.setenv(local.WORKERS, "3")
    assert local.default_workers([make_run()]) == 3
    monkeypatch.setenv(local.WORKERS, "many")
    with pytest.raises(ValueError, match="GHOSTLIB_WORKERS = 'many' is no number of processes"):
        local.default_workers([make_run()])


def test_what_is_said_of_a_gpus_trainings_is_what_their_file_holds():
    found = pd.read_csv(DOCS / "gpu-fashion.csv").query("not network.str.startswith('resnet')")
    difference = found["gpu_top1"] - found["cpu_top1"]
    half = 2.001 * difference.std() / len(found) ** 0.5  # Student's t at 59 degrees of freedom
    spread = found.groupby(["network", "optimizer", "branches", "teacher"])["cpu_top1"].var().mean() ** 0.5
    mean, sd = difference.mean(), difference.std()
    text = " ".join((DOCS / "gpu.md").read_text(encoding="utf-8").split())
    for said in (f"{len(found)} trainings of students", f"end {-mean:.2f} points of top-1 lower",
                 f"interval −{half - mean:.2f} to +{half + mean:.2f}", f"deviation of {sd:.2f} points",
                 f"seed alone have {spread:.2f}, two of these would differ by {spread * 2**0.5:.2f}"):
        assert said in text, said

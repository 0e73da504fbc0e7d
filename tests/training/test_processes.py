"""Several processes that train one network: they end as one process does, and none has or says anything else."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from ghostlib.runs import shared
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.store import Store
from ghostlib.training import checkpoint, loop, processes
from ghostlib.training.split import Split

ROOT = Path(__file__).parents[2]


WITHOUT_NORM = dict(network="deit_tiny", branches=0)


def grid(tiny):
    """One that a teacher must be trained for, and, of a second grid, one that diverges."""
    profile = tiny.model_copy(update={"pass_images": 8})  # those of a process
    return [ClassifierRun(profile.resolve({"epochs": 1, **WITHOUT_NORM, **overrides}), profile, 0)
            for overrides in ({"teacher": "weak"}, {"teacher": None, "lr": 1e30})]


@pytest.fixture(scope="module")
def in_two(tmp_path_factory, tiny):
    """What two processes hold after each training, by its name, and the folder of them all."""
    root = tmp_path_factory.mktemp("two")
    recipes = {"plain": WITHOUT_NORM, "strategy": dict(dropout=0.2, mixup=0.2),
               "too fast": dict(lr=1e30, **WITHOUT_NORM)}
    for name, overrides in recipes.items():
        (root / name).mkdir()
        run = ClassifierRun(tiny.resolve({"teacher": None, **overrides}), tiny, 0)
        (root / name / "run.pickle").write_bytes(pickle.dumps(run))
    (root / "grid.pickle").write_bytes(pickle.dumps(grid(tiny)))
    ended = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
                            "tests/training/together.py", root], cwd=ROOT, capture_output=True, text=True,
                           env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stderr[-4000:]
    return {name: [torch.load(root / name / f"rank-{rank}.pt") for rank in range(2)] for name in recipes}, root


def test_two_processes_end_as_one_does(in_two, make_run, tmp_path):
    """A network without batch normalisation: its statistics are those of a process's part of a batch."""
    run = make_run(**WITHOUT_NORM)
    metrics = loop.train(run.network(), run, tmp_path)
    (first, second), folder = in_two[0]["plain"], in_two[1] / "plain"
    one, two = (load_file(place / "weights.safetensors") for place in (tmp_path, folder))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    assert first["metrics"] == second["metrics"]
    for mine, theirs in zip(first["metrics"]["history"], metrics["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert first["metrics"]["correct"] == metrics["correct"]  # every image once, in the data's order
    assert first["metrics"]["test"]["loss"] == pytest.approx(metrics["test"]["loss"], rel=1e-4)


def test_processes_hold_the_same_weights_and_statistics(in_two):
    first, second = in_two[0]["strategy"]
    assert first["metrics"] == second["metrics"]
    assert first["network"].keys() == second["network"].keys()
    for name, tensor in first["network"].items():
        assert torch.equal(tensor, second["network"][name]), name


def test_grids_are_trained_by_all_processes_and_kept_by_the_first(in_two, tiny):
    good, bad = grid(tiny)
    root, store = in_two[1], Store(in_two[1] / "store")
    assert store.metrics(good)["steps"] == 3 and store.metrics(good.teacher_run)
    assert f"run {bad.key} diverged" in store.diverged(bad)
    assert torch.load(root / "grid-0.pt") == {good.key: store.metrics(good), bad.key: None}
    assert not (root / "grid-1.pt").exists()  # the second process ended where its work did


def test_a_loss_that_is_not_finite_stops_every_process(in_two):
    assert all("diverged" in of["error"] for of in in_two[0]["too fast"])


def test_passes_add_up_to_a_batch(make_run, tiny, tmp_path):
    run = make_run(**WITHOUT_NORM)
    metrics = loop.train(run.network(), run, tmp_path / "whole")
    passes = make_run(**WITHOUT_NORM, profile=tiny.model_copy(update={"pass_images": 5}))
    in_passes = loop.train(passes.network(), passes, tmp_path / "passes")
    for mine, theirs in zip(in_passes["history"], metrics["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "passes"))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)


def test_statistics_over_all_gpus_are_refused_on_a_cpu(tiny):
    with pytest.raises(ValueError, match="'tiny': sync_batchnorm is for GPUs, this trains on cpu"):
        processes.with_shared_statistics(nn.BatchNorm2d(1), tiny.model_copy(update={"sync_batchnorm": True}))


def test_statistics_over_all_gpus_want_to_know_the_pass(make_run, tiny):
    arm = SimpleNamespace(run=make_run(profile=tiny.model_copy(update={"sync_batchnorm": True})))
    accelerator = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ValueError, match="set pass_images, a divisor of a process's 8 images of a batch"):
        loop._in_passes(Split(16, processes=2), [arm], accelerator)
    arm.run = make_run(profile=tiny.model_copy(update={"sync_batchnorm": True, "pass_images": 4}))
    # Nothing is tried, which `arm` could not do.
    assert loop._in_passes(Split(16, processes=2), [arm], accelerator).passes == 2


def test_processes_that_nothing_connects_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started .* on cpu they cannot train together"):
        processes.joined("cpu")  # which is set up already, and for one


def test_states_that_other_processes_do_not_find_are_an_error(monkeypatch):
    monkeypatch.setattr(processes, "gather_object", lambda values: [*values, 7])
    with pytest.raises(checkpoint.CheckpointError, match=r"steps done are \[3, 7\] in the 2 processes"):
        processes.check_alike(3, "steps done")


def test_a_state_can_be_loaded_onto_the_cpu_of_a_process_among_others(monkeypatch):
    numbered = SimpleNamespace(device=torch.device("cpu", 0))
    monkeypatch.setattr(processes, "joined", lambda device_type: numbered)
    state = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, state)
    state.seek(0)
    assert torch.load(state, map_location=shared.joined("cpu").device)["weight"].tolist() == [1, 1]


def test_one_process_shares_nothing(monkeypatch):
    def reduced(*arguments):
        raise AssertionError("there is nobody to wait for")

    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(accelerator, "reduce", reduced)
    processes.share_statistics(nn.BatchNorm2d(2), accelerator)

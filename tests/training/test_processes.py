"""Several processes that train one network: they end as one process does, and none has or says anything else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from ghostlib.training import checkpoint, loop, processes
from ghostlib.training.progress import NonFiniteLoss

ROOT = Path(__file__).parents[2]


def in_processes(run, folder, number=2, expected=0):
    """Trains it under torchrun; returns what each process holds in the end, and what was said."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.pickle").write_bytes(pickle.dumps(run))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}",
               "tests/training/together.py", folder / "run.pickle", folder]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                           env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert (ended.returncode == 0) == (expected == 0), ended.stderr[-4000:]
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(number) if not expected], ended.stderr


def test_two_processes_end_as_one_does(make_run, tmp_path):
    """A network without batch normalisation: its statistics are those of a process's part of a batch."""
    run = make_run(network="deit_tiny", branches=0)
    metrics = loop.train(run.network(), run, tmp_path / "one")
    (first, second), _ = in_processes(run, tmp_path / "two")
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    assert first["metrics"] == second["metrics"]
    for mine, theirs in zip(first["metrics"]["history"], metrics["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert first["metrics"]["correct"] == metrics["correct"]  # every image once, in the data's order
    assert first["metrics"]["test"]["loss"] == pytest.approx(metrics["test"]["loss"], rel=1e-4)


def test_processes_hold_the_same_weights_and_statistics_and_one_of_them_writes(make_run, tmp_path):
    run = make_run(dropout=0.2, mixup=0.2)
    (first, second), _ = in_processes(run, tmp_path)
    assert first["metrics"] == second["metrics"]
    assert first["network"].keys() == second["network"].keys()
    for name, tensor in first["network"].items():
        assert torch.equal(tensor, second["network"][name]), name


def test_passes_add_up_to_a_batch(make_run, tiny, tmp_path):
    run = make_run(network="deit_tiny", branches=0)
    metrics = loop.train(run.network(), run, tmp_path / "whole")
    passes = make_run(network="deit_tiny", branches=0, profile=tiny.model_copy(update={"pass_images": 5}))
    in_passes = loop.train(passes.network(), passes, tmp_path / "passes")
    for mine, theirs in zip(in_passes["history"], metrics["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "passes"))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_every_process(make_run, tmp_path):
    _, said = in_processes(make_run(lr=1e30, network="deit_tiny", branches=0), tmp_path, expected=1)
    assert said.count("diverged") >= 2 and NonFiniteLoss.__name__ in said


def test_statistics_over_all_gpus_are_refused_on_a_cpu(tiny):
    with pytest.raises(ValueError, match="'tiny': sync_batchnorm is for GPUs, this trains on cpu"):
        processes.with_shared_statistics(nn.BatchNorm2d(1), tiny.model_copy(update={"sync_batchnorm": True}))


def test_states_that_other_processes_do_not_find_are_an_error(monkeypatch):
    monkeypatch.setattr(processes, "gather_object", lambda values: [*values, 7])
    with pytest.raises(checkpoint.CheckpointError, match=r"steps done are \[3, 7\] in the 2 processes"):
        processes.check_alike(3, "steps done")


def test_one_process_shares_nothing():
    network = nn.BatchNorm2d(2)
    before = network.running_mean.clone()
    processes.share_statistics(network, Accelerator(cpu=True))
    assert torch.equal(network.running_mean, before)

"""`ghostlib train` in several processes: one training, which one of them writes and tells of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

from tests.own.conftest import TINY

ROOT = Path(__file__).parents[2]


def test_two_processes_make_one_training(elsewhere, images):
    settings = [f"{key}={value}" for key, value in TINY.items()]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "ghostlib", "train",
         "net:network", images, "--out", "out", "--device", "cpu", "--set", *settings], cwd=elsewhere,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{elsewhere}{os.pathsep}{ROOT}"}, capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("4 validation images: top-1 ") == 1
    assert "2, each with 2 images of a step" in done.stdout
    rows = (elsewhere / "out" / "progress.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "2", "3", "4", "4", "4"]
    assert load_file(elsewhere / "out" / "model.safetensors")

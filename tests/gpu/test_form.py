"""Which sites have a kernel on a GPU, and that the kernels compute the same, wherever the tests run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ghostlib import gpu
from ghostlib.models.branch_sum.function import Branches
from ghostlib.models.rep_conv import RepConv

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no Triton for this system")
def test_the_kernels_are_right():
    pytest.importorskip("triton", reason="Triton is not installed")
    # In a process of its own: Triton decides when it is imported whether it interprets.
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "tests/gpu/kernels.py"]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | interpreted, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:]


def form(conv: nn.Conv2d, *shape: int, channels_last: bool = True):
    x = torch.empty(shape).contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return gpu._form(conv, x, Branches(3, False, False, True, conv.groups > 1, 1e-5))


def depthwise(size: int = 3, stride: int = 1, **options) -> nn.Conv2d:
    return nn.Conv2d(8, 8, size, stride, options.pop("padding", size // 2), groups=8, bias=False, **options)


@pytest.mark.parametrize("conv", [depthwise(), depthwise(stride=2), nn.Conv2d(8, 16, 1, bias=False)])
def test_these_have_one(conv):
    assert form(conv, 2, 8, 6, 6) is not None


@pytest.mark.parametrize("conv", [
    depthwise(5), depthwise(stride=3), depthwise(padding=0), depthwise(dilation=2, padding=2),
    depthwise(padding_mode="reflect"), depthwise(padding="same"), nn.Conv2d(8, 8, 1, 2, bias=False),
    nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.Conv2d(8, 16, 3, 1, 1, groups=8, bias=False),
    nn.Conv2d(8, 8, 1, bias=False).double()])
def test_these_have_none(conv):
    assert form(conv, 2, 8, 6, 6) is None


def test_images_with_channels_first_have_none():
    assert form(depthwise(), 2, 8, 6, 6, channels_last=False) is None


def test_one_position_has_none():
    assert form(depthwise(), 1, 8, 1, 1) is None


def test_a_cpu_has_none():
    x = torch.empty(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    assert gpu.form_for(depthwise(), x, Branches(3, False, False, True, True, 1e-5)) is None


def test_another_device_than_a_cpu_goes_branch_by_branch():
    site = RepConv(depthwise(), nn.BatchNorm2d(8)).to("meta").train()
    assert site(torch.empty(2, 8, 6, 6, device="meta")).shape == (2, 8, 6, 6)

"""The sum of a site's branches on a GPU, in kernels written in Triton, which PyTorch brings with it."""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_TRITON = (3, 4)  # has tuples that loops may carry
_AMPERE = (8, 0)  # the first GPUs that have bfloat16
_LARGEST_INDEX = 2**31  # of 32 bits
Sum = Callable[[Tensor, list[Tensor]], tuple[Tensor, Tensor, Tensor, int]]


def form_for(conv: nn.Conv2d, x: Tensor, branches: Any) -> Sum | None:
    """What sums the branches of a convolution for inputs (N, C, H, W); None where there is no kernel for that.

    There is one for 3×3 depth-wise convolutions of stride 1 or 2 and for 1×1 ones of all channels, in float32, bfloat16
    and float16, where channels are last in memory.

    Args:
        conv: the site's.
        x: its input, in the precision that it is computed in.
        branches: `ghostlib.models.branch_sum.function.Branches`.

    Returns:
        Of x and the branches' parameters, in `branches`' order, the sum (N, C_out, H', W'), the branches' means and
        variances (G, B, O), and over how many positions these are.
    """
    known = x.device.type == "cuda" and x.dtype in (torch.float32, torch.bfloat16, torch.float16) and compiles(x.device)
    return _form(conv, x, branches) if known else None


def _form(conv: nn.Conv2d, x: Tensor, branches: Any) -> Sum | None:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or conv.weight.dtype != torch.float32 \
            or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    stride = conv.stride[0]
    count = len(x) * -(-x.shape[2] // stride) * -(-x.shape[3] // stride)
    if count < 2 or max(x.numel(), count * conv.out_channels) >= _LARGEST_INDEX:
        return None
    shape = (conv.kernel_size, conv.padding, conv.dilation)
    if branches.depthwise:
        fits = shape == ((3, 3), (1, 1), (1, 1)) and conv.stride in ((1, 1), (2, 2)) \
            and conv.groups == conv.in_channels == conv.out_channels
        return partial(_depthwise, branches, stride, count) if fits else None
    fits = shape == ((1, 1), (0, 0), (1, 1)) and conv.stride == (1, 1)
    return partial(_pointwise, branches, count) if fits else None


@functools.cache
def compiles(device: torch.device) -> bool:
    """Whether Triton is there for this GPU, and the C compiler and Python's headers that it needs."""
    try:
        known = tuple(map(int, version("triton").split(".")[:2])) >= _TRITON
    except (PackageNotFoundError, ValueError):
        return False
    compiler = any(map(shutil.which, filter(None, (os.environ.get("CC"), "gcc", "clang", "cc")))) \
        and Path(sysconfig.get_paths()["include"], "Python.h").exists()  # Triton's launchers include it
    return known and compiler and bool(torch.version.cuda) and torch.cuda.get_device_capability(device) >= _AMPERE


def _depthwise(branches: Any, stride: int, count: int, x: Tensor,
               parameters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, int]:
    from ghostlib.gpu.depthwise import DepthwiseSum

    with torch.cuda.device_of(x):
        return *DepthwiseSum.apply(x, branches, stride, *parameters), count


def _pointwise(branches: Any, count: int, x: Tensor,
               parameters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, int]:
    from ghostlib.gpu.pointwise import PointwiseSum

    images, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
    with torch.cuda.device_of(x):
        total, mean, variance = PointwiseSum.apply(pixels, branches, *parameters)
    return total.view(images, height, width, -1).permute(0, 3, 1, 2), mean, variance, count

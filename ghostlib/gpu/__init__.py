"""The sum of a site's branches on a GPU, in kernels written in Triton, which PyTorch brings with it."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

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
    if x.device.type != "cuda" or not has_triton() or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return None
    if x.numel() >= _LARGEST_INDEX or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or conv.dilation != (1, 1):
        return None
    stride = conv.stride[0]
    count = len(x) * -(-x.shape[2] // stride) * -(-x.shape[3] // stride)
    if count < 2 or count * conv.out_channels >= _LARGEST_INDEX or conv.weight.dtype != torch.float32:
        return None
    if branches.depthwise:
        depthwise = conv.groups == conv.in_channels == conv.out_channels
        fits = depthwise and (conv.kernel_size, conv.padding) == ((3, 3), (1, 1)) and conv.stride in ((1, 1), (2, 2))
        return partial(_depthwise, branches, stride, count) if fits else None
    fits = (conv.kernel_size, conv.stride, conv.groups, conv.padding) == ((1, 1), (1, 1), 1, (0, 0))
    return partial(_pointwise, branches, count) if fits else None


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def _depthwise(branches: Any, stride: int, count: int, x: Tensor,
               parameters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, int]:
    from ghostlib.gpu.depthwise import DepthwiseSum

    return *DepthwiseSum.apply(x, branches, stride, *parameters), count


def _pointwise(branches: Any, count: int, x: Tensor,
               parameters: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, int]:
    from ghostlib.gpu.pointwise import PointwiseSum

    images, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
    total, mean, variance = PointwiseSum.apply(pixels, branches, *parameters)
    return total.view(images, height, width, -1).permute(0, 3, 1, 2), mean, variance, count

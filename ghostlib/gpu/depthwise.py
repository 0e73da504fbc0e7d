"""The sum of 3×3 depth-wise branches on a GPU: six passes over images whatever the number of branches.

The mathematics is `ghostlib.models.branch_sum.function`'s. Here the taps' moments are summed directly, one kernel a
pass over the images, and all that is small is one kernel, too: an operation costs tens of microseconds however little
it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ghostlib.gpu import depthwise_kernels as kernels

_WARPS = 4
_REDUCING = 1024  # programs of a kernel that sums: enough for every multiprocessor, few enough to add up
_STEPS = 8  # tiles a program where nothing is summed: what it reads once serves several
_SMALL = 32  # channels a program of the small kernels


class DepthwiseSum(torch.autograd.Function):
    """Σ_b γ_b (w_b * x - mean_b) / √(var_b + ε) + β_b of images (N, C, H, W) with channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, branches: Any, stride: int, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """To (N, C, H', W') and twice (C, B, 1), of parameters in the order of `function.Branches`."""
        images, channels, height, width = x.shape
        out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
        size = (channels, height, width, out_height, out_width)
        full, vectors = _stack(branches, parameters)
        count = images * out_height * out_width
        sums = _reduce(kernels.tap_moments, (x,), 54, size, count, stride)
        kernel, bias = x.new_empty(9, channels, dtype=torch.float32), x.new_empty(channels, dtype=torch.float32)
        mean, variance = x.new_empty(2, branches.count, channels, dtype=torch.float32)
        kernels.assemble[_small_grid(channels)](
            sums, full, vectors, kernel, bias, mean, variance, channels, count, branches.eps, **_constants(branches))
        y = torch.empty((images, channels, out_height, out_width), dtype=x.dtype, device=x.device,
                        memory_format=torch.channels_last)
        _each(kernels.convolve, (x, kernel, bias, y), size, count, stride)
        ctx.save_for_backward(x, sums, full, vectors, kernel, mean, variance)
        ctx.branches, ctx.stride, ctx.size, ctx.count = branches, stride, size, count
        mean, variance = (values.T[:, :, None] for values in (mean, variance))
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, sums, full, vectors, kernel, mean, variance = ctx.saved_tensors
        branches, channels = ctx.branches, x.shape[1]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        by_sums = _reduce(kernels.kernel_gradient, (x, gradient), 10, ctx.size, ctx.count, ctx.stride)
        by_full, by_vectors = torch.empty_like(full), torch.empty_like(vectors)
        by_pairs, by_taps = sums.new_empty(45 + 9, channels).split([45, 9])
        kernels.assemble_gradients[_small_grid(channels)](
            sums, full, vectors, mean, variance, by_sums, by_full, by_vectors, by_pairs, by_taps, channels, ctx.count,
            branches.eps, **_constants(branches))
        by_x = _input_gradient(ctx, x, gradient, kernel, by_pairs, by_taps) if ctx.needs_input_grad[0] else None
        return by_x, None, None, *_unstack(branches, by_full, by_vectors)


def _input_gradient(ctx: Any, x: Tensor, gradient: Tensor, *tables: Tensor) -> Tensor:
    by_x, (_, height, width, *_), stride = torch.empty_like(x), ctx.size, ctx.stride
    for row, column in itertools.product(range(min(stride, height)), range(min(stride, width))):
        size = (-(-(height - row) // stride), -(-(width - column) // stride))  # of the pixels that the same taps read
        _each(kernels.input_gradient, (x, gradient, *tables, by_x), (*ctx.size, *size), len(x) * size[0] * size[1],
              stride, ROW=row, COLUMN=column)
    return by_x


def _stack(branches: Any, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The k×k kernels (N, C, 1, 3, 3); γ of every branch, then β, then the 1×1 branch's weights, of those there are."""
    full, vectors = parameters[:branches.full], list(parameters[branches.full + branches.scale:])
    if branches.scale:
        vectors.append(parameters[branches.full].view(-1))
    stacked = torch.stack(list(full))
    return stacked, torch.stack(vectors) if vectors else stacked


def _unstack(branches: Any, full: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
    """Of what `_stack` made, the parts in the parameters' order."""
    affine = 2 * branches.count if branches.affine else 0
    scale = (vectors[affine].view(-1, 1, 1, 1),) if branches.scale else ()
    return (*full.unbind(), *scale, *vectors[:affine].unbind()) if branches.affine else (*full.unbind(), *scale)


def _constants(branches: Any) -> dict[str, int]:
    return {"FULL": branches.full, "SCALE": int(branches.scale), "BRANCHES": branches.count,
            "AFFINE": int(branches.affine), "BC": _SMALL, "num_warps": 1}


def _small_grid(channels: int) -> tuple[int]:
    return (-(-channels // _SMALL),)


def _tile(channels: int) -> tuple[int, int]:
    """Positions and channels of a tile: one number a thread, neighbours in memory beside each other."""
    block = 32 if channels > 16 else 16 if channels > 8 else 8
    return 32 * _WARPS // block, block


def _reduce(kernel: Any, images: tuple[Tensor, ...], rows: int, size: tuple[int, ...], positions: int,
            stride: int) -> Tensor:
    """The sums (rows, C) that a kernel takes over all positions, in the same order whenever it is called."""
    channels = size[0]
    height, width = _tile(channels)
    across = -(-channels // width)
    steps = -(-positions * across // (height * _REDUCING))
    programs = -(-positions // (height * steps))
    partial = images[0].new_empty(programs, rows, channels, dtype=torch.float32)
    kernel[programs, across](*images, partial, *size, positions, steps, STRIDE=stride, BP=height, BC=width,
                             num_warps=_WARPS)
    return partial.sum(0)


def _each(kernel: Any, tensors: tuple[Tensor, ...], size: tuple[int, ...], positions: int, stride: int,
          **constants: int) -> None:
    """Calls a kernel that writes every position for itself."""
    height, width = _tile(size[0])
    grid = -(-positions // (height * _STEPS)), -(-size[0] // width)
    kernel[grid](*tensors, *size, positions, _STEPS, STRIDE=stride, **constants, BP=height, BC=width, num_warps=_WARPS)

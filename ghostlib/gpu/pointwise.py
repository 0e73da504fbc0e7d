"""The sum of 1×1 branches on a GPU: products of matrices, and one kernel for all that is small."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ghostlib.gpu import pointwise_kernels as kernels

_LARGEST_TILE = 128  # columns: more are a library's product
_ROWS, _PROGRAMS = 64, 528


class PointwiseSum(torch.autograd.Function):
    """Σ_b γ_b (w_b x - mean_b) / √(var_b + ε) + β_b of pixels (M, C_in)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, branches: Any, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """To (M, C_out) and twice (1, B, C_out), of parameters in the order of `function.Branches`."""
        full = torch.stack(parameters[:branches.full]).flatten(2)
        vectors = torch.stack(parameters[branches.full:]) if branches.affine else full
        count, outputs, inputs = full.shape
        second, sums = products(x, x)
        means = sums / len(x)
        covariance = torch.addr(second, means, means, beta=1 / len(x), alpha=-1)
        along = (full.view(-1, inputs) @ covariance).view_as(full)
        kernel, bias = x.new_empty(outputs, inputs), x.new_empty(outputs)
        mean, variance = full.new_empty(2, count, outputs)
        kernels.assemble[(outputs,)](full, along, means, vectors, kernel, bias, mean, variance, outputs, inputs,
                                     branches.eps, **_constants(branches, inputs))
        ctx.save_for_backward(x, full, along, means, vectors, mean, variance, kernel)
        ctx.branches = branches
        mean, variance = mean[None], variance[None]
        ctx.mark_non_differentiable(mean, variance)
        return torch.addmm(bias, x, kernel.T), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, full, along, means, vectors, mean, variance, kernel = ctx.saved_tensors
        branches, (_, outputs, inputs) = ctx.branches, full.shape
        gradient = gradient.contiguous()
        by_kernel, by_bias = products(gradient, x)
        by_full, by_vectors, weighted = torch.empty_like(full), torch.empty_like(vectors), torch.empty_like(full)
        by_mean = torch.empty_like(mean)
        kernels.assemble_gradients[(outputs,)](
            full, along, means, vectors, mean, variance, by_kernel, by_bias, by_full, by_vectors, weighted, by_mean,
            len(x), outputs, inputs, branches.eps, **_constants(branches, inputs))
        by_x = None
        if ctx.needs_input_grad[0]:
            flat = full.view(-1, inputs)
            by_covariance = weighted.view(-1, inputs).T @ flat
            constant = torch.addmv(flat.T @ by_mean.view(-1), by_covariance, means, alpha=-1)
            by_x = torch.addmm(constant.to(x.dtype), gradient, kernel).addmm_(x, by_covariance.to(x.dtype))
        of_kernels = (part.view(outputs, inputs, 1, 1) for part in by_full.unbind())
        return by_x, None, *of_kernels, *(by_vectors.unbind() if branches.affine else ())


def products(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """aᵀ b (A, B) and Σ a (A), in float32, of (M, A) and (M, B)."""
    rows, columns_a, columns_b = len(a), a.shape[1], b.shape[1]
    if max(columns_a, columns_b) > _LARGEST_TILE:
        return _product(a, b), a.sum(0, dtype=torch.float32)
    steps = -(-rows // (_ROWS * _PROGRAMS))
    programs = -(-rows // (_ROWS * steps))
    partial = a.new_empty(programs, columns_a, columns_b, dtype=torch.float32)
    sums = a.new_empty(programs, columns_a, dtype=torch.float32)
    tile_a, tile_b = max(16, _power_of_2(columns_a)), max(16, _power_of_2(columns_b))
    kernels.products[(programs,)](a, b, partial, sums, rows, columns_a, columns_b, steps, BM=_ROWS, BA=tile_a,
                                  BB=tile_b, PRECISION="ieee", num_warps=8 if tile_a * tile_b > 4096 else 4)
    return partial.sum(0), sums.sum(0)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == torch.float32:
        return a.T @ b
    if a.is_cuda and hasattr(torch.ops.aten.mm, "dtype"):  # sums of half-precision numbers in float32, without a copy
        return torch.mm(a.T, b, out_dtype=torch.float32)
    return a.T.float() @ b.float()


def _constants(branches: Any, inputs: int) -> dict[str, int]:
    return {"BRANCHES": branches.count, "AFFINE": int(branches.affine), "BI": _power_of_2(inputs), "num_warps": 4}


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()

"""1×1 conv-BN branches of one input as columns of one product, for convolutions with far fewer outputs than inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ghostlib.models.branch_sum.autocast import without_autocast
from ghostlib.models.branch_sum.function import Branches
from ghostlib.models.branch_sum.taps import at_least_float32, column_sums


class ColumnSum(torch.autograd.Function):
    """Σ_b γ_b (w_b x - mean_b) / √(var_b + ε) + β_b of pixels x, the statistics being those of the batch.

    It is as `function.BranchSum` of `taps.PointwiseTaps`, for where the covariance of many inputs costs more than the
    outputs of a few branches. These are kept, centred, for the backward pass: fewer numbers than the input's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, branches: Branches, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x (M, C_in) and the branches' parameters, to (M, C_out) and twice (1, B, C_out)."""
        kernels = branches.kernels(parameters)
        gamma, beta = branches.affine_parameters(parameters)
        _, count, outputs, _ = kernels.shape
        columns = x @ kernels.flatten(0, 2).T.to(x.dtype)
        mean = column_sums(at_least_float32(columns)) / len(x)
        columns -= mean.to(x.dtype)
        variance = (column_sums(at_least_float32(columns).square()) / len(x)).view(1, count, outputs)
        rstd = (variance + branches.eps).rsqrt()
        scale = gamma * rstd
        ctx.save_for_backward(x, columns, scale, rstd, *parameters)
        ctx.branches = branches
        mean = mean.view(1, count, outputs)
        ctx.mark_non_differentiable(mean, variance)
        adding = _adding(scale, x.dtype)
        total = torch.addmm(beta[0].sum(0).to(x.dtype), columns, adding) if branches.affine else columns @ adding
        return total, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(gradient.device.type):
            return _gradients(ctx, gradient)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, columns, scale, rstd, *parameters = ctx.saved_tensors
    kernels = ctx.branches.kernels(parameters)
    _, count, outputs, _ = kernels.shape
    by_bias = column_sums(at_least_float32(gradient))
    products = at_least_float32(gradient).T @ at_least_float32(columns)
    by_scale = products.view(outputs, count, outputs).diagonal(dim1=0, dim2=2)[None]
    through_mean = by_bias * scale / -len(x)
    through_variance = by_scale * scale * rstd.square() / -len(x)  # times the centred column
    by_columns = torch.addmm(through_mean.view(-1).to(x.dtype), gradient, _adding(scale, x.dtype).T)
    by_columns.addcmul_(columns, through_variance.reshape(-1).to(x.dtype))
    by_x = by_columns @ kernels.flatten(0, 2).to(x.dtype) if ctx.needs_input_grad[0] else None
    by_kernels = (by_columns.T @ x).view_as(kernels).to(kernels.dtype)
    by_beta = by_bias.expand_as(scale).contiguous()  # as in `function`: in memory of its own
    return by_x, None, *ctx.branches.unstack(parameters, by_kernels, by_scale * rstd, by_beta)


def _adding(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(B·C_out, C_out): adds up the columns that belong to one output, each times its scale (1, B, C_out)."""
    return torch.diag_embed(scale[0]).flatten(0, 1).to(dtype)

"""The sum of conv-BN branches of one input as one convolution, exactly, with only the input kept for the backward pass.

Branches are linear but for the statistics that they are normalised with, and these follow from the mean m and the
covariance Σ of the input's taps (`taps`): a branch with kernel w has mean w·m and variance wᵀ Σ w. With
s = γ / √(variance + ε) the sum of the branches is one convolution with kernel Σ s w and bias Σ (β - s w·m).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ghostlib.models.branch_sum.autocast import without_autocast
from ghostlib.models.branch_sum.taps import Moments, Taps, laid_out_like


@dataclass(frozen=True)
class Branches:
    """How the parameters of a site's branches lie one after the other.

    The k×k kernels, the 1×1 depth-wise one if there is one, every normalisation's γ and then every β if they have any.

    Attributes:
        full: how many branches have a kernel like the convolution's.
        scale: whether there is a 1×1 depth-wise branch.
        skip: whether there is a branch that is a normalisation alone.
        affine: whether the normalisations have γ and β.
        depthwise: whether each channel is a group of its own, else all are one group.
        eps: what the normalisations add to a variance.
    """

    full: int
    scale: bool
    skip: bool
    affine: bool
    depthwise: bool
    eps: float

    @property
    def count(self) -> int:
        """The number B of branches."""
        return self.full + self.scale + self.skip

    def kernels(self, parameters: Sequence[Tensor]) -> Tensor:
        """(G, B, O, T), of G groups with O outputs from T taps each."""
        kernels = [kernel.flatten(1) for kernel in parameters[:self.full]]
        if not self.depthwise:
            return torch.stack(kernels)[None]
        stacked = kernels[0].new_zeros(len(kernels[0]), self.count, 1, kernels[0].shape[1])
        torch.stack(kernels, 1, out=stacked[:, :self.full, 0])
        middle = stacked[:, :, 0, stacked.shape[3] // 2]
        if self.scale:
            middle[:, self.full] = parameters[self.full].flatten()
        if self.skip:
            middle[:, -1] = 1
        return stacked

    def affine_parameters(self, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """γ and β, (G, B, O) each; 1 and 0 where the normalisations have none."""
        if not self.affine:
            return 1.0, 0.0
        vectors = parameters[self.full + self.scale:]
        gamma, beta = vectors[:self.count], vectors[self.count:]
        if self.depthwise:
            return torch.stack(gamma, 1)[:, :, None], torch.stack(beta, 1)[:, :, None]
        return torch.stack(gamma)[None], torch.stack(beta)[None]

    def unstack(self, parameters: Sequence[Tensor], kernels: Tensor, gamma: Tensor,
                beta: Tensor) -> tuple[Tensor, ...]:
        """The parameters' gradients out of those of `kernels` and `affine_parameters`."""
        dim = 1 if self.depthwise else 0
        flat = kernels[:, :, 0] if self.depthwise else kernels[0]
        gradients = [flat.select(dim, branch).reshape(kernel.shape)
                     for branch, kernel in enumerate(parameters[:self.full])]
        if self.scale:
            gradients.append(flat[:, self.full, flat.shape[2] // 2].reshape(parameters[self.full].shape))
        if self.affine:
            for stacked in (gamma, beta):
                gradients += (stacked[:, :, 0] if self.depthwise else stacked[0]).unbind(dim)
        return tuple(gradients)


class BranchSum(torch.autograd.Function):
    """Σ_b γ_b (w_b * x - mean_b) / √(var_b + ε) + β_b, the statistics being those of the batch.

    Through the statistics, too, there is a gradient, so x and the parameters are given beside what follows from them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, moments: Moments, kernels: Tensor, mean: Tensor, variance: Tensor,
                taps: Taps, branches: Branches, reduce: Callable[[Tensor], Tensor] | None,
                *parameters: Tensor) -> Tensor:
        """Of x (N, C_in, H, W) and the branches' parameters, to values as the taps write them.

        `values` are x as the taps read it, `moments` theirs, `mean` and `variance` the branches' statistics (G, B, O);
        `reduce` adds up over processes.
        """
        gamma, beta = branches.affine_parameters(parameters)
        rstd = (variance + branches.eps).rsqrt()
        scale = gamma * rstd
        bias = beta - scale * mean
        ctx.save_for_backward(x, scale, rstd, mean, moments.mean, moments.covariance, *parameters)
        ctx.count, ctx.taps, ctx.branches, ctx.reduce = moments.count, taps, branches, reduce
        return taps.convolve(values, _weighted(scale, kernels), bias.sum(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with without_autocast(gradient.device.type):
            return _gradients(ctx, gradient)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, scale, rstd, mean, moments_mean, covariance, *parameters = ctx.saved_tensors
    kernels = ctx.branches.kernels(parameters)
    groups, _, _, size = kernels.shape
    values = ctx.taps.read(x)
    gradient = gradient if gradient.dim() == 4 else gradient.contiguous()
    by_kernel, by_bias = (part.to(kernels.dtype)[:, None] for part in ctx.taps.kernel_gradient(values, gradient))
    by_scale = (kernels * by_kernel).sum(-1) - by_bias * mean
    by_variance = by_scale * scale * rstd.square() * -0.5
    by_mean = -by_bias * scale
    flat = kernels.reshape(groups, -1, size)
    weighted = (by_variance[..., None] * kernels).view(groups, -1, size)
    by_kernels = torch.baddbmm(by_mean.view(groups, -1, 1) * moments_mean[:, None], weighted, covariance, alpha=2)
    by_kernels = by_kernels.view_as(kernels).addcmul_(scale[..., None], by_kernel)
    by_x = None
    if ctx.needs_input_grad[0]:
        by_covariance = torch.bmm(weighted.transpose(1, 2), flat)
        by_moments_mean = torch.bmm(by_mean.view(groups, 1, -1), flat)[:, 0]
        if ctx.reduce is not None:  # they decide the loss of every process
            by_moments_mean, by_covariance = ctx.reduce(by_moments_mean), ctx.reduce(by_covariance)
        by_x = ctx.taps.input_gradient(values, gradient, _weighted(scale, kernels),
                                       Moments(moments_mean, covariance, ctx.count), by_moments_mean, by_covariance)
        by_x = laid_out_like(ctx.taps.write(by_x, *x.shape[2:]), x)
    # Every β's in memory of its own: whoever clips gradients in place would clip a shared one once for each branch.
    by_beta = by_bias.expand_as(scale).contiguous()
    by_parameters = ctx.branches.unstack(parameters, by_kernels, by_scale * rstd, by_beta)
    return (by_x, *(None,) * 8, *by_parameters)


def _weighted(scale: Tensor, kernels: Tensor) -> Tensor:
    """Σ_b of scale (G, B, O) times kernels (G, B, O, T): (G, O, T)."""
    return (scale[..., None] * kernels).sum(1)

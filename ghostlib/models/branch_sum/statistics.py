"""The batch statistics of branches, from the moments of what they read, and whether rounding leaves enough of them."""

from __future__ import annotations

import torch
from torch import Tensor

from ghostlib.models.branch_sum.taps import Moments

# Sums of squares over a batch of images are right to about a hundred roundings. A variance that is less than this many
# of what it is a difference of (1 % in float32) is no longer right to 1e-3. Networks of random kernels stay above it.
_ROUNDINGS = 1e5


def statistics(kernels: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Mean w·m and variance wᵀ Σ w of branches with kernels (G, B, O, T): (G, B, O) each."""
    flat = kernels.flatten(1, 2)
    mean = torch.bmm(flat, moments.mean[:, :, None])
    variance = (torch.bmm(flat, moments.covariance) * flat).sum(-1).clamp_(min=0)
    return mean.view(kernels.shape[:3]), variance.view(kernels.shape[:3])


def is_lost(variance: Tensor, kernels: Tensor, moments: Moments, eps: float) -> bool:
    """Whether a branch's variance is so much smaller than what it is a difference of that rounding decides it.

    That is where the input's mean is many times its spread, and where a kernel nearly cancels on what it reads: an edge
    detector on a smooth image. A variance far below the normalisation's eps does no harm.
    """
    squares = moments.covariance.diagonal(dim1=1, dim2=2) + moments.mean.square()
    largest = torch.bmm(kernels.flatten(1, 2).square(), squares[:, :, None]).view(variance.shape)
    least = _ROUNDINGS * torch.finfo(variance.dtype).eps
    return bool((variance + eps < least * largest).any())

"""What a convolution reads, as random variables: the mean and covariance of its taps over a batch, and their gradients.

A convolution's output is the product of a kernel with the values under it, its taps. So the statistics of any number
of convolutions of one input follow from the mean and the covariance of the taps, whatever the kernels are. There is one
class for each way to get them: `PointwiseTaps` here, `lags.LagTaps` and `small_maps.SmallMapTaps` for depth-wise ones.
"""

from __future__ import annotations

import sys
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Moments(NamedTuple):
    """Of the taps, over all output positions of a batch.

    Attributes:
        mean: (G, T), for G groups of T taps.
        covariance: (G, T, T), of the population.
        count: output positions.
    """

    mean: Tensor
    covariance: Tensor
    count: float | Tensor


class Taps(Protocol):
    """A convolution of one shape of input, as products of kernels (G, O, T) with taps.

    `read` lays out an image as the other methods take it, `write` undoes that.
    """

    groups: int
    outputs: int
    taps: int

    def read(self, image: Tensor) -> Tensor:
        """(N, C, H, W) as values in this class's layout; a view where that is one already."""

    def write(self, values: Tensor, height: int, width: int) -> Tensor:
        """Values in this layout as images (N, C', height, width), channels last."""

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Of an image of this size."""

    def moments(self, values: Tensor, centre: bool = False) -> Moments:
        """In float32 or better.

        With `centre` the mean is taken off the values first where that is possible, at the price of a copy: for who
        cannot ask afterwards whether rounding left enough (`statistics.is_lost`).
        """

    def convolve(self, values: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        """With kernels (G, O, T) and bias (G, O)."""

    def kernel_gradient(self, values: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The loss's gradients by kernels (G, O, T) and bias (G, O), in float32 or better."""

    def input_gradient(self, values: Tensor, gradient: Tensor, kernels: Tensor, moments: Moments, by_mean: Tensor,
                       by_covariance: Tensor) -> Tensor:
        """The loss's gradient by the values: through the convolution, the taps' mean (G, T) and their covariance."""


class PointwiseTaps:
    """The taps of a 1×1 convolution: a pixel's channels. One group; T = C_in. Values are (pixels, C)."""

    def __init__(self, conv: nn.Conv2d):
        self.groups, self.outputs, self.taps = 1, conv.out_channels, conv.in_channels

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """See `Taps`."""
        return height, width

    def read(self, image: Tensor) -> Tensor:
        """See `Taps`; no copy where channels come last."""
        return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])

    def write(self, values: Tensor, height: int, width: int) -> Tensor:
        """See `Taps`."""
        return values.view(-1, height, width, values.shape[1]).permute(0, 3, 1, 2)

    def moments(self, x: Tensor, centre: bool = False) -> Moments:
        """See `Taps`."""
        x = at_least_float32(x)
        mean = column_sums(x) / len(x)
        if centre:
            x = x - mean
            covariance = (x.T @ x) / len(x)
        else:
            covariance = torch.addmm(torch.outer(mean, mean), x.T, x, beta=-1, alpha=1 / len(x))
        return Moments(mean[None], covariance[None], len(x))

    def convolve(self, x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        """See `Taps`."""
        return torch.addmm(bias[0].to(x.dtype), x, kernels[0].T.to(x.dtype))

    def kernel_gradient(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """See `Taps`."""
        x, gradient = at_least_float32(x), at_least_float32(gradient)
        return (gradient.T @ x)[None], column_sums(gradient)[None]

    def input_gradient(self, x: Tensor, gradient: Tensor, kernels: Tensor, moments: Moments, by_mean: Tensor,
                       by_covariance: Tensor) -> Tensor:
        """See `Taps`."""
        through_covariance = by_covariance[0] * (2 / moments.count)
        constant = torch.addmv(by_mean[0], by_covariance[0], moments.mean[0], alpha=-2) / moments.count
        total = torch.addmm(constant.to(x.dtype), gradient, kernels[0].to(x.dtype))
        return total.addmm_(x, through_covariance.to(x.dtype))


def column_sums(values: Tensor) -> Tensor:
    """(M, C) -> (C,), as a product, which is several times faster than a sum over the rows."""
    return values.T.mv(values.new_ones(len(values)))


def at_least_float32(x: Tensor) -> Tensor:
    """Moments of half-precision values are taken in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def can_look_at(x: Tensor) -> bool:
    """Whether a look at the values makes no accelerator wait and breaks no compiled graph."""
    return x.device.type == "cpu" and not is_compiling()


def is_compiling() -> bool:
    """Whether `torch.compile` traces this call."""
    if hasattr(torch.compiler, "is_compiling"):
        return torch.compiler.is_compiling()
    return "torch._dynamo" in sys.modules and torch._dynamo.is_compiling()  # torch < 2.3


def laid_out_like(image: Tensor, other: Tensor) -> Tensor:
    """The image with channels last or not as the other one has them."""
    return image.contiguous() if other.is_contiguous() else image

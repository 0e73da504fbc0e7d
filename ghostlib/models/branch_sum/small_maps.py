"""Depth-wise convolutions of images of a few pixels as dense products: a channel's image is one vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostlib.models.branch_sum.taps import Moments, at_least_float32

# Numbers in the constant that makes second moments of taps out of those of pixels.
_LARGEST_CONSTANT = 300_000


@dataclass(frozen=True)
class SmallMapTaps:
    """The taps of any depth-wise convolution of an image of (height, width). G = C; one output; T = k·k.

    Values are (C, N, pixels). The second moments of the taps are sums of second moments of the pixels, and a kernel
    is a matrix (pixels, output pixels) of which the taps say where each of its numbers stands.
    """

    groups: int = field(compare=False)  # what is cached for a geometry serves any number of channels
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    outputs: int = 1

    @classmethod
    def of(cls, conv: nn.Conv2d, height: int, width: int) -> SmallMapTaps:
        """For a convolution of images of this size."""
        return cls(conv.in_channels, height, width, conv.kernel_size, conv.stride, conv.padding, conv.dilation)

    @property
    def taps(self) -> int:
        """k·k."""
        return self.kernel[0] * self.kernel[1]

    @property
    def fits(self) -> bool:
        """Whether the image is small enough."""
        return (self.taps * self.height * self.width) ** 2 <= _LARGEST_CONSTANT

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """See `Taps`."""
        return tuple((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in zip(
            (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True))

    def read(self, image: Tensor) -> Tensor:
        """See `Taps`."""
        return image.permute(1, 0, 2, 3).flatten(2).contiguous()

    def write(self, values: Tensor, height: int, width: int) -> Tensor:
        """See `Taps`."""
        return values.permute(1, 2, 0).contiguous().view(values.shape[1], height, width, -1).permute(0, 3, 1, 2)

    def moments(self, x: Tensor, centre: bool = False) -> Moments:
        """See `Taps`."""
        x = at_least_float32(x)
        count = x.shape[1] * self._places(x).shape[2]
        mean = x.sum(1) @ _readers(self, x.device, x.dtype) / count
        second = torch.bmm(x.transpose(1, 2), x).view(self.groups, -1) @ _pairs(self, x.device, x.dtype)
        second = second.view(self.groups, self.taps, self.taps)
        covariance = torch.baddbmm(second, mean[:, :, None], mean[:, None], beta=1 / count, alpha=-1)
        return Moments(mean, covariance, count)

    def convolve(self, x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        """See `Taps`."""
        return torch.baddbmm(bias[:, :, None].to(x.dtype), x, self._matrices(kernels, x))

    def kernel_gradient(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """See `Taps`."""
        x, gradient = at_least_float32(x), at_least_float32(gradient)
        products = torch.bmm(x.transpose(1, 2), gradient).view(self.groups, -1)
        return (products @ self._places(x).view(self.taps, -1).T)[:, None], gradient.sum((1, 2))[:, None]

    def input_gradient(self, x: Tensor, gradient: Tensor, kernels: Tensor, moments: Moments, by_mean: Tensor,
                       by_covariance: Tensor) -> Tensor:
        """See `Taps`."""
        dtype = by_mean.dtype
        by_sums = torch.baddbmm(by_mean[:, :, None], by_covariance, moments.mean[:, :, None], alpha=-2)[:, :, 0]
        constant = (by_sums / moments.count) @ _readers(self, x.device, dtype).T
        by_pixels = (by_covariance.view(self.groups, -1) * (2 / moments.count)) @ _pairs(self, x.device, dtype).T
        total = torch.baddbmm(constant[:, None].to(x.dtype), gradient, self._matrices(kernels, x).transpose(1, 2))
        return total.baddbmm_(x, by_pixels.view(self.groups, x.shape[2], -1).to(x.dtype))

    def _matrices(self, kernels: Tensor, x: Tensor) -> Tensor:
        """Kernels (C, 1, T) as matrices (C, pixels, output pixels)."""
        places = self._places(x)
        return (kernels[:, 0].to(x.dtype) @ places.view(self.taps, -1)).view(-1, *places.shape[1:])

    def _places(self, x: Tensor) -> Tensor:
        return _places(self, x.device, x.dtype)


@cache
def _places(taps: SmallMapTaps, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(T, pixels, output pixels): 1 where the tap reads the pixel for the output pixel."""
    pixels = taps.height * taps.width
    image = torch.eye(pixels, dtype=dtype, device=device).view(1, pixels, taps.height, taps.width)
    # Of each one-pixel image, what every tap reads.
    read = F.unfold(image.transpose(0, 1), taps.kernel, taps.dilation, taps.padding, taps.stride)
    return read.transpose(0, 1).contiguous()


@cache
def _readers(taps: SmallMapTaps, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(pixels, T): for how many output pixels the tap reads the pixel."""
    return _places(taps, device, dtype).sum(2).T.contiguous()


@cache
def _pairs(taps: SmallMapTaps, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(pixels², T²): for how many output pixels these two taps read these two pixels."""
    places = _places(taps, device, dtype)
    return torch.einsum("tpo,uqo->pqtu", places, places).reshape(-1, taps.taps**2)

"""Which form of the sum of its branches a site takes: by its shape and its device, never by a measurement at run time.

So a training is the same whenever it is repeated or resumed. The numbers below were drawn from the table that
benchmarks/branch_forms.py makes (docs/branch-forms.md), on one kind of CPU; elsewhere they are a guess that changes the
time, not the result.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ghostlib.models.branch_sum.lags import LagTaps
from ghostlib.models.branch_sum.small_maps import SmallMapTaps
from ghostlib.models.branch_sum.taps import PointwiseTaps, Taps, is_compiling

Form = Literal["auto", "branches", "exact"]

# A 1×1 convolution of this many more inputs than all its branches have outputs takes columns.
_COLUMNS_RATIO = 1.5
# A small map is worth it up to this many taps times pixels, and for no fewer images.
_SMALL_MAP, _SMALL_MAP_IMAGES = 400, 32
# Lags are worth their many small operations from this many numbers in the input on.
_LAGS_NUMEL = 150_000
# The covariance of many channels over few pixels costs more than it saves.
_PIXELS_A_CHANNEL = 2


def taps_for(conv: nn.Conv2d, x: Tensor, branches: int, form: Form, alone: bool) -> Taps | None:
    """Of a convolution for inputs (N, C, H, W); None where there is no form for it or it is not worth it.

    Args:
        conv: the site's.
        x: its input.
        branches: how many it has.
        form: "auto" or "exact".
        alone: whether statistics are of this process alone. Else the choice depends on nothing in which processes may
            differ, since those that share statistics must choose alike.
    """
    if conv.groups > 1 and is_compiling():
        return None  # a compiled graph cannot look whether a mean is too far above its spread
    if conv.groups > 1:
        return depthwise_taps(conv, x, form) if alone else depthwise_taps_by_lags(conv)
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    worth_it = pixels >= _PIXELS_A_CHANNEL * conv.in_channels or by_columns(conv, branches)
    return pointwise_taps(conv) if worth_it or form == "exact" or not alone else None


def pointwise_taps(conv: nn.Conv2d) -> PointwiseTaps | None:
    """Of a 1×1 convolution of all channels, else None."""
    fits = (conv.kernel_size, conv.stride, conv.groups) == ((1, 1), (1, 1), 1) and conv.padding in ((0, 0), "valid")
    return PointwiseTaps(conv) if fits else None


def depthwise_taps_by_lags(conv: nn.Conv2d) -> LagTaps | None:
    """Of a 3×3 depth-wise convolution that keeps the size, else None."""
    fits = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.padding_mode) == (
        (3, 3), (1, 1), (1, 1), (1, 1), "zeros") and conv.groups == conv.in_channels == conv.out_channels
    return LagTaps(conv) if fits else None


def by_columns(conv: nn.Conv2d, branches: int) -> bool:
    """Whether the outputs of all branches are so much fewer than the inputs that these beat the covariance."""
    return conv.in_channels >= _COLUMNS_RATIO * branches * conv.out_channels


def depthwise_taps(conv: nn.Conv2d, x: Tensor, form: Form) -> Taps | None:
    """Of a depth-wise convolution for inputs (N, C, H, W); None where there is no form for it or it is not worth it."""
    if not conv.groups == conv.in_channels == conv.out_channels or conv.padding_mode != "zeros" \
            or isinstance(conv.padding, str):
        return None
    small = SmallMapTaps.of(conv, *x.shape[2:])
    if form == "exact":
        return small if small.fits else depthwise_taps_by_lags(conv)
    if small.taps * small.height * small.width <= _SMALL_MAP and len(x) >= _SMALL_MAP_IMAGES:
        return small
    return depthwise_taps_by_lags(conv) if x.numel() >= _LAGS_NUMEL else None

"""Which form of the sum of its branches a site takes: by its shape and its device, never by a measurement at run time.

So a training is the same whenever it is repeated or resumed.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ghostlib.models.branch_sum.lags import LagTaps
from ghostlib.models.branch_sum.small_maps import SmallMapTaps
from ghostlib.models.branch_sum.taps import PointwiseTaps, Taps

Form = Literal["auto", "branches", "exact"]


def pointwise_taps(conv: nn.Conv2d) -> PointwiseTaps | None:
    """Of a 1×1 convolution of all channels, else None."""
    fits = (conv.kernel_size, conv.stride, conv.groups) == ((1, 1), (1, 1), 1) and conv.padding in ((0, 0), "valid")
    return PointwiseTaps(conv) if fits else None


def by_columns(conv: nn.Conv2d, branches: int) -> bool:
    """Whether the outputs of all branches are so much fewer than the inputs that these beat the covariance."""
    return 3 * conv.in_channels >= 4 * branches * conv.out_channels


def depthwise_taps(conv: nn.Conv2d, x: Tensor, form: Form = "exact") -> Taps | None:
    """Of a depth-wise convolution for inputs (N, C, H, W), None where there is no form for it."""
    if not conv.groups == conv.in_channels == conv.out_channels or conv.padding_mode != "zeros" \
            or isinstance(conv.padding, str):
        return None
    small = SmallMapTaps.of(conv, *x.shape[2:])
    if small.fits:
        return small
    shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    return LagTaps(conv) if shape == ((3, 3), (1, 1), (1, 1), (1, 1)) else None

"""3×3 depth-wise convolutions of large images: the taps' moments from autocorrelations."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostlib.models.branch_sum.taps import Moments, at_least_float32


class LagTaps:
    """The taps of a 3×3 depth-wise convolution of stride 1 and padding 1. G = C; one output; T = 9.

    The second moment of two taps is the channel's autocorrelation at the lag between them, less what lies beyond the
    borders: where both taps are in the kernel's last (first) row, the first (last) row of the image is read from a
    position outside of it; likewise for columns, and what two borders both take away is added back. Lags, 1-D lags of
    the borders, their sums and the corners are the 43 `_features` of a channel, of which moments are linear functions.
    Values are images (N, C, H, W).
    """

    def __init__(self, conv: nn.Conv2d):
        self.groups, self.outputs, self.taps = conv.out_channels, 1, 9

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """See `Taps`."""
        return height, width

    def read(self, image: Tensor) -> Tensor:
        """See `Taps`."""
        return image

    def write(self, values: Tensor, height: int, width: int) -> Tensor:
        """See `Taps`."""
        return values

    def moments(self, x: Tensor, centre: bool = False) -> Moments:
        """See `Taps`."""
        x = at_least_float32(x)
        count = x.shape[0] * x.shape[2] * x.shape[3]
        moments = (_features(x) @ _assembly(x.device, x.dtype)) / count
        mean, second = moments[:, 81:], moments[:, :81].view(-1, 9, 9)
        covariance = torch.baddbmm(second, mean[:, :, None], mean[:, None], alpha=-1)
        return Moments(mean, covariance, count)

    def convolve(self, x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        """See `Taps`."""
        return F.conv2d(x, kernels.view(-1, 1, 3, 3).to(x.dtype), bias[:, 0].to(x.dtype), padding=1,
                        groups=len(kernels))

    def kernel_gradient(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """See `Taps`."""
        x, gradient = at_least_float32(x), at_least_float32(gradient)
        by_kernels = _correlation(x, gradient, padding=1)
        return by_kernels.view(-1, 1, 9), gradient.sum((0, 2, 3))[:, None]

    def input_gradient(self, x: Tensor, gradient: Tensor, kernels: Tensor, moments: Moments, by_mean: Tensor,
                       by_covariance: Tensor) -> Tensor:
        """See `Taps`."""
        by_sums = torch.baddbmm(by_mean[:, :, None], by_covariance, moments.mean[:, :, None], alpha=-2)[:, :, 0]
        by_moments = torch.cat([by_covariance.view(-1, 81), by_sums], 1) / moments.count
        by_features = by_moments @ _assembly(x.device, by_moments.dtype).T
        total = _features_gradient(x, by_features.to(x.dtype))
        kernels = kernels.view(-1, 1, 3, 3).to(x.dtype)
        return total.add_(torch.ops.aten.convolution_backward(
            gradient, x, kernels, None, [1, 1], [1, 1], [1, 1], False, [0, 0], len(kernels), [True, False, False])[0])


def _correlation(x: Tensor, weights: Tensor, padding: int) -> Tensor:
    """Σ weights[p]·x[p + t] over positions p, for the 3×3 offsets t: (C, 9).

    It is the weight's gradient of a depth-wise convolution, and libraries have a fast kernel for that if it is 3×3.
    """
    channels = x.shape[1]
    return torch.ops.aten.convolution_backward(
        weights, x, x.new_empty(channels, 1, 3, 3), None, [1, 1], [padding, padding], [1, 1], False, [0, 0], channels,
        [False, True, False])[1].view(channels, 9)


def _borders(x: Tensor) -> Tensor:
    """First and last row, first and last column of (N, C, H, W): (4, N, L, C), L the longer side, zeros behind."""
    x = x.permute(0, 2, 3, 1)
    height, width = x.shape[1:3]
    borders = [x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]]
    if height != width:
        longer = max(height, width)
        borders = [F.pad(border, (0, 0, 0, longer - border.shape[1])) for border in borders]
    return torch.stack(borders)


def _features(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (C, 43), see `_assembly`."""
    right = _correlation(F.pad(x, (0, 2, 0, 2)), x, padding=0)
    left = _correlation(F.pad(x, (2, 0, 0, 2)), x, padding=0)
    borders = _borders(x)
    corners = torch.cat([borders[:2, :, 0], borders[:2, :, x.shape[3] - 1]])  # (4, N, C)
    each = torch.cat([
        (borders * borders).sum((1, 2)), (borders[:, :, 1:] * borders[:, :, :-1]).sum((1, 2)),
        (borders[:, :, 2:] * borders[:, :, :-2]).sum((1, 2)), (corners * corners).sum(1),
        x.sum((0, 2, 3))[None], borders.sum((1, 2)), corners.sum(1)])
    return torch.cat([right, left, each.T], 1)


def _features_gradient(x: Tensor, by: Tensor) -> Tensor:
    """The gradient by x (N, C, H, W), given the gradient by its features (C, 43)."""
    channels, height, width = x.shape[1:]
    # x[p] meets x[p + lag], and x[p - lag] meets x[p]
    lags = (by[:, :18] @ _both_ways(x.device, x.dtype)).view(channels, 1, 5, 5)
    total = F.conv2d(x, lags, by[:, 34].contiguous(), padding=2, groups=channels)
    zero, one, two, corner, _, sums, corner_sums = by[:, 18:].T[:, None, None].split([4, 4, 4, 4, 1, 4, 4])
    borders = _borders(x)
    wide = F.pad(borders, (0, 0, 2, 2))
    change = torch.addcmul(sums, zero, borders, value=2)
    change.addcmul_(one, wide[:, :, 1:-3] + wide[:, :, 3:-1]).addcmul_(two, wide[:, :, :-4] + wide[:, :, 4:])
    for side, column in enumerate((0, width - 1)):
        ends, which = change[:2, :, column], slice(2 * side, 2 * side + 2)
        ends.addcmul_(corner[which, 0], borders[:2, :, column], value=2).add_(corner_sums[which, 0])
    pixels = total.permute(0, 2, 3, 1)
    pixels[:, 0] += change[0, :, :width]
    pixels[:, -1] += change[1, :, :width]
    pixels[:, :, 0] += change[2, :, :height]
    pixels[:, :, -1] += change[3, :, :height]
    return total


@cache
def _both_ways(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(18, 25): a lag among `_assembly`'s features -> the two places in a 5×5 kernel that it and its opposite take."""
    matrix = torch.zeros(18, 5, 5)
    for feature in range(18):
        row, column = feature % 9 // 3, feature % 3 - 2 * (feature >= 9)
        matrix[feature, 2 + row, 2 + column] += 1
        matrix[feature, 2 - row, 2 - column] += 1
    return matrix.view(18, 25).to(device, dtype)


@cache
def _assembly(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(43, 90): how a channel's features make up the taps' second moments (81) and sums (9).

    The features, in this order: autocorrelations at the lags (0..2, 0..2) and (0..2, -2..0) in rows and columns; of
    the top and bottom row and the left and right column those at lags 0, 1 and 2; the squares of the corners (top left,
    bottom left, top right, bottom right); the sum, and the sums of these borders and corners.
    """
    along_borders, corner, total, sums, corner_sums = (18, 22, 26), 30, 34, 35, 39
    matrix = torch.zeros(43, 90)
    taps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]  # offsets from the output's position

    def beyond(i: int, j: int) -> list[int]:
        """The borders (top 0, bottom 1, left 2, right 3) that this offset reads from a position beyond them."""
        return [0] * (i == 1) + [1] * (i == -1) + [2] * (j == 1) + [3] * (j == -1)

    for t, (i, j) in enumerate(taps):
        corner_index = (i == -1) + 2 * (j == -1)
        matrix[total, 81 + t] = 1
        matrix[[sums + border for border in beyond(i, j)], 81 + t] = -1
        if i and j:
            matrix[corner_sums + corner_index, 81 + t] = 1
            matrix[corner + corner_index, 10 * t] = 1
        for u, (k, m) in enumerate(taps):
            row, column = max((k - i, m - j), (i - k, j - m))
            matrix[3 * row + column if column >= 0 else 9 + 3 * row + column + 2, 9 * t + u] = 1
            for border in set(beyond(i, j)) & set(beyond(k, m)):
                lag = column if border < 2 else row
                matrix[along_borders[abs(lag)] + border, 9 * t + u] = -1
    return matrix.to(device, dtype)

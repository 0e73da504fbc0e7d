"""The GPU's kernels against the branches in float64, on a GPU or by Triton's interpreter: `test_form` starts it.

    TRITON_INTERPRET=1 python -m pytest tests/gpu/kernels.py
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ghostlib.gpu import depthwise as depthwise_sum
from ghostlib.gpu import pointwise as pointwise_sum
from ghostlib.gpu.depthwise import DepthwiseSum
from ghostlib.gpu.pointwise import PointwiseSum
from ghostlib.models.branch_sum.function import Branches
from ghostlib.models.rep_conv import RepConv

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def depthwise(channels: int, stride: int = 1, affine: bool = True, **options) -> RepConv:
    conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return _random(RepConv(conv, nn.BatchNorm2d(channels, affine=affine), **options))


def pointwise(inputs: int, outputs: int, affine: bool = True, **options) -> RepConv:
    conv = nn.Conv2d(inputs, outputs, 1, bias=False)
    return _random(RepConv(conv, nn.BatchNorm2d(outputs, affine=affine), **options))


def _random(site: RepConv) -> RepConv:
    """With γ and β that are not 1 and 0."""
    for parameter in site.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1, 0.5)
    return site.to(DEVICE)


def outcome(site: RepConv, x: Tensor, by_kernels: bool) -> dict[str, Tensor]:
    """The sum, the branches' statistics, and the gradients by the input and by every parameter."""
    site, x = copy.deepcopy(site), x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    norms = site.norms
    branches = Branches(len(site.branches), site.scale is not None, site.skip is not None, norms[0].affine,
                        site.branches[0].conv.groups > 1, norms[0].eps)
    found = {}
    if by_kernels:
        y, mean, variance = apply(site, x, branches)
        found["mean"], found["variance"] = (part.transpose(0, 1).flatten(1) for part in (mean, variance))
    else:
        for norm in norms:
            norm.momentum = 1.0
        y = site.sum_branches(x)
        count = y.numel() / y.shape[1]
        found["mean"] = torch.stack([norm.running_mean for norm in norms])
        found["variance"] = torch.stack([norm.running_var for norm in norms]) * (count - 1) / count
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE, y.dtype)
    (y * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in site.named_parameters()}
    return {"sum": y.detach(), **found, "by the input": x.grad, **gradients}


def apply(site: RepConv, x: Tensor, branches: Branches) -> tuple[Tensor, Tensor, Tensor]:
    parameters = [branch.conv.weight for branch in site.branches]
    parameters += [site.scale.conv.weight] if branches.scale else []
    parameters += [norm.weight for norm in site.norms] + [norm.bias for norm in site.norms] if branches.affine else []
    if branches.depthwise:
        return DepthwiseSum.apply(x, branches, site.branches[0].conv.stride[0], *parameters)
    pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    total, mean, variance = PointwiseSum.apply(pixels, branches, *parameters)
    return total.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2), mean, variance


def image(*shape: int) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 2 + 0.5
    return x.to(DEVICE).contiguous(memory_format=torch.channels_last)


SITES = {
    "depth-wise": (lambda: depthwise(12), (3, 12, 4, 5)),
    "few channels, odd sizes": (lambda: depthwise(5), (2, 5, 7, 4)),
    "more channels than a tile": (lambda: depthwise(40), (2, 40, 3, 4)),
    "stride 2": (lambda: depthwise(12, stride=2), (2, 12, 6, 6)),
    "stride 2, odd sizes": (lambda: depthwise(12, stride=2), (2, 12, 5, 7)),
    "one pixel": (lambda: depthwise(8), (6, 8, 1, 1)),
    "one row": (lambda: depthwise(8), (3, 8, 1, 5)),
    "no 1×1 branch": (lambda: depthwise(8, scale=False), (3, 8, 5, 5)),
    "k×k branches alone": (lambda: depthwise(8, scale=False, skip=False, branches=5), (3, 8, 5, 5)),
    "no γ, β and 1×1 branch": (lambda: depthwise(8, affine=False, scale=False), (3, 8, 5, 5)),
    "1×1": (lambda: pointwise(16, 24), (3, 16, 6, 6)),
    "1×1, odd numbers": (lambda: pointwise(5, 3), (2, 5, 3, 5)),
    "1×1, more than a tile": (lambda: pointwise(150, 20), (3, 150, 9, 9)),
    "1×1, many rows": (lambda: pointwise(8, 8, branches=5), (3, 8, 40, 40)),
    "1×1, no γ and β": (lambda: pointwise(16, 8, affine=False), (3, 16, 5, 5)),
}


@pytest.mark.parametrize("name", SITES)
def test_the_kernels_compute_what_the_branches_do(name, monkeypatch):
    monkeypatch.setattr(depthwise_sum, "_REDUCING", 2)  # so that small images, too, take several steps a program
    monkeypatch.setattr(pointwise_sum, "_PROGRAMS", 2)
    make, shape = SITES[name]
    torch.manual_seed(0)
    site, x = make(), image(*shape)
    truth, by_branches = outcome(site.double(), x.double(), False), outcome(site.float(), x, False)
    by_kernels = outcome(site, x, True)
    assert by_kernels.keys() == truth.keys()
    for part, expected in truth.items():
        scale = expected.norm() + 1e-3 * expected.numel()**0.5  # some gradients are zero but for rounding
        error = (by_kernels[part].double() - expected).norm() / scale
        own = (by_branches[part].double() - expected).norm() / scale
        assert by_kernels[part].shape == expected.shape
        assert error <= 3e-5 + 2 * own, (part, float(error), float(own))

"""One site: whatever the convolution is like, its branches fold into it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import reparameterize


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def make_site(conv: nn.Conv2d, branches: int = 3, scale: bool = True, skip: bool = True, **norm) -> RepConv:
    """A site in evaluation mode whose normalisations all differ."""
    site = RepConv(conv, nn.BatchNorm2d(conv.out_channels, **norm), branches, scale, skip).eval()
    for module in site.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.normal_(module.bias)
    return site


def assert_folds(site: RepConv, size: int = 9) -> nn.Conv2d:
    conv = site.branches[0].conv
    x = torch.randn(2, conv.in_channels, size, size + 2)
    with torch.no_grad():
        expected = site(x)
        fused = reparameterize(site)  # a model that is a site itself
        assert type(fused) is nn.Conv2d
        assert expected.std() > 0.1
        torch.testing.assert_close(fused(x), expected, atol=1e-4, rtol=0)
    return fused


@pytest.mark.parametrize("skip", [False, True], ids=["no-skip", "skip"])
@pytest.mark.parametrize("scale", [False, True], ids=["no-scale", "scale"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_depthwise_site_folds(kernel, stride, scale, skip):
    conv = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    site = make_site(conv, scale=scale, skip=skip)
    assert (site.scale is not None) == (scale and kernel > 1)
    assert (site.skip is not None) == (skip and kernel > 1 and stride == 1)
    assert_folds(site)


@pytest.mark.parametrize("branches", [1, 3])
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_dense_1x1_site_folds_and_has_no_extra_branch(stride, bias, branches):
    site = make_site(nn.Conv2d(6, 8, 1, stride, bias=bias), branches)
    assert site.scale is None and site.skip is None
    assert_folds(site)


@pytest.mark.parametrize(("options", "scale", "skip"), [
    (dict(kernel_size=3, padding=1, bias=True), True, True),
    (dict(kernel_size=3, padding=2, dilation=2), True, True),
    (dict(kernel_size=5, padding=6, dilation=3, stride=2, bias=True), True, False),
    (dict(kernel_size=(1, 5), padding=(0, 2)), True, True),
    (dict(kernel_size=(5, 3), padding=(2, 1), stride=(2, 1)), True, False),
    (dict(kernel_size=3, padding=1, out_channels=12), True, False),  # two outputs a channel
    (dict(kernel_size=3), False, False),  # what follows is not centred, so an extra branch would not fit
    (dict(kernel_size=3, padding=1, dilation=2), False, False),
    (dict(kernel_size=4, padding=2), False, False),
    (dict(kernel_size=3, padding="same", bias=True), False, False),
    (dict(kernel_size=3, padding=1, padding_mode="reflect", bias=True), False, False),
], ids=str)
def test_an_unusual_depthwise_site_folds(options, scale, skip):
    site = make_site(nn.Conv2d(**{"in_channels": 6, "out_channels": 6, "groups": 6, "bias": False, **options}))
    assert (site.scale is not None, site.skip is not None) == (scale, skip)
    fused = assert_folds(site)
    original = site.branches[0].conv
    for name in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(fused, name) == getattr(original, name)


@pytest.mark.parametrize("norm", [dict(affine=False), dict(eps=0.1), dict(momentum=None)], ids=str)
def test_a_site_with_an_unusual_normalisation_folds(norm):
    assert_folds(make_site(nn.Conv2d(6, 6, 3, padding=1, groups=6), **norm))


def test_a_site_is_the_sum_of_its_branches():
    site = make_site(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=True), branches=2).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)

    def normalised(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        of_channel = [t.view(1, -1, 1, 1) for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)]
        mean, var, weight, bias = of_channel
        return (y - mean) / torch.sqrt(var + norm.eps) * weight + bias

    expected = normalised(x, site.skip) + normalised(site.scale.conv.weight.view(1, 4, 1, 1) * x,
                                                     site.scale.norm)
    for branch in site.branches:
        expected += normalised(F.conv2d(x, branch.conv.weight, branch.conv.bias, padding=1, groups=4), branch.norm)
    torch.testing.assert_close(site(x), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(site.fuse()(x), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_folded_convolution_has_the_precision_of_the_site(dtype):
    fused = make_site(nn.Conv2d(4, 4, 1)).to(dtype).fuse()
    assert fused.weight.dtype == fused.bias.dtype == dtype

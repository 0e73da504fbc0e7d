"""Counting: conv, linear and matrix products of what is deployed, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ghostlib.deploy.count import count
from ghostlib.models import zoo
from ghostlib.models.reparam import RepConv

pytest.importorskip("fvcore")


class Attention(nn.Module):
    """Five tokens of eight channels from an image of 4 px, attended to by themselves in two heads."""

    def __init__(self, fused: bool):
        super().__init__()
        self.fused, self.embed = fused, nn.Linear(48, 40, bias=False)

    def forward(self, image):
        heads = self.embed(image.flatten(1)).view(1, 5, 2, 4).transpose(1, 2)  # (N, heads, tokens, channels)
        if self.fused:
            return F.scaled_dot_product_attention(heads, heads, heads)
        return (heads @ heads.transpose(-2, -1)).softmax(-1) @ heads


@pytest.mark.parametrize("fused", [True, False])
def test_attention_counts_its_two_products_fused_or_not(fused):
    products = 2 * (2 * 5 * 5 * 4)
    assert count(Attention(fused), 4).macs * 1e6 == 48 * 40 + products


def test_a_convolution_counts_a_multiplication_a_weight_and_output_pixel_and_normalisation_is_free():
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    found = count(network, 8)
    assert found.macs * 1e6 == 6 * 9 * 4 * 4 + 60
    assert found.params * 1e6 == 6 * 9 + 12 + 70


def test_branches_do_not_count_and_stay_where_they_are():
    torch.manual_seed(0)
    v2, v3 = zoo.create("ghostnetv2_100", 10, 0.25), zoo.create("ghostnetv3_100", 10, 0.25)
    assert count(v3, 64).macs == count(v2, 64).macs
    assert any(isinstance(module, RepConv) for module in v3.modules())


def test_without_fvcore_it_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)  # which makes its import fail
    with pytest.raises(ModuleNotFoundError, match=r"needs fvcore .*: pip install 'ghostlib\[export\]'"):
        count(nn.Conv2d(3, 3, 1), 4)


def test_nothing_is_printed_of_what_its_packages_will_change():
    code = ("from torch import nn; from ghostlib.deploy.count import count; "
            "print(count(nn.Conv2d(3, 3, 1, bias=False), 4).params)")  # in a process that has not imported fvcore yet
    done = subprocess.run([sys.executable, "-W", "default::FutureWarning", "-c", code], capture_output=True, text=True)
    assert done.stdout == "9e-06\n" and "jit" not in done.stderr


def test_an_image_that_a_network_cannot_take_is_named():
    with pytest.raises(ValueError, match="GhostNet cannot take an image of 16 px"):
        count(zoo.create("ghostnetv2_100", 10, 0.25), 16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_network_is_counted_in_its_own_precision(dtype):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    assert count(network.to(dtype), 8) == count(network.to(torch.float32), 8)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_have_the_channels_that_the_network_reads(channels):
    assert count(nn.Conv2d(channels, 2, 1, bias=False), 8).macs * 1e6 == channels * 2 * 64


# Folded GhostNetV3 as the paper counts it, and MobileNetV2 as its authors do.
@pytest.mark.parametrize(("name", "params", "macs"), [
    ("ghostnetv3_050", 2.85, 49.6), ("ghostnetv3_100", 6.15, 167.1), ("mobilenetv2_100", 3.50, 300.8)])
def test_known_networks(name, params, macs):
    found = count(zoo.create(name))
    assert found.params == pytest.approx(params, abs=0.006) and found.macs == pytest.approx(macs, abs=0.06)


class Computes(nn.Module):
    """A function of an image (1, 3, 4, 4) and of weights."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(shape), requires_grad=False)

    def forward(self, image):
        return self.function(self.weight, image)


@pytest.mark.parametrize("padding", ["same", "valid", 1, 0])
def test_a_convolution_counts_however_its_padding_is_given(padding):
    side = 4 if padding in ("same", 1) else 2
    assert count(nn.Conv2d(3, 6, 3, padding=padding, groups=3), 4).macs * 1e6 == 6 * 9 * side * side


@pytest.mark.parametrize(("function", "shape", "macs"), [
    (lambda weight, image: image @ weight, (4, 5), 48 * 5),
    (lambda weight, image: weight @ image, (2, 4), 2 * 48),  # a matrix by a batch
    (lambda weight, image: image @ weight, (4,), 48),
    (lambda weight, image: image[0, 0, 0] @ weight, (4,), 4),
    (lambda weight, image: torch.mv(weight, image.flatten()), (5, 48), 5 * 48),
    (lambda weight, image: torch.addmm(image[0, 0], image[0, 0], weight), (4, 4), 16 * 4),
    (lambda weight, image: torch.baddbmm(image[0], image[0], weight), (3, 4, 4), 3 * 16 * 4),
    (lambda weight, image: torch.einsum("nchw,wk->nchk", image, weight), (4, 7), 48 * 7)])
def test_a_product_counts_whatever_its_operands_are(function, shape, macs):
    assert count(Computes(function, *shape), 4).macs * 1e6 == macs


def test_a_frozen_transformer_counts_as_one_that_learns():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    network = nn.Sequential(nn.Flatten(2), nn.Linear(16, 16), layer)
    learning, frozen = count(network, 4), count(network.requires_grad_(False), 4)
    assert learning == frozen and not any(parameter.requires_grad for parameter in network.parameters())
    assert frozen.macs * 1e6 == 3 * 16 * 16 + 3 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 3 * 3 * 16


def test_what_would_be_left_out_is_refused():
    network = nn.Sequential(nn.Flatten(2), nn.LSTM(16, 8, batch_first=True))
    with pytest.raises(ValueError, match="Sequential cannot be counted: there is no rule for aten::lstm"):
        count(network, 4)
    with pytest.raises(ValueError, match="there is no rule for aten::inner"):
        count(Computes(lambda weight, image: torch.inner(image, weight), 2, 4), 4)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context, image):
        return 2 * image


def test_of_what_cannot_be_looked_into_there_is_a_warning():
    with pytest.warns(UserWarning, match="Computes: what a function of its own multiplies is not counted"):
        count(Computes(lambda weight, image: Doubled.apply(image), 1), 4)


def test_modules_that_fold_in_evaluation_mode_only_are_counted():
    import timm

    assert count(timm.create_model("efficientvim_m1").train(), 64).macs > 0

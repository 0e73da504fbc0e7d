"""Weights between the branched network and the plain one, whole or in part, whatever its modules are called."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from ghostlib.models import zoo
from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import add_branches, load_plain, plain_state, reparameterize


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@torch.no_grad()
def disturb(network: nn.Module) -> nn.Module:
    """Other statistics, and affine parameters, in double precision and evaluation mode."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, 0, 0.3)
    return network.double().eval()


@torch.no_grad()
def assert_there_and_back(plain: nn.Module, branched: nn.Module, x: torch.Tensor) -> None:
    """Weights of the branched network compute the same in the plain one, and the plain one's in the branched."""
    expected = branched(x)
    plain.load_state_dict(plain_state(branched), strict=True)
    torch.testing.assert_close(plain(x), expected, atol=1e-12, rtol=1e-12)
    disturb(plain)
    expected = plain(x)
    load_plain(branched, plain.state_dict())
    torch.testing.assert_close(branched(x), expected, atol=1e-12, rtol=1e-12)


class Split(nn.Module):
    """The convolution and its normalisation stand in lists of their own, and each once more under another name."""

    def __init__(self):
        super().__init__()
        self.convs, self.norms = nn.ModuleList([nn.Conv2d(4, 4, 1)]), nn.ModuleList([nn.BatchNorm2d(4)])
        self.conv, self.norm = self.convs[0], self.norms[0]

    def forward(self, x):
        return self.norms[0](self.conv(x))


class Shared(nn.Module):
    """A block with two parents."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.b = nn.ModuleDict({"again": self.a})

    def forward(self, x):
        return self.b["again"](x)


def with_prelu() -> nn.Module:
    norm = timm.layers.BatchNormAct2d(4, act_layer=nn.PReLU)
    nn.init.constant_(norm.act.weight, 0.7)
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), norm)


@pytest.mark.parametrize("make", [Split, Shared, with_prelu, lambda: nn.Sequential(nn.Sequential(Shared()), Split())],
                         ids=["two names", "two parents", "PReLU", "within"])
def test_whatever_the_modules_are_called(make):
    branched = disturb(add_branches(make()))
    assert any(isinstance(module, RepConv) for module in branched.modules())
    assert_there_and_back(make().double().eval(), branched, torch.randn(2, 4, 5, 5).double())


@pytest.mark.parametrize("eps", [1e-5, 0.3])
@torch.no_grad()
def test_normalisations_without_affine_parameters(eps):
    plain = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, eps, affine=False)).double().eval()
    branched, x = disturb(add_branches(copy.deepcopy(plain))), torch.randn(2, 4, 5, 5).double()
    expected = branched(x)
    plain.load_state_dict(plain_state(branched), strict=True)
    torch.testing.assert_close(plain(x), expected, atol=1e-12, rtol=1e-12)
    with pytest.raises(ValueError, match="no γ"):
        load_plain(branched, plain.state_dict())


def test_a_backbone_and_a_part_of_a_network():
    plain, branched = zoo.features("ghostnetv2_100", width=0.25), zoo.features("ghostnetv3_100", width=0.25)
    assert plain_state(branched).keys() == plain.state_dict().keys()
    stage = disturb(branched["blocks_3"])
    x = torch.randn(2, next(m.in_channels for m in stage.modules() if isinstance(m, nn.Conv2d)), 9, 9).double()
    assert_there_and_back(plain["blocks_3"].double().eval(), stage, x)


def test_a_normalisation_that_is_not_there_is_said_so():
    network = add_branches(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(ValueError, match="Sequential has no module '1' beside '0', .*the network that add_branches"):
        plain_state(nn.Sequential(network[0]))
    with pytest.raises(ValueError, match="the network that add_branches"):
        plain_state(network[0])


@torch.no_grad()
def test_a_site_under_several_names_is_folded_once():
    network, x = Split().eval(), torch.randn(1, 4, 3, 3)
    add_branches(network, preserve=True)
    network.third = nn.ModuleList([network.conv])
    expected = network(x)
    reparameterize(network)
    assert type(network.conv) is nn.Conv2d
    assert network.conv is network.convs[0] is network.third[0]
    torch.testing.assert_close(network(x), expected)


def test_a_branched_state_is_not_taken_for_a_plain_one():
    plain = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    branched = add_branches(plain, example_input=torch.zeros(2, 3, 5, 5))
    state = {name: tensor + 1 for name, tensor in branched.state_dict().items()}
    before = copy.deepcopy(branched.state_dict())
    with pytest.raises(ValueError, match="has branches itself"):
        load_plain(branched, state)
    torch.testing.assert_close(dict(branched.state_dict()), dict(before), rtol=0, atol=0)

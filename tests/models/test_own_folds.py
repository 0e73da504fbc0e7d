"""Networks of modules that fold themselves: our branches beside theirs, and then they fold as they do without ours."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from ghostlib.models.rep_conv import RepConv
from ghostlib.models.reparam import add_branches, reparameterize
from ghostlib.models.sites import survey


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def layers(network: nn.Module) -> list[str]:
    """Every module that computes, in order, by its class; a convolution's bias included."""
    return [f"{type(module).__name__}, {getattr(module, 'bias', None) is not None}"
            for module in network.modules() if list(module.parameters(recurse=False))]


@torch.no_grad()
def disturb(network: nn.Module) -> nn.Module:
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize(("name", "side", "sites"), [
    ("repvit_m0_9", 64, 81), ("mobileone_s0", 64, 190), ("tiny_vit_5m_224", 224, 25), ("efficientvit_m0", 224, 108)])
@torch.no_grad()
def test_a_network_that_folds_itself_has_as_many_layers_folded_as_without_our_branches(name, side, sites):
    plain, x = timm.create_model(name, num_classes=4), torch.randn(2, 3, side, side)
    network = disturb(add_branches(copy.deepcopy(plain), inside=True, example_input=x[:1]))
    assert sum(isinstance(module, RepConv) for module in network.modules()) == sites
    expected = network(x)
    folded = reparameterize(network)
    assert layers(folded) == layers(reparameterize(plain))
    torch.testing.assert_close(folded(x), expected, atol=2e-3 * expected.abs().max().item(), rtol=0)
    modules = dict(folded.named_modules())
    assert dict(reparameterize(folded).named_modules()) == modules


@torch.no_grad()
def test_modules_that_fold_themselves_are_skipped_with_the_reason_unless_they_are_to_be_looked_into():
    network = timm.create_model("repvit_m0_9", num_classes=4).eval()
    assert "it is inside a module that folds itself" in survey(network).unfit.values()
    x = torch.randn(1, 3, 64, 64)
    expected = network(x)
    add_branches(network, inside=True, preserve=True, example_input=x)
    torch.testing.assert_close(network(x), expected, atol=1e-4, rtol=1e-4)


class Pair(nn.Sequential):
    """A convolution and its normalisation, as many authors write it."""

    def __init__(self, norm: nn.Module | None = None):
        super().__init__(nn.Conv2d(4, 4, 1, bias=False), norm or nn.BatchNorm2d(4))

    @torch.no_grad()
    def fuse(self):
        conv, norm = self
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        folded = nn.Conv2d(4, 4, 1)
        folded.weight.copy_(conv.weight * scale[:, None, None, None])
        folded.bias.copy_(norm.bias - norm.running_mean * scale)
        return folded


class InPlace(Pair):
    """One that folds in place, and returns nothing."""

    def fuse(self):
        if len(self) == 2:
            folded = super().fuse()
            del self[1]
            self[0] = folded


def test_the_child_of_a_fold_that_returns_nothing_stays():
    network, x = nn.Sequential(InPlace(), nn.ReLU()).eval(), torch.randn(1, 4, 3, 3)
    expected = network(x)
    torch.testing.assert_close(reparameterize(network)(x), expected)
    assert isinstance(network[0], InPlace) and layers(network) == ["Conv2d, True"]


def test_a_child_by_the_name_of_a_fold_is_none():
    class Neck(nn.Module):
        def __init__(self):
            super().__init__()
            self.fuse = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

        def forward(self, x):
            return self.fuse(x)

    network, x = nn.Sequential(Neck()).eval(), torch.randn(1, 4, 3, 3)
    assert len(survey(network).sites) == 1
    expected = network(x)
    assert reparameterize(network)[0] is not None
    torch.testing.assert_close(network(x), expected)


def of_two(self, x: Tensor, y: Tensor) -> Tensor:
    return x + y


def of_any(self, *maps: Tensor) -> Tensor:
    return torch.stack(maps).sum(0)


def of_given(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
    return x + y


@pytest.mark.parametrize("fuse", [of_two, of_any, of_given])
def test_a_method_that_takes_arguments_is_no_fold(fuse):
    class Neck(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.fuse(self.norm(self.conv(x)), x)

    Neck.fuse = fuse
    network = nn.Sequential(Neck())
    assert len(survey(network).sites) == 1
    reparameterize(add_branches(network))


@torch.no_grad()
def test_a_fold_may_have_an_option():
    class Block(Pair):
        def fuse(self, verbose: bool = False):
            return super().fuse()

    network, x = nn.Sequential(Block()).eval(), torch.randn(1, 4, 3, 3)
    expected = network(x)
    assert type(reparameterize(network)[0]) is nn.Conv2d
    torch.testing.assert_close(network(x), expected)


@torch.no_grad()
def test_a_shared_module_folds_once():
    shared = Pair()
    network, x = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared, shared)]).eval(), torch.randn(1, 4, 3, 3)
    expected = network[1](x)
    reparameterize(network)
    assert network[0][0] is network[1][0] is network[1][1] and type(network[0][0]) is nn.Conv2d
    torch.testing.assert_close(network[1](x), expected)


def test_a_normalisation_that_activates_where_modules_fold_themselves_is_refused():
    network = nn.Sequential(Pair(timm.layers.BatchNormAct2d(4)))
    assert survey(network, inside=True).unused == {
        "0.0": "its normalisation activates, inside a module that folds itself"}

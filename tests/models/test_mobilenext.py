"""MobileNeXt: the authors' counts, wide shortcuts, timm's interface."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ghostlib.deploy import count
from ghostlib.models.mobilenext import MobileNeXt, SandGlass
from ghostlib.models.reparam import RepConv, add_branches, reparameterize
from tests import needs
from tests.models.test_reparam import unsettle, views_of

CLASSES = 7


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(**options) -> MobileNeXt:
    return MobileNeXt(**{"num_classes": CLASSES, "width": 0.25, **options})


@pytest.mark.parametrize(("width", "params", "macs"), [(1.0, 3.535, 311.3), (1.4, 6.126, 588)])
def test_it_costs_what_the_authors_network_costs(width, params, macs):
    needs.packages("fvcore")
    cost = count.count(MobileNeXt(width=width))
    assert cost.params == pytest.approx(params, rel=0.005) and cost.macs == pytest.approx(macs, rel=0.005)


@pytest.mark.parametrize("width", [0.01, 0.1, 0.35, 0.5, 0.75, 1.4])
def test_any_width_can_be_built(width):
    network = small(width=width).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 3, 33, 33)).shape == (2, CLASSES)
    channels = [block.out_channels for block in network.features]
    assert all(count % 8 == 0 for count in channels)
    assert channels[-1] == (1792 if width == 1.4 else 1280)  # never narrower than at 1.0


def test_the_forward_pass_is_features_then_head():
    network, views = small().eval(), torch.randn(2, 3, 65, 70)
    with torch.no_grad():
        features = network.forward_features(views)
        assert features.shape == (2, network.num_features, 3, 3)
        assert torch.equal(network.forward_head(features), network(views))


def test_the_classifier_can_be_replaced_and_removed():
    network, views = small().eval(), torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        features = network.forward_features(views)
        network.reset_classifier(4)
        assert network.num_classes == 4 and network.get_classifier().out_features == 4
        assert network(views).shape == (2, 4)
        network.reset_classifier(0)
        assert network.num_classes == 0 and not [*network.get_classifier().parameters()]
        torch.testing.assert_close(network(views), features.mean((2, 3)))


def test_dropout_acts_in_training_only():
    network, pooled = small(dropout=0.5), torch.ones(1, 1280, 1, 1)
    network.reset_classifier(0)
    assert 0.4 < network.train().forward_head(pooled).eq(0).float().mean() < 0.6
    assert network.eval().forward_head(pooled).eq(1).all()


def test_the_gradient_reaches_every_parameter():
    network = small().train()
    network(views_of(65)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_the_weights_begin_as_the_authors_do():
    network = MobileNeXt()
    depthwise = network.features[19].conv[0][0].weight  # 960 channels of 3×3
    assert depthwise.std().item() == pytest.approx((2 / (9 * 960)) ** 0.5, rel=0.05)
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert network.classifier.bias.eq(0).all()


# -- the sandglass block


def test_the_shortcut_joins_all_of_the_many_channels():
    block, x = SandGlass(48, 48).eval(), torch.randn(2, 48, 5, 5)
    nn.init.zeros_(block.conv[-1][1].weight)  # the last normalisation silences what the convolutions compute
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("options", [dict(channels=48, out_channels=96), dict(channels=48, out_channels=48, stride=2)])
def test_a_block_that_changes_the_shape_has_no_shortcut(options):
    block = SandGlass(**options).eval()
    nn.init.zeros_(block.conv[-1][1].weight)
    assert block(torch.randn(2, 48, 6, 6)).eq(0).all()


def test_a_block_is_narrow_inside_where_it_is_linear():
    block = SandGlass(96, 96)
    inner = []
    block.conv[1].register_forward_hook(lambda module, inputs, out: inner.append(out))
    assert block(torch.randn(2, 96, 8, 8)).min() < 0  # nor the many
    assert inner[0].shape == (2, 16, 8, 8)
    assert inner[0].min() < 0 and inner[0].max() > 0  # no activation cuts the few channels


@pytest.mark.parametrize(("channels", "out_channels", "reduction", "inner"), [
    (32, 96, 2, 16), (192, 192, 6, 32), (96, 144, 6, 32), (960, 1280, 6, 208)])
def test_inside_are_at_least_a_sixth_of_the_channels_outside(channels, out_channels, reduction, inner):
    narrow = SandGlass(channels, out_channels, 1, reduction).conv[1][0].out_channels
    assert narrow == inner


@pytest.mark.parametrize(("stride", "expected"), [(1, [1, 1]), (2, [1, 1, 3])])
def test_a_light_block_has_no_depthwise_convolution_but_a_strided_one(stride, expected):
    block = SandGlass(48, 96, stride, depthwise=False)
    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.kernel_size[0] for conv in convs] == expected
    assert block(torch.randn(2, 48, 6, 6)).shape == (2, 96, 6 // stride, 6 // stride)


# -- re-parameterisation


@torch.no_grad()
def test_it_trains_with_branches_and_folds_back():
    views, plain = views_of(33), small()
    parameters = sum(parameter.numel() for parameter in plain.parameters())
    network = unsettle(add_branches(plain), views)
    expanded = [module for module in network.modules() if isinstance(module, RepConv)]
    # Every convolution but the stem is 1×1 or depth-wise.
    assert len(expanded) == sum(isinstance(module, nn.Conv2d) for module in small().modules()) - 1
    before = network.double()(views.double())
    assert before.std(0).mean() > 0.02
    folded = reparameterize(network)
    assert not any(isinstance(module, RepConv) for module in folded.modules())
    torch.testing.assert_close(folded(views.double()), before, atol=1e-9, rtol=0)
    assert sum(parameter.numel() for parameter in folded.parameters()) < parameters

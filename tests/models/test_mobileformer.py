"""Mobile-Former: the paper's counts, what pixels and tokens tell each other, timm's interface."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ghostlib.deploy import export
from ghostlib.models.mobileformer import (
    VARIANTS,
    DynamicReLU,
    Former,
    FormerToMobile,
    MobileFormer,
    MobileToFormer,
    Variant,
    _attend,
)
from tests import needs

CLASSES = 7


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(**options) -> MobileFormer:
    return MobileFormer("52", **{"num_classes": CLASSES, **options})


def awake(module: nn.Module) -> nn.Module:
    """Gives linear layers weights of a trained network's order, in evaluation mode: they begin with next to nothing."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
    return module.eval()


def shuffled(x: torch.Tensor, dim: int) -> torch.Tensor:
    return x[(slice(None),) * dim + (torch.randperm(x.shape[dim]),)]


@pytest.mark.parametrize(("variant", "params", "macs"), [("52", 3.5, 52), ("96", 4.6, 96), ("508", 14.0, 508)])
def test_it_costs_what_the_paper_says(variant, params, macs):
    FlopCountAnalysis = pytest.importorskip("fvcore.nn").FlopCountAnalysis
    network = MobileFormer(variant).eval()
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == params
    counted = FlopCountAnalysis(network, torch.zeros(1, 3, 224, 224)).unsupported_ops_warnings(False).by_operator()
    # The paper's operations include some on single values: fvcore's total counts two for each normalised one.
    assert sum(counted.values()) / 1e6 == pytest.approx(macs, rel=0.01)
    products = sum(counted[operator] for operator in ("conv", "linear", "matmul")) / 1e6
    assert 0.94 * macs < products < macs


def test_an_unknown_variant_is_named():
    with pytest.raises(ValueError, match="unknown variant '294' .* known: 52, 96, 508"):
        MobileFormer("294")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_forward_pass_is_features_then_head(variant):
    network, views = MobileFormer(variant, CLASSES).eval(), torch.randn(2, 3, 65, 70)
    with torch.no_grad():
        local, tokens = network.forward_features(views)
        assert local.shape == (2, network.num_features, 3, 3)
        assert tokens.shape == (2, VARIANTS[variant].tokens, VARIANTS[variant].dim)
        logits = network.forward_head((local, tokens))
        assert logits.shape == (2, CLASSES) and torch.equal(logits, network(views))


def test_the_classifier_can_be_replaced_and_removed():
    network, views = small().eval(), torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        network.reset_classifier(4)
        assert network.num_classes == 4 and network.get_classifier().out_features == 4
        assert network(views).shape == (2, 4)
        network.reset_classifier(0)
        assert network.num_classes == 0 and not [*network.get_classifier().parameters()]
        assert network(views).shape == (2, network.head_hidden_size)


def test_the_gradient_reaches_every_parameter():
    network = small().train()
    network(torch.randn(4, 3, 65, 65)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_it_can_be_exported(monkeypatch, tmp_path):
    needs.engine("onnx")
    monkeypatch.setitem(VARIANTS, "shallow", Variant(3, 16, 4, ((2, 4, 1), (6, 8, 2), (3, 8, 1)), 20))
    network = awake(MobileFormer("shallow", CLASSES))
    assert export.onnx(network, tmp_path / "shallow.onnx", image_size=32).exists()  # raises where ONNX Runtime differs


# -- the two ways of the bridge


def test_the_image_reaches_the_tokens():
    network, views = awake(small()), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        _, (one, other) = network.forward_features(views)
    assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize("token", [0, 2])
def test_the_tokens_reach_the_local_features_and_the_logits(token):
    network, views = awake(small()), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (local, _), logits = network.forward_features(views), network(views)
        network.tokens[token].normal_()
        assert (network.forward_features(views)[0] - local).abs().max() > 1e-2
        assert (network(views) - logits).abs().max() > 1e-2


def test_the_head_reads_the_first_token_alone():
    network = awake(small())
    local, tokens = torch.randn(2, network.num_features, 2, 2), torch.randn(2, 3, 128)
    with torch.no_grad():
        logits = network.forward_head((local, tokens))
        assert torch.equal(network.forward_head((local, torch.cat([tokens[:, :1], tokens[:, 1:] + 1], 1))), logits)
        assert not torch.equal(network.forward_head((local, tokens + 1)), logits)


@torch.no_grad()
def test_tokens_see_pixels_as_they_are():
    bridge, tokens, pixel = awake(MobileToFormer(12, 16)), torch.randn(2, 3, 16), torch.randn(2, 12)
    # Where all pixels are alike, what is seen of them is one of them, whatever is asked.
    expected = bridge.norm(tokens + bridge.project(2 * bridge.gate(tokens) * pixel[:, None]))
    torch.testing.assert_close(bridge(pixel[:, :, None, None].expand(2, 12, 4, 5), tokens), expected)


@torch.no_grad()
def test_tokens_see_pixels_wherever_they_are():
    bridge, tokens, x = awake(MobileToFormer(12, 16)), torch.randn(2, 3, 16), torch.randn(2, 12, 20)
    seen = bridge(x.view(2, 12, 4, 5), tokens)
    torch.testing.assert_close(bridge(shuffled(x, 2).view(2, 12, 5, 4), tokens), seen)
    assert (bridge(x.flip(1).view(2, 12, 4, 5), tokens) - seen).abs().max() > 0.01


@torch.no_grad()
def test_pixels_see_tokens_in_any_order_and_keep_their_place():
    bridge, tokens, x = awake(FormerToMobile(12, 16)), torch.randn(2, 3, 16), torch.randn(2, 12, 4, 5)
    out = bridge(x, tokens)
    torch.testing.assert_close(bridge(x, shuffled(tokens, 1)), out)
    torch.testing.assert_close(bridge(x.flip(3), tokens), out.flip(3))
    # One token alone leaves no choice: each pixel gets its value.
    only = tokens[:, :1]
    torch.testing.assert_close(bridge(x, only), x + bridge.value(only)[:, 0, :, None, None])


@torch.no_grad()
def test_the_former_treats_all_tokens_alike():
    former, tokens, order = awake(Former(16)), torch.randn(2, 4, 16), torch.randperm(4)
    torch.testing.assert_close(former(tokens[:, order]), former(tokens)[:, order])
    assert (former(tokens)[:, :2] - former(tokens[:, :2])).abs().max() > 0.01  # but they do attend to one another


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_pytorchs(heads):
    queries, keys, values = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    expected = F.scaled_dot_product_attention(*(t.view(2, -1, heads, 8 // heads).transpose(1, 2)
                                                for t in (queries, keys, values)))
    torch.testing.assert_close(_attend(queries, keys, values, heads), expected.transpose(1, 2).reshape(2, 3, 8))


# -- dynamic ReLU


@torch.no_grad()
def test_dynamic_relu_is_relu_where_the_token_says_nothing():
    act, x = DynamicReLU(6, 16), torch.randn(2, 6, 3, 3)
    nn.init.zeros_(act.slopes[2].weight)
    nn.init.zeros_(act.slopes[2].bias)
    torch.testing.assert_close(act(x, torch.randn(2, 16)), x.relu(), atol=0, rtol=0)


@torch.no_grad()
def test_dynamic_relu_follows_the_token_within_its_bounds():
    act, token = awake(DynamicReLU(6, 16)), 20 * torch.randn(2, 16)
    positive, negative = (act(sign * torch.ones(2, 6, 1, 1), token) for sign in (1, -1))
    # At 1 it is max(a, b) and at -1 max(-a, -b), with a in [0, 2] and b in [-1, 1].
    assert 0 <= positive.min() and positive.max() <= 2 and negative.min() >= -1 and negative.max() <= 1
    assert positive.std() > 0.1 and negative.std() > 0.1

"""Networks by name: every one can be built at every size the profiles ask for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ghostlib.models import zoo
from ghostlib.models.reparam import RepConv, reparameterize, sites

DEPLOYED = ["ghostnetv2_100", "mobilenetv2_100", "shufflenetv2_100", "deit_tiny", "resnet10"]
ONE_OF_EACH = ["ghostnetv3_100", *DEPLOYED]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tiny(name: str, **options) -> nn.Module:
    return zoo.create(name, **{"num_classes": 7, "width": 0.25, "image_size": 33, "patch_size": 11, **options})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_names_are_the_papers_networks_and_a_stand_in_teacher():
    ghostnets = [f"ghostnet{version}_{width}" for version in ("v2", "v3") for width in ("050", "100", "130", "160")]
    assert zoo.names() == [*ghostnets, "mobilenetv2_100", "shufflenetv2_100", "deit_tiny", "resnet10"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_network_takes_33_px_and_answers_with_the_classes_asked_for(name):
    network = tiny(name).eval()
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 33, 33))
    assert logits.shape == (2, 7) and logits.isfinite().all()


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_network_learns_from_33_px(name):
    network = tiny(name).train()
    network(torch.randn(2, 3, 33, 33)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("wrong", "right"), [
    ("ghostnetv2_13", "ghostnetv2_130"), ("GhostNetV3_100", "ghostnetv3_100"), ("deit-tiny", "deit_tiny"),
    ("mobilenet_v2_100", "mobilenetv2_100"), ("resnet18", "resnet10")])
def test_an_unknown_name_proposes_the_nearest_and_lists_all(wrong, right):
    with pytest.raises(ValueError) as error:
        zoo.create(wrong)
    assert f"unknown network {wrong!r}; did you mean {right!r}?" in str(error.value)
    assert all(name in str(error.value) for name in zoo.names())


def test_a_name_like_no_other_gets_no_proposal():
    with pytest.raises(ValueError, match="unknown network 'xyz'") as error:
        zoo.create("xyz")
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(("option", "value"), [("num_classes", 0), ("num_classes", -3), ("width", 0), ("width", -0.5)])
def test_an_impossible_size_is_named(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value}"):
        zoo.create("mobilenetv2_100", **{option: value})


@pytest.mark.parametrize(("name", "width"), [
    ("ghostnetv2_050", 0.5), ("ghostnetv2_100", 1.0), ("ghostnetv2_130", 1.3), ("ghostnetv2_160", 1.6),
    ("ghostnetv3_050", 0.5), ("ghostnetv3_130", 1.3), ("mobilenetv2_100", 1.0), ("resnet10", 1.0), ("unheard", 1.0)])
def test_a_name_stands_for_a_width(name, width):
    assert zoo.default_width(name) == width


@pytest.mark.parametrize("name", ["ghostnetv2_050", "ghostnetv3_050", "mobilenetv2_100", "shufflenetv2_100",
                                  "resnet10", "deit_tiny"])
def test_a_network_without_a_width_has_the_width_of_its_name(name):
    named, explicit = zoo.create(name, 7), zoo.create(name, 7, zoo.default_width(name))
    assert parameters(named) == parameters(explicit)


@pytest.mark.parametrize("name", ["ghostnetv2_050", "ghostnetv3_050"])
def test_an_explicit_width_overrides_the_name(name):
    assert parameters(tiny(name)) == parameters(tiny(name.replace("050", "160")))


@pytest.mark.parametrize("name", DEPLOYED)
def test_more_width_is_more_parameters(name):
    sizes = [parameters(tiny(name, width=width)) for width in (0.1, 0.35)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(("name", "millions"), [
    ("ghostnetv2_100", 6.16), ("mobilenetv2_100", 3.50), ("shufflenetv2_100", 2.28), ("deit_tiny", 5.72)])
def test_full_size_networks_have_their_published_parameters(name, millions):
    assert round(parameters(zoo.create(name)) / 1e6, 2) == millions


@pytest.mark.parametrize("name", DEPLOYED)
def test_dropout_acts_in_training_only_and_only_where_asked_for(name):
    views = torch.randn(2, 3, 33, 33)
    for dropout in (0.0, 0.5):
        network = tiny(name, dropout=dropout)
        with torch.no_grad():
            network.train()
            same_in_training = torch.equal(network(views), network(views))
            network.eval()
            assert torch.equal(network(views), network(views))
        assert same_in_training is (dropout == 0)


@pytest.mark.parametrize(("image_size", "patch_size", "patches"), [(33, 11, 9), (36, 6, 36), (224, None, 196)])
def test_a_transformer_is_built_for_its_image_and_patch(image_size, patch_size, patches):
    network = zoo.create("deit_tiny", 7, 0.1, image_size=image_size, patch_size=patch_size).eval()
    assert network.pos_embed.shape[1] == patches + 1  # the class token
    with torch.no_grad():
        assert network(torch.randn(1, 3, image_size, image_size)).shape == (1, 7)


@pytest.mark.parametrize(("width", "embedding"), [(None, 192), (1.0, 192), (0.35, 66), (0.01, 6)])
def test_a_transformers_width_is_its_embedding_in_three_heads(width, embedding):
    network = zoo.create("deit_tiny", 7, width)
    assert network.embed_dim == embedding and network.blocks[0].attn.num_heads == 3


@pytest.mark.parametrize("width", [0.01, 0.1, 0.35, 1.3])
def test_a_shuffle_unit_always_has_channels_to_split(width):
    network = tiny("shufflenetv2_100", width=width).eval()
    assert all(channels % 2 == 0 for channels in network._stage_out_channels)
    with torch.no_grad():
        assert network(torch.randn(1, 3, 33, 33)).shape == (1, 7)


def test_a_folded_v3_is_v2_with_a_bias_where_a_normalisation_was():
    v2, v3 = tiny("ghostnetv2_100"), tiny("ghostnetv3_100")
    at_sites = {name for name, module in v3.named_modules() if isinstance(module, RepConv)}
    folded = reparameterize(v3)
    before = {name: tensor.shape for name, tensor in v2.state_dict().items()}
    after = {name: tensor.shape for name, tensor in folded.state_dict().items()}
    assert after.keys() - before.keys() == {f"{site}.bias" for site in at_sites}
    # Each site's normalisation is gone whole, and nothing else: five tensors behind the convolution.
    gone = before.keys() - after.keys()
    assert len(gone) == 5 * len(at_sites)
    assert {type(v2.get_submodule(name.rpartition(".")[0])) for name in gone} == {nn.BatchNorm2d}
    assert all(after[name] == before[name] for name in before.keys() & after.keys())
    channels = sum(folded.get_submodule(site).out_channels for site in at_sites)
    assert parameters(folded) == parameters(v2) - channels  # weight and bias of the BN became one bias


def test_v2_comes_without_branches_and_v3_with_three_a_site():
    assert not any(isinstance(module, RepConv) for module in tiny("ghostnetv2_100").modules())
    found = [module for module in tiny("ghostnetv3_100").modules() if isinstance(module, RepConv)]
    assert {len(site.branches) for site in found} == {3}
    assert len(found) == len([*sites(tiny("ghostnetv2_100"), ("*.short_conv.*", "*.shortcut.*", "blocks.9.*"))])

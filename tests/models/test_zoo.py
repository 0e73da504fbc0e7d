"""Networks by name: every one can be built at every size the profiles ask for."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from ghostlib.models import catalog, zoo
from ghostlib.models.reparam import RepConv, reparameterize
from ghostlib.models.sites import survey

DEPLOYED = ["ghostnetv2_100", "mobilenetv2_100", "shufflenetv2_100", "deit_tiny", "resnet10"]
ONE_OF_EACH = ["ghostnetv3_100", *DEPLOYED]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def tiny(name: str, **options) -> nn.Module:
    return zoo.create(name, **{"num_classes": 7, "width": 0.25, "image_size": 33, "patch_size": 11, **options})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


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
    ("mobilenet_v2_100", "mobilenetv2_100"), ("resnet-10", "resnet10")])
def test_an_unknown_name_proposes_the_nearest_and_lists_all(wrong, right):
    with pytest.raises(ValueError) as error:
        zoo.create(wrong)
    assert f"unknown network {wrong!r}; did you mean {right!r}?" in str(error.value)
    assert all(name in str(error.value) for name in zoo.names())


def test_a_name_like_no_other_gets_no_proposal():
    with pytest.raises(ValueError, match="unknown network 'xyz'") as error:
        zoo.create("xyz")
    assert "did you mean" not in str(error.value) and "'xyz'. Known:" in str(error.value)


@pytest.mark.parametrize(("option", "value"), [("num_classes", 0), ("num_classes", -3), ("width", 0), ("width", -0.5)])
def test_an_impossible_size_is_named(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value}"):
        zoo.create("mobilenetv2_100", **{option: value})


@pytest.mark.parametrize(("name", "width"), [
    ("ghostnetv2_050", 0.5), ("ghostnetv2_100", 1.0), ("ghostnetv2_130", 1.3), ("ghostnetv2_160", 1.6),
    ("ghostnetv3_050", 0.5), ("ghostnetv3_130", 1.3), ("mobilenetv2_100", 1.0), ("resnet10", 1.0), ("mixnet_s", 1.0)])
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
    assert len(found) == len(survey(tiny("ghostnetv2_100"), ("*.short_conv.*", "*.shortcut.*", "blocks.9.*")).sites)


# -- what timm's users expect


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_is_registered_with_timm_and_describes_itself(name):
    assert timm.is_model(f"ghostlib_{name}")
    config = zoo.default_cfg(name)
    size = catalog.find(name).image_size
    assert config["input_size"] == (3, size, size) and 0 < config["crop_pct"] <= 1 and len(config["mean"]) == 3


@pytest.mark.parametrize("name", ["ghostnetv3_050", "mobilenetv2_100", "shufflenetv2_100", "mobilenext_100",
                                  "mobileformer_52", "mobileone_s0", "mixnet_s"])
def test_timm_creates_the_network_and_its_classifier_can_be_replaced(name):
    network = timm.create_model(f"ghostlib_{name}", num_classes=5, drop_rate=0.1).eval()
    views, config = torch.randn(1, 3, 64, 64), network.default_cfg
    with torch.no_grad():
        assert network(views).shape == (1, 5)
        network.reset_classifier(3)
        assert network(views).shape == (1, 3) and network.num_classes == 3
        network.reset_classifier(0)
        assert network(views).ndim == 2 and network(views).shape[1] > 5
    # The named ends exist: a detector, or timm's training script, looks them up.
    fresh = zoo.create(name, 5)
    if not name.startswith("mobileone"):  # timm names all branches of its first convolution
        assert isinstance(fresh.get_submodule(config["first_conv"]), nn.Conv2d)
    assert isinstance(fresh.get_submodule(config["classifier"]), nn.Linear)


@pytest.mark.parametrize("name", ["mobilenetv2_100", "shufflenetv2_100"])
def test_a_network_of_torchvisions_has_another_classifier_with_and_without_dropout(name):
    for dropout in (0.0, 0.5):
        network = zoo.create(name, 5, 0.25, dropout=dropout)
        assert isinstance(network.get_classifier(), nn.Linear)
        network.reset_classifier(0)
        network.reset_classifier(4)
        assert network.eval()(torch.randn(1, 3, 33, 33)).shape == (1, 4)


def test_pretrained_is_an_error_that_names_the_way_to_load_a_file():
    with pytest.raises(ValueError, match="no weights of ghostnetv3_100; load a file with ghostlib.models.weights.load"):
        timm.create_model("ghostlib_ghostnetv3_100", pretrained=True)


def test_other_than_colour_images_are_an_error():
    with pytest.raises(ValueError, match="ghostnetv3_100 takes images of 3 channels, not of 1"):
        timm.create_model("ghostlib_ghostnetv3_100", in_chans=1)
    assert timm.create_model("ghostlib_ghostnetv3_050", in_chans=3)


def test_what_timm_registers_is_no_name_of_the_module():
    assert all(hasattr(zoo, name) for name in zoo.__all__)


@pytest.mark.parametrize(("name", "channels"), [
    ("ghostnetv1_100", [16, 24, 40, 112, 160]), ("ghostnetv2_100", [16, 24, 40, 112, 160]),
    ("ghostnetv3_100", [16, 24, 40, 112, 160]), ("mobilenetv2_100", [16, 24, 32, 96, 320]),
    ("shufflenetv2_100", [24, 24, 116, 232, 464]), ("resnet10", [64, 64, 128, 256, 512]),
    ("resnet18", [64, 64, 128, 256, 512]),
    ("mobilenext_100", [32, 144, 192, 384, 960]), ("mobilenetv3_large_100", [16, 24, 40, 112, 960])])
def test_a_backbone_gives_the_last_map_of_every_stride(name, channels):
    backbone = timm.create_model(f"ghostlib_{name}", features_only=True).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 64))
    assert backbone.feature_info.channels() == [one.shape[1] for one in maps] == channels
    assert backbone.feature_info.reduction() == [64 // one.shape[-1] for one in maps] == [2, 4, 8, 16, 32]


def test_the_maps_are_those_that_the_network_passes_on():
    torch.manual_seed(0)
    network = zoo.create("ghostnetv3_050").eval()
    torch.manual_seed(0)
    backbone = zoo.features("ghostnetv3_050", (2, 4)).eval()
    views, seen = torch.randn(1, 3, 64, 64), {}
    for tap in ("blocks.4", "blocks.8"):
        network.get_submodule(tap).register_forward_hook(lambda m, a, out, tap=tap: seen.__setitem__(tap, out))
    with torch.no_grad():
        network(views)
        assert all(map(torch.equal, backbone(views), seen.values()))


def test_a_backbone_trains_with_branches_and_folds():
    torch.manual_seed(0)
    backbone = zoo.features("ghostnetv3_100", (-1,), width=0.25)
    views = torch.randn(2, 3, 64, 64)
    backbone(views)[0].mean().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    with torch.no_grad():
        before = backbone.eval()(views)[0]
        folded = reparameterize(backbone)
        assert torch.allclose(folded(views)[0], before, atol=1e-4)
    assert not any(isinstance(module, RepConv) for module in folded.modules())


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_large_100", "mobilenetv2_100", "ghostnetv3_100"])
def test_a_backbone_has_nothing_behind_its_last_map(name):
    """Several processes would wait for the gradients, and one would compute it for nothing."""
    whole, some = zoo.features(name), zoo.features(name, (1, 2))
    some.load_state_dict({key: value for key, value in whole.state_dict().items() if key in some.state_dict()})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(some.eval()(images), whole.eval()(images)[1:3], strict=True):
            torch.testing.assert_close(ours, theirs)
    sum(each.sum() for each in some.train()(images)).backward()
    assert not [key for key, parameter in some.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("name", ["ghostnetv3_100", "mobilenetv3_large_100"])
def test_a_tap_that_is_not_there_is_named_with_those_that_are(name):
    with pytest.raises(ValueError, match=f"{name} has no tap 5; it has 0 to 4, at strides 2, 4, 8, 16, 32"):
        zoo.features(name, (2, 5))


@pytest.mark.parametrize("name", ["deit_tiny", "mobileformer_52"])
def test_a_network_without_maps_is_named(name):
    with pytest.raises(ValueError, match=f"{name} has no feature maps to tap"):
        zoo.features(name)


def test_a_network_of_one_size_has_no_width():
    with pytest.raises(ValueError, match="mixnet_s comes in its own sizes only"):
        zoo.create("mixnet_s", width=0.5)


def test_the_published_double_width_of_shufflenet_is_no_multiple():
    assert zoo.create("shufflenetv2_200")._stage_out_channels == [24, 244, 488, 976, 2048]

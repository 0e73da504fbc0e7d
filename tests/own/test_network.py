"""Each kind of network by name, and names and networks that are refused."""

from __future__ import annotations

import pytest
import torch

from ghostlib.own import network


@pytest.mark.parametrize(("text", "kind", "shown"), [
    ("ghostnetv2_100", "zoo", "ghostnetv2_100"), ("mobilenetv2_100", "zoo", "mobilenetv2_100"),
    ("timm/mobilenetv2_100", "timm", "timm/mobilenetv2_100"), ("resnet34", "timm", "timm/resnet34"),
    ("resnet34.a1_in1k", "timm", "timm/resnet34.a1_in1k"), ("mobilenet_v2", "torchvision", "torchvision/mobilenet_v2"),
    ("torchvision/resnet34", "torchvision", "torchvision/resnet34"), ("net:network", "function", "net:network")])
def test_a_name_is_the_zoo_s_then_timm_s_then_torchvision_s(elsewhere, text, kind, shown):
    found = network.find(text)
    assert (found.kind, str(found)) == (kind, shown)
    assert network.find(shown) == found


@pytest.mark.parametrize(("text", "options"), [
    ("mobilenetv2_100", {"width": 0.25}), ("timm/mobilenetv2_035", {}),
    ("torchvision/mobilenet_v2", {"width_mult": 0.25}), ("net:network", {"width": 4})])
def test_each_kind_is_built_with_its_options_and_gets_branches(elsewhere, text, options):
    from ghostlib.training.recipe import Recipe

    built = network.find(text).build(3, options, 40)
    network.check(built, 3, 40)
    network.add_branches(built, Recipe(branches=2, branch_gamma="shared"), 40)
    assert network.sites(built) and built(torch.randn(2, 3, 40, 40)).shape == (2, 3)
    gamma = next(module for module in built.modules() if hasattr(module, "norms")).norms
    assert gamma[0].weight[0].item() == pytest.approx(len(gamma)**-0.5)


def test_branches_that_keep_a_function_cannot_begin_with_a_smaller_gamma(elsewhere):
    from ghostlib.training.recipe import Recipe

    built = network.find("net:network").build(3, {}, 40)
    with pytest.raises(ValueError, match="keep the function .* branch_gamma = shared changes it; leave one out"):
        network.add_branches(built, Recipe(branches=2, branch_gamma="shared"), 40, preserve=True)
    assert not network.sites(built)


def test_a_normalisation_without_gamma_is_left_alone(elsewhere):
    from ghostlib.training.recipe import Recipe

    built = network.find("net:network").build(3, {}, 40)
    built[1] = torch.nn.BatchNorm2d(8, affine=False)
    network.add_branches(built, Recipe(branches=2, branch_gamma="shared"), 40)
    assert network.sites(built) and built(torch.randn(2, 3, 40, 40)).shape == (2, 3)


@pytest.mark.parametrize(("text", "told"), [
    ("ghostnetv4_100", "unknown network 'ghostnetv4_100'; did you mean .*ghostnetv"),
    ("torchvision/ghostnetv2_100", "unknown network"), ("no_module:network", "No module named 'no_module'; .* looked"),
    ("net:absent", "net has no function 'absent'; write it as def absent")])
def test_an_unknown_network_is_refused(elsewhere, text, told):
    with pytest.raises(ValueError, match=told):
        network.find(text)


@pytest.mark.parametrize(("text", "options", "told"), [
    ("ghostnetv2_100", {}, "GhostNet cannot take an RGB image of 16 px .*give another --set image_size"),
    ("timm/vit_tiny_patch16_224", {}, "--set options={img_size: 16}"),
    ("net:pair", {}, r"answers one image with logits of shape \(1, 3, 16, 16\), and not with logits \(1, 3\)")])
def test_what_is_no_classifier_of_such_images_is_refused(elsewhere, text, options, told):
    built = network.find(text).build(3, options, 16)
    with pytest.raises(ValueError, match=told):
        network.check(built, 3, 16)


def test_wrong_options_and_absent_weights_are_refused(elsewhere):
    with pytest.raises(ValueError, match=r"net:network cannot be built .* options = {'depth': 3}"):
        network.find("net:network").build(3, {"depth": 3})
    with pytest.raises(ValueError, match="net:nothing must return a network, .* returned a NoneType"):
        network.find("net:nothing").build(3, {})
    with pytest.raises(ValueError, match="of net:network no weights can be fetched; .* --set preserve=true keeps"):
        network.find("net:network").build(3, {}, pretrained=True)
    with pytest.raises(ValueError, match="timm/mobilenetv2_075 cannot be built .*: No pretrained weights exist"):
        network.find("timm/mobilenetv2_075").build(3, {}, pretrained=True)


def test_an_error_in_ones_own_function_keeps_its_traceback(elsewhere):
    (elsewhere / "net.py").write_text("def network(num_classes):\n    return None + num_classes\n", encoding="utf-8")
    with pytest.raises(TypeError) as raised:
        network.find("net:network").build(3, {})
    assert raised.traceback[-1].path.name == "net.py"


def test_a_network_of_the_hub_is_to_be_named_otherwise():
    with pytest.raises(ValueError, match="as timm/NAME; .* where --set pretrained=true"):
        network.find("hf-hub:timm/resnet50.a1_in1k")


def test_a_network_without_sites_is_refused_with_what_trains_it(elsewhere):
    from ghostlib.training.recipe import Recipe

    with pytest.raises(ValueError, match="(?s)nothing to add branches to.*To train it as it is: --set branches=0"):
        network.add_branches(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), Recipe(), 40)

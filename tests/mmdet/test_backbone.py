"""The zoo's networks as backbones: their maps, their weights, and what of them learns."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MessageHub
from mmengine.model import convert_sync_batchnorm
from mmengine.runner.checkpoint import load_state_dict
from safetensors.torch import save
from torch import nn

from ghostlib.mmdet import GhostBackbone, fold
from ghostlib.models import weights, zoo
from ghostlib.models.reparam import add_branches, plain_state
from tests.mmdet.detectors import FAMILIES, OF_TIMM, backbone, branches, trained_a_little


@pytest.mark.parametrize("arch", [*FAMILIES, *OF_TIMM])
def test_a_backbone_gives_maps_of_the_channels_and_strides_it_tells(arch):
    network = backbone(arch, out_indices=(1, 2, 4)).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 64, 64))
    assert isinstance(maps, tuple)
    assert [one.shape for one in maps] == [(1, channels, 64 // stride, 64 // stride) for channels, stride in
                                           zip(network.channels, network.strides, strict=True)]
    assert network.strides == (4, 8, 32)


def test_mmdetection_builds_it_by_name():
    built = MODELS.build(dict(type="GhostBackbone", arch="ghostnetv3_100", width=0.25))
    assert isinstance(built, GhostBackbone) and built.strides == (8, 16, 32) and branches(built) > 0


@pytest.mark.parametrize("arch", [*FAMILIES, *OF_TIMM])
def test_a_file_of_the_classifier_initialises_the_maps(arch, tmp_path):
    network = trained_a_little(zoo.create(arch, width=None if arch in OF_TIMM else 0.25)).eval()
    weights.save(network, tmp_path / "weights.safetensors")
    ours = backbone(arch, weights=str(tmp_path / "weights.safetensors"))
    parameters = list(ours.parameters())
    ours.init_weights()
    assert all(map(lambda old, new: old is new, parameters, ours.parameters())), "an optimiser holds them"
    tap = {index: info["module"] for index, info in enumerate(ours.features.feature_info.info)}[4]
    seen = {}
    network.get_submodule(tap).register_forward_hook(lambda module, args, out: seen.setdefault("map", out))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        network(images)
        assert torch.allclose(ours.eval()(images)[-1], seen["map"], atol=1e-5)


def test_the_classifier_of_a_file_is_ignored(tmp_path):
    weights.save(zoo.create("ghostnetv2_100", 7, 0.25), tmp_path / "seven.safetensors")
    ours = backbone("ghostnetv2_100", weights=str(tmp_path / "seven.safetensors"))
    before = next(ours.parameters()).clone()
    ours.init_weights()
    assert not torch.equal(next(ours.parameters()), before)


def test_a_file_of_another_width_is_named(tmp_path):
    weights.save(zoo.create("ghostnetv2_100", width=0.5), tmp_path / "wide.safetensors")
    with pytest.raises(weights.WeightsError, match="does not fit ghostnetv2_100.*set arch and width"):
        backbone("ghostnetv2_100", weights=str(tmp_path / "wide.safetensors")).init_weights()


def test_a_file_of_another_form_is_named(tmp_path):
    weights.save(zoo.create("ghostnetv2_100", width=0.25), tmp_path / "plain.safetensors")
    with pytest.raises(weights.WeightsError, match="backbone.weights = .*plain.safetensors', arch = 'ghostnetv3_100': "
                                                   ".*The network has branches, the file has none.* for a plain one"):
        backbone("ghostnetv3_100", weights=str(tmp_path / "plain.safetensors")).init_weights()


@pytest.mark.parametrize(("arch", "remedy"), [
    ("ghostnetv2_100", "take the ema.safetensors beside it, with a ghostnetv3_... as arch, or set norm_eval=True"),
    ("mobilenetv2_100", "while it trains; set norm_eval=True")])
def test_a_network_to_deploy_is_not_trained_from_whoever_wrote_it(arch, remedy, tmp_path):
    branched = trained_a_little(add_branches(zoo.create(arch, width=0.25)))
    path = tmp_path / "model.safetensors"
    for plain in (zoo.create(arch, width=0.25), trained_a_little(zoo.create(arch, width=0.25))):
        weights.save(plain, path)
        backbone(arch, weights=str(path)).init_weights()
    for dtype in (torch.float32, torch.float16):
        path.write_bytes(save({name: tensor.to(dtype) for name, tensor in plain_state(branched).items()}))
        with pytest.raises(weights.WeightsError, match=f"is of a network to deploy.*{remedy}$"):
            backbone(arch, weights=str(path)).init_weights()
        backbone(arch, weights=str(path), norm_eval=True).init_weights()


def test_where_no_backbone_has_a_file_s_branches_the_way_out_is_named(tmp_path):
    weights.save(add_branches(zoo.create("mobilenetv2_100", width=0.25)), tmp_path / "ema.safetensors")
    with pytest.raises(weights.WeightsError, match="take the model.safetensors, with norm_eval=True"):
        backbone("mobilenetv2_100", weights=str(tmp_path / "ema.safetensors")).init_weights()


def test_what_to_do_with_mmengine_s_own_checkpoint_is_said(tmp_path):
    state = {f"backbone.{name}": tensor for name, tensor in backbone("ghostnetv2_100").state_dict().items()}
    for records, told in ({"message_hub": MessageHub("a")}, "a checkpoint of MMEngine's"), ({}, "a detector's file"):
        torch.save({**records, "state_dict": state}, tmp_path / "epoch_1.pth")
        with pytest.raises(weights.WeightsError, match=rf"{told}.*init_cfg=dict\(type=.Pretrained"):
            backbone("ghostnetv2_100", weights=str(tmp_path / "epoch_1.pth")).init_weights()


def test_a_missing_file_is_named_before_training_and_not_missed_for_inference():
    ours = backbone(weights="nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match=r"backbone\.weights = 'nowhere.safetensors'"):
        ours.init_weights()


def test_mmengines_own_checkpoints_initialise_it(tmp_path):
    source = trained_a_little(backbone())
    torch.save({"state_dict": {f"backbone.{name}": value for name, value in source.state_dict().items()}},
               tmp_path / "detector.pth")
    ours = backbone(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "detector.pth"), prefix="backbone."))
    ours.init_weights()
    given = source.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in ours.state_dict().items())


@torch.no_grad()
def test_a_folded_backbone_takes_the_checkpoint_of_a_folded_detector():
    trained, ours = trained_a_little(backbone()), backbone(folded=True)
    assert branches(ours) == 0
    load_state_dict(ours, fold(trained).state_dict(), strict=True)
    images = torch.randn(1, 3, 64, 64)
    for one, other in zip(ours.eval()(images), trained.eval()(images), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * other.abs().max().item(), rtol=0)


@pytest.mark.parametrize(("theirs", "ours", "message"), [
    (dict(folded=True), dict(), "its backbone has none, this one has branches .*takes folded=True"),
    (dict(), dict(folded=True), "its backbone has branches, this one has none .*a training's checkpoint folded=False"),
    (dict(arch="ghostnetv2_100"), dict(), "its backbone has none.*a plain GhostNet is ghostnetv2_"),
    (dict(folded=True), dict(arch="ghostnetv2_100"), "one is folded and the other is plain"),
    (dict(arch="shufflenetv2_100"), dict(), "none of its [0-9]+ tensors in backbone. has a name of this backbone"),
    (dict(width=0.5), dict(), "tensors are missing or of another shape, .* width to those that it was trained with"),
    (dict(arch="ghostnetv1_100"), dict(arch="ghostnetv2_100"), r"e\.g\. features.blocks_.*short_conv.*arch = "),
    (dict(out_indices=(2, 3)), dict(), "out_indices to no more maps than that had")])
def test_a_checkpoint_of_another_form_is_not_loaded_in_part(theirs, ours, message):
    """MMEngine's loader, of `load_from`, `init_detector` and tools/test.py, would warn of it."""
    detector = nn.ModuleDict({"backbone": backbone(**ours), "head": nn.Conv2d(3, 3, 1)})
    state = {f"backbone.{name}": value for name, value in backbone(**theirs).state_dict().items()}
    kept = copy.deepcopy(detector.state_dict())
    for load in (load_state_dict, nn.Module.load_state_dict):
        with pytest.raises(weights.WeightsError, match=message):
            load(detector, state, strict=False)
    assert all(map(torch.equal, detector.state_dict().values(), kept.values()))
    load_state_dict(detector, {"head.weight": torch.ones(3, 3, 1, 1)}, strict=False)  # the rest alone is no fault
    assert detector["head"].weight.eq(1).all()


def test_with_a_seed_what_follows_a_backbone_draws_the_same_behind_any(tmp_path):
    """Neck and head, which MMEngine initialises after it."""
    drawn = []
    for arch in ("ghostnetv2_100", "ghostnetv3_100"):
        torch.save(zoo.create(arch, width=0.25).state_dict(), tmp_path / f"{arch}.pth")
        torch.manual_seed(1)
        backbone(arch, weights=str(tmp_path / f"{arch}.pth")).init_weights()
        drawn.append(torch.rand(()))
    assert drawn[0] == drawn[1]


def test_a_classifier_s_file_is_no_checkpoint_of_a_backbone(tmp_path):
    torch.save({"state_dict": zoo.create("ghostnetv3_100", width=0.25).state_dict()}, tmp_path / "classifier.pth")
    ours = backbone(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "classifier.pth")))
    with pytest.raises(weights.WeightsError, match="none of its .* name a classifier's file with the option weights"):
        ours.init_weights()


@pytest.mark.parametrize("implementation", [convert_sync_batchnorm, nn.SyncBatchNorm.convert_sync_batchnorm])
def test_a_conversion_that_drops_activations_is_told_before_the_first_step(implementation):
    """MMEngine's option `sync_bn`, of a training with several processes."""
    with pytest.raises(ValueError, match="sync_bn: efficientnet_b0 has activations inside its .* drop; remove it"):
        implementation(backbone("efficientnet_b0")).train()
    assert implementation(backbone("ghostnetv3_100")).train().training


@pytest.mark.parametrize(("options", "message"), [
    ({"arch": "ghostnetv3"}, "unknown network 'ghostnetv3'; did you mean 'ghostnetv3_"),
    ({"arch": "deit_tiny", "width": None}, "deit_tiny has no feature maps to tap"),
    ({"arch": "pit_ti", "width": None, "out_indices": (0, 1)}, "pit_ti is built for images of one size"),
    ({"out_indices": (3, 5)}, "ghostnetv3_100 has no tap 5; it has 0 to 4"),
    ({"out_indices": (4, 2)}, "ascending order"), ({"out_indices": (2, 2)}, "ascending order"),
    ({"out_indices": ()}, "ascending order"),
    ({"frozen_stages": 5}, "frozen_stages = 5 must be between -1 .* and 4"), ({"frozen_stages": -2}, "frozen_stages"),
    ({"out_indices": (1, 2), "frozen_stages": 3}, "between -1 .* and 2"),
    ({"norm_cfg": {"type": "GN", "num_groups": 8}}, "takes the types BN and SyncBN"),
    ({"norm_cfg": {"type": "BN", "affine": False}}, "takes the types BN and SyncBN"),
    ({"out_indices": 3}, r"out_indices = 3 must be a sequence of whole numbers, as \(4,\)"),
    ({"out_indices": "234"}, "out_indices = '234' must be a sequence of whole numbers"),
    ({"frozen_stages": 1.5}, "frozen_stages = 1.5 must be a whole number"),
    ({"frozen_stages": True}, "frozen_stages = True must be a whole number"),
    ({"norm_eval": "False"}, "norm_eval = 'False' must be a bool"),
    ({"norm_cfg": "SyncBN"}, "norm_cfg = 'SyncBN' must be a dict"),
    ({"width": "0.5"}, "width = '0.5' must be a number"),
    ({"folded": True, "weights": "a"}, "a folded backbone is not trained; remove weights = 'a', or folded = True"),
    ({"ema": True}, "ema = True says which weights to take from a file"),
    ({"weights": "a", "init_cfg": {"type": "Pretrained", "checkpoint": "b"}}, "remove one of them"),
    ({"arch": "mobilenetv3_large_100", "norm_cfg": {"type": "SyncBN"}}, "activations inside.*use BN")])
def test_what_cannot_be_is_named_before_training(options, message):
    with pytest.raises(ValueError, match=message):
        backbone(**options)


@pytest.mark.parametrize("arch", ["ghostnetv3_100", "mobilenetv2_100", "efficientnet_b0", "mobileone_s0"])
def test_frozen_stages_keep_their_weights_and_statistics(arch):
    ours = backbone(arch, frozen_stages=2).train()
    before = copy.deepcopy(ours.state_dict())
    optimizer = torch.optim.SGD([parameter for parameter in ours.parameters() if parameter.requires_grad], lr=0.1)
    sum(one.square().mean() for one in ours(torch.randn(2, 3, 64, 64))).backward()
    optimizer.step()
    frozen_map = copy.deepcopy(ours).eval()
    restored = copy.deepcopy(ours).eval()
    restored.load_state_dict(before)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        finest, middle, coarsest = frozen_map(images)
        finest_before, middle_before, coarsest_before = restored(images)
    assert torch.equal(finest, finest_before)
    assert not torch.equal(middle, middle_before) and not torch.equal(coarsest, coarsest_before)


@pytest.mark.parametrize("by", ["weights", "init_cfg"])
def test_frozen_stages_get_the_weights_of_a_file_and_stay_frozen(by, tmp_path):
    if by == "weights":
        weights.save(trained_a_little(zoo.create("ghostnetv3_100", 7, 0.25)), tmp_path / "w.safetensors")
        options = dict(weights=str(tmp_path / "w.safetensors"))
    else:
        torch.save({"state_dict": trained_a_little(backbone()).state_dict()}, tmp_path / "w.pth")
        options = dict(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "w.pth")))
    free, ours = backbone(**options), backbone(frozen_stages=2, **options)
    learning = [parameter.requires_grad for parameter in ours.parameters()]
    fresh = copy.deepcopy(ours.state_dict())
    free.init_weights()
    ours.init_weights()
    assert [parameter.requires_grad for parameter in ours.parameters()] == learning and len(set(learning)) == 2
    given = free.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in ours.state_dict().items())
    frozen = [name for name, parameter in ours.named_parameters() if not parameter.requires_grad]
    assert any(not torch.equal(fresh[name], given[name]) for name in frozen)
    # A step of training changes the rest and not them, nor their statistics.
    sum(one.square().mean() for one in ours.train()(torch.randn(2, 3, 64, 64))).backward()
    torch.optim.SGD(ours.parameters(), lr=0.1, weight_decay=0.1).step()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (finest, *_, coarsest), (finest_in_file, *_, coarsest_in_file) = ours.eval()(images), free.eval()(images)
    assert torch.equal(finest, finest_in_file) and not torch.equal(coarsest, coarsest_in_file)


def test_nothing_is_frozen_unless_asked_for():
    assert all(parameter.requires_grad for parameter in backbone().parameters())


def test_norm_eval_keeps_all_statistics():
    ours = backbone(norm_eval=True).train()
    before = {name: buffer.clone() for name, buffer in ours.named_buffers()}
    ours(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(buffer, before[name]) for name, buffer in ours.named_buffers())
    assert ours.training and all(parameter.requires_grad for parameter in ours.parameters())


def test_norm_cfg_makes_sync_batch_norms_that_fold():
    ours = trained_a_little(backbone(norm_cfg=dict(type="SyncBN", requires_grad=False, eps=0.01, momentum=0.03)))
    norms = [module for module in ours.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert {type(norm) for norm in norms} == {nn.SyncBatchNorm}
    assert {(norm.eps, norm.momentum, norm.weight.requires_grad) for norm in norms} == {(0.01, 0.03, False)}
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps, folded = ours.eval()(images), fold(ours)(images)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(maps, folded, strict=True))

"""The zoo's networks in MMDetection: as backbones of its detectors, trained with branches, tested without."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mmdet
import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, get_priority
from torch import nn

from ghostlib.detection import scenes
from ghostlib.detection.configure import DetectionError
from ghostlib.mmdet import FoldHook, GhostBackbone, fold
from ghostlib.models import catalog, weights, zoo
from ghostlib.models.reparam import RepConv

CONFIGS = Path(__file__).parents[1] / "detection" / "configs"
TOOLS = Path(mmdet.__file__).parent / ".mim" / "tools"
THEIRS = TOOLS.parent / "configs"
FAMILIES = ["ghostnetv1_100", "ghostnetv2_100", "ghostnetv3_100", "mobilenetv2_100", "mobilenext_100",
            "shufflenetv2_100", "resnet10"]
OF_TIMM = ["mobilenetv3_large_100", "efficientnet_b0", "mobileone_s0", "mobilevit_xxs", "mobilenetv1_100"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    init_default_scope("mmdet")  # as MMEngine's runner does before it builds a detector


def backbone(arch: str = "ghostnetv3_100", **options) -> GhostBackbone:
    sized = {} if arch in OF_TIMM else {"width": 0.25}
    return GhostBackbone(arch, **{**sized, **options})


def branches(network: nn.Module) -> int:
    return sum(isinstance(module, RepConv) for module in network.modules())


def trained_a_little(network: nn.Module) -> nn.Module:
    """With statistics and affine parameters that are no longer their initial ones."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return network


# -- the backbone


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
    with pytest.raises(weights.WeightsError, match="The network has branches, the file has none"):
        backbone("ghostnetv3_100", weights=str(tmp_path / "plain.safetensors")).init_weights()


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
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize(("options", "message"), [
    ({"arch": "ghostnetv3"}, "unknown network 'ghostnetv3'; did you mean 'ghostnetv3_"),
    ({"arch": "deit_tiny", "width": None}, "deit_tiny has no feature maps to tap"),
    ({"out_indices": (3, 5)}, "ghostnetv3_100 has no tap 5; it has 0 to 4"),
    ({"out_indices": (4, 2)}, "ascending order"), ({"out_indices": (2, 2)}, "ascending order"),
    ({"out_indices": ()}, "ascending order"),
    ({"frozen_stages": 5}, "frozen_stages = 5 must be between -1 .* and 4"), ({"frozen_stages": -2}, "frozen_stages"),
    ({"out_indices": (1, 2), "frozen_stages": 3}, "between -1 .* and 2"),
    ({"norm_cfg": {"type": "GN", "num_groups": 8}}, "takes the types BN and SyncBN"),
    ({"norm_cfg": {"type": "BN", "affine": False}}, "takes the types BN and SyncBN"),
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


# -- folding


@pytest.mark.parametrize("arch", ["ghostnetv3_100", "mobileone_s0"])
def test_folding_gives_a_copy_that_computes_the_same(arch):
    ours = trained_a_little(backbone(arch)).train()
    folded = fold(ours)
    images = torch.randn(1, 3, 64, 64)
    assert ours.training and not folded.training and branches(folded) == 0
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in ours.parameters())
    with torch.no_grad():
        maps = ours.eval()(images)
        assert all(torch.allclose(one, other, atol=1e-4 * one.abs().max())
                   for one, other in zip(maps, folded(images), strict=True))


def test_the_hook_swaps_a_folded_copy_in_and_out():
    model = backbone()
    runner, hook = SimpleNamespace(model=model), HOOKS.build(dict(type="FoldHook"))
    assert isinstance(hook, FoldHook)
    for before, after in ((hook.before_val_epoch, hook.after_val_epoch), (hook.before_test_epoch,
                                                                          hook.after_test_epoch)):
        before(runner)
        assert runner.model is not model and branches(runner.model) == 0 and branches(model) > 0
        after(runner, metrics={})
        assert runner.model is model


def test_the_hook_folds_averaged_weights_and_is_done_before_a_checkpoint_is_written():
    order = [get_priority(hook.priority) for hook in (EMAHook, FoldHook, CheckpointHook)]
    assert order == sorted(set(order))


# -- the configurations


def load(path: Path, **overrides) -> Config:
    """A configuration whose detector is narrow and needs no download."""
    config = Config.fromfile(path)
    config.merge_from_dict(overrides)
    return config


def narrow(config: Config, arch: str, out_indices: tuple[int, ...] = (2, 3, 4)) -> Config:
    config.model.backbone = dict(type="GhostBackbone", arch=arch, width=0.25, out_indices=out_indices)
    return config


def yolo(arch: str = "ghostnetv3_100") -> Config:
    config = narrow(load(CONFIGS / "yolov3_ghostnetv3_100_320.py"), arch)
    config.model.neck.in_channels = list(backbone(arch).channels[::-1])
    return config


def retinanet() -> Config:
    config = narrow(load(THEIRS / "retinanet" / "retinanet_r50_fpn_1x_coco.py"), "ghostnetv3_100", (1, 2, 3, 4))
    config.model.neck.in_channels = list(backbone(out_indices=(1, 2, 3, 4)).channels)
    return config


def ssdlite() -> Config:
    config = narrow(load(THEIRS / "ssd" / "ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py"), "ghostnetv3_100", (3, 4))
    channels = backbone(out_indices=(3, 4)).channels
    config.model.neck.in_channels = channels
    config.model.neck.out_channels = config.model.bbox_head.in_channels = (*channels, 512, 256, 256, 128)
    return config


def without_scopes(content):
    """A configuration without the registries that MMEngine notes in what it inherits from an installed package."""
    if isinstance(content, dict):
        return {key: without_scopes(value) for key, value in content.items() if key != "_scope_"}
    return [without_scopes(value) for value in content] if isinstance(content, list) else content


@pytest.mark.parametrize(("row", "arch", "side"), [(row, *backbone) for row, backbone in catalog.backbones().items()])
def test_every_row_of_table_10_has_a_configuration_that_states_only_what_differs(row, arch, side):
    ours = Config.fromfile(CONFIGS / f"yolov3_{arch}_{side}.py")
    theirs = Config.fromfile(THEIRS / "yolo" / f"yolov3_mobilenetv2_8xb24-{'ms-' * (side == 416)}{side}-300e_coco.py")
    stated = set(ours.to_dict()) - set(theirs.to_dict())
    assert stated <= {"custom_imports", "custom_hooks"} and ours.custom_imports["imports"] == ["ghostlib.mmdet"]
    if arch != "mobilenetv2_100":
        assert ours.model.backbone.arch == arch
        built = MODELS.build(ours.model.backbone)
        assert ours.model.neck.in_channels == list(built.channels[::-1]) and built.strides == (8, 16, 32)
        assert ("custom_hooks" in ours) == (branches(built) > 0)
        ours.model.backbone, ours.model.neck.in_channels = theirs.model.backbone, theirs.model.neck.in_channels
    inherited = {key: value for key, value in ours.to_dict().items() if key not in stated}
    assert without_scopes(inherited) == without_scopes(theirs.to_dict())
    assert ours.test_pipeline[1].scale == (side, side)


def test_no_configuration_is_without_a_row():
    names = {f"yolov3_{arch}_{side}" for arch, side in catalog.backbones().values()}
    assert {path.stem for path in CONFIGS.glob("*.py")} == names


def batch(side: int = 96) -> dict:
    """Two images with an object each, as MMDetection's own pipelines give them."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), scale_factor=(1.0, 1.0),
                                             batch_input_shape=(side, side), pad_shape=(side, side)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[16.0, 16, 60, 70]]), labels=torch.tensor([3]))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return {"inputs": [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in samples],
            "data_samples": samples}


@pytest.mark.parametrize("make", [yolo, retinanet, ssdlite])
def test_every_detector_learns_and_detects_the_same_when_folded(make):
    detector = MODELS.build(make().model)
    detector.init_weights()
    data = detector.data_preprocessor(batch(), training=True)
    losses = detector.train()(**data, mode="loss")
    loss, _ = detector.parse_losses(losses)
    loss.backward()
    assert loss.isfinite() and all(parameter.grad is not None for parameter in detector.backbone.parameters())
    trained_a_little(detector.backbone)
    detector.bbox_head.test_cfg.update(score_thr=0.0)
    # In float64, where no rounding decides which of two boxes with nearly the same score comes first.
    data["inputs"] = data["inputs"].double()
    folded = fold(detector.double())
    assert branches(folded) == 0 and branches(detector) > 0
    with torch.no_grad():
        before = [sample.pred_instances for sample in detector.eval()(**copy.deepcopy(data), mode="predict")]
        after = [sample.pred_instances for sample in folded(**copy.deepcopy(data), mode="predict")]
    for one, other in zip(before, after, strict=True):
        assert len(one) == len(other) > 0
        assert torch.allclose(one.scores, other.scores, atol=1e-6)
        assert torch.allclose(one.bboxes, other.bboxes, atol=1e-4)


# -- a training


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    from ghostlib.training.profile import Profile

    digits = Profile.parse(dict(name="digits", scale="digits", data="digits", num_classes=10, image_size=33,
                                val_images=140, crop_pct=1.0))
    layout = scenes.Layout(train=4, val=2, side=96, sizes=(24, 48))
    return scenes.write(digits, layout, tmp_path_factory.mktemp("scenes"))


def training(data_set: Path, work_dir: Path, **overrides) -> Config:
    """Two epochs of two steps on four scenes of digits, evaluated with CocoMetric after each."""
    config = yolo()
    classes = scenes.CATEGORIES["digits"]
    for loader, part in ((config.train_dataloader, "train"), (config.val_dataloader, "val")):
        dataset = loader.dataset.dataset if part == "train" else loader.dataset
        dataset.update(data_root=f"{data_set}/", ann_file=f"annotations/{part}.json", data_prefix=dict(img=f"{part}/"),
                       metainfo=dict(classes=classes))
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.train_dataloader.dataset = config.train_dataloader.dataset.dataset
    config.test_dataloader = config.val_dataloader
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = f"{data_set}/annotations/val.json"
    config.merge_from_dict({
        "model.bbox_head.num_classes": len(classes), "train_cfg.max_epochs": 2, "work_dir": str(work_dir),
        "default_hooks.logger.interval": 1, "log_level": "WARNING", **overrides})
    return config


class Watch(FoldHook):
    """Writes down with how many branches the detector is in each phase."""

    seen: list[tuple[str, int]] = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(("train", branches(runner.model)))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(("val", branches(runner.model)))


def test_a_training_has_branches_its_validation_none_and_its_checkpoints_have_them(data_set, tmp_path):
    HOOKS.register_module(module=Watch, force=True)
    Watch.seen.clear()
    runner = Runner.from_cfg(training(data_set, tmp_path, custom_hooks=[dict(type="Watch")]))
    runner.train()
    here = branches(runner.model)
    assert here > 0
    assert Watch.seen == [("train", here), ("train", here), ("val", 0)] * 2
    checkpoint = torch.load(tmp_path / "epoch_2.pth", weights_only=False)
    assert checkpoint["state_dict"].keys() == runner.model.state_dict().keys()
    metrics = runner.test()
    assert "coco/bbox_mAP" in metrics or metrics == {}, "nothing was detected"


def test_a_weights_file_that_is_missing_ends_the_training_before_its_first_step(data_set, tmp_path):
    runner = Runner.from_cfg(training(data_set, tmp_path, **{"model.backbone.weights": "nowhere.safetensors"}))
    with pytest.raises(FileNotFoundError, match=r"backbone\.weights = 'nowhere.safetensors'"):
        runner.train()
    assert not list(tmp_path.glob("*.pth"))


def test_an_image_that_is_missing_ends_the_training_before_its_first_step(data_set, tmp_path):
    import shutil

    torn = tmp_path / "scenes"
    shutil.copytree(data_set, torn)
    (torn / "train" / "00003.png").unlink()
    runner = Runner.from_cfg(training(torn, tmp_path / "work", custom_hooks=[dict(type="CheckDataHook")]))
    with pytest.raises(DetectionError, match=r"1 of the 4 images .* 00003\.png"):
        runner.train()


def test_mmdetections_own_tool_trains_a_configuration(data_set, tmp_path):
    """A script of theirs, in a process of its own, from our configuration file."""
    path = tmp_path / "config.py"
    training(data_set, tmp_path / "work").dump(path)
    subprocess.run([sys.executable, str(TOOLS / "train.py"), str(path)], check=True, capture_output=True, timeout=300)
    assert (tmp_path / "work" / "epoch_2.pth").exists()

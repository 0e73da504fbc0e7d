"""Folding, and the hooks around MMEngine's training: trained with branches, tested without, data looked for first."""

from __future__ import annotations

import copy
import inspect
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.registry import HOOKS, METRICS, OPTIM_WRAPPERS
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, autocast, get_priority
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn

from ghostlib.mmdet import FoldHook, coco, fold
from ghostlib.mmdet.coco import DetectionError
from ghostlib.models.reparam import add_branches
from tests.mmdet.detectors import FAMILIES, OF_TIMM, TOOLS, backbone, branches, trained_a_little, training


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


@torch.no_grad()
def test_mmcv_fuses_what_is_left_before_folding_and_after_it():
    ours, images = trained_a_little(backbone("ghostnetv3_100")).eval(), torch.randn(1, 3, 64, 64)
    maps, fused = ours(images), fuse_conv_bn(copy.deepcopy(ours))
    for other in (fused, fold(fused), fuse_conv_bn(fold(ours))):  # the middle one holds of GhostNets alone
        for one, another in zip(maps, other(images), strict=True):
            torch.testing.assert_close(another, one, atol=1e-4 * one.abs().max().item(), rtol=0)
    assert branches(fold(fused)) == 0


@torch.no_grad()
def test_branches_outside_a_backbone_of_ours_are_folded_too():
    network = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    detector, images = nn.ModuleDict({"backbone": network}), torch.randn(2, 3, 8, 8)
    trained_a_little(add_branches(network, example_input=images))
    folded = fold(detector)
    assert branches(detector) == 1 and branches(folded) == 0
    torch.testing.assert_close(folded["backbone"](images), network.eval()(images), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_folded_backbone_of_a_detector_exports_to_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    detector = nn.Module()
    detector.backbone = trained_a_little(backbone("ghostnetv3_100"))
    folded, images = fold(detector).backbone, torch.randn(1, 3, 64, 96)
    older = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(folded, (images,), str(tmp_path / "backbone.onnx"), input_names=["images"], **older)
    session = onnxruntime.InferenceSession(str(tmp_path / "backbone.onnx"), providers=["CPUExecutionProvider"])
    for ours, theirs in zip(folded(images), session.run(None, {"images": images.numpy()}), strict=True):
        assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-4 * ours.abs().max())


def test_the_hook_swaps_a_folded_copy_in_and_out():
    model = backbone()
    hook = HOOKS.build(dict(type="FoldHook"))
    runner = SimpleNamespace(model=model, hooks=[hook])
    assert isinstance(hook, FoldHook)
    for before, after in ((hook.before_val_epoch, hook.after_val_epoch), (hook.before_test_epoch,
                                                                          hook.after_test_epoch)):
        before(runner)
        assert runner.model is not model and branches(runner.model) == 0 and branches(model) > 0
        after(runner, metrics={})
        assert runner.model is model


def test_a_validation_that_was_broken_off_leaves_no_folded_detector_to_train():
    model, hook = backbone(), HOOKS.build(dict(type="FoldHook"))
    runner = SimpleNamespace(model=model, hooks=[hook])
    hook.before_val_epoch(runner)
    hook.before_val_epoch(runner)  # as the first one ended with an error
    hook.after_val_epoch(runner)
    assert runner.model is model
    hook.before_val_epoch(runner)
    hook.before_run(runner)
    assert runner.model is model


def test_two_of_the_hook_end_a_training_before_it_begins(data_set, tmp_path):
    """The second would put the first one's folded copy in the place of what the optimiser trains."""
    runner = Runner.from_cfg(training(data_set, tmp_path, custom_hooks=[dict(type="FoldHook")] * 2))
    with pytest.raises(ValueError, match="custom_hooks names FoldHook twice; leave one out"):
        runner.train()
    assert not list(tmp_path.glob("*.pth"))


@torch.no_grad()
def test_a_copy_of_what_is_checkpointed_runs_its_own_modules():
    """MMEngine's option `activation_checkpointing` wraps the forward of a module, which a copy of it takes along."""
    detector = nn.ModuleDict({"backbone": trained_a_little(backbone())}).train()
    images, kept = torch.randn(2, 3, 64, 64), copy.deepcopy(detector)
    turn_on_activation_checkpointing(detector, "backbone.features.blocks_3")
    for ours, theirs in zip(fold(detector)["backbone"](images), kept["backbone"].eval()(images), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4 * theirs.abs().max().item(), rtol=0)
    assert all(map(torch.equal, detector.state_dict().values(), kept.state_dict().values())), "of images to validate"
    assert "forward" in vars(detector["backbone"].features.blocks_3)


def test_the_hook_folds_averaged_weights_and_is_done_before_a_checkpoint_is_written():
    order = [get_priority(hook.priority) for hook in (EMAHook, FoldHook, CheckpointHook)]
    assert order == sorted(set(order))


# -- a training


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


class AutocastOnCPU(OptimWrapper):
    """What `AmpOptimWrapper` does with bfloat16, which refuses to do it without an accelerator."""

    def optim_context(self, model):
        return autocast("cpu", torch.bfloat16)


class CountOfImages(BaseMetric):
    """In place of CocoMetric: NumPy, which that converts to, has no bfloat16."""

    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return {"images": len(results)}


class Compare(Hook):
    """Writes down what the trained and the averaged weights answer, and what is validated after FoldHook."""

    priority = "VERY_LOW"

    def __init__(self):
        self.images, self.seen = torch.randn(1, 3, 64, 64), []

    def answer(self, model):
        with torch.no_grad():
            return fold(model).backbone(self.images)[-1]

    def after_train_epoch(self, runner):
        ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
        self.trained, self.averaged = self.answer(runner.model), self.answer(ema.ema_model.module)

    def before_val_epoch(self, runner):
        self.seen.append((branches(runner.model), self.trained, self.averaged, self.answer(runner.model)))
        self.layer = runner.model.backbone.register_forward_hook(
            lambda module, args, maps: setattr(self, "dtype", maps[-1].dtype))

    def after_val_epoch(self, runner, metrics=None):
        assert metrics == {"images": 2}
        assert torch.equal(self.answer(runner.model), self.trained), "training goes on with its own weights"


@pytest.mark.parametrize("amp", [False, True])
def test_what_is_validated_are_the_averaged_weights_folded(amp, data_set, tmp_path):
    """With EMA, with normalisations that are SyncBN in the configuration, and with mixed precision throughout."""
    OPTIM_WRAPPERS.register_module(module=AutocastOnCPU, force=True)
    METRICS.register_module(module=CountOfImages, force=True)
    compare = Compare()
    config = training(data_set, tmp_path, **{
        "custom_hooks": [dict(type="FoldHook"), dict(type="EMAHook", momentum=0.5)],
        "model.backbone.norm_cfg": dict(type="SyncBN"), "val_cfg.fp16": amp})
    config.val_evaluator = config.test_evaluator = dict(type="CountOfImages")
    if amp:
        config.optim_wrapper.type = "AutocastOnCPU"
    runner = Runner.from_cfg(config)
    runner.register_hook(compare)
    runner.train()
    assert len(compare.seen) == 2 and branches(runner.model) > 0
    for here, trained, averaged, validated in compare.seen:
        assert here == 0
        assert torch.equal(validated, averaged) and not torch.equal(averaged, trained)
    assert compare.dtype == (torch.bfloat16 if amp else torch.float32)
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all()
               for parameter in runner.model.parameters())


def test_a_weights_file_that_is_missing_ends_the_training_before_its_first_step(data_set, tmp_path):
    runner = Runner.from_cfg(training(data_set, tmp_path, **{"model.backbone.weights": "nowhere.safetensors"}))
    with pytest.raises(FileNotFoundError, match=r"backbone\.weights = 'nowhere.safetensors'"):
        runner.train()
    assert not list(tmp_path.glob("*.pth"))


def test_an_image_that_is_missing_ends_the_training_before_its_first_step(data_set, tmp_path):
    torn = tmp_path / "scenes"
    shutil.copytree(data_set, torn)
    (torn / "train" / "00003.png").unlink()
    runner = Runner.from_cfg(training(torn, tmp_path / "work", custom_hooks=[dict(type="CheckDataHook")]))
    with pytest.raises(DetectionError, match=r"1 of the 4 images .* 00003\.png"):
        runner.train()


def test_mmdetection_s_check_of_the_class_count_goes_with_a_backbone(data_set, tmp_path):
    hooks = [dict(type="FoldHook"), dict(type="CheckDataHook"), dict(type="NumClassCheckHook")]
    runner = Runner.from_cfg(training(data_set, tmp_path / "one", custom_hooks=hooks, **{"train_cfg.max_epochs": 1}))
    runner.train()
    wrong = training(data_set, tmp_path / "other", custom_hooks=hooks)
    wrong.model.bbox_head.num_classes += 1
    with pytest.raises(AssertionError, match="`num_classes` .* does not matches"):
        Runner.from_cfg(wrong).train()


@pytest.mark.parametrize("arch", [*FAMILIES, *OF_TIMM])
def test_nothing_in_a_backbone_has_a_class_count(arch):
    """MMDetection's NumClassCheckHook takes it for a head's."""
    assert not [name for name, module in backbone(arch).named_modules() if hasattr(module, "num_classes")]


def test_a_validation_alone_needs_no_training_images_and_each_part_is_looked_for_once(data_set, tmp_path, monkeypatch):
    (shutil.copytree(data_set, tmp_path / "scenes") / "annotations" / "train.json").unlink()
    config = training(tmp_path / "scenes", tmp_path / "work")
    hook, runner, listed = HOOKS.build(dict(type="CheckDataHook")), SimpleNamespace(cfg=config), []
    monkeypatch.setattr(coco, "_missing", lambda folder, *others: listed.append(folder.name) or [])
    hook.before_val(runner)
    hook.before_test(runner)
    hook.before_val(runner)
    assert listed == ["val", "val"]
    with pytest.raises(DetectionError, match=r"train_dataloader\.dataset\.ann_file: .*train\.json is missing"):
        hook.before_train(runner)


def test_mmdetections_own_tool_trains_a_configuration(data_set, tmp_path):
    """A script of theirs, in a process of its own, from our configuration file."""
    path = tmp_path / "config.py"
    training(data_set, tmp_path / "work", **{"train_cfg.max_epochs": 1}).dump(path)
    subprocess.run([sys.executable, str(TOOLS / "train.py"), str(path)], check=True, capture_output=True, timeout=300)
    assert (tmp_path / "work" / "epoch_1.pth").exists()

"""A detector as a job: what params.yaml says of it, its key, its configuration and its first weights."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ghostlib.config import ConfigError
from ghostlib.detection import run as detection
from ghostlib.detection import scale as scales
from ghostlib.detection import scenes
from ghostlib.detection.configure import config_file, configure
from ghostlib.detection.rehearsal import check
from ghostlib.detection.scale import Scale
from ghostlib.paper import numbers
from ghostlib.reproduction import check_settings
from ghostlib.runs import digest
from ghostlib.training.profile import load_params, load_profile

PARAMS = load_params()
TUNE = {"seeds": [100], "rates": [0.002, 0.004, 0.008, 0.016]}


# -- what params.yaml says


@pytest.mark.parametrize("profile", PARAMS["profiles"])
def test_every_profile_has_a_run_for_every_row_and_seed(profile):
    runs = detection.runs(profile)
    asked = PARAMS["detection"]["scales"][profile].get("seeds")
    seeds = range(asked) if asked else load_profile(profile, PARAMS).seeds
    assert [(run.row, run.seed) for run in runs] == [
        (row, seed) for row in numbers.table("table_10").index for seed in seeds]


def test_the_number_of_seeds_decides_no_result():
    scale = Scale(scale="small")
    assert scale.decides_results == Scale(scale="other words", seeds=3).decides_results
    assert scale.decides_results != Scale(scale="small", resize=0.5).decides_results


def test_a_trial_differs_by_its_rate_and_by_the_scenes_it_is_evaluated_on():
    scale = Scale(scale="small", scenes={}, tune=TUNE)
    assert scale.decides_results == Scale(scale="small", scenes={}).decides_results
    assert scale.at(0.004).decides_results == scale.decides_results | {"lr": 0.004, "part": "tune"}
    assert scale.at(0.004).decides_time == scale.decides_time != scale.model_copy(update={"resize": 0.5}).decides_time


@pytest.mark.parametrize("profile", PARAMS["profiles"])
def test_a_rate_is_tried_with_every_backbone_at_the_lower_resolution(profile):
    trials, tune = detection.trials(profile), PARAMS["detection"]["scales"][profile].get("tune", {})
    rows = [row for row in numbers.table("table_10").index if row.endswith("@320")]
    assert [(run.row, run.scale.lr, run.seed) for run in trials] == [
        (row, lr, seed) for row in rows for lr in tune.get("rates", ()) for seed in tune["seeds"]]
    reported = {run.backbone.recipe for run in detection.runs(profile)}
    assert {run.backbone.recipe for run in trials} <= reported
    assert not {run.seed for run in trials} & {run.seed for run in detection.runs(profile)}


def test_v3_begins_with_weights_of_the_strategy_and_the_others_do_not():
    recipes = {run.arch: run.backbone.recipe for run in detection.runs("digits")}
    assert {arch: (recipe.branches, recipe.teacher) for arch, recipe in recipes.items()} == {
        "mobilenetv2_100": (0, None), "ghostnetv1_110": (0, None), "ghostnetv2_100": (0, None),
        "ghostnetv3_100": (3, "BEiTv2-B")}
    assert {arch: recipe.network for arch, recipe in recipes.items()} == {
        arch: arch.replace("ghostnetv3", "ghostnetv2") for arch in recipes}


def test_a_run_and_its_backbone_are_labelled_by_their_cell():
    run = detection.runs("digits")[3]
    assert run.label == "table_10 (GhostNetV3 1.0× @320), seed 0"
    assert run.requires == (run.backbone,) and run.backbone.label == "table_10 (backbone ghostnetv3_100), seed 0"


@pytest.mark.parametrize(("change", "message"), [
    ({"resise": 1}, "experiments.yaml: detection.scales.digits: unknown key 'resise'; did you mean 'resize'"),
    ({"resize": 0}, "detection.scales.digits: resize = 0"),
    ({"scenes": {"trian": 3}}, "unknown key 'scenes.trian'; did you mean 'train'"),
    ({"resize": True}, "resize = True: true and false are no values of it"),
    ({"tune": TUNE | {"rates": [1, 2, 4]}}, "detection.scales.digits: tune.rates"),
    ({"tune": TUNE, "scenes": None}, "tune needs scenes"),
    ({"tune": TUNE | {"seeds": [0, 1]}}, "digits: tune.seeds shares 0 with those of the detectors"),
    ({"tune": TUNE, "seeds": 101}, "digits: tune.seeds shares 100"),
    ({"part": "tune"}, "digits.part: remove it"), ({"lr": 0}, "digits: lr = 0")])
def test_a_scale_that_cannot_be_is_named(change, message):
    profile = load_profile("digits", PARAMS)
    values = PARAMS["detection"]["scales"]["digits"] | change
    with pytest.raises(ConfigError, match=message):
        scales.load_scale(profile, {"detection": {"scales": {"digits": values}}})


def test_scenes_of_photographs_are_refused_before_anything_is_trained():
    assert scales.LAID_OUT == tuple(scenes.CATEGORIES)
    photographs = load_profile("digits", PARAMS).model_copy(update={"data": "folder", "data_dir": "x"})
    with pytest.raises(ConfigError, match=r"digits\.scenes: 'folder' are photographs.*remove scenes to train on COCO"):
        scales.load_scale(photographs, PARAMS)


def test_an_experiment_that_the_pipeline_expects_is_missed_before_anything_is_trained(monkeypatch):
    fewer = {name: of for name, of in PARAMS["experiments"].items() if name != "table_7"}
    monkeypatch.setattr("ghostlib.training.profile.load_params", lambda: PARAMS | {"experiments": fewer})
    with pytest.raises(ConfigError, match="lacks table_7, whose results dvc.yaml expects; .* leave digits out"):
        check_settings("digits")


@pytest.mark.parametrize(("section", "told"), [
    ({"scale": {}}, "detection: unknown key 'scale'; did you mean 'scales'"),
    ({"scales": None}, "detection: scales holds nothing"),
    ({"scales": {"digts": {}}}, "detection.scales: unknown key 'digts'; did you mean 'digits'"),
    ({"scales": {"digits": None}}, "detection.scales: digits holds nothing")])
def test_a_section_of_detection_that_cannot_be_is_named(section, told):
    with pytest.raises(ConfigError, match=told):
        scales.load_scale(load_profile("digits", PARAMS), PARAMS | {"detection": section})


@pytest.mark.parametrize(("change", "told"), [
    ({"without": ["Expnd"]}, "did you mean 'Expand'"), ({"resise": 1}, "did you mean 'resize'")], ids=str)
def test_the_check_before_any_measurement_looks_at_detection_too(change, told, monkeypatch):
    scale = PARAMS["detection"]["scales"]["digits"] | change
    broken = PARAMS | {"detection": PARAMS["detection"] | {"scales": {"digits": scale}}}
    monkeypatch.setattr("ghostlib.training.profile.load_params", lambda: broken)
    with pytest.raises(ConfigError, match=told):
        check_settings("digits")
    check_settings("fashion")  # it has no detectors then


@pytest.mark.parametrize(("change", "told"), [
    ({"without": ["Expnd"]}, "without = 'Expnd' is none of the transforms in .*; did you mean 'Expand'"),
    ({"options": {"train_dataloadr": {"batch_size": 3}}}, "has no 'train_dataloadr'; did you mean 'train_dataloader'"),
    ({"options": {"train_cfg.max_epoch": 3}}, "train_cfg.max_epoch = 3: .* in train_cfg; did you mean 'max_epochs'"),
    ({"options": {"train_cfg": {"max_epoch": 3}}}, "train_cfg.max_epoch = 3: .*did you mean 'max_epochs'"),
    ({"options": {"train_cfg.max_epochs": True}}, "max_epochs = True: true and false are no numbers, and .* has 30"),
    ({"options": {"train_cfg.max_epochs.a": 1}}, "has no 'a' in train_cfg.max_epochs"),
    ({"options": {"train_pipeline.99.type": "x"}}, "has no '99' in train_pipeline"),
    ({"options": {"train_cfg.max_epochs": "ten"}}, "= 'ten': that is a text, and .* the number 30 there; 1e-3 is"),
    ({"options": {"train_cfg": None}}, "options: train_cfg holds nothing"),
    ({"options": {"val_dataloader.num_workers": -1}}, "val_dataloader.num_workers = -1 must be a whole number from 0"),
    ({"options": {"optim_wrapper.paramwise_cfg": {"custom_keys": {"backbone": 0.1}}}}, "backbone holds 0.1, where"),
    ({"options": {"optim_wrapper.paramwise_cfg": {"custom_keys": ["backbone"]}}}, "custom_keys holds .*where keys"),
    ({"options": {"resume": True}}, "resume = True: remove it; the training sets resume itself"),
    ({"options": {"default_hooks.checkpoint.interval": 2}}, "remove it; the training sets default_hooks.checkpoint"),
    ({"options": {"train_dataloader": {"batch_size": 0}}}, "batch_size = 0 must be a whole number from 1 on"),
    ({"options": {"optim_wrapper.optimizer": {"_delete_": True, "type": "AdamW", "weight_decy": 1}}},
     "options: optim_wrapper cannot be built: .*weight_decy"),
    ({"options": {"optim_wrapper.paramwise_cfg": {"custom_key": {}}}}, "paramwise_cfg: unknown key 'custom_key'; did"),
    ({"options": {"optim_wrapper.paramwise_cfg": {"custom_keys": {"backbone": {"lr_mul": 1}}}}},
     "custom_keys.backbone: unknown key 'lr_mul'; did you mean 'lr_mult'"),
    ({"options": {"param_scheduler": [{"type": "LinerLR"}]}}, "param_scheduler.0 cannot be built: LinerLR is not in"),
    ({"options": {"param_scheduler": [{"type": "LinearLR", "start_facter": 1}]}}, "param_scheduler.0 .*start_facter")],
    ids=str)
def test_a_scale_that_no_configuration_can_be_changed_to_is_refused_before_anything_is_trained(change, told):
    with pytest.raises(ConfigError, match=rf"^experiments.yaml: detection.scales.<profile>\..*{told}"):
        check(Scale(scale="small", **change))


@pytest.mark.parametrize("options", [
    {"optim_wrapper.type": "AmpOptimWrapper"},  # of a GPU, which need not be here
    {"optim_wrapper": {"optimizer": {"_delete_": True, "type": "AdamW", "lr": 0.1, "fused": True}}}])
def test_a_scale_may_ask_for_another_device_and_replace_a_part_and_stays_as_it_is(options):
    scale = Scale(scale="small", options=copy.deepcopy(options))
    check(scale)
    assert scale.options == options


@pytest.mark.parametrize("profile", PARAMS["detection"]["scales"])
def test_the_configurations_can_be_changed_to_every_profile_s_scale(profile):
    check(scales.load_scale(load_profile(profile, PARAMS), PARAMS))


def test_a_profile_without_a_scale_is_named():
    with pytest.raises(ConfigError, match="detection.scales has no 'digits', so .* give it one .other have"):
        scales.load_scale(load_profile("digits", PARAMS), {"detection": {"scales": {"other": {}}}})


def test_a_backbone_without_a_recipe_is_named():
    with pytest.raises(ConfigError, match="detection.backbones.mobilenetv2_100 is missing"):
        scales.backbone_recipes(load_profile("digits", PARAMS), {"detection": {"backbones": {}}})
    with pytest.raises(ConfigError, match="detection.backbones: unknown key 'mobilenet_100'; did you mean 'mobilenetv"):
        scales.backbone_recipes(load_profile("digits", PARAMS), {"detection": {"backbones": {"mobilenet_100": {}}}})


def test_planning_imports_neither_torch_nor_mmdetection():
    code = ("import sys; from ghostlib.detection.run import runs; runs('digits'); "
            "print([name for name in ('torch', 'mmdet', 'mmengine', 'pandas') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- its key


def test_a_key_changes_with_what_decides_the_result(tiny_run):
    assert len({run.key for run in detection.runs("digits")}) == 8
    others = [replace(tiny_run, side=416), replace(tiny_run, arch="ghostnetv2_100"), replace(tiny_run, code="other"),
              replace(tiny_run, scale=tiny_run.scale.model_copy(update={"resize": 0.4})),
              replace(tiny_run, backbone=replace(tiny_run.backbone, seed=1))]
    assert len({tiny_run.key, *(other.key for other in others)}) == 6
    same = [replace(tiny_run, label="another"), replace(tiny_run, row="another"),
            replace(tiny_run, scale=tiny_run.scale.model_copy(update={"scale": "other words"}))]
    assert {run.key for run in same} == {tiny_run.key}


def test_a_comment_in_a_configuration_leaves_the_key_and_a_number_changes_it(tiny_run, tmp_path, monkeypatch):
    def key_with(old: str, new: str) -> str:
        text = config_file("ghostnetv3_100", 320).read_text()
        assert old in text
        file = tmp_path / "config.py"
        file.write_text(text.replace(old, new))
        with monkeypatch.context() as patched:
            patched.setattr(detection.configure, "config_file", lambda arch, side: file)
            return replace(tiny_run).key

    assert key_with("# Table 10", "# Of Table 10") == tiny_run.key
    assert key_with("[160, 112, 40]", "[160, 112, 41]") != tiny_run.key


def edited(tmp_path, file: str, old: str, new: str) -> Path:
    """A copy of the package with a change in one file."""
    package = shutil.copytree(digest.PACKAGE, tmp_path / "ghostlib", ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    return package


@pytest.mark.parametrize(("file", "old", "new", "changes"), [
    ("detection/loop.py", "max_keep_ckpts=2", "max_keep_ckpts=3", True),
    ("detection/scenes.py", "_CLUTTER = 110", "_CLUTTER = 111", True),
    ("mmdet/backbone.py", "norm_eval: bool = False", "norm_eval: bool = True", True),
    ("detection/loop.py", "# Steps of a detector have no accuracy.", "# Nothing to see.", False),
    ("detection/scenes.py", "The canvas with the ink laid over it", "Ink over the canvas", False),
    ("training/arm.py", "RAW = \"raw\"", "RAW = \"plain\"", False),  # a classifier's: it changes the backbone's key
    ("training/ema.py", "def ", "def renamed_", False)])
def test_the_code_of_a_detector_is_the_meaning_of_what_it_uses(tmp_path, file, old, new, changes):
    modules = ("ghostlib.detection.configure", "ghostlib.detection.loop", "ghostlib.detection.scenes")
    code = digest.code_of(*modules, package=edited(tmp_path, file, old, new))
    assert (code != detection.CODE) == changes


def test_a_change_in_detection_leaves_classifiers(tmp_path):
    package = edited(tmp_path, "detection/loop.py", "max_keep_ckpts=2", "max_keep_ckpts=3")
    assert digest.code_of("ghostlib.training.loop", package=package) == digest.code_of("ghostlib.training.loop")


def test_a_docstring_leaves_the_scenes_and_a_constant_does_not(tmp_path):
    words = edited(tmp_path / "words", "detection/scenes.py", "Soft light and shadow", "Light and shadow")
    constant = edited(tmp_path / "constant", "detection/scenes.py", "_ATTEMPTS = 50", "_ATTEMPTS = 51")
    assert digest.code_of("ghostlib.detection.scenes", package=words) == scenes.CODE
    assert digest.code_of("ghostlib.detection.scenes", package=constant) != scenes.CODE


def test_work_is_the_pixels_that_pass_each_branch(tiny_run):
    assert tiny_run.work == 3 * 4 * 96**2 * (1 + tiny_run.backbone.recipe.branches)
    assert replace(tiny_run, side=640).work == 4 * tiny_run.work
    on_coco = replace(tiny_run, scale=Scale(scale="COCO"))
    assert on_coco.work == 30 * 10 * 118_287 * 320**2 * (1 + tiny_run.backbone.recipe.branches)


# -- the configuration


def test_at_coco_s_scale_a_configuration_is_its_file_but_for_the_backbone_s_class():
    from mmengine.config import Config

    file = config_file("ghostnetv3_100", 320)
    ours, theirs = configure(file, Scale(scale="COCO"), "ghostnetv3_100", 1.0), Config.fromfile(file)
    assert ours.model.backbone.pop("width") == 1.0
    assert ours.to_dict() == theirs.to_dict()


def test_a_trial_has_its_rate_and_is_evaluated_on_scenes_of_validation_images(tiny_run, store):
    config = replace(tiny_run, scale=tiny_run.scale.at(0.5)).config(store)
    assert config.optim_wrapper.optimizer.lr == 0.5 != tiny_run.config(store).optim_wrapper.optimizer.lr
    assert config.train_dataloader.dataset.ann_file == "annotations/train.json"
    assert config.val_dataloader.dataset.ann_file == config.test_dataloader.dataset.ann_file == "annotations/tune.json"
    annotations, images = replace(tiny_run, scale=tiny_run.scale.at(0.5)).evaluated(store)
    assert config.val_evaluator.ann_file == config.test_evaluator.ann_file == str(annotations)
    assert images.is_dir() and f"{images.name}/" == config.val_dataloader.dataset.data_prefix.img
    assert tiny_run.evaluated(store)[1].name == "val"


def test_a_scale_resizes_images_and_anchors_alike(tiny_run):
    at = {side: configure(config_file("ghostnetv1_110", side), tiny_run.scale, "ghostnetv1_110", 0.2)
          for side in (320, 416)}
    assert [at[side].test_dataloader.dataset.pipeline[1].scale for side in at] == [(96, 96), (128, 128)]
    assert at[416].train_dataloader.dataset.dataset.pipeline[2].scale == [(96, 96), (128, 128)]
    assert at[320].model.bbox_head.anchor_generator.base_sizes[0][0] == pytest.approx((66, 37.5))
    kinds = [transform.type for transform in at[320].train_dataloader.dataset.dataset.pipeline]
    assert kinds == ["LoadImageFromFile", "LoadAnnotations", "Resize", "PackDetInputs"]


# -- what it stores and begins with


def test_a_finished_run_holds_its_files_and_says_what_it_is(tiny_run, finished):
    import json

    folder = finished.folder(tiny_run)
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "config.py", "cost.json", "detections.bbox.json", "detector.safetensors", "metrics.json", "run.json"}
    description = json.loads((folder / "run.json").read_text())
    assert {name: description[name] for name in ("key", "label", "seed", "row", "backbone", "code")} == {
        "key": tiny_run.key, "label": tiny_run.label, "seed": 0, "row": tiny_run.row,
        "backbone": tiny_run.backbone.key, "code": detection.CODE}
    assert json.loads((folder / "detections.bbox.json").read_text()) == []
    assert "GhostBackbone" in (folder / "config.py").read_text()


def test_a_detector_begins_with_its_classifier_s_weights(tiny_run, store):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    detector = MODELS.build(tiny_run.config(store).model)
    detector.init_weights()
    saved = load_file(store.folder(tiny_run.backbone) / "ema.safetensors")
    ours = {name.removeprefix("features."): value for name, value in detector.backbone.state_dict().items()}
    assert len(ours) > 100 and all(torch.equal(value, saved[name.replace("blocks_", "blocks.", 1)])
                                   for name, value in ours.items())


def test_detectors_of_one_seed_share_what_neck_and_head_begin_with(tiny_run, store):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    states = []
    for arch in ("ghostnetv2_100", "ghostnetv3_100"):
        model = replace(tiny_run, arch=arch).config(store).model
        model.backbone.weights = None
        torch.manual_seed(0)
        states.append(MODELS.build(model).state_dict())
    shared = [name for name in states[0] if not name.startswith("backbone.")]
    assert shared and all(torch.equal(states[0][name], states[1][name]) for name in shared)

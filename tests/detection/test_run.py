"""A detector's training: what is checked before it, what a killed one leaves, what it reports."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ghostlib.config import ConfigError
from ghostlib.detection import run as detection
from ghostlib.detection import scale as scales
from ghostlib.detection.configure import DetectionError, check_data, config_file, configure
from ghostlib.detection.scale import Scale
from ghostlib.exhibits import detection as reporting
from ghostlib.models import catalog, weights
from ghostlib.paper import numbers
from ghostlib.runs.store import Run, Store
from ghostlib.training.profile import load_params, load_profile

PARAMS = load_params()
TINY = Scale(
    scale="tiny", resize=0.3, without=("Expand", "MinIoURandomCrop", "RandomFlip", "PhotoMetricDistortion"),
    scenes=dict(train=4, val=2, side=96, sizes=(32, 48), objects=(1, 2)),
    options={"train_cfg.max_epochs": 2, "train_dataloader": dict(batch_size=2, num_workers=0, persistent_workers=False),
             "val_dataloader": dict(batch_size=2, num_workers=0, persistent_workers=False),
             "param_scheduler": [dict(type="MultiStepLR", by_epoch=True, milestones=[1], gamma=0.1)]})


def v3_run(tiny) -> detection.DetectionRun:
    """GhostNetV3 at width 0.1 on four scenes, from a classifier of one epoch."""
    recipe = tiny.resolve({"teacher": None, "epochs": 1})
    return detection.DetectionRun("GhostNetV3 1.0× @320", "ghostnetv3_100", 320, TINY, Run(recipe, tiny, 0).canonical)


@pytest.fixture
def tiny_run(tiny):
    return v3_run(tiny)


@pytest.fixture
def store(tmp_path) -> detection.DetectionStore:
    return detection.DetectionStore(tmp_path / "runs")


# -- what params.yaml says


@pytest.mark.parametrize("profile", PARAMS["profiles"])
def test_every_profile_has_a_run_for_every_row_and_seed(profile):
    runs = detection.runs(profile)
    loaded = load_profile(profile, PARAMS)
    assert [(run.row, run.seed) for run in runs] == [
        (row, seed) for row in numbers.table("table_10").index for seed in loaded.seeds]


def test_v3_begins_with_weights_of_the_strategy_and_the_others_do_not():
    recipes = {run.arch: run.recipe for run in detection.runs("digits")}
    assert {arch: (recipe.branches, recipe.teacher) for arch, recipe in recipes.items()} == {
        "mobilenetv2_100": (0, None), "ghostnetv1_110": (0, None), "ghostnetv2_100": (0, None),
        "ghostnetv3_100": (3, "BEiTv2-B")}
    assert {arch: recipe.network for arch, recipe in recipes.items()} == {
        arch: arch.replace("ghostnetv3", "ghostnetv2") for arch in recipes}


@pytest.mark.parametrize(("change", "message"), [
    ({"resise": 1}, "params.yaml: detection.scales.digits: unknown key 'resise'; did you mean 'resize'"),
    ({"resize": 0}, "detection.scales.digits: resize = 0"),
    ({"scenes": {"trian": 3}}, "scenes.trian")])
def test_a_scale_that_cannot_be_is_named(change, message):
    profile = load_profile("digits", PARAMS)
    of = PARAMS["detection"]["scales"]["digits"] | change
    with pytest.raises(ConfigError, match=message):
        scales.load_scale(profile, {"detection": {"scales": {"digits": of}}})


def test_a_profile_without_a_scale_is_named():
    with pytest.raises(ConfigError, match="detection.scales has no 'digits'; known: other"):
        scales.load_scale(load_profile("digits", PARAMS), {"detection": {"scales": {"other": {}}}})


def test_a_backbone_without_a_recipe_is_named():
    with pytest.raises(ConfigError, match="detection.backbones.mobilenetv2_100 is missing"):
        scales.backbone_recipes(load_profile("digits", PARAMS), {"detection": {"backbones": {}}})


def test_a_key_changes_with_what_decides_the_result(tiny_run):
    assert len({run.key for run in detection.runs("digits")}) == 8
    others = [replace(tiny_run, side=416), replace(tiny_run, arch="ghostnetv2_100"),
              replace(tiny_run, scale=TINY.model_copy(update={"resize": 0.4})),
              replace(tiny_run, backbone=replace(tiny_run.backbone, seed=1))]
    assert len({tiny_run.key, *(other.key for other in others)}) == 5
    assert replace(tiny_run, scale=TINY.model_copy(update={"scale": "other words"})).key == tiny_run.key


# -- the configuration


def test_at_coco_s_scale_a_configuration_is_its_file_but_for_the_backbone_s_class():
    from mmengine.config import Config

    file = config_file("ghostnetv3_100", 320)
    ours, theirs = configure(file, Scale(scale="COCO"), "ghostnetv3_100", 1.0), Config.fromfile(file)
    assert ours.model.backbone.pop("width") == 1.0
    assert ours.to_dict() == theirs.to_dict()


def test_a_scale_resizes_images_and_anchors_alike():
    at = {side: configure(config_file("ghostnetv1_110", side), TINY, "ghostnetv1_110", 0.2) for side in (320, 416)}
    assert [at[side].test_dataloader.dataset.pipeline[1].scale for side in at] == [(96, 96), (128, 128)]
    assert at[416].train_dataloader.dataset.dataset.pipeline[2].scale == [(96, 96), (128, 128)]
    assert at[320].model.bbox_head.anchor_generator.base_sizes[0][0] == pytest.approx((66, 37.5))
    kinds = [transform.type for transform in at[320].train_dataloader.dataset.dataset.pipeline]
    assert kinds == ["LoadImageFromFile", "LoadAnnotations", "Resize", "PackDetInputs"]


# -- what is checked before a training


@pytest.fixture
def config(tiny_run, store):
    data = store.scenes(tiny_run)
    return configure(tiny_run.file, TINY, "ghostnetv3_100", 0.1, data), data


def test_whole_data_passes(config):
    check_data(config[0])


def test_a_missing_annotation_file_is_named_with_its_key(config):
    (config[1] / "annotations" / "train.json").unlink()
    with pytest.raises(DetectionError, match=r"^train_dataloader\.dataset\.ann_file: .*train\.json is not there"):
        check_data(config[0])


def test_without_coco_its_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DetectionError, match="instances_train2017.json is not there. COCO belongs in data/coco"):
        check_data(configure(config_file("ghostnetv2_100", 416), Scale(scale="COCO"), "ghostnetv2_100", 1.0))


def test_an_image_that_is_not_there_is_named(config):
    (config[1] / "val" / "00001.png").unlink()
    with pytest.raises(DetectionError, match=r"val_dataloader\.dataset: 1 of the 2 images .* e\.g\. 00001\.png"):
        check_data(config[0])


def test_a_category_that_does_not_exist_is_named(config):
    config[0].train_dataloader.dataset.metainfo = dict(classes=("0", "zebra"))
    with pytest.raises(DetectionError, match=r"train_dataloader\.dataset\.metainfo\.classes: .* no category 'zebra'"):
        check_data(config[0])


@pytest.mark.parametrize(("content", "message"), [("{", "is torn or no JSON"), ("{}", "is no COCO annotation")])
def test_a_torn_annotation_file_is_named(config, content, message):
    (config[1] / "annotations" / "train.json").write_text(content)
    with pytest.raises(DetectionError, match=message):
        check_data(config[0])


def test_the_command_names_what_is_missing(tmp_path, config, capsys):
    from ghostlib.detection.configure import main

    config[0].dump(tmp_path / "config.py")
    main([str(tmp_path / "config.py")])
    assert "is there" in capsys.readouterr().out
    (config[1] / "val" / "00000.png").unlink()
    with pytest.raises(SystemExit, match=r"^error: val_dataloader\.dataset: 1 of the 2 images"):
        main([str(tmp_path / "config.py")])
    with pytest.raises(SystemExit, match="nowhere.py does not exist"):
        main(["nowhere.py"])


# -- a training

TRAINING = """
import os, pickle, signal, sys
from ghostlib.detection.run import DetectionStore
run, root, dies_at = pickle.load(open(sys.argv[1], "rb"))
def report(progress):
    if progress.step == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
DetectionStore(root).ensure(run, report)
"""


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory) -> detection.DetectionStore:
    store = detection.DetectionStore(tmp_path_factory.mktemp("uninterrupted"))
    store.ensure(v3_run(tiny))
    return store


@pytest.mark.parametrize("dies_at", [1, 3])  # in the first epoch and in the second of two
def test_a_killed_training_goes_on_and_ends_in_the_same_weights(tiny_run, uninterrupted, store, tmp_path, dies_at):
    file = tmp_path / "run.pickle"
    file.write_bytes(pickle.dumps((tiny_run, store.root, dies_at)))
    killed = subprocess.run([sys.executable, "-c", TRAINING, str(file)], env={**os.environ, "OMP_NUM_THREADS": "1"},
                            stdout=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = store.folder(tiny_run)
    assert (folder / "epoch_1.pth").exists() == (dies_at == 3) and not (folder / "metrics.json").exists()
    before = folder.joinpath("untrained.json").stat().st_mtime_ns

    metrics = store.ensure(tiny_run)
    assert folder.joinpath("untrained.json").stat().st_mtime_ns == before, "it began again"
    assert not list(folder.glob("*.pth"))
    assert metrics == uninterrupted.metrics(tiny_run)
    whole, resumed = (load_file(of.folder(tiny_run) / "detector.safetensors") for of in (uninterrupted, store))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items()) and whole.keys() == resumed.keys()
    assert metrics["trained"].keys() == metrics["untrained"].keys() and len(metrics["history"]) == 2


def test_a_detector_begins_with_its_classifier_s_weights(tiny_run, store):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope
    store.folder(tiny_run.backbone).mkdir(parents=True)
    classifier = Store._network(tiny_run.backbone)
    weights.save(classifier, store.folder(tiny_run.backbone) / "ema.safetensors")
    init_default_scope("mmdet")
    detector = MODELS.build(store.config(tiny_run).model)
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
        model = store.config(replace(tiny_run, arch=arch)).model
        model.backbone.weights = None
        torch.manual_seed(0)
        states.append(MODELS.build(model).state_dict())
    shared = [name for name in states[0] if not name.startswith("backbone.")]
    assert shared and all(torch.equal(states[0][name], states[1][name]) for name in shared)


def test_missing_data_ends_all_before_anything_is_trained(tiny_run, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DetectionError, match="instances_train2017.json is not there"):
        detection.train_all([replace(tiny_run, scale=Scale(scale="COCO"))], store)
    assert not list(store.root.glob("*/run.json"))


# -- what is reported


def test_the_table_has_every_row_and_passes_no_number_of_ours_for_the_paper_s(tmp_path):
    import pandas as pd

    rows = list(catalog.backbones())
    results = pd.DataFrame([("table_10", row, "mAP", seed, "key", metric, value + seed, "data")
                            for value, row in enumerate(rows) for seed in (0, 1)
                            for metric in ("mAP", "AP50", "untrained AP50")], columns=detection.COLUMNS)
    compared = reporting.compare(results)
    ours = compared.query("quantity == 'mAP'")
    assert list(ours["measured"]) == [value + 0.5 for value in range(8)] and (ours["seeds"] == 2).all()
    assert list(ours["paper"]) == list(numbers.table("table_10")["mAP"])
    assert compared.query("quantity == 'AP50'")["paper"].isna().all()
    counted = pd.DataFrame([("table_10", row, "FLOPs (M)", 342.0, 342.2) for row in rows],
                           columns=["table", "row", "quantity", "paper", "measured"])
    table = reporting.wide(compared, counted)
    assert list(table.index) == rows
    assert list(table.columns) == [("FLOPs (M)", "paper"), ("FLOPs (M)", "ours"), ("mAP", "paper, COCO"),
                                   ("mAP", "ours"), ("AP50", "ours"), ("untrained AP50", "ours")]
    assert table.loc["GhostNetV3 1.0× @416", ("mAP", "ours")] == "7.5 ± 0.7"


def test_the_picture_shows_the_first_images_with_what_was_found(tiny_run, store, tmp_path):
    data = store.scenes(tiny_run)
    found = tmp_path / "found.json"
    found.write_text(json.dumps([
        {"image_id": 1, "category_id": 4, "bbox": [1, 2, 30, 40], "score": 0.1},
        *({"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.9} for _ in range(2))]))
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")
    figure = reporting.pictures(data / "annotations" / "val.json", data / "val",
                                {"one": found, "nothing": nothing}, count=2)
    assert [axis.get_title(loc="left") for axis in figure.axes[:3]] == ["ground truth", "one", "nothing"]
    there = len(figure.axes[0].texts)
    assert there in (1, 2) and [text.get_text() for text in figure.axes[1].texts] == ["2 0.90"] * there
    assert not figure.axes[2].texts

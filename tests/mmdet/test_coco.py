"""What is checked of a configuration's data: every missing file, image and category is named, with its key."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from ghostlib.mmdet.coco import DetectionError, check_config, check_data
from tests.mmdet.detectors import CONFIGS, training


@pytest.fixture
def data(data_set, tmp_path):
    """Scenes that a test may damage."""
    return shutil.copytree(data_set, tmp_path / "scenes")


@pytest.fixture
def config(data, tmp_path):
    return training(data, tmp_path / "work")


def test_whole_data_passes(config):
    check_data(config)


def test_a_missing_annotation_file_is_named_with_its_key(config, data):
    (data / "annotations" / "train.json").unlink()
    with pytest.raises(DetectionError, match=r"^train_dataloader\.dataset\.ann_file: .*train\.json is missing"):
        check_data(config)


def test_without_coco_its_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DetectionError, match="instances_train2017.json is missing. COCO belongs in data/coco"):
        check_data(Config.fromfile(CONFIGS / "yolov3_ghostnetv2_100_416.py"))


def test_an_image_that_is_not_there_is_named(config, data):
    (data / "val" / "00001.png").unlink()
    with pytest.raises(DetectionError, match=r"val_dataloader\.dataset: 1 of the 2 images .* e\.g\. 00001\.png"):
        check_data(config)


def test_a_category_that_does_not_exist_is_named(config):
    config.train_dataloader.dataset.metainfo = dict(classes=("0", "zebra"))
    with pytest.raises(DetectionError, match=r"train_dataloader\.dataset\.metainfo\.classes: .* no category 'zebra'"):
        check_data(config)


def test_categories_are_read_from_a_file_as_mmengine_does(config, tmp_path):
    names = tmp_path / "classes.txt"
    config.train_dataloader.dataset.metainfo = dict(classes=str(names))
    with pytest.raises(DetectionError, match=r"metainfo\.classes = '.*classes\.txt' cannot be read .*a category a"):
        check_data(config)
    names.write_text("0\n1\n")
    check_data(config)
    names.write_text("0\nzebra\n")
    with pytest.raises(DetectionError, match="no category 'zebra'"):
        check_data(config)


@pytest.mark.parametrize("differs", [dict(data_root="s3://bucket/coco/"), dict(ann_file="annotations/train.odgt")])
def test_what_cannot_be_looked_at_is_not_called_missing(differs, config):
    config.train_dataloader.dataset.update(differs)
    with pytest.raises(DetectionError, match="this CocoDataset cannot be checked: it needs ann_file, a .json on this"):
        check_data(config)


@pytest.mark.parametrize(("content", "message"), [("{", "is torn or no JSON"), ("{}", "is no COCO annotation")])
def test_a_torn_annotation_file_is_named(config, data, content, message):
    (data / "annotations" / "train.json").write_text(content)
    with pytest.raises(DetectionError, match=message):
        check_data(config)


def test_other_json_is_no_annotation(config, data):
    path = data / "annotations" / "val.json"
    whole = json.loads(path.read_text())
    for content, message in (
            (whole["annotations"], r"^val_dataloader\.dataset\.ann_file: .*val\.json is no COCO annotation but a list"),
            ({**whole, "categories": [{"id": 1}]}, "1 of its categories have no name"),
            ({**whole, "annotations": [dict(whole["annotations"][0], category_id=99)]}, "e.g. category_id = 99"),
            ({**whole, "annotations": [dict(whole["annotations"][0], image_id="x")]}, "images .* e.g. image_id = x")):
        path.write_text(json.dumps(content))
        with pytest.raises(DetectionError, match=message):
            check_data(config)


def test_an_evaluator_of_other_images_is_named(config, data):
    config.val_evaluator.ann_file = str(data / "annotations" / "none.json")
    with pytest.raises(DetectionError, match=r"^val_evaluator\.ann_file: .*none\.json is missing"):
        check_data(config)
    config.val_evaluator = [config.val_evaluator]
    content = json.loads((data / "annotations" / "val.json").read_text())
    (data / "annotations" / "none.json").write_text(json.dumps(content))  # the same under another name
    check_data(config)
    (data / "annotations" / "none.json").write_text(json.dumps({**content, "images": content["images"][:1]}))
    with pytest.raises(DetectionError, match=r"none\.json lacks 1 of the 2 images .*val\.json\); name the file of the"):
        check_data(config)


def test_a_configuration_in_pure_python_names_a_class(config):
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.type = CocoDataset
        loader.dataset.pop("metainfo", None)
    with pytest.raises(DetectionError, match="metainfo.classes: .* no category 'person'"):
        check_data(config)
    config.train_dataloader.dataset.update(type="NoSuchDataset")  # of another package, say, with classes named
    with pytest.raises(DetectionError, match=r"dataset\.type: MMDetection knows no data set 'NoSuchDataset'"):
        check_data(config)


def test_every_part_of_a_data_set_of_several_is_checked(config, data):
    part = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[part, {**part, "ann_file": "no.json"}])
    with pytest.raises(DetectionError, match=r"^train_dataloader\.dataset\.datasets\[1\]\.ann_file: .*no\.json is"):
        check_data(config)
    config.train_dataloader.dataset.datasets.pop()
    check_data(config)


def test_images_to_test_need_no_annotations_and_lvis_s_no_names(config, data):
    content = json.loads((data / "annotations" / "val.json").read_text())
    content = {key: content[key] for key in ("images", "categories")}
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/{image.pop('file_name')}"
    (data / "annotations" / "test.json").write_text(json.dumps(content))
    config.test_dataloader = copy.deepcopy(config.val_dataloader)
    config.test_dataloader.dataset.ann_file = "annotations/test.json"
    check_data(config)
    del content["images"][0]["coco_url"]
    (data / "annotations" / "test.json").write_text(json.dumps(content))
    with pytest.raises(DetectionError, match=r"test\.json: image \d+ has neither a file_name nor a coco_url"):
        check_data(config)
    config.val_dataloader.dataset.ann_file = "annotations/test.json"
    with pytest.raises(DetectionError, match="it has no annotations"):
        check_data(config)


def test_of_lvis_v05_the_end_of_a_name_is_looked_for(config, data):
    path = data / "annotations" / "val.json"
    content = json.loads(path.read_text())
    for number, image in enumerate(content["images"]):
        (data / "val" / image["file_name"]).rename(data / "val" / f"{number:012}.jpg")
        image["file_name"] = f"COCO_train2014_{number:012}.jpg"
    path.write_text(json.dumps(content))
    with pytest.raises(DetectionError, match="e.g. COCO_train2014_000000000000.jpg"):
        check_data(config)
    config.val_dataloader.dataset.type = "LVISDataset"
    check_data(config)


def test_a_data_set_of_another_format_is_named(config):
    del config.val_dataloader.dataset["ann_file"]
    with pytest.raises(DetectionError, match=r"val_dataloader\.dataset: this CocoDataset cannot be checked: it needs"):
        check_data(config)


def test_a_configuration_file_is_checked(config, data, tmp_path):
    config.dump(tmp_path / "config.py")
    check_config(tmp_path / "config.py")
    (data / "val" / "00000.png").unlink()
    with pytest.raises(DetectionError, match=r"^val_dataloader\.dataset: 1 of the 2 images"):
        check_config(tmp_path / "config.py")
    with pytest.raises(FileNotFoundError, match="nowhere.py does not exist"):
        check_config("nowhere.py")


@pytest.mark.parametrize(("text", "message"), [
    ("x = (", "config.py cannot be read as a configuration: SyntaxError: "),
    ("x = y", "config.py cannot be read as a configuration: NameError: name 'y'"),
    ("x = 1", "config.py names no data: it has no train_dataloader, val_dataloader or test_dataloader"),
    ("train_dataloader = dict(batch_size=1)", "train_dataloader has no dataset")])
def test_a_file_that_is_no_configuration_of_data_is_an_error_that_says_so(text, message, tmp_path):
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(DetectionError, match=message):
        check_config(tmp_path / "config.py")

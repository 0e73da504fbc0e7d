"""What is missing for a profile's trainings is named with its remedy, and looked for without reading it."""

from __future__ import annotations

import importlib.util
import shutil
from collections import namedtuple

import huggingface_hub
import pytest
import torchvision
from PIL import Image

from ghostlib.measures import detector_rates, places, rates
from ghostlib.plan import missing
from ghostlib.plan.wanted import Sizes, Training, wanted
from ghostlib.training import datasets
from ghostlib.training.images import DataError
from ghostlib.training.profile import load_params, load_profile

PARAMS = load_params()


@pytest.fixture
def imagenet(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    monkeypatch.setattr(datasets, "load", lambda profile: pytest.fail("reads it"))
    return load_profile("imagenet", PARAMS).model_copy(update={"device": "cpu"})


def trainings(profile: str) -> list[Training]:
    return [Training(key, one, Sizes(4096, 1, 1)) for key, one in wanted(profile, PARAMS).items()]


def test_imagenet_is_looked_for_and_not_read(imagenet, tmp_path, monkeypatch):
    splits, told = missing.images(imagenet)
    assert splits is None and str(tmp_path / "data/imagenet") in told and "IMAGENET_DIR" in told
    (tmp_path / "elsewhere" / "train").mkdir(parents=True)
    monkeypatch.setenv("IMAGENET_DIR", "elsewhere")
    assert missing.images(imagenet)[1].startswith("ImageNet: val of ")
    (tmp_path / "elsewhere" / "val").mkdir()
    assert missing.images(imagenet) == (None, "")
    assert Sizes.of(imagenet, None) == Sizes(1_281_167 - 10_000, 10_000, 50_000)


def test_small_images_are_read_and_their_absence_is_told(tiny, tmp_path):
    splits, told = missing.images(tiny)
    assert told == "" and Sizes.of(tiny, splits) == Sizes(48, 20, 40)
    fashion = load_profile("fashion", PARAMS).model_copy(update={"data_dir": str(tmp_path)})
    splits, told = missing.images(fashion)
    assert splits is None and "data_dir" in told and Sizes.of(fashion, None) == Sizes(4_000, 2_000, 10_000)


def test_a_folder_of_one_s_own_is_counted_or_is_an_error(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / "runs"))
    for part, number in (("train", 4), ("val", 2)):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(number):
                Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / part / name / f"{i}.png")
    own = tiny.model_copy(update={"data": "folder", "data_dir": str(tmp_path), "num_classes": 2, "val_images": 2,
                                  "train_images": None, "test_images": None})
    splits, told = missing.images(own)
    assert told == "" and Sizes.of(own, splits) == Sizes(6, 2, 4)
    with pytest.raises(DataError, match="no images: train/ and val/ not found"):
        missing.images(own.model_copy(update={"data_dir": str(tmp_path / "none")}))


@pytest.mark.parametrize("name", ["fashion", "cifar100"])
def test_images_that_are_not_there_are_told_and_not_downloaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "FASHION_DIRS", ("data/FashionMNIST/raw",))
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "download", lambda self: pytest.fail("downloads"))
    splits, told = missing.images(profile := load_profile(name, PARAMS))
    assert splits is None and f"{name}: the images are not downloaded yet" in told and f"{name}.data_dir" in told
    assert not list(tmp_path.iterdir())
    (tmp_path / "data" / "cifar-100-python").mkdir(parents=True)  # a download that was interrupted
    assert ("is not whole in" in missing.images(profile)[1]) == (name == "cifar100")


def test_the_sizes_of_what_is_not_read_are_those_of_the_data_set():
    profile = load_profile("digits", PARAMS)
    assert Sizes.of(profile, None) == Sizes.of(profile, datasets.load(profile))


def test_weights_coco_and_mmdetection_are_missing_until_they_are_there(imagenet, tmp_path, monkeypatch):
    left, installed = trainings("imagenet"), importlib.util.find_spec
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, file: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mmdet" else installed(name))
    told = missing.of_trainings(imagenet, left)
    assert [what.partition(":")[0] for what in told] == [
        "teacher ResNet-101", "teacher DeiT-B", "teacher BEiTv2-B", "detectors", "COCO"]
    assert "hf download timm/resnet101.tv_in1k model.safetensors" in told[0] and "pip install" in told[3]
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, file: "/cached")
    monkeypatch.setattr(importlib.util, "find_spec", installed)
    for name in ("annotations", "train2017"):
        (tmp_path / "data" / "coco" / name).mkdir(parents=True)
    for part in ("train", "val"):
        (tmp_path / "data" / "coco" / "annotations" / f"instances_{part}2017.json").touch()
    told = missing.of_trainings(imagenet, left)
    assert [what.partition(";")[0] for what in told] == ["COCO: data/coco/val2017 not found"]
    (tmp_path / "data" / "coco" / "val2017").mkdir()
    assert missing.of_trainings(imagenet, left) == []
    assert missing.of_trainings(imagenet, []) == []


def test_a_batch_that_is_larger_than_the_data_is_told():
    left = [Training(one.key, one.wanted, Sizes(9, 1, 1)) for one in trainings("digits")]
    assert missing.batches(left) == [
        "images: 9 training images are less than one batch of 32; lower batch_size or raise train_images in "
        "experiments.yaml"]
    assert missing.batches(trainings("digits")) == []


@pytest.mark.parametrize(("module", "find", "command"), [
    (rates, places.rates_file, "rates fashion --freeze"),
    (detector_rates, places.detector_rates_file, "rates fashion --detectors --freeze")])
def test_rates_that_were_chosen_with_other_settings_are_told(module, find, command, tmp_path, monkeypatch):
    fashion, left = load_profile("fashion", PARAMS), trainings("fashion")
    for name in ("params.yaml", "experiments.yaml"):
        shutil.copy(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "lacking", lambda *_: "holds others")
    assert not any("other settings" in told for told in missing.of_trainings(fashion, left)), "nothing is on file"
    find("fashion").parent.mkdir(parents=True)
    for file in (find("fashion"), places.rates_curves_file("fashion")):
        file.touch()
    told, = [told for told in missing.of_trainings(fashion, left) if "other settings" in told]
    assert told.startswith(f"{find('fashion')} holds others, so the ") and f"`ghostlib {command}`" in told
    assert not any("other settings" in told for told in missing.of_trainings(fashion, [])), "nothing is left"
    monkeypatch.setattr(module, "lacking", lambda *_: "")
    assert not any("other settings" in told for told in missing.of_trainings(fashion, left))


def test_a_profile_of_scenes_needs_neither(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert missing.of_trainings(load_profile("digits", PARAMS), trainings("digits")) == []


def test_a_device_that_is_not_there_and_a_full_disk_are_told(tiny, tmp_path, monkeypatch):
    assert missing.device(tiny) == []
    told, = missing.device(tiny.model_copy(update={"device": "mps"}))
    assert "PyTorch sees no mps" in told and "device to auto" in told
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("Usage", "free")(5e9))
    assert missing.disk(tmp_path / "not" / "there", 5_000_000_000) == []
    assert missing.disk(tmp_path / "not" / "there", 6_000_000_000)[0].startswith(
        f"disk: {tmp_path} has 5.0 GB free, 6.0 GB are needed")

"""What a profile's trainings need and whether it is there; nothing is read that takes longer than a few seconds."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ghostlib.detection.run import COCO, DetectorRun
from ghostlib.plan.estimate import Sizes, Training
from ghostlib.training.profile import Profile

if TYPE_CHECKING:
    from ghostlib.training.datasets import Splits

# Images to train on, held-out ones included, and to test on: of a data set that is not read.
_WHOLE = {"digits": (1_437, 360), "fashion": (60_000, 10_000), "cifar100": (50_000, 10_000),
          "imagenet": (1_281_167, 50_000)}


def images(profile: Profile) -> tuple[Splits | None, str]:
    """The profile's images, small ones downloaded if need be, and what is missing, with the remedy.

    ImageNet is only looked for: to list it takes a minute, and to read it once, as a training's begin does, an hour.
    """
    from ghostlib.training import datasets
    from ghostlib.training.images import DataError

    if profile.data != "imagenet":
        try:
            return datasets.load(profile), ""
        except DataError as error:
            return None, str(error)
    root = imagenet(profile)
    if absent := [part for part in ("train", "val") if not (root / part).is_dir()]:
        return None, (f"ImageNet: {' and '.join(absent)} of {root.resolve()} not found; put train/<class>/* and "
                      "val/<class>/* there, or name their folder with the environment variable IMAGENET_DIR or "
                      f"profiles.{profile.name}.data_dir in experiments.yaml")
    return None, ""


def imagenet(profile: Profile) -> Path:
    """Where it is looked for."""
    return Path(profile.data_dir or os.environ.get("IMAGENET_DIR") or "data/imagenet")


def sizes(profile: Profile, splits: Splits | None) -> Sizes:
    """How many images there are; of those that are not read, as many as the data set has."""
    if splits:
        return Sizes(profile.train_images or len(splits.train), len(splits.val), len(splits.test))
    train, test = _WHOLE[profile.data]
    return Sizes(profile.train_images or train - profile.val_images, profile.val_images, profile.test_images or test)


def missing(profile: Profile, left: Sequence[Training]) -> list[str]:
    """What else is missing for trainings that are left, a sentence each, with its remedy."""
    return [*device(profile), *_teachers(profile, left), *_detection(training.job for training in left)]


def disk(folder: Path, wanted: int) -> list[str]:
    """Whether so many bytes have room where a folder is or will be."""
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    if (free := shutil.disk_usage(there).free) >= wanted:
        return []
    return [f"disk: {there} has {free / 1e9:.1f} GB free, {wanted / 1e9:.1f} GB are needed; make room, or name another "
            "folder with the environment variable GHOSTLIB_RUNS"]


def device(profile: Profile) -> list[str]:
    """Whether there is the device that a profile asks for."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[profile.device_type]:
        return []
    return [f"device: PyTorch sees no {profile.device}; set profiles.{profile.name}.device to auto in experiments.yaml"]


def _teachers(profile: Profile, left: Sequence[Training]) -> list[str]:
    names = {training.teacher for training in left} - {None}
    return [told for name in profile.teachers if name in names and (pretrained := profile.teachers[name].timm)
            if (told := _weights(name, pretrained))]


def _weights(teacher: str, pretrained: str) -> str:
    """What there is to say of timm's weights that are not in the cache."""
    import timm
    import torch
    from huggingface_hub import try_to_load_from_cache

    if pretrained not in timm.list_pretrained():
        return f"teacher {teacher}: timm {timm.__version__} has no {pretrained}; name another in experiments.yaml"
    config = timm.get_pretrained_cfg(pretrained)
    if config.hf_hub_id:
        files = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        found = any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files)
        remedy = f"`hf download {config.hf_hub_id} {files[0]} config.json`"
    else:
        file = Path(torch.hub.get_dir(), "checkpoints", Path(config.url).name)
        found, remedy = file.exists(), f"put {config.url} into {file.parent}"
    return "" if found else (f"teacher {teacher}: the weights {pretrained} are not downloaded yet; the first training "
                             f"does it, or without a network there: {remedy}")


def _detection(jobs: Iterable[object]) -> list[str]:
    found, detectors = [], [job for job in jobs if isinstance(job, DetectorRun)]
    if detectors and not importlib.util.find_spec("mmdet"):
        found.append("detectors: MMDetection is not installed: make setup, or pip install 'ghostlib[mmdet-onedl]'")
    wanted = [COCO / name for name in ("annotations/instances_train2017.json", "annotations/instances_val2017.json",
                                       "train2017", "val2017")]
    absent = [str(path) for path in wanted if not path.exists()]
    if absent and any(job.scale.scenes is None for job in detectors):
        found.append(f"COCO: {', '.join(absent)} not found; it belongs in {COCO}, a folder or a link, as annotations/, "
                     "train2017/ and val2017/")
    return found

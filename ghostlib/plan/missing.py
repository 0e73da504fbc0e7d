"""What is missing for a profile's trainings, each with its remedy; nothing is downloaded, and little is read."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ghostlib.detection.run import COCO, DetectorRun
from ghostlib.detection.scale import Scale
from ghostlib.measures import detector_rates, frozen, places, rates
from ghostlib.training.profile import Profile, kind_of, load_params

if TYPE_CHECKING:
    from ghostlib.plan.wanted import Training
    from ghostlib.training.datasets import Splits


def images(profile: Profile) -> tuple[Splits | None, str]:
    """The profile's images and what is missing, with the remedy; nothing is downloaded.

    ImageNet is only looked for: to list it takes a minute, and to read it once, as a training's begin does, an hour.

    Raises:
        DataError: a folder of one's own is absent, torn or has other classes: nobody knows how many images it has.
    """
    from ghostlib.training import datasets
    from ghostlib.training.images import DataError

    if profile.data != "imagenet":
        if (folder := _downloaded(profile)) is None:
            return None, (f"{profile.data}: the images are not downloaded yet; the first training does it, or without "
                          f"a network there: set profiles.{profile.name}.data_dir in experiments.yaml to their folder")
        try:  # from a folder that is named nothing is downloaded
            return datasets.load(profile.model_copy(update={"data_dir": folder})), ""
        except DataError as error:
            if profile.data == "folder":  # nobody knows how many there would be
                raise
            return None, str(error)
    root = Path(profile.data_dir or os.environ.get("IMAGENET_DIR") or "data/imagenet")
    if absent := [part for part in ("train", "val") if not (root / part).is_dir()]:
        return None, (f"ImageNet: {' and '.join(absent)} of {root.resolve()} not found; put train/<class>/* and "
                      "val/<class>/* there, or name their folder with the environment variable IMAGENET_DIR or "
                      f"profiles.{profile.name}.data_dir in experiments.yaml")
    return None, ""


def _downloaded(profile: Profile) -> str | None:
    """The folder of images that a training would download where they are not there; None while they are not."""
    from ghostlib.training.datasets import FASHION_DIRS

    holding = {"fashion": dict.fromkeys(FASHION_DIRS, "train-images-idx3-ubyte*"), "cifar100": {"data": "cifar-100-*"}}
    if profile.data_dir or profile.data not in holding:
        return profile.data_dir or ""
    return next((folder for folder, part in holding[profile.data].items() if any(Path(folder).glob(part))), None)


def of_trainings(profile: Profile, left: Sequence[Training]) -> list[str]:
    """What else than images is missing for trainings that are left, a sentence each, with its remedy."""
    return [*device(profile), *batches(left), *_rates(profile, left), *_teachers(profile, left),
            *_detection(training.job for training in left)]


def batches(left: Sequence[Training]) -> list[str]:
    """Whether every classifier has a batch of images: without one it has no step to take, or to time."""
    short = dict.fromkeys((one.sizes.train, one.wanted.classifier.recipe.batch_size) for one in left if not one.steps)
    return [f"images: {train} training images are less than one batch of {batch}; lower batch_size or raise "
            "train_images in experiments.yaml" for train, batch in short]


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


def _rates(profile: Profile, left: Sequence[Training]) -> list[str]:
    """What has to be chosen before the others can be trained, or was chosen by trainings of other settings."""
    kinds = {kind_of(one.wanted.classifier.recipe) for one in left
             if one.wanted.part in ("tables and figures", "backbones")}
    scales = [one.job.scale for one in left if one.wanted.part == "detectors"]
    told = [frozen.lacking(profile, kinds) or (_outdated(profile) if kinds else ""),
            *(frozen.lacking_detectors(scale, profile.name) or _outdated_detectors(scale, profile.name)
              for scale in scales[:1])]
    return list(filter(None, told))


def _outdated(profile: Profile) -> str:
    """Whether the trainings on file that the profile's rates were chosen by are of other settings than now's."""
    file, curves = places.rates_file(profile.name), places.rates_curves_file(profile.name)
    if profile.tune is None or not (file.exists() and curves.exists()):
        return ""
    if not (why := rates.lacking(profile, load_params())):
        return ""
    return (f"{file} {why}, so the rates were chosen with other settings; run `ghostlib measure rates {profile.name}`, "
            f"then `ghostlib rates {profile.name} --freeze`")


def _outdated_detectors(scale: Scale, name: str) -> str:
    """The same of the detectors of a profile of this name."""
    file = places.detector_rates_file(name)
    if scale.tune is None or not file.exists() or not (why := detector_rates.lacking(name)):
        return ""
    return (f"{file} {why}, so the detectors' rate was chosen with other settings; run `ghostlib measure "
            f"detector_rates {name}`, then `ghostlib rates {name} --detectors --freeze`")


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

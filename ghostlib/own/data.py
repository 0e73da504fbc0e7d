"""Any folder of images or tar shards as what a training needs: parts, classes by name, and images by number."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from ghostlib.own import shards
from ghostlib.training.datasets import Splits
from ghostlib.training.folders import check_whole, folder_images
from ghostlib.training.images import DataError, FileReader, Images
from ghostlib.training.randomness import permutation

# What the parts of a data set are called, whatever the case, alone or among other words (seg_train, imagenet-val-003).
NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev", "eval"),
         "test": ("test", "testing")}


@dataclass(frozen=True)
class Data:
    """What is trained and scored on.

    Attributes:
        splits: `val` is for choosing, `test` is reported on; the same images where there is one part for both.
        classes: their names, by label.
        held_out: whether the validation images are a share of the training images.
        tested: whether there is a test part by itself.
        parts: the images as they were found, before any were held out.
    """

    splits: Splits
    classes: list[str]
    held_out: bool
    tested: bool
    parts: tuple[Images, ...] = ()


def load(path: Path, share: float, seed: int) -> Data:
    """The images of a folder or of shards.

    Args:
        path: a folder of one folder a class; one with train/ and val/ or test/, see `NAMES`, that are such folders or
            hold shards; one of shards, whose names may hold these words; or one shard.
        share: of the images of each class to hold out where there is no part for validation.
        seed: of what is held out.

    Raises:
        DataError: there are no such images, fewer than two classes, or the parts differ in their classes; or beside
            the parts there are images of which nothing tells what they are for.
    """
    parts = _parts(path)
    classes = parts["train"][1]
    for name, (_, others) in parts.items():
        if others != classes:
            raise DataError(f"{path}: the parts train and {name} hold different classes: {name} lacks "
                            f"{sorted(set(classes) - set(others))[:5]} and has besides "
                            f"{sorted(set(others) - set(classes))[:5]}")
    if len(classes) < 2:
        raise DataError(f"{path} holds one class, {classes[0]!r}; a classifier needs two: one folder a class")
    images = {name: found for name, (found, _) in parts.items()}
    found = tuple(images.values())
    if "val" not in images and "test" not in images:
        images["train"], images["val"] = hold_out(images["train"], share, seed, classes)
    val = images.get("val", images.get("test"))
    splits = Splits(images["train"], val, images.get("test", val), len(classes))
    return Data(splits, classes, parts.keys() == {"train"}, {"val", "test"} <= images.keys(), found)


def check(images: Data, cache: Path) -> None:
    """Reads all files of images once, so that none ends a training later; see `folders.check_whole`.

    Raises:
        DataError: some cannot be read.
    """
    if files := [part for part in images.parts if isinstance(part.read, FileReader)]:
        check_whole(files, cache)


def hold_out(images: Images, share: float, seed: int, classes: Sequence[str]) -> tuple[Images, Images]:
    """(the rest, the held out), of each class the share, at least one image of each.

    Raises:
        DataError: a class has one image only.
    """
    rest, held = [], []
    for label, name in enumerate(classes):
        own = np.flatnonzero(images.labels == label)
        if len(own) < 2:
            raise DataError(f"class {name!r} has {len(own)} image; to hold some out for validation it needs two")
        count = min(max(1, round(share * len(own))), len(own) - 1)
        order = own[permutation(len(own), "held out", seed, label)]
        held += order[:count].tolist()
        rest += order[count:].tolist()
    return images.subset(sorted(rest)), images.subset(sorted(held))


def _parts(path: Path) -> dict[str, tuple[Images, list[str]]]:
    """"train" and what there is of "val" and "test" -> images and the names of their classes."""
    if not path.exists():
        raise DataError(f"{path.resolve()} does not exist; name a folder of images, of one folder a class, or a shard")
    if path.is_file():
        return {"train": one_part(path)}
    if folders := _sorted([folder for folder in sorted(path.iterdir()) if _holds_images(folder)]):
        return {part: one_part(folder) for part, (folder,) in folders.items()}
    if tars := _sorted(sorted(path.glob("*.tar"))):
        return {part: shards.load(found) for part, found in tars.items()}
    return {"train": one_part(path)}


def _sorted(found: Sequence[Path]) -> dict[str, list[Path]]:
    """Folders or shards by the part that their names tell; nothing where no name tells what to train on.

    Raises:
        DataError: some name tells of no part, or of several, or two folders of the same.
    """
    of = {path: [part for part, names in NAMES.items() if set(names) & set(_words(path))] for path in found}
    parts = {part: [path for path in found if part in of[path]] for part in NAMES}
    # A class may be called train: its folder holds images.
    if not any(path.is_file() or _holds_folders(path) for path in parts["train"]):
        return {}
    told = ", ".join(f"{' or '.join(names)} ({part})" for part, names in NAMES.items())
    for path, known in of.items():
        if len(known) != 1 or (path.is_dir() and len(parts[known[0]]) > 1):
            raise DataError(f"{path}: is it to train on, to validate or to test? Beside {parts['train'][0].name} its "
                            f"name must tell by one of these words, each part once: {told}. Rename it, or move it away")
    return {part: paths for part, paths in parts.items() if paths}


def _words(path: Path) -> list[str]:
    """Those in a name, in small letters: of IN1k-val_003.tar in, k, val, tar."""
    return re.findall("[a-z]+", path.name.lower())


def _holds_images(folder: Path) -> bool:
    """Whether a folder holds an image or a shard, however deep."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    return any(Path(name).suffix.lower() in (".tar", *IMG_EXTENSIONS)
               for _, _, names in os.walk(folder, followlinks=True) for name in names)


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() or path.suffix == ".tar" for path in folder.iterdir())


def one_part(folder: Path) -> tuple[Images, list[str]]:
    """The images of one folder a class or of shards, all of them, and the classes' names by label.

    Raises:
        DataError: there are no such images.
    """
    if folder.is_file():
        return shards.load([folder])
    if tars := sorted(folder.glob("*.tar")):
        return shards.load(tars)
    try:
        return folder_images(folder)
    except DataError as error:
        raise DataError(f"{error}\nOf {folder} each folder is a class and must hold images; or name a folder with "
                        "train/ and val/ that are such folders, or with shards, *.tar") from error

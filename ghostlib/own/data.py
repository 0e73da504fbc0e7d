"""Any folder of images or tar shards as what a training needs: parts, classes by name, and images by number."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL.Image import registered_extensions
from torchvision.datasets.folder import IMG_EXTENSIONS

from ghostlib.own import shards
from ghostlib.training.datasets import Splits
from ghostlib.training.folders import check_whole, folder_images
from ghostlib.training.images import DataError, FileReader, Images
from ghostlib.training.randomness import permutation

# What the parts of a data set are called, whatever the case, alone or among other words (seg_train, imagenet-val-003).
NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev", "eval"),
         "test": ("test", "testing")}
# What remembers which files and which shards were read once, before anything was trained.
WHOLE = ("whole-images.npy", "whole-shards.json")


@dataclass(frozen=True)
class Data:
    """What is trained and scored on.

    Attributes:
        splits: `val` is for choosing, `test` is reported on; the same images where there is one part for both.
        classes: their names, by label.
        held_out: whether the validation images are a share of the training images.
        tested: whether there is a test part by itself.
        parts: the images as they were found, before any were held out.
        named: whether folders or shards were parts by their names, and not classes.
        passed_over: ending -> files of images that Pillow may read and torchvision's `ImageFolder`, of folders, or
            `shards` do not.
    """

    splits: Splits
    classes: list[str]
    held_out: bool
    tested: bool
    parts: tuple[Images, ...] = ()
    named: bool = False
    passed_over: Mapping[str, int] = field(default_factory=dict)


def load(path: Path, share: float) -> Data:
    """The images of a folder or of shards.

    Args:
        path: a folder of one folder a class; one with train/ and val/ or test/, see `NAMES`, that are such folders or
            hold shards; one of shards, whose names may hold these words; or one shard.
        share: of the images of each class to hold out where there is no part for validation.

    Raises:
        DataError: there are no such images, fewer than two classes, or the parts differ in their classes; or beside
            the parts there are images of which nothing tells what they are for.
    """
    parts, named = _parts(path)
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
        images["train"], images["val"] = hold_out(images["train"], share, classes)
    val = images.get("val", images.get("test"))
    splits = Splits(images["train"], val, images.get("test", val), len(classes))
    return Data(splits, classes, parts.keys() == {"train"}, {"val", "test"} <= images.keys(), found, named,
                sum((part.read.passed_over for part in found if isinstance(part.read, shards.Reader)),
                    _passed_over(path)))


def check(images: Data, folder: Path) -> None:
    """Reads all images once, so that none ends a training later.

    Args:
        images: of folders or shards.
        folder: gets `WHOLE`; see `folders.check_whole` and `shards.check_whole`.

    Raises:
        DataError: some cannot be read.
    """
    if files := [part for part in images.parts if isinstance(part.read, FileReader)]:
        check_whole(files, folder / WHOLE[0])
    if readers := [part.read for part in images.parts if isinstance(part.read, shards.Reader)]:
        shards.check_whole(readers, folder / WHOLE[1])


def hold_out(images: Images, share: float, classes: Sequence[str]) -> tuple[Images, Images]:
    """(the rest, the held out), of each class the share, at least one image of each.

    The same images whatever the seed of a training, and of a larger share these and more: seeds are scored on one set
    of images, and a teacher of no smaller share has not learned what its student is scored on.

    Raises:
        DataError: a class has one image only.
    """
    rest, held = [], []
    for label, name in enumerate(classes):
        own = np.flatnonzero(images.labels == label)
        if len(own) < 2:
            raise DataError(f"class {name!r} has {len(own)} image; to hold some out for validation it needs two")
        count = min(max(1, round(share * len(own))), len(own) - 1)
        order = own[permutation(len(own), "held out", 0, label)]
        held += order[:count].tolist()
        rest += order[count:].tolist()
    return images.subset(sorted(rest)), images.subset(sorted(held))


def _parts(path: Path) -> tuple[dict[str, tuple[Images, list[str]]], bool]:
    """"train" and what there is of "val" and "test" -> images and the names of their classes; whether names told so."""
    if not path.exists():
        raise DataError(f"{path.resolve()} does not exist; name a folder of images, of one folder a class, or a shard")
    if path.is_file():
        return {"train": one_part(path)}, False
    for found in ([folder for folder in _shown(path) if folder.is_dir()], _tars(path)):
        if parts := _by_name(found):
            return {part: shards.load(paths) if paths[0].is_file() else one_part(paths[0])
                    for part, paths in parts.items()}, True
    try:
        return {"train": one_part(path)}, False
    except DataError as error:
        raise DataError(f"{error}\nOf {path} each folder is a class and must hold images; or name a folder with train/ "
                        "and val/ that are such folders, or with shards, *.tar") from error


def one_part(folder: Path) -> tuple[Images, list[str]]:
    """The images of one folder a class or of shards, all of them, and the classes' names by label.

    Raises:
        DataError: there are no such images.
    """
    if not folder.exists():
        raise DataError(f"{folder} does not exist")
    if tars := [folder] if folder.is_file() else _tars(folder):
        return shards.load(tars)
    return folder_images(folder)


def _by_name(found: Sequence[Path]) -> dict[str, list[Path]]:
    """Folders or shards by the part that their names tell; nothing where no name tells what to train on.

    Raises:
        DataError: one with images tells of no part, or of several, or two folders of the same.
    """
    told = {path: [part for part, names in NAMES.items() if set(names) & set(_words(path.name))] for path in found}
    parts = {part: [path for path in found if told[path] == [part]] for part in NAMES}
    others = [path for path in found if len(told[path]) != 1 and (path.is_file() or _holds_images(path))]
    if not parts["train"] or _is_class(parts, others):
        return {}
    twice = next((paths for paths in parts.values() if len(paths) > 1 and paths[0].is_dir()), [])
    if unclear := [*others[:1], *twice[:2]]:
        words = "; ".join(f"{part}: {', '.join(names)}" for part, names in NAMES.items())
        raise DataError(f"{' and '.join(map(str, unclear))}: which images are to train on, to validate, to test? "
                        f"Beside {parts['train'][0].name} its name must tell by one of these ({words}), and not two "
                        "folders the same. Rename what does not, or name a folder of links to what you mean")
    return {part: paths for part, paths in parts.items() if paths}


def _is_class(parts: dict[str, list[Path]], others: Sequence[Path]) -> bool:
    """Whether folders called train are classes, as trains are beside buses: they hold images, and not classes."""
    trains, alone = parts["train"], not (parts["val"] or parts["test"])
    return alone and len([*trains, *others]) > 1 and all(
        train.is_dir() and any(map(_is_image, _shown(train))) for train in trains)


def _words(name: str) -> list[str]:
    """Those in a name, in small letters, without what only says that it is data: of IN1k-valSet_003 in, k and val."""
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name)
    return [re.sub("(?<=.)(s|set|data|dataset|images)$", "", word.lower()) for word in words]


def _holds_images(folder: Path) -> bool:
    """Whether a folder holds an image, however deep, or a shard."""
    for _, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(_is_image(Path(name)) for name in names if not name.startswith(".")):
            return True
    return bool(_tars(folder))


def _passed_over(folder: Path) -> Counter[str]:
    """How many files of each other kind of image a folder holds, such as .gif and .avif."""
    known, found = registered_extensions().keys() - set(IMG_EXTENSIONS), Counter()
    for _, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.update(ending for name in names if (ending := Path(name).suffix.lower()) in known)
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMG_EXTENSIONS


def _shown(folder: Path) -> list[Path]:
    """What is in a folder and not hidden, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _tars(folder: Path) -> list[Path]:
    """The shards in a folder; .pth.tar is a checkpoint's ending."""
    return [path for path in _shown(folder) if path.suffix == ".tar" and not path.name.endswith(".pth.tar")]

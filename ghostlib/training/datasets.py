"""Real images: handwritten digits (in a wheel), Fashion-MNIST, CIFAR-100, ImageNet, or a folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ghostlib.machine import world_size
from ghostlib.training.folders import check_whole, class_folders
from ghostlib.training.images import DataError, Images, array_images
from ghostlib.training.profile import Profile

DOWNLOADED = "data/FashionMNIST/raw"
FASHION_DIRS = ("/usr/share/datasets/fashion-mnist", DOWNLOADED)
WHOLE = "whole-images.npy"  # beside the runs: which image files were read once and are whole


@dataclass(frozen=True)
class Splits:
    """What a profile trains on, chooses on (`val`) and reports on (`test`)."""

    train: Images
    val: Images
    test: Images
    num_classes: int

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any image (a folder's: its name or size), label or split."""
        parts = "".join(images.digest for images in (self.train, self.val, self.test))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


def load(profile: Profile) -> Splits:
    """The profile's splits; the same ones for every seed and experiment.

    Raises:
        DataError: the data is absent (with where it was looked for) or torn, a class is missing, or the number of
            classes or images is not what the profile says.
    """
    loaders = {"digits": _digits, "fashion": _fashion, "cifar100": _cifar100, "imagenet": _imagenet,
               "folder": _imagenet}
    with _one_first(profile):
        pool, test = loaders[profile.data](profile)
    for part, images in (("training", pool), ("test", test)):
        _check_classes(images.labels, profile, part)
    rest, val = _split(pool, profile.val_images, profile, "val_images")
    _check_kept(rest, profile, "val_images", "hold out fewer")
    train = _chosen(rest, profile.train_images, profile, "train_images")
    test = _chosen(test, profile.test_images, profile, "test_images")
    _check_kept(train, profile, "train_images", "take more, or all (null)")
    _check_kept(test, profile, "test_images", "take more, or all (null)")
    return Splits(train, val, test, profile.num_classes)


def _one_first(profile: Profile) -> AbstractContextManager:
    """Lets the first of several processes download and look through the data while the others wait."""
    if world_size() == 1:
        return nullcontext()
    from ghostlib.training.processes import joined

    return joined(profile.device_type).main_process_first()


# -- the data sets: each gives (training pool, test)


def _digits(profile: Profile) -> tuple[Images, Images]:
    """scikit-learn's 1,797 handwritten digits, 8×8 px; 360 of them, stratified, are the test set."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = array_images((data.images * (255 / 16)).round().astype(np.uint8), data.target)
    return _split(images, 360, profile, "test images")


def _fashion(profile: Profile) -> tuple[Images, Images]:
    """Fashion-MNIST, 60,000 + 10,000 images of 28×28 px, from a local copy in IDX form or torchvision's download."""
    looked = [profile.data_dir] if profile.data_dir else list(FASHION_DIRS)
    # What a download has broken off is left to torchvision, which compares checksums.
    folder = next((Path(place) for place in looked if any(Path(place).glob("train-images-idx3-ubyte*"))
                   and (profile.data_dir or place != DOWNLOADED or _whole(Path(place)))), None)
    if folder is None and profile.data_dir:
        raise DataError(f"profiles.{profile.name}.data_dir = {profile.data_dir!r} in experiments.yaml holds no "
                        "train-images-idx3-ubyte[.gz]; point it to the folder with the four IDX files, or remove it")
    if folder is None:
        from torchvision.datasets import FashionMNIST

        try:
            folder = Path(FashionMNIST("data", download=True).raw_folder)
        except Exception as error:
            raise DataError(
                f"Fashion-MNIST is not in {' nor '.join(looked)} and could not be downloaded ({error}). Install "
                f"Debian's package dataset-fashion-mnist, or set profiles.{profile.name}.data_dir in experiments.yaml "
                "to the folder that holds the four IDX files") from error
    return _fashion_part(folder, "train"), _fashion_part(folder, "t10k")


def _whole(folder: Path) -> bool:
    try:
        return all(len(_fashion_part(folder, part)) for part in ("train", "t10k"))
    except DataError:
        return False


def _fashion_part(folder: Path, part: str) -> Images:
    pixels = _read_idx(folder, f"{part}-images-idx3-ubyte")
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte")
    if len(pixels) != len(labels):
        raise DataError(f"{folder}: {part} has {len(pixels)} images and {len(labels)} labels; fetch the files again")
    return array_images(pixels, labels)


def _cifar100(profile: Profile) -> tuple[Images, Images]:
    """CIFAR-100, 50,000 + 10,000 coloured images of 32×32 px in 100 classes, a local copy or torchvision's download."""
    from torchvision.datasets import CIFAR100

    root = profile.data_dir or "data"
    try:
        parts = [CIFAR100(root, train=train, download=profile.data_dir is None) for train in (True, False)]
    except Exception as error:
        raise DataError(
            f"CIFAR-100 is not whole in {Path(root, CIFAR100.base_folder).resolve()} ({error}). Unpack {CIFAR100.url} "
            f"into {Path(root).resolve()}, or set profiles.{profile.name}.data_dir in experiments.yaml to the folder "
            f"that holds {CIFAR100.base_folder}/") from error
    train, test = (array_images(part.data, np.asarray(part.targets)) for part in parts)
    return train, test


def _imagenet(profile: Profile) -> tuple[Images, Images]:
    """A folder in ImageNet's layout: train/<class>/* and val/<class>/*; its val is what is reported on."""
    named = profile.data_dir or os.environ.get("IMAGENET_DIR")
    what = "ImageNet" if profile.data == "imagenet" else "images"
    root = Path(named or "data/imagenet")
    if absent := [f"{part}/" for part in ("train", "val") if not (root / part).is_dir()]:
        raise DataError(
            f"no {what}: {' and '.join(absent)} not found in {root.resolve()}; results are of val/. Point to the "
            f"folder with profiles.{profile.name}.data_dir in experiments.yaml"
            + (" or the environment variable IMAGENET_DIR" if profile.data == "imagenet" else ""))
    parts = class_folders(root)
    cache = Path(os.environ.get("GHOSTLIB_RUNS", ".runs")) / WHOLE
    check_whole(parts, cache)
    return parts


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """An array in the IDX form of MNIST, compressed or not: two zero bytes, type, rank, the sizes, the values."""
    path = folder / name if (folder / name).exists() else folder / f"{name}.gz"
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        rank = raw[3]
        shape = np.frombuffer(raw, ">i4", rank, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{path} is missing or is not a whole IDX file ({error}); fetch it again") from error


def _check_classes(labels: np.ndarray, profile: Profile, part: str) -> None:
    found = np.unique(labels)
    if len(found) != profile.num_classes or found[-1] != profile.num_classes - 1:
        missing: Any = sorted(set(range(profile.num_classes)) - set(found.tolist()))
        raise DataError(f"the {part} images of {profile.data!r} hold {len(found)} classes, profile {profile.name!r} "
                        f"says num_classes = {profile.num_classes}" + (f"; without images: {missing[:10]}" if missing
                                                                       else ""))


def _check_kept(images: Images, profile: Profile, what: str, remedy: str) -> None:
    lost = np.flatnonzero(np.bincount(images.labels, minlength=profile.num_classes) == 0).tolist()
    if lost:
        raise DataError(f"experiments.yaml: profiles.{profile.name}.{what} = {getattr(profile, what)} leaves no image "
                        f"of {len(lost)} rare classes, e.g. of number {lost[0]}; {remedy}")


def _chosen(images: Images, number: int | None, profile: Profile, what: str) -> Images:
    """A stratified subset of so many images; all of them where that is None or all."""
    return images if number in (None, len(images)) else _split(images, number, profile, what)[1]


def _split(images: Images, held_out: int, profile: Profile, what: str) -> tuple[Images, Images]:
    """(the rest, `held_out` images), stratified; the same for every seed of training."""
    from sklearn.model_selection import train_test_split

    least = profile.num_classes
    if (rarest := np.bincount(images.labels).min()) < 2:
        raise DataError(f"profile {profile.name!r}: a class of {profile.data!r} has {rarest} image; {what} needs two "
                        f"of each (class number {np.bincount(images.labels).argmin()})")
    if not least <= held_out <= len(images) - least:
        raise DataError(f"profile {profile.name!r}: {what} = {held_out} must be between {least} and "
                        f"{len(images) - least}, so that both parts of the {len(images)} images hold every class")
    rest, chosen = train_test_split(np.arange(len(images)), test_size=held_out, stratify=images.labels, random_state=0)
    return images.subset(rest), images.subset(chosen)

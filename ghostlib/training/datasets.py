"""Real images: handwritten digits (in a wheel), Fashion-MNIST, ImageNet. Loaded, split and checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ghostlib.training.profile import Profile

FASHION_DIRS = ("/usr/share/datasets/fashion-mnist", "data/FashionMNIST/raw")


class DataError(ValueError):
    """Data that is missing, torn or not what the profile says."""


@dataclass(frozen=True)
class Images:
    """Labelled images; `read(i)` gives image i as RGB."""

    labels: np.ndarray  # (n,) int64
    read: Callable[[int], Image.Image]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Sequence[int]) -> Images:
        indices = np.asarray(indices, np.int64)
        digest = hashlib.sha256(self.digest.encode() + indices.astype("<i8").tobytes()).hexdigest()
        return Images(self.labels[indices], _SubsetReader(self.read, indices), digest)


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
        DataError: the data is absent (with where it was looked for), a class is missing, or the number of classes
            or images is not what the profile says.
    """
    loaders = {"digits": _digits, "fashion": _fashion, "imagenet": _imagenet}
    pool, test = loaders[profile.data](profile)
    for part, images in (("training", pool), ("test", test)):
        _check_classes(images.labels, profile, part)
    rest, val = _split(pool, profile.val_images, profile, "val_images")
    train = _chosen(rest, profile.train_images, profile, "train_images")
    return Splits(train, val, _chosen(test, profile.test_images, profile, "test_images"), profile.num_classes)


# -- the data sets: each gives (training pool, test)


def _digits(profile: Profile) -> tuple[Images, Images]:
    """scikit-learn's 1,797 handwritten digits, 8×8 px; 360 of them, stratified, are the test set."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = _array_images((data.images * (255 / 16)).round().astype(np.uint8), data.target)
    return _split(images, 360, profile, "test images")


def _fashion(profile: Profile) -> tuple[Images, Images]:
    """Fashion-MNIST, 60,000 + 10,000 images of 28×28 px, from a local copy in IDX form or torchvision's download."""
    looked = [profile.data_dir] if profile.data_dir else list(FASHION_DIRS)
    folder = next((Path(place) for place in looked if any(Path(place).glob("train-images-idx3-ubyte*"))), None)
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
                "Debian's package dataset-fashion-mnist, or set profiles.fashion.data_dir in experiments.yaml to the "
                "folder that holds the four IDX files") from error
    return _fashion_part(folder, "train"), _fashion_part(folder, "t10k")


def _fashion_part(folder: Path, part: str) -> Images:
    pixels = _read_idx(folder, f"{part}-images-idx3-ubyte")
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte")
    if len(pixels) != len(labels):
        raise DataError(f"{folder}: {part} has {len(pixels)} images and {len(labels)} labels; fetch the files again")
    return _array_images(pixels, labels)


def _imagenet(profile: Profile) -> tuple[Images, Images]:
    """A folder in ImageNet's layout: train/<class>/* and val/<class>/*; its val is what is reported on.

    Its digest is of the files' names and sizes: reading 150 GB at every start would cost an hour.
    """
    named = profile.data_dir or os.environ.get("IMAGENET_DIR")
    places = [named] if named else ["data/imagenet"]
    root = next((Path(place) for place in places if (Path(place) / "train").is_dir()), None)
    if root is None:
        raise DataError(
            f"no ImageNet: looked for train/ and val/ in {', '.join(str(Path(p).resolve()) for p in places)}. Point to "
            "the folder with profiles.imagenet.data_dir in experiments.yaml or the environment variable IMAGENET_DIR")
    pool, classes = folder_images(root / "train")
    test, test_classes = folder_images(root / "val")
    if classes != test_classes:
        missing, extra = sorted(set(classes) - set(test_classes)), sorted(set(test_classes) - set(classes))
        raise DataError(f"{root / 'val'} and {root / 'train'} hold different classes: val lacks {missing[:5]}, "
                        f"train lacks {extra[:5]}")
    return pool, test


def _array_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Grey images (n, h, w) uint8."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    return Images(labels.astype(np.int64), _ArrayReader(pixels), digest)


def folder_images(root: Path) -> tuple[Images, list[str]]:
    """The images under root/<class>/, and the classes' names in the order of their labels.

    Raises:
        DataError: the folder is absent, or a class in it is empty.
    """
    from torchvision.datasets import ImageFolder

    try:
        folder = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise DataError(f"{root}: {error}") from error
    listing = "\n".join(f"{Path(path).relative_to(root).as_posix()} {os.path.getsize(path)}"
                        for path, _ in folder.samples)

    reader = _FolderReader(tuple(path for path, _ in folder.samples))
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return Images(np.asarray(folder.targets, np.int64), reader, digest), folder.classes


# Readers are classes, not closures: data loader processes get them pickled.


@dataclass(frozen=True)
class _ArrayReader:
    pixels: np.ndarray  # (n, h, w) uint8

    def __call__(self, i: int) -> Image.Image:
        return Image.fromarray(self.pixels[i]).convert("RGB")


@dataclass(frozen=True)
class _FolderReader:
    paths: tuple[str, ...]

    def __call__(self, i: int) -> Image.Image:
        try:
            with Image.open(self.paths[i]) as image:
                return image.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{self.paths[i]} cannot be read as an image ({error}); replace or remove it") from error


@dataclass(frozen=True)
class _SubsetReader:
    read: Callable[[int], Image.Image]
    indices: np.ndarray  # (n,) int64

    def __call__(self, i: int) -> Image.Image:
        return self.read(self.indices[i])


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

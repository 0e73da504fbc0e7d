"""Tar shards in WebDataset's format: consecutive files of one name but for the ending are one sample.

    000001.jpg 000001.cls 000002.jpg 000002.cls ...

A sample's image is in .jpg, .jpeg, .png or .webp, its class in .cls (a number or a name) or in .json under "label".
WebDataset itself streams; here the headers are read once, and then each image by its place in the file, so that a view
stays a function of (seed, epoch, number) as for images in folders. classes.txt beside the shards names the numbers.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import registered_extensions
from tqdm import tqdm

from ghostlib.files import write_atomic
from ghostlib.training.images import DataError, Images, read_image

IMAGES = ("jpg", "jpeg", "png", "webp")
_SHOWN = 50  # bad images in a message


def load(paths: Sequence[Path]) -> tuple[Images, list[str]]:
    """The images of shards, and the classes' names in the order of their labels.

    Raises:
        DataError: a shard is torn or compressed, a sample has an image and no class, or no sample has either.
    """
    places, given, others = [], [], Counter()
    for path in paths:
        for place, label in _samples(path, others):
            places.append(place)
            given.append(label)
    if not places:
        raise DataError(f"{paths[0]} holds no sample: files NAME.jpg and NAME.cls of one NAME")
    names, labels = _classes(paths[0].parent / "classes.txt", given)
    listing = "\n".join(f"{Path(place.path).name} {place.start} {place.size} {label}"
                        for place, label in zip(places, labels, strict=True))
    return Images(np.asarray(labels, np.int64), Reader(tuple(places), others),
                  hashlib.sha256(listing.encode()).hexdigest()), names


def _classes(file: Path, given: Sequence[str]) -> tuple[list[str], list[int]]:
    """The classes' names, the lines of classes.txt or else what the samples are given, and each sample's label."""
    if numbered := all(label.isdigit() for label in given):
        given = [str(int(label)) for label in given]  # 007 is 7
    if not file.exists():
        names = sorted(set(given), key=int if numbered else None)
    else:
        names = [name.strip() for name in file.read_text(encoding="utf-8").split("\n") if name.strip()]
        if numbered and (most := max(map(int, given))) >= len(names):
            raise DataError(f"{file} names {len(names)} classes, and a sample has number {most}, counted from 0")
        if not numbered and (unknown := sorted(set(given) - set(names))):
            raise DataError(f"{file} does not name the classes {unknown[:5]} of the samples")
        if numbered:
            return names, list(map(int, given))
    labels = {name: label for label, name in enumerate(names)}
    return names, [labels[name] for name in given]


def _samples(path: Path, others: Counter[str]) -> Iterator[tuple[_Place, str]]:
    """The place of each sample's image and what its class is called there; counts the `others`, see `Reader`."""
    readable = registered_extensions()
    try:
        with tarfile.open(path, "r:") as tar:
            key, place, label = None, None, None
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                if (folder, stem) != key:
                    if key:
                        yield from _sample(path, key, place, label)
                    key, place, label = (folder, stem), None, None
                if ending.lower() in IMAGES:
                    place = _Place(str(path), member.name, member.offset_data, member.size)
                elif f".{ending.lower()}" in readable:
                    others[f".{ending.lower()}"] += 1
                elif ending in ("cls", "json"):
                    content = tar.extractfile(member).read().decode()
                    label = content.strip() if ending == "cls" else _labelled(json.loads(content)) or label
            if key:
                yield from _sample(path, key, place, label)
    except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is no whole, uncompressed tar of samples ({error}); unpack it or write it "
                        "again") from error


def _labelled(described: Any) -> str:
    """What a sample's .json calls its class, if it does."""
    label = described.get("label") if isinstance(described, dict) else None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label) if isinstance(label, int | str) and not isinstance(label, bool) else ""


def _sample(path: Path, key: tuple[str, str], place: _Place | None, label: str | None) -> Iterator[tuple[_Place, str]]:
    if place and not label:
        raise DataError(f"{path}: sample {'/'.join(filter(None, key))} has an image and no class; put it into "
                        f"{key[1]}.cls behind the image")
    if place:
        yield place, label


@dataclass(frozen=True)
class _Place:
    path: str
    name: str
    start: int  # byte
    size: int  # bytes


@dataclass(frozen=True)
class Reader:
    """Reads image i from its place.

    Attributes:
        places: of the images.
        passed_over: ending -> files of images that are of another kind than `IMAGES`.
    """

    places: tuple[_Place, ...]
    passed_over: Counter[str]

    def __call__(self, i: int) -> Image.Image:
        place = self.places[i]
        try:
            with open(place.path, "rb") as file:
                file.seek(place.start)
                return read_image(io.BytesIO(file.read(place.size)))
        except (DataError, OSError) as error:
            raise DataError(f"{place.path}: {place.name} cannot be read as an image ({error.__cause__ or error}); "
                            "replace or remove it") from error


def check_whole(readers: Sequence[Reader], cache: Path) -> None:
    """Reads every image of shards once, on all cores: none may end a training later.

    Args:
        readers: of the parts of a data set.
        cache: the file that remembers the shards of which all images were whole, by path, size and time of change.

    Raises:
        DataError: some cannot be read; all are named, or are in a file beside the cache where they are many.
    """
    whole = set(json.loads(cache.read_text(encoding="utf-8"))) if cache.exists() else set()
    unknown: dict[str, list[tuple[Reader, int]]] = {}
    for reader in readers:
        for i, place in enumerate(reader.places):
            unknown.setdefault(place.path, []).append((reader, i))
    unknown = {path: images for path, images in unknown.items() if _state(path) not in whole}
    if not unknown:
        return
    faults: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=sum(map(len, unknown.values())), unit="image",
                                                          desc="reading all images once") as bar:
        for path, images in unknown.items():  # Pillow decodes without holding Python's lock
            before = len(faults)
            for fault in pool.map(_fault, images):
                bar.update()
                faults += [fault] if fault else []
            if len(faults) == before:
                whole.add(_state(path))
                write_atomic(cache, json.dumps(sorted(whole)))
    if faults:
        write_atomic(everything := cache.with_suffix(".txt"), "\n".join(faults) + "\n")
        more = [f"and {len(faults) - _SHOWN} more, all in {everything}"] if len(faults) > _SHOWN else []
        raise DataError("\n".join([f"{len(faults)} images cannot be read; nothing was trained:", *faults[:_SHOWN],
                                   *more]))


def _fault(image: tuple[Reader, int]) -> str:
    reader, i = image
    try:
        reader(i)
    except DataError as error:
        return str(error)
    return ""


def _state(path: str) -> str:
    """A shard's path, size and time of change."""
    status = os.stat(path)
    return f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"

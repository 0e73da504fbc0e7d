"""A small detection set in COCO's format: a profile's real images, laid out as objects on larger canvases with clutter.

    folder = write(profile, Layout(), Path(".runs/scenes"))
    folder/annotations/{train,val,tune}.json  folder/{train,val,tune}/*.png  folder/README.md
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from ghostlib.detection.layout import Layout
from ghostlib.files import sweep, write_atomic
from ghostlib.runs.digest import code_of
from ghostlib.training import datasets
from ghostlib.training.datasets import DataError, Images
from ghostlib.training.profile import Profile
from ghostlib.training.randomness import seed_of

CODE = code_of("ghostlib.detection.scenes")
CATEGORIES = {
    "digits": tuple("0123456789"),
    "fashion": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                "Ankle boot"),
}
# An object's box holds its pixels brighter than this (out of 255); below it an enlarged edge fades out.
_INK = 64
# The brightest grey of background and clutter. An object's own greys are kept: a pixel takes the brighter of the two.
_CLUTTER = 110
_ATTEMPTS = 50  # to find room for an object

SOURCES = {
    "digits": "scikit-learn's handwritten digits (8 × 8 px)",
    "fashion": "images of Fashion-MNIST (28 × 28 px)",
}

README = """# {count} scenes of {source}

Objects on canvases of {side} × {side} px, in COCO's format, for Table 10 where COCO is not at hand.

- **Real pixels**: every object is an image of that data set, enlarged, its grey levels kept. The scenes of `train` are
  made of its training images, those of `val`, which detectors are reported on, of its test images, and those of
  `tune`, which a learning rate is chosen on, of its validation images; no image is in two of them.
- **Synthetic layout**: number, size and place of the objects, the background and the clutter (lines, ellipses, pieces
  of other objects) are drawn at random, seed {seed}.
- **No claim about COCO**: what a detector scores here says nothing about what it scores there. It shows that a backbone
  trains and detects.

Made by `ghostlib.detection.scenes` from {digest}, with {layout}.
"""


@dataclass(frozen=True)
class Scene:
    """One image with its objects: labels and boxes (x, y, width, height) in px."""

    image: Image.Image
    labels: list[int]
    boxes: list[tuple[int, int, int, int]]


def write(profile: Profile, layout: Layout, root: Path) -> Path:
    """Writes the profile's detection set, unless it is there.

    Returns:
        Its folder under `root`. The name holds the profile and a hash of the images, the layout and this code, so a
        folder that is there is whole and up to date.

    Raises:
        DataError: the profile's images cannot be laid out, or are absent.
    """
    if profile.data not in CATEGORIES:
        raise DataError(f"profile {profile.name!r} has no scenes: {profile.data!r} are photographs, which cannot be "
                        f"laid out as objects (only {', '.join(CATEGORIES)} can); use COCO in data/coco")
    splits = datasets.load(profile)
    decides = {"data": splits.digest, "layout": layout.model_dump(mode="json"), "code": CODE}
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / f"{profile.name}-{key}"
    if folder.is_dir():
        return folder
    sweep(root, ".*.tmp")
    unfinished = root / f".{folder.name}.{uuid4().hex[:8]}.tmp"  # no process number: two containers may share a store
    try:
        unfinished.mkdir(parents=True)
        parts = {"train": (splits.train, layout.train), "val": (splits.test, layout.val),
                 "tune": (splits.val, layout.val)}
        for part, (images, count) in parts.items():
            _write_part(unfinished, part, images, count, layout, CATEGORIES[profile.data])
        readme = README.format(count=sum(count for _, count in parts.values()), source=SOURCES[profile.data],
                               side=layout.side, seed=layout.seed, digest=splits.digest, layout=layout)
        write_atomic(unfinished / "README.md", readme)
        os.replace(unfinished, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def draw(images: Images, layout: Layout, part: str, index: int) -> Scene:
    """Scene `index` of a part (train, val, tune): a function of the images, the layout, the part and the index."""
    random = np.random.default_rng(seed_of("scene", layout.seed, part, index))
    canvas = _background(random, layout.side)
    for _ in range(layout.clutter):
        canvas = _with_clutter(canvas, random, images)
    labels, boxes = [], []
    for _ in range(random.integers(layout.objects[0], layout.objects[1], endpoint=True)):
        chosen = int(random.integers(len(images)))
        ink = _enlarged(images.read(chosen), _log_uniform(random, *layout.sizes))
        if (place := _free_place(random, layout, ink.size, boxes)) is not None:
            labels.append(int(images.labels[chosen]))
            boxes.append((*place, *ink.size))
            canvas = _brighter(canvas, ink, place)
    return Scene(canvas, labels, boxes)


def _write_part(folder: Path, part: str, images: Images, count: int, layout: Layout, names: tuple[str, ...]) -> None:
    (folder / part).mkdir()
    content: dict[str, Any] = {
        "info": {"description": "Real images in synthetic scenes; see README.md"}, "images": [], "annotations": [],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(names)]}
    for index in range(count):
        scene = draw(images, layout, part, index)
        file = f"{index:05d}.png"
        scene.image.save(folder / part / file)
        content["images"].append({"id": index + 1, "file_name": file, "width": layout.side, "height": layout.side})
        content["annotations"] += _annotations(scene, index + 1, len(content["annotations"]) + 1)
    write_atomic(folder / "annotations" / f"{part}.json", json.dumps(content))


def _annotations(scene: Scene, image_id: int, first_id: int) -> Iterator[dict[str, Any]]:
    for number, (label, box) in enumerate(zip(scene.labels, scene.boxes, strict=True)):
        yield {"id": first_id + number, "image_id": image_id, "category_id": label + 1, "bbox": list(box),
               "area": box[2] * box[3], "iscrowd": 0}


# -- drawing, in greys until the end


def _background(random: np.random.Generator, side: int) -> Image.Image:
    """Soft light and shadow: a grid of 4×4 greys, enlarged."""
    grid = random.integers(0, _CLUTTER // 2, (4, 4), dtype=np.uint8)
    return Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def _with_clutter(canvas: Image.Image, random: np.random.Generator, images: Images) -> Image.Image:
    """The canvas with a line, an ellipse or a piece of an object, dim as the background."""
    grey = int(random.integers(_CLUTTER // 2, _CLUTTER))
    corners = random.integers(0, canvas.width, 4)
    (left, right), (top, bottom) = np.sort(corners[:2]), np.sort(corners[2:])
    kind = random.integers(3)
    if kind == 2:
        piece = _enlarged(images.read(int(random.integers(len(images)))), int(random.integers(24, 72)))
        piece = piece.crop((0, 0, piece.width, max(1, piece.height // 3))).point(lambda value: value * grey // 255)
        return _brighter(canvas, piece, (int(left), int(top)))
    draws = ImageDraw.Draw(canvas)
    if kind == 0:
        draws.line(tuple(map(int, corners)), fill=(grey,) * 3, width=int(random.integers(1, 5)))
    else:
        draws.ellipse((int(left), int(top), int(right), int(bottom)), outline=(grey,) * 3, width=2)
    return canvas


def _enlarged(image: Image.Image, side: int) -> Image.Image:
    """An image with its longer side scaled to `side` px, cropped to what is not black."""
    scale = side / max(image.size)
    image = image.resize([max(1, round(length * scale)) for length in image.size], Image.Resampling.BICUBIC)
    return image.crop(image.convert("L").point(lambda value: 255 * (value > _INK)).getbbox())


def _log_uniform(random: np.random.Generator, least: int, most: int) -> int:
    return round(float(np.exp(random.uniform(np.log(least), np.log(most)))))


def _free_place(random: np.random.Generator, layout: Layout, size: tuple[int, int],
                boxes: list[tuple[int, int, int, int]]) -> tuple[int, int] | None:
    """The upper left corner (x, y) of a place where boxes overlap no more than allowed; None if none is found."""
    for _ in range(_ATTEMPTS):
        x, y = (int(random.integers(0, layout.side - length, endpoint=True)) for length in size)
        if all(_covered_share((x, y, *size), box) <= layout.overlap for box in boxes):
            return x, y
    return None


def _covered_share(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """The share of the smaller of two boxes that lies within the other."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height) / min(one[2] * one[3], other[2] * other[3])


def _brighter(canvas: Image.Image, ink: Image.Image, place: tuple[int, int]) -> Image.Image:
    """The canvas with the ink laid over it: each pixel is the brighter of the two."""
    layer = Image.new("RGB", canvas.size)
    layer.paste(ink, place)
    return ImageChops.lighter(canvas, layer)

"""A small detection set in COCO's format: a profile's real images, laid out as objects on larger canvases with clutter.

    folder = write(profile, Layout(), Path(".runs/scenes"))
    folder/annotations/{train,val}.json  folder/{train,val}/*.png  folder/README.md
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

import numpy as np
from PIL import Image, ImageChops, ImageDraw
from pydantic import Field, model_validator

from ghostlib.config import Config
from ghostlib.training import datasets
from ghostlib.training.datasets import DataError, Images
from ghostlib.training.profile import Profile
from ghostlib.training.randomness import seed_of
from ghostlib.training.recipe import Share

CATEGORIES = {
    "digits": tuple("0123456789"),
    "fashion": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                "Ankle boot"),
}
# An object's box holds its pixels brighter than this (of 255); below it an enlarged edge fades out.
_INK = 64
# The brightest that background and clutter get. An object's own greys are kept: a pixel is the brighter of the two.
_CLUTTER = 110
_ATTEMPTS = 50

SOURCES = {
    "digits": "scikit-learn's handwritten digits (8 × 8 px)",
    "fashion": "images of Fashion-MNIST (28 × 28 px)",
}

README = """# {count} scenes of {source}

Objects on canvases of {side} × {side} px, in COCO's format, for Table 10 where COCO is not at hand.

- **Real pixels**: every object is an image of that data set, enlarged, its grey levels kept. The scenes of `train` are
  made of its training images, those of `val` of its test images; no image is in both.
- **Synthetic layout**: number, size and place of the objects, the background and the clutter (lines, ellipses, pieces
  of other objects) are drawn at random, seed {seed}.
- **No claim about COCO**: what a detector scores here says nothing about what it scores there. It shows that a backbone
  trains and detects.

Made by `ghostlib.detection.scenes` from {digest}, with {layout}.
"""


class Layout(Config):
    """How scenes are drawn."""

    train: int = Field(400, ge=1, description="number of scenes to train on")
    val: int = Field(100, ge=1, description="number of scenes to evaluate on")
    side: int = Field(256, ge=1, description="of the square canvas (px)")
    objects: tuple[int, int] = Field((2, 6), description="fewest and most of a scene; fewer where no more find room")
    sizes: tuple[int, int] = Field((24, 144), description="smallest and largest side (px) that an image is enlarged "
                                                          "to, drawn evenly on a logarithmic scale")
    overlap: Share = Field(0.1, description="the largest share of an object's box that another one's may cover")
    clutter: int = Field(12, ge=0, description="number of lines, ellipses and pieces of objects of a scene")
    seed: int = Field(0, ge=0, description="of everything that is drawn")

    @model_validator(mode="after")
    def _ranges(self) -> Layout:
        for name, (least, most) in {"objects": self.objects, "sizes": self.sizes}.items():
            if not 1 <= least <= most:
                raise ValueError(f"{name} = {(least, most)} must be the least and the most, from 1 on")
        if self.sizes[1] > self.side:
            raise ValueError(f"sizes = {self.sizes}: an object of {self.sizes[1]} px has no room on {self.side} px")
        return self


@dataclass(frozen=True)
class Scene:
    """One image with its objects: labels and boxes (x, y, width, height) in px."""

    image: Image.Image
    labels: list[int]
    boxes: list[tuple[int, int, int, int]]


def write(profile: Profile, layout: Layout, root: Path) -> Path:
    """Writes the profile's detection set, or finds it written.

    Returns:
        Its folder under `root`, named by the profile and a hash of the images, the layout and this file: what is there
        is whole and up to date.

    Raises:
        DataError: the profile's images cannot be laid out, or are absent.
    """
    if profile.data not in CATEGORIES:
        raise DataError(f"profile {profile.name!r} has no scenes: {profile.data!r} are photographs, which cannot be "
                        f"laid out as objects (only {', '.join(CATEGORIES)} can); use COCO in data/coco")
    splits = datasets.load(profile)
    code = Path(__file__).read_text(encoding="utf-8")
    decides = {"data": splits.digest, "layout": layout.model_dump(mode="json"), "code": code}
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / f"{profile.name}-{key}"
    if folder.is_dir():
        return folder
    unfinished = root / f".{folder.name}.{os.getpid()}.tmp"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process that had this number
        unfinished.mkdir(parents=True)
        for part, images, count in (("train", splits.train, layout.train), ("val", splits.test, layout.val)):
            _write_part(unfinished, part, images, count, layout, CATEGORIES[profile.data])
        readme = README.format(count=layout.train + layout.val, source=SOURCES[profile.data],
                               side=layout.side, seed=layout.seed, digest=splits.digest, layout=layout)
        (unfinished / "README.md").write_text(readme, encoding="utf-8")
        os.replace(unfinished, folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def draw(images: Images, layout: Layout, part: str, index: int) -> Scene:
    """Scene `index` of a part: a function of the images, the layout and these names."""
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
    path = folder / "annotations" / f"{part}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


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
    """The left upper corner (x, y) of a place where nothing is covered by more than allowed; None if none was found."""
    for _ in range(_ATTEMPTS):
        x, y = (int(random.integers(0, layout.side - length, endpoint=True)) for length in size)
        if all(_covered((x, y, *size), box) <= layout.overlap for box in boxes):
            return x, y
    return None


def _covered(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """The share of the smaller of two boxes that lies within the other."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height) / min(one[2] * one[3], other[2] * other[3])


def _brighter(canvas: Image.Image, ink: Image.Image, place: tuple[int, int]) -> Image.Image:
    """The canvas with the ink laid over it: of each pixel the brighter one."""
    layer = Image.new("RGB", canvas.size)
    layer.paste(ink, place)
    return ImageChops.lighter(canvas, layer)

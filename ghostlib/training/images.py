"""Labelled images, and how one file is read: upright, in RGB, as one sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_DEEP = ("I;16", "I;16L", "I;16B", "I")  # Pillow's modes of 16 bits; it reads some such files into 32


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


def read_image(path: str | Path) -> Image.Image:
    """An image file as RGB: turned upright as its EXIF data says, on white where it is transparent.

    Greys of 16 bits keep their eight highest, and are refused where that would make an image black that is not. Pillow
    by itself would turn nothing, show what is under the transparency and make all greys above 255 white.

    Raises:
        DataError: it is not an image, is torn, has more pixels than Pillow reads, or values of no known range; the
            message names the file.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return _as_rgb(_upright(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over: OSError, SyntaxError, struct.error
        raise DataError(f"{path} cannot be read as an image ({_reason(error)}); replace or remove it") from error


def array_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Grey images (n, h, w) or coloured ones (n, h, w, 3), uint8."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    return Images(labels.astype(np.int64), _ArrayReader(pixels), digest)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF data may be broken where the pixels are not; some of ImageNet's are
        return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("its greys have 32 bits, of no known range; save it with 8 or 16")
        if 0 < values.max() < 0x100:
            raise ValueError(f"its greys have 16 or 32 bits and only go up to {values.max()}, which is black there; "
                             "save it with 8")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its greys are floating-point numbers, of no known range; save it with 8 or 16 bits")
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than the {2 * Image.MAX_IMAGE_PIXELS:,} that Pillow takes for harmless; scale it down"
    return str(error) or type(error).__name__


# Readers are classes, not closures: data loader processes get them pickled.


@dataclass(frozen=True)
class FileReader:
    """Reads image i from the i-th of the paths."""

    paths: tuple[str, ...]

    def __call__(self, i: int) -> Image.Image:
        return read_image(self.paths[i])


@dataclass(frozen=True)
class _ArrayReader:
    pixels: np.ndarray  # (n, h, w) or (n, h, w, 3) uint8

    def __call__(self, i: int) -> Image.Image:
        return Image.fromarray(self.pixels[i]).convert("RGB")


@dataclass(frozen=True)
class _SubsetReader:
    read: Callable[[int], Image.Image]
    indices: np.ndarray  # (n,) int64

    def __call__(self, i: int) -> Image.Image:
        return self.read(self.indices[i])

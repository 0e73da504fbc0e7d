"""Generated images, and a training of a few steps on them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

for package in ("accelerate", "tabulate", "tensorboard", "tqdm", "yaml"):
    pytest.importorskip(package)

SIDE = 40
# 12 images, 4 held out: 2 epochs of 2 steps.
TINY = {"epochs": 2, "batch_size": 4, "image_size": SIDE, "held_out": 0.3}


def jpeg(seed: int) -> bytes:
    """Noise as a JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg")
    return stream.getvalue()


def folder(root: Path, classes: str = "ab", images: int = 6, seed: int = 0) -> Path:
    """Images in one folder a class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(images):
            (root / name / f"{i}.jpg").write_bytes(jpeg(seed + 100 * number + i))
    return root


def shard(path: Path, samples: list[dict[str, bytes]]) -> Path:
    """A tar of samples, each ending -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for ending, content in sample.items():
                info = tarfile.TarInfo(f"{number:04d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def images(tmp_path) -> Path:
    return folder(tmp_path / "images")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The working folder of a test, with a network of the user's own in net.py."""
    (tmp_path / "net.py").write_text('''
from torch import nn


def network(num_classes, width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def pair(num_classes):
    return nn.Identity()


def nothing(num_classes):
    return None
''', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "net", raising=False)
    return tmp_path

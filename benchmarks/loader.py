"""Times the making of training views from JPEGs: ghostlib's loader beside timm's, images a second of one core.

Both read the same generated files of ImageNet's usual size with the same augmentation. timm's stands there twice: as it
is used without its prefetcher, which normalises in the worker, and with it, which leaves normalising and erasing to the
device, as ours does; on a CPU, as here, that is the same core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from timm.data import create_loader
from torchvision.datasets import ImageFolder

from ghostlib.machine import cpu_name
from ghostlib.training import datasets
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe
from ghostlib.training.views import MEAN, STD, on_device, train_loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{cpu_name()}, one core, {options.images} JPEGs of 500 × 375 px to 224 px, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), options.images)
        passes = loaders(Path(folder))
        times: dict[str, list[float]] = {name: [] for name in passes}
        for _ in range(options.rounds + 1):  # interleaved; the first round warms up
            for name, batches in passes.items():
                start = time.process_time()
                seen = sum(len(labels) for _, labels in batches())
                times[name].append((time.process_time() - start) / seen)
        base = np.median(times["timm's"][1:])
        for name, seconds in times.items():
            median = np.median(seconds[1:])
            print(f"{name:24} {1 / median:6.0f} images/s, {base / median:.2f} × timm's")


def generate(folder: Path, images: int) -> None:
    """Two classes of pictures that compress as photographs do."""
    rng = np.random.default_rng(0)
    for part, number in (("train", images), ("val", 4)):
        for index in range(number):
            path = folder / part / f"class{index % 2}" / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            rough = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
            rough.resize((500, 375), Image.Resampling.BICUBIC).filter(ImageFilter.DETAIL).save(path, quality=90)


def loaders(folder: Path) -> dict[str, Callable[[], Iterable]]:
    """Name -> one pass over the training images, each loader with its own way to seed."""
    profile = Profile(name="loader", scale="", data="imagenet", data_dir=str(folder), num_classes=2, image_size=224,
                      val_images=2, device="cpu")
    recipe = Recipe(batch_size=16)
    ours, order = train_loader(datasets.load(profile).train, recipe, profile, seed=0)

    def epoch() -> Iterable:
        order.epoch += 1
        return (on_device(batch, torch.device("cpu")) for batch in ours)

    options = dict(input_size=(3, 224, 224), batch_size=recipe.batch_size, is_training=True, scale=recipe.crop_scale,
                   hflip=recipe.hflip, color_jitter=None, auto_augment=recipe.augmentation, interpolation="bicubic",
                   mean=MEAN, std=STD, re_prob=recipe.erasing, re_mode="pixel", num_workers=0,
                   persistent_workers=False, device=torch.device("cpu"))
    plain, fetching = (create_loader(ImageFolder(folder / "train"), use_prefetcher=prefetcher, **options)
                       for prefetcher in (False, True))
    return {"ghostlib's": epoch, "timm's": lambda: plain, "timm's, prefetching": lambda: fetching}


if __name__ == "__main__":
    main()

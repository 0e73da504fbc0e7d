"""What a network sees of the images: augmented views as functions of (seed, epoch, image), in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from torch.utils.data import DataLoader, Dataset, Sampler

from ghostlib.training.datasets import DataError, Images
from ghostlib.training.profile import Profile
from ghostlib.training.randomness import addressed, permutation
from ghostlib.training.recipe import Recipe
from ghostlib.training.split import Split

MEAN, STD = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


class Views(Dataset):
    """What the network sees: item (epoch, i) is image i's augmented view in that epoch, as (tensor, label)."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], torch.Tensor], seed: int):
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, address: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = address
        with addressed("view", self.seed, epoch, index):
            return self.transform(self.images.read(index)), int(self.images.labels[index])


class Batches(Sampler):
    """The addresses (epoch, i) of a process's passes in steps `begin` to `end` of an epoch: set these before iterating.

    An epoch's order is a function of (seed, epoch). The incomplete last batch is left out.
    """

    def __init__(self, n: int, seed: int, split: Split):
        self.n, self.seed, self.split = n, seed, split
        self.steps = n // split.batch  # of an epoch
        self.epoch, self.begin, self.end = 0, 0, self.steps

    def __len__(self) -> int:
        return (self.end - self.begin) * self.split.passes

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = permutation(self.n, "order", self.seed, self.epoch)
        for step in range(self.begin, self.end):
            batch = order[step * self.split.batch:(step + 1) * self.split.batch]
            for slot in self.split.slots:
                yield [(self.epoch, i) for i in self.split.part(batch, slot)]


def train_loader(images: Images, recipe: Recipe, profile: Profile, seed: int,
                 split: Split | None = None) -> tuple[DataLoader, Batches]:
    """Batches of augmented views, a pass each, and which ones these are; `split` is by default the whole batch."""
    if len(images) < recipe.batch_size:
        raise DataError(f"{len(images)} training images are less than one batch of {recipe.batch_size}; "
                        "lower batch_size or raise train_images")
    transform = create_transform(
        profile.image_size, is_training=True, scale=recipe.crop_scale, hflip=recipe.hflip, color_jitter=None,
        auto_augment=recipe.augmentation, interpolation="bicubic", mean=MEAN, std=STD, re_prob=recipe.erasing,
        re_mode="pixel")
    order = Batches(len(images), seed, split or Split(recipe.batch_size))
    loader = DataLoader(Views(images, transform, seed), batch_sampler=order, num_workers=profile.workers,
                        persistent_workers=profile.workers > 0, pin_memory=profile.device_type == "cuda")
    return loader, order


def eval_loader(images: Images, profile: Profile, batch_size: int = 256, rank: int = 0,
                processes: int = 1) -> DataLoader:
    """Batches of the images themselves, resized and cropped in the middle; of several processes each gets its part."""
    transform = create_transform(profile.image_size, crop_pct=profile.crop_pct, interpolation="bicubic", mean=MEAN,
                                 std=STD)
    first, last = (len(images) * part // processes for part in (rank, rank + 1))
    addresses = [(0, i) for i in range(first, last)]
    return DataLoader(Views(images, transform, seed=0), batch_size, sampler=addresses, num_workers=profile.workers)

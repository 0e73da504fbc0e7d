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


class EpochOrder(Sampler):
    """The addresses (epoch, i) of one epoch in its order, a function of (seed, epoch); set `epoch` before iterating."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, i) for i in permutation(self.n, "order", self.seed, self.epoch))


def train_loader(images: Images, recipe: Recipe, profile: Profile, seed: int) -> tuple[DataLoader, EpochOrder]:
    """Batches of augmented views, the incomplete last one left out, and the order whose `epoch` is to be set."""
    if len(images) < recipe.batch_size:
        raise DataError(f"{len(images)} training images are less than one batch of {recipe.batch_size}; "
                        "lower batch_size or raise train_images")
    transform = create_transform(
        profile.image_size, is_training=True, scale=recipe.crop_scale, hflip=recipe.hflip, color_jitter=None,
        auto_augment=recipe.augmentation, interpolation="bicubic", mean=MEAN, std=STD, re_prob=recipe.erasing,
        re_mode="pixel")
    order = EpochOrder(len(images), seed)
    loader = DataLoader(Views(images, transform, seed), recipe.batch_size, sampler=order, drop_last=True,
                        num_workers=profile.workers, persistent_workers=False)
    return loader, order


def eval_loader(images: Images, profile: Profile, batch_size: int = 256) -> DataLoader:
    """Batches of the images themselves, resized and cropped in the middle."""
    transform = create_transform(profile.image_size, crop_pct=profile.crop_pct, interpolation="bicubic", mean=MEAN,
                                 std=STD)
    addresses = [(0, i) for i in range(len(images))]
    return DataLoader(Views(images, transform, seed=0), batch_size, sampler=addresses, num_workers=profile.workers)

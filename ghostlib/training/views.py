"""What a network sees of the images: augmented views as functions of (seed, epoch, image), in batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_transform
from timm.data.transforms import MaybePILToTensor
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import Compose, RandomErasing

from ghostlib.training.datasets import DataError, Images
from ghostlib.training.profile import Profile
from ghostlib.training.randomness import addressed, permutation
from ghostlib.training.recipe import Recipe
from ghostlib.training.split import Split

MEAN, STD = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


class Views(Dataset):
    """What the network sees: item (epoch, i) is image i's augmented view in that epoch, as (tensor, label, patch).

    What the transform leaves an image stays bytes (H, W, 3) until `on_device` normalises a batch at once and erases
    the patches: so a quarter of the memory passes from process to process, and no channel changes its place.

    Args:
        images: those to look at.
        transform: of an image, to what is seen of it, or to that normalised (3, H, W).
        seed: of the augmentation.
        erasing: the probability that a patch of a view is erased.
    """

    def __init__(self, images: Images, transform: Callable[[Image.Image], Image.Image | Tensor], seed: int,
                 erasing: float = 0.0):
        self.images, self.transform, self.seed, self.erasing = images, transform, seed, erasing

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, address: tuple[int, int]) -> tuple[Tensor, int, Tensor]:
        epoch, index = address
        with addressed("view", self.seed, epoch, index):
            view = self.transform(self.images.read(index))
            size = view.shape[1:] if isinstance(view, Tensor) else (view.height, view.width)
            patch = _patch(*size, self.erasing)
        if isinstance(view, Image.Image):
            view = torch.from_numpy(np.array(view))
        return view, int(self.images.labels[index]), patch


def _patch(height: int, width: int, probability: float) -> Tensor:
    """Where to erase: top, left, height and width (px) and the seed of what comes there; zeros for nowhere."""
    if torch.rand(()) < probability:
        # Zhong et al., "Random Erasing Data Augmentation" (2020), with timm's largest area and shapes.
        view = torch.empty(3, height, width, device="meta")
        place = RandomErasing.get_params(view, scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value=[0.0])[:4]
        if place[2:] != (height, width):  # which is to say that no patch fits
            return torch.tensor([*place, int(torch.randint(2**62, ()))])
    return torch.zeros(5, dtype=torch.long)


def on_device(batch: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Views (N, 3, H, W) and labels (N,) as the networks take them: normalised, their patches erased, channels last.

    Args:
        batch: views, labels and patches, see `Views`.
        device: of the networks.
    """
    views, labels, patches = batch
    views, labels = views.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    if views.dtype == torch.uint8:
        mean, std = _normalisation(device)
        views = views.movedim(-1, 1).float().div_(255).sub_(mean).div_(std)
    for number in patches[:, 2].nonzero().flatten().tolist():
        top, left, height, width, seed = patches[number].tolist()
        noise = torch.randn(3, height, width, generator=torch.Generator(device).manual_seed(seed), device=device)
        views[number, :, top:top + height, left:left + width] = noise
    return views.contiguous(memory_format=torch.channels_last), labels


@cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))


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
    transform = _to_image(create_transform(
        profile.image_size, is_training=True, scale=recipe.crop_scale, hflip=recipe.hflip, color_jitter=None,
        auto_augment=recipe.augmentation, interpolation="bicubic", mean=MEAN, std=STD, use_prefetcher=True))
    order = Batches(len(images), seed, split or Split(recipe.batch_size))
    loader = DataLoader(Views(images, transform, seed, recipe.erasing), batch_sampler=order,
                        persistent_workers=profile.workers > 0, pin_memory=profile.device_type == "cuda",
                        **_workers(profile))
    return loader, order


def eval_loader(images: Images, profile: Profile, batch_size: int = 256, rank: int = 0,
                processes: int = 1) -> DataLoader:
    """Batches of the images themselves, resized and cropped in the middle; of several processes each gets its part."""
    transform = _to_image(create_transform(profile.image_size, crop_pct=profile.crop_pct, interpolation="bicubic",
                                           use_prefetcher=True))
    first, last = (len(images) * part // processes for part in (rank, rank + 1))
    addresses = [(0, i) for i in range(first, last)]
    return DataLoader(Views(images, transform, seed=0), batch_size, sampler=addresses, **_workers(profile))


def _workers(profile: Profile) -> dict[str, Any]:
    """The processes that make views: forks where that is safe, also of a process that a server of forks began.

    What such a process starts by itself begins with an empty interpreter, which imports PyTorch first.
    """
    forks = profile.workers > 0 and sys.platform == "linux"
    return {"num_workers": profile.workers, "multiprocessing_context": "fork" if forks else None}


def _to_image(transform: Compose) -> Compose:
    """timm's transform without its last step, to a tensor (3, H, W)."""
    assert isinstance(transform.transforms[-1], MaybePILToTensor)
    return Compose(transform.transforms[:-1])

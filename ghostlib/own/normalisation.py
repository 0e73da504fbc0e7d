"""How images are normalised: views are by ImageNet's mean and deviation, and some pretrained weights expect others."""

from __future__ import annotations

from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from ghostlib.own.network import Source
from ghostlib.training.views import MEAN, STD


class Normalisation(NamedTuple):
    """Mean and standard deviation of red, green and blue in [0, 1]."""

    mean: tuple[float, ...] = tuple(MEAN)
    std: tuple[float, ...] = tuple(STD)


IMAGENET = Normalisation()


def of_weights(source: Source, pretrained: bool) -> Normalisation:
    """What the weights that a training begins with expect; of others, and where timm does not say, ImageNet's."""
    known = timm.get_pretrained_cfg(source.name) if pretrained and source.kind == "timm" else None
    if known is None or not (known.mean and known.std):
        return IMAGENET
    return Normalisation(tuple(map(float, known.mean)), tuple(map(float, known.std)))


def convert(network: nn.Module, wanted: Normalisation) -> None:
    """Lets a network that expects images normalised so take views; in place, and in none of its weights.

    What is saved of it is the network by itself, which takes images normalised as it expects them.
    """
    if wanted == IMAGENET:
        return
    ours, theirs = ([torch.tensor(values).view(1, 3, 1, 1) for values in of] for of in (IMAGENET, wanted))
    network.register_buffer("_views_scale", ours[1] / theirs[1], persistent=False)  # moved with it, and not saved
    network.register_buffer("_views_shift", (ours[0] - theirs[0]) / theirs[1], persistent=False)
    network.register_forward_pre_hook(_convert)


def _convert(network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    views, *others = arguments
    return (views * network._views_scale + network._views_shift, *others)

"""Networks by name. timm and torchvision build most of them; GhostNetV3 is GhostNetV2 with branches while it trains.

    zoo.create("ghostnetv3_100", num_classes=10)          # a classifier
    zoo.features("ghostnetv3_100", out_indices=(2, 3, 4))  # a backbone
    timm.create_model("ghostlib_ghostnetv3_100")           # the same through timm, once this module is imported
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureListNet, generate_default_cfgs, register_model
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import nn

from ghostlib.models.catalog import default_width, find, names, rows
from ghostlib.models.families import FAMILIES, Size

__all__ = ["create", "default_cfg", "default_width", "features", "names", "rows"]


def create(name: str, num_classes: int = 1000, width: float | None = None, *, dropout: float = 0.0,
           image_size: int | None = None, patch_size: int | None = None) -> nn.Module:
    """A freshly initialised network; `ghostnetv3_*` and `mobileone_*` come with the branches they train with.

    Whoever made it, it has timm's `num_classes`, `reset_classifier`, `get_classifier` and `default_cfg`.

    Args:
        name: one of `names()`.
        num_classes: outputs of the classifier.
        width: multiplies every channel count of the 1.0× network; by default what the name says (1.3 in `_130`).
            For DeiT it multiplies the embedding. A network that comes in its own sizes only has none.
        dropout: before the classifier. The authors' V3 has none.
        image_size: side of the square input (px). Only transformers are built for one size (224 by default).
        patch_size: side of a DeiT's patch (px), 16 by default.

    Raises:
        ValueError: an unknown name (the message proposes the nearest), an impossible width or number of classes.
    """
    entry = find(name)
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    _check_width(name, width)
    network = FAMILIES[entry.family].build(entry, Size(num_classes, width or entry.width, dropout, image_size,
                                                       patch_size))
    network.pretrained_cfg = network.default_cfg = default_cfg(name)
    return network


def features(name: str, out_indices: tuple[int, ...] | None = None, width: float | None = None) -> nn.Module:
    """The network as a backbone: a module from images (N, 3, H, W) to a list of maps, finest first.

    Each map is the output of the *last* block of its stride, so it has been through all layers of its size (timm's own
    GhostNets tap the first). `.feature_info.channels()` and `.reduction()` tell what comes out.

    Args:
        name: one of `names()`.
        out_indices: which of the taps; by default all, at strides 2, 4, 8, 16 and 32 for most networks.
        width: as for `create`.

    Raises:
        ValueError: the network has no maps to tap, or fewer than an index asks for.
    """
    entry = find(name)
    _check_width(name, width)
    if entry.family == "timm":
        tapped = timm.create_model(entry.variant, features_only=True)
        count = len(tapped.feature_info)
        _check_indices(name, out_indices, tapped.feature_info.reduction())
        return tapped if out_indices is None else _without_the_rest(timm.create_model(
            entry.variant, features_only=True, out_indices=tuple(index % count for index in out_indices)))
    taps = FAMILIES[entry.family].taps
    if not taps:
        raise ValueError(f"{name} has no feature maps to tap")
    network = create(name, width=width)
    network.feature_info = _describe(network, taps)
    _check_indices(name, out_indices, [tap["reduction"] for tap in network.feature_info])
    chosen = range(len(taps)) if out_indices is None else (index % len(taps) for index in out_indices)
    return FeatureListNet(network, tuple(chosen), flatten_sequential=any("." in tap for tap in taps))


def _without_the_rest(tapped: nn.Module) -> nn.Module:
    """A feature network of timm's without the stages behind its last map, which some of these keep, and run."""
    if isinstance(tapped, (EfficientNetFeatures, MobileNetV3Features)):
        del tapped.blocks[max((tap["stage"] for tap in tapped.feature_info.get_dicts()), default=0):]  # 0 is the stem
    return tapped


def default_cfg(name: str) -> dict[str, Any]:
    """How timm describes a network: input size, crop, normalisation, first and last layer; no weights to fetch.

    Raises:
        ValueError: an unknown name.
    """
    entry = find(name)
    family = FAMILIES[entry.family]
    config = {"url": "", "num_classes": 1000, "input_size": (3, entry.image_size, entry.image_size), "crop_pct": 0.875,
              "interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
              "first_conv": family.first_conv, "classifier": family.classifier, "fixed_input_size": False}
    if timm.is_model(entry.variant):
        theirs = timm.get_pretrained_cfg(entry.variant).to_dict()
        config |= {key: theirs[key] for key in config if key != "url" and theirs.get(key) is not None}
    return config


def _check_width(name: str, width: float | None) -> None:
    if width is not None and find(name).width is None:
        raise ValueError(f"{name} comes in its own sizes only: it has no width to set to {width}")
    if width is not None and width <= 0:
        raise ValueError(f"width must be positive, got {width}")


def _check_indices(name: str, out_indices: tuple[int, ...] | None, strides: list[int]) -> None:
    if beyond := [index for index in out_indices or () if not -len(strides) <= index < len(strides)]:
        raise ValueError(f"out_indices = {tuple(out_indices)}: {name} has no tap {beyond[0]}; it has "
                         f"0 to {len(strides) - 1}, at strides {', '.join(map(str, strides))}")


@torch.no_grad()
def _describe(network: nn.Module, taps: tuple[str, ...]) -> list[dict[str, Any]]:
    """timm's feature_info of the named modules, measured on one small image."""
    shapes, side = {}, 64
    hooks = [network.get_submodule(tap).register_forward_hook(
        lambda module, args, out, tap=tap: shapes.__setitem__(tap, out.shape)) for tap in taps]
    network.eval()(torch.zeros(1, 3, side, side))
    network.train()
    for hook in hooks:
        hook.remove()
    return [{"module": tap, "num_chs": shapes[tap][1], "reduction": side // shapes[tap][-1]} for tap in taps]


def _entrypoint(name: str) -> Any:
    def build(pretrained: bool = False, pretrained_cfg: Any = None, pretrained_cfg_overlay: Any = None,
              cache_dir: Any = None, features_only: bool = False, out_indices: tuple[int, ...] | None = None,
              num_classes: int = 1000, drop_rate: float = 0.0, img_size: int | None = None, in_chans: int = 3,
              **options: Any):
        if pretrained:
            raise ValueError(f"ghostlib publishes no weights of {name}; load a file with ghostlib.models.weights.load")
        if in_chans != 3:
            raise ValueError(f"{name} takes images of 3 channels, not of {in_chans}")
        if features_only:
            return features(name, out_indices, **options)
        network = create(name, num_classes or 1000, dropout=drop_rate, image_size=img_size, **options)
        if not num_classes:
            network.reset_classifier(0)
        return network

    build.__name__ = f"ghostlib_{name}"
    return build


# timm's registry reads this module-level name.
default_cfgs = generate_default_cfgs({f"ghostlib_{name}": default_cfg(name) for name in names()})
_public = list(__all__)
for _name in names():
    register_model(_entrypoint(_name))
__all__ = _public  # timm adds what it registers, which is no name of this module

"""Networks by name. timm and torchvision build them; GhostNetV3 is GhostNetV2 with branches while it trains."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from ghostlib.models.reparam import add_branches

# Each builder takes (num_classes, width or None for its own, dropout, image_size or None, patch_size or None).
Builder = Callable[..., nn.Module]


def create(name: str, num_classes: int = 1000, width: float | None = None, *, dropout: float = 0.0,
           image_size: int | None = None, patch_size: int | None = None) -> nn.Module:
    """A freshly initialised network; `ghostnetv3_*` come with the branches they train with.

    Args:
        name: one of `names()`.
        num_classes: outputs of the classifier.
        width: multiplies every channel count of the 1.0× network; by default what the name says (1.3 in `_130`).
            For transformers it multiplies the embedding.
        dropout: before the classifier. The authors' V3 has none.
        image_size: side of the square input (px). Only transformers are built for one size (224 by default).
        patch_size: side of a transformer's patch (px), 16 by default.

    Raises:
        ValueError: an unknown name (the message proposes the nearest), an impossible width or number of classes.
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown network {name!r}{hint} Known: {', '.join(names())}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    if width is not None and width <= 0:
        raise ValueError(f"width must be positive, got {width}")
    return _BUILDERS[name](num_classes, width, dropout, image_size, patch_size)


def names() -> list[str]:
    """Every name that `create` knows."""
    return list(_BUILDERS)


def default_width(name: str) -> float:
    """The width multiplier that a name stands for, e.g. 1.3 for `ghostnetv2_130`; 1.0 where it names none."""
    return _WIDTHS.get(name, 1.0)


def _ghostnet(version: str, default: float) -> Builder:
    def build(num_classes, width, dropout, image_size, patch_size):
        from timm.models.ghostnet import _create_ghostnet  # the public entry points fix the width

        model = _create_ghostnet("ghostnetv2_100", width=width or default, version="v2", num_classes=num_classes,
                                 drop_rate=dropout)
        return add_branches(model) if version == "v3" else model
    return build


def _mobilenetv2(num_classes, width, dropout, image_size, patch_size):
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(width_mult=width or 1.0, num_classes=num_classes, dropout=dropout)


def _shufflenetv2(num_classes, width, dropout, image_size, patch_size):
    from torchvision.models import ShuffleNetV2

    # The channels of the paper's 1.0×; a unit splits its channels in two, so they stay even.
    channels = [2 * max(1, round(c * (width or 1.0) / 2)) for c in (24, 116, 232, 464, 1024)]
    return _with_dropout(ShuffleNetV2([4, 8, 4], channels, num_classes), "fc", dropout)


def _deit_tiny(num_classes, width, dropout, image_size, patch_size):
    from timm import create_model

    heads = 3
    embedding = heads * max(2, round(192 * (width or 1.0) / heads))
    return create_model("deit_tiny_patch16_224", num_classes=num_classes, img_size=image_size or 224,
                        patch_size=patch_size or 16, embed_dim=embedding, num_heads=heads, drop_rate=dropout)


def _resnet10(num_classes, width, dropout, image_size, patch_size):
    from timm.models.resnet import BasicBlock, ResNet

    channels = tuple(max(4, round(c * (width or 1.0))) for c in (64, 128, 256, 512))
    return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=num_classes, channels=channels, stem_width=channels[0],
                  drop_rate=dropout)


def _with_dropout(model: nn.Module, classifier: str, dropout: float) -> nn.Module:
    if dropout > 0:
        setattr(model, classifier, nn.Sequential(nn.Dropout(dropout), getattr(model, classifier)))
    return model


_WIDTHS = {f"ghostnet{version}_{round(100 * width):03d}": width
           for version, widths in (("v2", (0.5, 1.0, 1.3, 1.6)), ("v3", (0.5, 1.0, 1.3, 1.6))) for width in widths}

_BUILDERS: dict[str, Builder] = {
    **{name: _ghostnet(name[8:10], width) for name, width in _WIDTHS.items()},
    "mobilenetv2_100": _mobilenetv2,
    "shufflenetv2_100": _shufflenetv2,
    "deit_tiny": _deit_tiny,
    "resnet10": _resnet10,  # one basic block a stage: the small profiles' stand-in for a teacher
}

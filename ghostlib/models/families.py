"""How each family of networks is built, and what of it timm and a detector need to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import timm
import torchvision
from timm.models.ghostnet import _create_ghostnet  # the public entry points fix the width
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from ghostlib.models.catalog import Entry
from ghostlib.models.classifier import ReplaceableClassifier
from ghostlib.models.flow import example_for
from ghostlib.models.mobileformer import MobileFormer
from ghostlib.models.mobilenext import MobileNeXt
from ghostlib.models.reparam import add_branches


@dataclass(frozen=True)
class Size:
    """What a builder is asked for; see `zoo.create`."""

    num_classes: int
    width: float | None
    dropout: float
    image_size: int | None
    patch_size: int | None


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        build: makes the network of an entry at a size.
        first_conv: the name of its first convolution (of timm's default_cfg).
        classifier: the name of its classifier.
        taps: the last module of each stride, in front of any stage that only widens for the classifier.
    """

    build: Callable[[Entry, Size], nn.Module]
    first_conv: str = ""
    classifier: str = ""
    taps: tuple[str, ...] = ()


def _ghostnet(entry: Entry, size: Size) -> nn.Module:
    version = entry.family.removeprefix("ghostnet")
    network = _create_ghostnet("ghostnet_100" if version == "v1" else "ghostnetv2_100", width=size.width,
                               version="v1" if version == "v1" else "v2", num_classes=size.num_classes,
                               drop_rate=size.dropout)
    # Where convolutions lead to shows on a small image, too.
    return add_branches(network, example_input=example_for(network, side=64)) if version == "v3" else network


class MobileNetV2(ReplaceableClassifier, torchvision.models.MobileNetV2):
    """torchvision's, with timm's `reset_classifier`."""

    classifier_name = "classifier.1"

    def __init__(self, size: Size):
        super().__init__(num_classes=size.num_classes, width_mult=size.width, dropout=size.dropout)
        self.num_classes = size.num_classes
        self.num_features = self.head_hidden_size = self.last_channel


class ShuffleNetV2(ReplaceableClassifier, torchvision.models.ShuffleNetV2):
    """torchvision's, with timm's `reset_classifier`, dropout and any width."""

    classifier_name = "fc"

    def __init__(self, size: Size):
        # The published 2.0× is no multiple of the 1.0×. A unit splits its channels in two, so they stay even.
        published = {2.0: [24, 244, 488, 976, 2048]}
        channels = published.get(size.width) or [2 * max(1, round(c * size.width / 2))
                                                 for c in (24, 116, 232, 464, 1024)]
        super().__init__([4, 8, 4], channels, size.num_classes)
        self.num_classes = size.num_classes
        self.num_features = self.head_hidden_size = channels[-1]
        if size.dropout:
            # Whole maps in front of the pooling are single features behind it.
            self.conv5.append(nn.Dropout2d(size.dropout))


def _deit(entry: Entry, size: Size) -> nn.Module:
    heads = 3
    return timm.create_model(entry.variant, num_classes=size.num_classes, img_size=size.image_size or 224,
                             patch_size=size.patch_size or 16, drop_rate=size.dropout, num_heads=heads,
                             embed_dim=heads * max(2, round(192 * size.width / heads)))


def _resnet(entry: Entry, size: Size) -> nn.Module:
    blocks = {"resnet10": 1, "resnet18": 2}[entry.variant]
    channels = tuple(max(4, round(c * size.width)) for c in (64, 128, 256, 512))
    return ResNet(BasicBlock, (blocks,) * 4, num_classes=size.num_classes, channels=channels, stem_width=channels[0],
                  drop_rate=size.dropout)


def _timm(entry: Entry, size: Size) -> nn.Module:
    # Only transformers are built for one size of image; the others take any.
    built_for = {"img_size": size.image_size} if size.image_size and entry.variant.startswith(("pit", "convit")) else {}
    return timm.create_model(entry.variant, num_classes=size.num_classes, drop_rate=size.dropout, **built_for)


_GHOSTNET = Family(_ghostnet, "conv_stem", "classifier", ("blocks.0", "blocks.2", "blocks.4", "blocks.6", "blocks.8"))

FAMILIES = {
    "ghostnetv1": _GHOSTNET,
    "ghostnetv2": _GHOSTNET,
    "ghostnetv3": _GHOSTNET,
    "mobilenetv2": Family(lambda entry, size: MobileNetV2(size), "features.0.0", "classifier.1",
                          ("features.1", "features.3", "features.6", "features.13", "features.17")),
    "shufflenetv2": Family(lambda entry, size: ShuffleNetV2(size), "conv1.0", "fc",
                           ("conv1", "maxpool", "stage2", "stage3", "stage4")),
    "mobilenext": Family(lambda entry, size: MobileNeXt(size.num_classes, size.width, size.dropout), "features.0.0",
                         "classifier", ("features.0", "features.2", "features.5", "features.12", "features.19")),
    "mobileformer": Family(lambda entry, size: MobileFormer(entry.variant, size.num_classes, size.dropout),
                           "stem.0.0", "classifier"),
    "deit": Family(_deit),
    "resnet": Family(_resnet, "conv1", "fc", ("act1", "layer1", "layer2", "layer3", "layer4")),
    "timm": Family(_timm),
}

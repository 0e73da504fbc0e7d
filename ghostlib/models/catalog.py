"""Which networks there are: their names, widths and sizes, and the rows of Table 9 they stand behind.

Facts only, so that a recipe can be checked without importing a network library; `zoo` builds what is named here.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What a name stands for.

    Attributes:
        family: which of the zoo's builders makes it.
        variant: which of the family it is; timm's name for it, where timm builds it under a name of its own.
        width: its channel multiplier; None for a network that comes in its own sizes only.
        image_size: the side (px) it was designed for.
    """

    family: str
    variant: str = ""
    width: float | None = None
    image_size: int = 224


def _widths(family: str, *widths: float) -> dict[str, Entry]:
    return {f"{family}_{round(100 * width):03d}": Entry(family, width=width) for width in widths}


def _timm(image_size: int = 224, **variants: str) -> dict[str, Entry]:
    return {name: Entry("timm", variant, image_size=image_size) for name, variant in variants.items()}


ENTRIES: dict[str, Entry] = {
    **_widths("ghostnetv1", 0.5, 1.0, 1.1, 1.3, 1.7),
    **_widths("ghostnetv2", 0.5, 1.0, 1.3, 1.6),
    **_widths("ghostnetv3", 0.5, 1.0, 1.3, 1.6),
    **_timm(mobilenetv1_100="mobilenetv1_100"),
    **_widths("mobilenetv2", 1.0, 1.4),
    **_timm(mobilenetv3_small_100="mobilenetv3_small_100", mobilenetv3_large_100="mobilenetv3_large_100"),
    **_widths("mobilenext", 1.0, 1.4),
    **{f"mobileformer_{size}": Entry("mobileformer", size) for size in ("52", "96", "508")},
    **_timm(256, mobilevit_xxs="mobilevit_xxs", mobilevit_xs="mobilevit_xs", mobilevit_s="mobilevit_s"),
    **_timm(**{f"mobileone_s{size}": f"mobileone_s{size}" for size in range(5)}),
    **_widths("shufflenetv2", 1.0, 2.0),
    # MNASNet-A1 is the one with squeeze-and-excitation; what timm and torchvision call mnasnet is B1.
    **_timm(mixnet_s="mixnet_s", mixnet_m="mixnet_m", mixnet_l="mixnet_l", mnasnet_a1="semnasnet_100",
            fbnetc_100="fbnetc_100", efficientnet_b0="efficientnet_b0"),
    "deit_tiny": Entry("deit", "deit_tiny_patch16_224", width=1.0),
    **_timm(pit_ti="pit_ti_224", pit_xs="pit_xs_224", convit_tiny="convit_tiny"),
    # One and two basic blocks a stage, of any width: the small profiles' stand-ins for teachers.
    **{name: Entry("resnet", name, width=1.0) for name in ("resnet10", "resnet18")},
}

# A row "+ ours" deploys the network of its plain row; it differs in how that was trained.
_ROWS = {
    "GhostNetV1 0.5×": "ghostnetv1_050",
    "Mobileformer-52": "mobileformer_52",
    "MobileNetV3-S": "mobilenetv3_small_100",
    "GhostNetV3 0.5×": "ghostnetv3_050",
    "Mobileformer-96": "mobileformer_96",
    "ShuffleNetV2 1.0×": "shufflenetv2_100",
    "ShuffleNetV2 1.0× + ours": "shufflenetv2_100",
    "MobileViT-XXS": "mobilevit_xxs",
    "MobileNetV1": "mobilenetv1_100",
    "MobileOne-S0": "mobileone_s0",
    "PiT-ti": "pit_ti",
    "DeiT-tiny": "deit_tiny",
    "PiT-xs": "pit_xs",
    "ConViT-tiny": "convit_tiny",
    "MobileViT-XS": "mobilevit_xs",
    "MixNet-S": "mixnet_s",
    "MobileNetV3-L": "mobilenetv3_large_100",
    "ShuffleNetV2 2.0×": "shufflenetv2_200",
    "MNASNet-A1": "mnasnet_a1",
    "MobileNetV2 1.0×": "mobilenetv2_100",
    "MobileNetV2 1.0× + ours": "mobilenetv2_100",
    "GhostNetV1 1.0×": "ghostnetv1_100",
    "MobileNeXt 1.0×": "mobilenext_100",
    "MobileOne-S1": "mobileone_s1",
    "FBNet-C": "fbnetc_100",
    "GhostNetV2 1.0×": "ghostnetv2_100",
    "GhostNetV3 1.0×": "ghostnetv3_100",
    "MobileNetV2 1.4×": "mobilenetv2_140",
    "GhostNetV1 1.3×": "ghostnetv1_130",
    "MobileNeXt 1.4×": "mobilenext_140",
    "MobileOne-S2": "mobileone_s2",
    "MixNet-M": "mixnet_m",
    "MobileViT-S": "mobilevit_s",
    "GhostNetV2 1.3×": "ghostnetv2_130",
    "GhostNetV3 1.3×": "ghostnetv3_130",
    "GhostNetV1 1.7×": "ghostnetv1_170",
    "EfficientNet-B0": "efficientnet_b0",
    "GhostNetV2 1.6×": "ghostnetv2_160",
    "MobileOne-S3": "mobileone_s3",
    "MixNet-L": "mixnet_l",
    "Mobileformer-508": "mobileformer_508",
    "MobileOne-S4": "mobileone_s4",
    "GhostNetV3 1.6×": "ghostnetv3_160",
}

# Table 10's backbones, each at 320 and 416 px.
_BACKBONES = {"MobileNetV2": "mobilenetv2_100", "GhostNetV1 1.1×": "ghostnetv1_110",
              "GhostNetV2 1.0×": "ghostnetv2_100", "GhostNetV3 1.0×": "ghostnetv3_100"}


def names() -> list[str]:
    """Every name that `zoo.create` knows."""
    return list(ENTRIES)


def rows() -> dict[str, str]:
    """Table 9: the paper's row -> the name of the network it deploys, in the paper's order."""
    return dict(_ROWS)


def deployed() -> dict[str, str]:
    """Table 9: the paper's row -> the network that is left when branches are folded: a row of V3's is one of V2's."""
    return {row: name.replace("ghostnetv3", "ghostnetv2") for row, name in _ROWS.items()}


def backbones() -> dict[str, tuple[str, int]]:
    """Table 10: the paper's row -> the name of its backbone and the side (px) of the image, in the paper's order."""
    return {f"{row} @{side}": (name, side) for side in (320, 416) for row, name in _BACKBONES.items()}


def find(name: str) -> Entry:
    """What a name stands for.

    Raises:
        ValueError: an unknown name; the message proposes the nearest and lists all.
    """
    if name not in ENTRIES:
        near = difflib.get_close_matches(name, ENTRIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown network {name!r}{hint} Known: {', '.join(ENTRIES)}")
    return ENTRIES[name]


def default_width(name: str) -> float:
    """The width multiplier that a name stands for, e.g. 1.3 for `ghostnetv2_130`; 1.0 where it names none."""
    return find(name).width or 1.0

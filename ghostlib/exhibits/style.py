"""How pictures look: one colour and one shape for one meaning, whatever the exhibit.

Filled is what was measured here, hollow what the paper printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.colors import LinearSegmentedColormap, to_hex

# Fixed so that the same numbers give the same file.
STYLE = {"svg.hashsalt": "ghostlib", "svg.fonttype": "none", "figure.dpi": 100, "savefig.dpi": 150,
         "axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "font.family": "DejaVu Sans"}
# As seaborn's "whitegrid", which takes a second to import in each of ten notebooks, and asks for Arial first.
_GRID = {"axes.grid": True, "axes.axisbelow": True, "axes.edgecolor": ".8", "axes.labelcolor": ".15",
         "grid.color": ".85", "lines.solid_capstyle": "round", "patch.edgecolor": "w", "patch.force_edgecolor": True,
         "text.color": ".15", "xtick.bottom": False, "xtick.color": ".15", "ytick.color": ".15", "ytick.left": False}


def grid() -> dict[str, Any]:
    """Matplotlib's settings for a picture with axes."""
    return {**_GRID, **STYLE}


@dataclass(frozen=True)
class Mark:
    """The colour and the shape of a series."""

    color: str
    marker: str


# Dark enough for white paper (3:1 or more); neighbours of like hue differ in lightness, and every shape is another.
STRATEGY, PLAIN = Mark("#0072b2", "o"), Mark("#c77700", "s")
# Family of Table 9 -> its mark.
FAMILIES = {"GhostNetV3": STRATEGY, "GhostNetV2": PLAIN, "GhostNetV1": Mark("#00775a", "^"),
            "MobileNet": Mark("#b01e4b", "D"), "ShuffleNetV2": Mark("#a8509a", "P"), "MobileOne": Mark("#7a5230", "v"),
            "searched": Mark("#5f6368", ">"), "transformer": Mark("#7d7400", "<")}
# How a label begins -> its mark; the first that fits counts.
_MEANINGS = {**FAMILIES, "DeiT-tiny": FAMILIES["transformer"],
             "w/ ReP, γ": Mark("#a8509a", "P"), "w/ ReP, BN": Mark("#7a5230", "v"),
             "w/ ReP": STRATEGY, "w/o ReP": PLAIN, "w/ 1×1 DW": STRATEGY, "w/o 1×1 DW": Mark("#4a9fd6", "D")}
NARROW = "_narrow"  # ends the name of a picture's form for phones
_AMOUNTS, _SHAPES = "#5b4a9e", "osD^vP"
NOISE = "0.75"  # the grey of what may be chance


def meaning(label: str) -> Mark | None:
    """The mark of what has one in every exhibit."""
    return next((mark for begins, mark in _MEANINGS.items() if label.startswith(begins)), None)


def marks(labels: Sequence[str]) -> dict[str, Mark]:
    """The mark of each label. Those without a meaning of their own, as α, get shades of one colour in their order."""
    meant = {label: mark for label in labels if (mark := meaning(label))}
    others = [label for label in labels if label not in meant]
    steps = zip(others, shades(_AMOUNTS, len(others)), strict=True)
    return meant | {label: Mark(color, _SHAPES[i % len(_SHAPES)]) for i, (label, color) in enumerate(steps)}


def shades(color: str, count: int) -> list[str]:
    """So many of a colour, from pale to dark, with itself in the middle; one is the colour itself."""
    # Of an odd number of tones the one in the middle is the colour.
    pale_to_dark = LinearSegmentedColormap.from_list("shades", ["white", color, "black"], 257)
    return [to_hex(pale_to_dark(0.28 + 0.44 * i / (count - 1) if count > 1 else 0.5)) for i in range(count)]


def abridged(scale: str, length: int) -> str:
    """A profile's scale in about so many letters: its beginning, and its end, which tells seeds and test images.

    What it says of the recipe, behind a semicolon, is left out.
    """
    scale = scale.partition(";")[0]
    *head, seeds, tested = scale.split(", ") if scale.count(", ") > 1 else [scale, "", ""]
    if not seeds or len(scale) <= length:
        return scale
    while len(head) > 1 and len(", ".join([*head, "…", seeds, tested])) > length:
        head.pop()
    return ", ".join([*head, "…", seeds, tested])

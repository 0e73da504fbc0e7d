"""What Figures 1 and 5 plot against what, panel by panel; the pictures and the pages' charts draw the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ghostlib.exhibits.comparison import WEIGHTS_TOP1
from ghostlib.paper.numbers import CPU, MACS, MOBILE, TOP1

if TYPE_CHECKING:
    import pandas as pd

WITH = "+ ours"  # ends what a row is called that the strategy trained
# Family -> the rows that belong to it; the group in parentheses is what a point is called.
_FAMILIES = {
    "GhostNetV3": r"GhostNetV3 (.*)", "GhostNetV2": r"GhostNetV2 (.*)", "GhostNetV1": r"GhostNetV1 (.*)",
    "MobileNet": r"Mobile(?:Net)?(V\d.*|NeXt .*)", "ShuffleNetV2": r"ShuffleNetV2 (.*)", "MobileOne": r"MobileOne-(.*)",
    "searched": r"((?:MNASNet|FBNet|EfficientNet|MixNet).*)",
    "transformer": r"((?:DeiT|PiT|ConViT|MobileViT|Mobileformer).*)",
}


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    Attributes:
        title: above it.
        x: a quantity and whether it is the paper's or ours (`paper` or `measured`).
        y: likewise.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
    """

    title: str
    x: tuple[str, str]
    y: tuple[str, str]
    x_label: str
    y_label: str = "top-1 on ImageNet, published (%)"


def panels(name: str, compared: pd.DataFrame, machine: str, profile: str) -> list[Panel]:
    """The panels of `figure_1` or `figure_5` that have a point.

    Args:
        name: of the figure.
        compared: Table 9 as `comparison.compare` gives it.
        machine: the processor that our latencies were measured on.
        profile: the name of the profile that our accuracies were measured at.
    """
    if name == "figure_1":
        x, ours = CPU, f"latency (ms), 1 thread of {machine.replace('(R)', '') or 'this CPU'}"
        first = [Panel("The paper", (x, "paper"), (TOP1, "paper"), "latency on i7-8700 (ms)"),
                 Panel("Latency measured here in one session, accuracy as published", (x, "measured"), (TOP1, "paper"),
                       ours)]
    else:
        x, ours = MACS, "multiply-accumulates (M)"
        first = [Panel("The paper", (x, "paper"), (TOP1, "paper"), ours),
                 Panel("Counted here, accuracy as published", (x, "measured"), (TOP1, "paper"), ours),
                 Panel("The paper (no phone was measured here)", (MOBILE, "paper"), (TOP1, "paper"),
                       "latency on Kirin 9000 (ms)")]
    # In a small profile what is trained is narrower than what is counted and timed.
    trained = Panel(f"Trained here at the scale of {profile}, the whole network's cost", (x, "measured"),
                    (TOP1, "measured"), ours, f"top-1 at profile {profile} (%)")
    scored = Panel("Both measured here, published weights", (x, "measured"), (WEIGHTS_TOP1, "measured"), ours,
                   "top-1 on ImageNet, measured here (%)")
    there = {source: {quantity: set(of["row"]) for quantity, of in compared.dropna(subset=source).groupby("quantity")}
             for source in ("paper", "measured")}
    return [panel for panel in (*first, trained, scored)
            if set.intersection(*(there[source].get(quantity, set()) for quantity, source in (panel.x, panel.y)))]


def family(row: str) -> tuple[str, str]:
    """The family that a row of Table 9 belongs to, and what to call its point.

    Raises:
        ValueError: the row belongs to no family.
    """
    for name, pattern in _FAMILIES.items():
        if match := re.fullmatch(pattern, row):
            return name, match.group(1)
    raise ValueError(f"{row!r} belongs to no family: {', '.join(_FAMILIES)}")

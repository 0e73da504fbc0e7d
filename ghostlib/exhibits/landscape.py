"""Figures 1 and 5: accuracy against cost, the paper's points and ours in panels side by side.

Filled is an accuracy that was measured here, hollow a published one. A whisker along is a latency's 10th to 90th
percentile, one upright the standard deviation over the seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from ghostlib.exhibits.comparison import ENGINE, WEIGHTS_TOP1
from ghostlib.exhibits.figures import short_numbers
from ghostlib.exhibits.style import FAMILIES, STRATEGY, grid
from ghostlib.paper.numbers import CPU, MACS, MOBILE, TOP1

# Family -> the rows that belong to it; the group in parentheses is what a point is called.
_FAMILIES = {
    "GhostNetV3": r"GhostNetV3 (.*)", "GhostNetV2": r"GhostNetV2 (.*)", "GhostNetV1": r"GhostNetV1 (.*)",
    "MobileNet": r"Mobile(?:Net)?(V\d.*|NeXt .*)", "ShuffleNetV2": r"ShuffleNetV2 (.*)", "MobileOne": r"MobileOne-(.*)",
    "searched": r"((?:MNASNet|FBNet|EfficientNet|MixNet).*)",
    "transformer": r"((?:DeiT|PiT|ConViT|MobileViT|Mobileformer).*)",
}


_WITH = "+ ours"  # ends what a row is called that the strategy trained


@dataclass(frozen=True)
class Panel:
    """One panel: which quantity is on the axes, and whether it is the paper's or ours (`paper` or `measured`)."""

    title: str
    x: str
    x_source: str
    x_label: str
    y_source: str
    y_label: str = "top-1 accuracy on ImageNet, published (%)"
    y: str = TOP1


def figure_1(comparison: pd.DataFrame, title: str, machine: str, profile: str) -> Figure:
    """Top-1 accuracy against CPU latency.

    Args:
        comparison: as `comparison.compare` gives it.
        title: above all.
        machine: the processor that our latencies were measured on.
        profile: the name of the profile that our accuracies were measured at.
    """
    ours = f"latency on {machine} (ms, {ENGINE}, 1 thread)"
    panels = [
        Panel("the paper", CPU, "paper", "latency on i7-8700 (ms)", "paper"),
        Panel("latency measured here, accuracy as published", CPU, "measured", ours, "paper"),
        Panel("both measured here, rows trained here", CPU, "measured", ours, "measured",
              f"top-1 accuracy at profile {profile} (%)"), *_of_weights(comparison, CPU, ours)]
    return _draw(comparison, title, panels)


def figure_5(comparison: pd.DataFrame, title: str, profile: str) -> Figure:
    """Top-1 accuracy against multiply-accumulates, and against a phone's latency, which only the paper has."""
    macs = "multiply-accumulates (M)"
    panels = [
        Panel("the paper", MACS, "paper", macs, "paper"),
        Panel("counted here, accuracy as published", MACS, "measured", macs, "paper"),
        Panel("the paper (no phone was measured here)", MOBILE, "paper", "latency on Kirin 9000 (ms)", "paper"),
        Panel("both measured here, rows trained here", MACS, "measured", macs, "measured",
              f"top-1 accuracy at profile {profile} (%)"), *_of_weights(comparison, MACS, macs)]
    return _draw(comparison, title, panels)


def family(row: str) -> tuple[str, str]:
    """The family that a row of Table 9 belongs to, and what to call its point.

    Raises:
        ValueError: the row belongs to no family.
    """
    for name, pattern in _FAMILIES.items():
        if match := re.fullmatch(pattern, row):
            return name, match.group(1)
    raise ValueError(f"{row!r} belongs to no family: {', '.join(_FAMILIES)}")


def _of_weights(comparison: pd.DataFrame, x: str, x_label: str) -> list[Panel]:
    """A panel of what public weights give, where any were scored."""
    if WEIGHTS_TOP1 not in comparison["quantity"].to_numpy():
        return []
    return [Panel("both measured here, published weights", x, "measured", x_label, "measured",
                  "top-1 accuracy on ImageNet, measured here (%)", WEIGHTS_TOP1)]


def _draw(comparison: pd.DataFrame, title: str, panels: Sequence[Panel]) -> Figure:
    """Two panels a row; the legend in the place that an odd number leaves, else in a row of its own."""
    rows = -(-len(panels) // 2)
    odd = len(panels) % 2
    heights = [1.0] * rows + [0.12] * (1 - odd)
    with plt.rc_context(grid()):
        figure = plt.figure(figsize=(13.6, 0.5 + 6.2 * sum(heights)))
        places = figure.add_gridspec(len(heights), 2, height_ratios=heights, left=0.045, right=0.99, wspace=0.11,
                                   hspace=0.2, bottom=0.05 if odd else 0.02, top=1 - 0.7 / figure.get_figheight())
        drawn = [_points(comparison, panel) for panel in panels]
        for i, (panel, points) in enumerate(zip(panels, drawn, strict=True)):
            _panel(figure.add_subplot(places[i // 2, i % 2]), panel, points)
        legend = figure.add_subplot(places[-1, 1] if odd else places[-1, :])
        _legend(legend, pd.concat(drawn), columns=1 if odd else 5)
        figure.suptitle(title, x=0.01, y=1 - 0.15 / figure.get_figheight(), ha="left")
    plt.close(figure)
    return figure


def _points(comparison: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """x, y, low and high of x, sd and seeds of y, family and label of every row that has both values.

    What the paper has, and what was counted, has no low, high and sd.
    """
    of_x, of_y = (comparison[comparison["quantity"] == quantity].set_index("row") for quantity in (panel.x, panel.y))
    points = pd.DataFrame({"x": of_x[panel.x_source], "y": of_y[panel.y_source]}).dropna()
    points = points.join(of_x[["low", "high"]]).join(of_y[["sd", "seeds"]])
    if panel.x_source == "paper":
        points[["low", "high"]] = np.nan
    if panel.y_source == "paper":
        points["sd"] = np.nan
    points[["family", "label"]] = [family(row) for row in points.index]
    return points


def _panel(axis: Axes, panel: Panel, points: pd.DataFrame) -> None:
    axis.set_xscale("log")
    hollow = panel.y_source == "paper"
    for name, mark in FAMILIES.items():
        members = points[points["family"] == name]
        with_strategy = members["label"].str.endswith(_WITH)
        axis.scatter(members["x"], members["y"], marker=mark.marker, s=36, zorder=3,
                     linewidth=[1.8 if ours else 1.3 for ours in with_strategy],
                     facecolor="white" if hollow else mark.color,
                     edgecolor=[STRATEGY.color if ours else mark.color for ours in with_strategy])
        if name.startswith("GhostNet"):
            axis.plot(members["x"], members["y"], color=mark.color, alpha=0.6, linewidth=1, zorder=1)
        timed, spread = members.dropna(subset=["low", "high"]), members.dropna(subset="sd")
        whiskers = {"color": mark.color, "alpha": 0.35, "linewidth": 1}
        axis.hlines(timed["y"], timed["low"], timed["high"], **whiskers)
        axis.vlines(spread["x"], spread["y"] - spread["sd"], spread["y"] + spread["sd"], **whiskers)
    axis.set(xlabel=panel.x_label, ylabel=panel.y_label)
    once = panel.y == TOP1 and not hollow and (points["seeds"] == 1).any()
    axis.set_title(panel.title + (" (one seed: no spread is known)" if once else ""), loc="left")
    axis.margins(0.06)
    short_numbers(axis.xaxis)
    _label(axis, points)


def _legend(axis: Axes, points: pd.DataFrame, columns: int) -> None:
    handles = [Line2D([], [], color=mark.color, marker=mark.marker, ls="", label=name)
               for name, mark in FAMILIES.items()]
    handles += [Line2D([], [], color="0.3", marker="o", mfc="white", ls="", label="accuracy as published"),
                Line2D([], [], color="0.3", marker="o", ls="", label="accuracy measured here"),
                Line2D([], [], color="0.3", marker="o", mec=STRATEGY.color, mew=1.5, ls="",
                       label=f"{_WITH}: with GhostNetV3's strategy")]
    if points["low"].notna().any():
        handles.append(Line2D([], [], color="0.6", lw=1, label="10th to 90th percentile of a latency's calls"))
    if points["sd"].notna().any():
        handles.append(Line2D([], [], color="0.6", marker="|", ms=11, ls="", label="± standard deviation of the seeds"))
    axis.axis("off")
    axis.legend(handles=handles, loc="center", ncols=columns, frameon=False)


def _label(axis: Axes, points: pd.DataFrame) -> None:
    """Writes each point's name at the nearest place where it hides neither a point nor a name, with a line to it.

    Points are taken from the most crowded to the loneliest, which has the most places to go to.

    On these points adjustText 1.4 hides up to five points in a panel and some names behind each other, and takes ten
    times as long; textalloc 1.2 hides one point at most, but puts the names of lonely points far away from them.
    """
    axis.autoscale_view()  # the limits that the places below are in, settled now and not when drawn
    figure = axis.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    places = axis.transData.transform(points[["x", "y"]].to_numpy())  # px
    taken = [Bbox.from_extents(*(place - 4), *(place + 4)) for place in places]
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    for i in np.argsort(np.sort(distances, axis=1)[:, :4].sum(axis=1)):
        point = points.iloc[i]
        text = axis.annotate(point["label"], (point["x"], point["y"]), (0, 0), textcoords="offset points", fontsize=7,
                             ha="center", va="center", color=FAMILIES[point["family"]].color, zorder=2,
                             bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.2},
                             arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.5, "shrinkA": 0})
        size = text.get_window_extent(renderer).padded(1)
        # On a full page the last place is taken, free or not.
        for offset in _offsets(size.width, size.height):
            box = _centred(places[i] + offset, size)
            if _is_free(box, taken, axis.bbox):
                break
        text.xyann = tuple(offset * 72 / figure.dpi)  # in points, so that it holds at the resolution of any file
        taken.append(box)


def _offsets(width: float, height: float) -> Iterator[np.ndarray]:
    """Where a name's centre may go, relative to its point (px): around it, ever farther away.

    First above it on the right, where no whisker is.
    """
    for distance in range(6, 600, 3):
        for angle in np.pi / 4 + np.linspace(0, 2 * np.pi, 24, endpoint=False):
            direction = np.array([np.cos(angle), np.sin(angle)])
            yield direction * (distance + np.abs(direction) * (width, height) / 2)


def _centred(place: np.ndarray, size: Bbox) -> Bbox:
    half = np.array([size.width, size.height]) / 2
    return Bbox.from_extents(*(place - half), *(place + half))


def _is_free(box: Bbox, taken: list[Bbox], within: Bbox) -> bool:
    inside = within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0 and box.y1 <= within.y1
    return inside and not any(box.overlaps(other) for other in taken)

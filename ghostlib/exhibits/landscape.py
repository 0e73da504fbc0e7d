"""Figures 1 and 5: accuracy against cost, the paper's points and ours in panels side by side."""

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
from matplotlib.transforms import Bbox

from ghostlib.exhibits.comparison import ENGINE, WEIGHTS_TOP1
from ghostlib.exhibits.figures import GRID_STYLE, STYLE, colors
from ghostlib.paper.numbers import CPU, MACS, MOBILE, TOP1

# Family -> the rows that belong to it; the group in parentheses is what a point is called.
_FAMILIES = {
    "GhostNetV3": r"GhostNetV3 (.*)", "GhostNetV2": r"GhostNetV2 (.*)", "GhostNetV1": r"GhostNetV1 (.*)",
    "MobileNet": r"Mobile(?:Net)?(V\d.*|NeXt .*)", "ShuffleNetV2": r"ShuffleNetV2 (.*)", "MobileOne": r"MobileOne-(.*)",
    "searched": r"((?:MNASNet|FBNet|EfficientNet|MixNet).*)",
    "transformer": r"((?:DeiT|PiT|ConViT|MobileViT|Mobileformer).*)",
}


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
    return _draw(comparison, title, panels, columns=3 if len(panels) == 3 else 2)


def figure_5(comparison: pd.DataFrame, title: str, profile: str) -> Figure:
    """Top-1 accuracy against multiply-accumulates, and against a phone's latency, which only the paper has."""
    macs = "multiply-accumulates (M)"
    panels = [
        Panel("the paper", MACS, "paper", macs, "paper"),
        Panel("counted here, accuracy as published", MACS, "measured", macs, "paper"),
        Panel("the paper (no phone was measured here)", MOBILE, "paper", "latency on Kirin 9000 (ms)", "paper"),
        Panel("both measured here, rows trained here", MACS, "measured", macs, "measured",
              f"top-1 accuracy at profile {profile} (%)"), *_of_weights(comparison, MACS, macs)]
    return _draw(comparison, title, panels, columns=2 if len(panels) == 4 else 3)


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


def _draw(comparison: pd.DataFrame, title: str, panels: Sequence[Panel], columns: int) -> Figure:
    rows = -(-len(panels) // columns)
    with plt.rc_context({**GRID_STYLE, **STYLE}):
        figure, axes = plt.subplots(rows, columns, figsize=(6.4 * columns, 5.8 * rows + 0.8), squeeze=False)
        figure.subplots_adjust(left=0.05, right=0.99, bottom=0.13 / rows + 0.02, top=0.9, wspace=0.16, hspace=0.24)
        for axis, panel in zip(axes.flat, panels, strict=False):
            _panel(axis, panel, _points(comparison, panel))
        for axis in axes.flat[len(panels):]:
            axis.set_visible(False)
        handles = {label: handle for axis in axes.flat for handle, label in zip(
            *axis.get_legend_handles_labels(), strict=True)}
        figure.legend([handles[name] for name in _FAMILIES], list(_FAMILIES), loc="lower center", ncols=len(_FAMILIES),
                      frameon=False)
        figure.suptitle(title, x=0.01, ha="left")
    plt.close(figure)
    return figure


def _points(comparison: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """x, y, family and label of every row that has both values."""
    x = comparison[comparison["quantity"] == panel.x].set_index("row")[panel.x_source]
    y = comparison[comparison["quantity"] == panel.y].set_index("row")[panel.y_source]
    points = pd.DataFrame({"x": x, "y": y}).dropna()
    points[["family", "label"]] = [family(row) for row in points.index]
    return points


def _panel(axis: Axes, panel: Panel, points: pd.DataFrame) -> None:
    axis.set_xscale("log")
    for name, color in zip(_FAMILIES, colors(len(_FAMILIES)), strict=True):
        members = points[points["family"] == name]
        axis.scatter(members["x"], members["y"], color=color, s=28, label=name, zorder=3)
        if name.startswith("GhostNet"):
            axis.plot(members["x"], members["y"], color=color, alpha=0.6, linewidth=1)
    axis.set(xlabel=panel.x_label, ylabel=panel.y_label)
    axis.set_title(panel.title, loc="left")
    axis.margins(0.09)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "25" else "")
    _label(axis, points)


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
                             ha="center", va="center", color="0.2",
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
    """Where a name's centre may go, relative to its point (px): around it, ever farther away."""
    for distance in range(6, 600, 3):
        for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            direction = np.array([np.cos(angle), np.sin(angle)])
            yield direction * (distance + np.abs(direction) * (width, height) / 2)


def _centred(place: np.ndarray, size: Bbox) -> Bbox:
    half = np.array([size.width, size.height]) / 2
    return Bbox.from_extents(*(place - half), *(place + half))


def _is_free(box: Bbox, taken: list[Bbox], within: Bbox) -> bool:
    inside = within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0 and box.y1 <= within.y1
    return inside and not any(box.overlaps(other) for other in taken)

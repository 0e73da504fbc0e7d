"""Figures 1 and 5: accuracy against cost, the paper's points and ours in panels side by side.

Filled is an accuracy that was measured here, hollow a published one. A whisker along is a latency's 10th to 90th
percentile, one upright the standard deviation over the seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from ghostlib.exhibits.figures import short_numbers
from ghostlib.exhibits.panels import WITH, Panel, family, panels
from ghostlib.exhibits.style import FAMILIES, STRATEGY, grid
from ghostlib.paper.numbers import TOP1


def figure(name: str, comparison: pd.DataFrame, title: str, machine: str, profile: str) -> Figure:
    """`figure_1`, accuracy against CPU latency, or `figure_5`, against multiply-accumulates and the latency of a phone.

    Args:
        name: of the two.
        comparison: as `comparison.compare` gives it.
        title: above all.
        machine: the processor that our latencies were measured on.
        profile: the name of the profile that our accuracies were measured at.
    """
    return _draw(comparison, title, panels(name, comparison, machine, profile))


def _draw(comparison: pd.DataFrame, title: str, shown: Sequence[Panel]) -> Figure:
    """Two panels a row; the legend in the place that an odd number leaves, else in a row of its own."""
    rows = -(-len(shown) // 2)
    odd = len(shown) % 2
    heights = [1.0] * rows + [0.12] * (1 - odd)
    with plt.rc_context(grid()):
        figure = plt.figure(figsize=(13.6, 0.5 + 6.2 * sum(heights)))
        places = figure.add_gridspec(len(heights), 2, height_ratios=heights, left=0.045, right=0.99, wspace=0.11,
                                   hspace=0.2, bottom=0.05 if odd else 0.02, top=1 - 0.7 / figure.get_figheight())
        drawn = [_points(comparison, panel) for panel in shown]
        for i, (panel, points) in enumerate(zip(shown, drawn, strict=True)):
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
    (x, x_source), (y, y_source) = panel.x, panel.y
    of_x, of_y = (comparison[comparison["quantity"] == quantity].set_index("row") for quantity in (x, y))
    points = pd.DataFrame({"x": of_x[x_source], "y": of_y[y_source]}).dropna()
    points = points.join(of_x[["low", "high"]]).join(of_y[["sd", "seeds"]])
    if x_source == "paper":
        points[["low", "high"]] = np.nan
    if y_source == "paper":
        points["sd"] = np.nan
    points = points.astype(float)  # columns of which nothing was measured are of objects
    points[["family", "label"]] = [family(row) for row in points.index]
    return points


def _panel(axis: Axes, panel: Panel, points: pd.DataFrame) -> None:
    axis.set_xscale("log")
    y, y_source = panel.y
    hollow = y_source == "paper"
    for name, mark in FAMILIES.items():
        members = points[points["family"] == name]
        with_strategy = members["label"].str.endswith(WITH)
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
    once = y == TOP1 and not hollow and (points["seeds"] == 1).any()
    axis.set_title(panel.title + (" (one seed)" if once else ""), loc="left")
    axis.margins(0.06)
    short_numbers(axis.xaxis)
    _label(axis, points)


def _legend(axis: Axes, points: pd.DataFrame, columns: int) -> None:
    handles = [Line2D([], [], color=mark.color, marker=mark.marker, ls="", label=name)
               for name, mark in FAMILIES.items()]
    handles += [Line2D([], [], color="0.3", marker="o", mfc="white", ls="", label="accuracy as published"),
                Line2D([], [], color="0.3", marker="o", ls="", label="accuracy measured here"),
                Line2D([], [], color="0.3", marker="o", mec=STRATEGY.color, mew=1.5, ls="",
                       label=f"{WITH}: with GhostNetV3's strategy")]
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

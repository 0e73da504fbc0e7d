"""The graphs of one block as boxes and arrows, top to bottom, its forms side by side. Lengths are inches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import matplotlib.pyplot as plt
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from ghostlib.exhibits.figure_2 import layout

FONT, PAGE = 7, 7.16  # points; the text width of two columns
_LINE, _PAD = 8.6 / 72, 0.028  # a line of text, and what is around the text in a box
_CONV = 0.404  # the least width of a convolution's text, so that all boxes of a column are equal
_BELOW, _BESIDE, _STRAND = 0.16, 0.04, 0.074  # the least gaps: below a box, beside a branch, beside a strand
_LANE = 0.05  # the width for an arrow that passes boxes by
_HEAD, _FOOT, _MARGIN, _BETWEEN = 0.4, 0.42, 0.18, 0.1  # for titles, legend, names of the parts, between panels
_GREY = "#555555"
_FIELD = "#dcdcdc"  # behind the branches of a site
# Fill and edge of each kind, after Okabe and Ito's colours that the colour-blind tell apart, and what it is.
KINDS = {
    "conv": ("#c3e0f4", "#0072b2", "convolution"),
    "depthwise": ("#fbdfae", "#c98500", "depth-wise convolution (DW)"),
    "norm": ("#f4efa6", "#a39a00", "batch normalisation (BN)"),
    "activation": ("#ecc9de", "#b0508a", "activation"),
    "resize": ("#b8e3d5", "#009e73", "pooling, upsampling"),
    "join": ("#ffffff", _GREY, "sum, product, concatenation"),
    "map": ("#ffffff", "#aaaaaa", "feature map"),
}
CONVOLUTIONS = ("conv", "depthwise")


class Box(NamedTuple):
    """The centre and the size of what is drawn for a node."""

    x: float
    y: float
    width: float
    height: float


def draw(forms: Mapping[str, nx.DiGraph], parts: Mapping[str, str]) -> Figure:
    """The forms side by side at the width of a page; what they have in common stands at the same height.

    Args:
        forms: one block's graphs, as `measures.bottleneck.read` gives them, by the title of their panel.
        parts: children of the block that get a band across all panels, and what to call them at its side.

    Raises:
        ValueError: the forms differ in more than what their sites hold or do not fall into parallel strands, or a part
            is not in them.
    """
    panels = [_Panel(form) for form in forms.values()]
    wires = panels[0].wires
    if any(set(wires.edges) != set(panel.wires.edges) for panel in panels):
        raise ValueError(f"{', '.join(forms)}: not forms of one block, their sites are wired differently")
    series = layout.strands(wires)
    heights = {site: max(panel.size(site)[1] for panel in panels) for site in wires}
    ys, height = layout.vertical(series, heights, _BELOW)
    ys = {site: _HEAD + y for site, y in ys.items()}
    placed = [layout.horizontal(series, {site: panel.size(site)[0] for site in wires}, _STRAND) for panel in panels]
    filled = _MARGIN + sum(left + right for _, left, right in placed)
    between = max(_BETWEEN, (PAGE - filled) / len(panels))
    width = filled + between * len(panels)
    height = _HEAD + height + _FOOT
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    for part, label in parts.items():
        inside = [site for site, rows in panels[0].rows.items() if rows and f"{site}.".startswith(f"{part}.")]
        if not inside:
            raise ValueError(f"the block has no child {part!r} to draw a band for; it has the sites {', '.join(ys)}")
        _band(axis, label, min(ys[site] - heights[site] / 2 for site in inside),
              max(ys[site] + heights[site] / 2 for site in inside))
    edge = _MARGIN + (between - _BETWEEN) / 2
    for title, panel, (xs, left, right) in zip(forms, panels, placed, strict=True):
        panel.paint(axis, {site: edge + left + x for site, x in xs.items()}, ys)
        axis.text(edge + (left + right) / 2, _HEAD / 2, title, ha="center", va="center", size=FONT + 1)
        edge += left + right + between
    _legend(axis, {kind for panel in panels for _, kind in panel.boxes.nodes(data="kind")})
    plt.close(figure)
    return figure


class _Panel:
    """One form: its boxes, in rows within their sites, and how the sites are wired."""

    def __init__(self, form: nx.DiGraph):
        self.boxes, self.wires = _merge(form), _wires(form)
        self.rows: dict[str, list[list[str]]] = {site: [] for site in self.wires}
        depth: dict[str, int] = {}
        for name, site in self.boxes.nodes(data="site"):
            above = [depth[source] for source in self.boxes.pred[name] if self.boxes.nodes[source]["site"] == site]
            depth[name] = max(above, default=-1) + 1
            if depth[name] == len(self.rows[site]):
                self.rows[site].append([])
            self.rows[site][depth[name]].append(name)

    def size(self, site: str) -> tuple[float, float]:
        """Width and height of all that a site holds; a site without boxes is an arrow's lane."""
        rows = [self._row_size(row) for row in self.rows[site]]
        if not rows:
            return _LANE, 0
        return max(width for width, _ in rows), sum(height for _, height in rows) + _BELOW * (len(rows) - 1)

    def place(self, xs: Mapping[str, float], ys: Mapping[str, float]) -> dict[str, Box]:
        """Where every box stands, given the centres of the sites. The boxes of a row are of one height."""
        placed = {}
        for site, rows in self.rows.items():
            y = ys[site] - self.size(site)[1] / 2
            for row in rows:
                across, height = self._row_size(row)
                x = xs[site] - across / 2
                for name in row:
                    width, _ = _text_size(self.boxes.nodes[name])
                    placed[name] = Box(x + width / 2, y + height / 2, width, height)
                    x += width + _BESIDE
                y += height + _BELOW
        return placed

    def paint(self, axis: Axes, xs: Mapping[str, float], ys: Mapping[str, float]) -> None:
        """Draws the form, given the centres of the sites."""
        placed = self.place(xs, ys)
        for site, rows in self.rows.items():
            if len(rows) > 1:
                width, height = self.size(site)
                around = Box(xs[site], ys[site], width + 1.5 * _BESIDE, height + 1.5 * _BESIDE)
                axis.add_patch(_rounded(around, facecolor=_FIELD, edgecolor="none"))
        for source, name in self.boxes.edges:
            axis.add_patch(_arrow(placed[source], placed[name], self._lane(source, name, xs)))
        for name, box in placed.items():
            node = self.boxes.nodes[name]
            fill, line, _ = KINDS[node["kind"]]
            axis.add_patch(_rounded(box, facecolor=fill, edgecolor=line, linewidth=0.8, gid=name))
            axis.text(box.x, box.y, "\n".join(node["lines"]), ha="center", va="center", size=FONT, linespacing=1.05)

    def _row_size(self, row: list[str]) -> tuple[float, float]:
        widths, heights = zip(*(_text_size(self.boxes.nodes[name]) for name in row), strict=True)
        return sum(widths) + _BESIDE * (len(row) - 1), max(heights)

    def _lane(self, source: str, name: str, xs: Mapping[str, float]) -> float:
        """Where the long part of an arrow runs: in the strand that it opens or closes, or in a lane of its own."""
        above, below = self.boxes.nodes[source]["site"], self.boxes.nodes[name]["site"]
        own = xs.get(layout.lane(above, below))
        return own if own is not None else xs[below if self.wires.out_degree(above) > 1 else above]


def _merge(form: nx.DiGraph) -> nx.DiGraph:
    """The form with the normalisation and activation behind a convolution or a sum in one box with it."""
    boxes = form.copy()
    for name, node in form.nodes.items():
        first = next(iter(boxes.pred[name]), None)
        if node["kind"] in ("norm", "activation") and boxes.nodes[first]["site"] == node["site"] \
                and boxes.out_degree(first) == 1:
            boxes.nodes[first]["lines"] += node["lines"]
            boxes.add_edges_from((first, after) for after in form.succ[name])
            boxes.remove_node(name)
    return boxes


def _wires(form: nx.DiGraph) -> nx.DiGraph:
    """The sites and the edges between them, with the lanes of edges that pass others by."""
    sites, wires = form.nodes(data="site"), nx.DiGraph()
    wires.add_nodes_from(site for _, site in sites)
    wires.add_edges_from((sites[source], sites[name], {"operand": operand})
                         for source, name, operand in form.edges(data="operand") if sites[source] != sites[name])
    return layout.with_lanes(wires)


def _text_size(node: Mapping[str, object]) -> tuple[float, float]:
    """Width and height that a box needs for its text."""
    least = _CONV if node["kind"] in CONVOLUTIONS else 0
    return max(least, *map(_text_width, node["lines"])) + 2 * _PAD, len(node["lines"]) * _LINE + _PAD


@cache
def _text_width(line: str) -> float:
    return TextPath((0, 0), line, size=FONT).get_extents().width / 72


def _band(axis: Axes, label: str, top: float, bottom: float) -> None:
    margin = 0.4 * _BELOW
    width = axis.get_xlim()[1] - 2 * _BESIDE
    axis.add_patch(Rectangle((_BESIDE, top - margin), width, bottom - top + 2 * margin, facecolor="#f2f2f2"))
    axis.text(0.5 * _MARGIN, (top + bottom) / 2, label, rotation=90, ha="center", va="center", size=FONT, color=_GREY)


def _rounded(box: Box, **style) -> FancyBboxPatch:
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    return FancyBboxPatch(corner, box.width, box.height, boxstyle="round,pad=0,rounding_size=0.04", **style)


def _arrow(source: Box, target: Box, lane: float) -> FancyArrowPatch:
    """Down out of one box, along the lane, down into the other."""
    start, end = source.y + source.height / 2, target.y - target.height / 2
    leave, arrive = start + _BELOW / 2, end - _BELOW / 2
    if arrive - leave < _BELOW:
        arrive = leave  # one line to all branches, not two close together
    corners = [(source.x, start), (source.x, leave), (lane, leave), (lane, arrive), (target.x, arrive), (target.x, end)]
    return FancyArrowPatch(path=Path(list(dict.fromkeys(corners))), arrowstyle="-|>,head_length=2.6,head_width=1.3",
                           linewidth=0.7, color=_GREY, joinstyle="round")


def _legend(axis: Axes, kinds: set[str]) -> None:
    handles = [Patch(facecolor=fill, edgecolor=line, label=label)
               for kind, (fill, line, label) in KINDS.items() if kind in kinds]
    handles.append(Patch(facecolor=_FIELD, label="folds into one convolution"))
    axis.legend(handles=handles, loc="lower center", ncols=(len(handles) + 1) // 2, fontsize=FONT, frameon=False,
                handlelength=1.4, columnspacing=1.5, borderaxespad=0.3)

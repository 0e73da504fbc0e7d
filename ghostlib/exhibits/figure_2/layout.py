"""Where the nodes of a graph that forks and joins stand on a page, from its edges alone.

Between two nodes that every path passes, what is parallel becomes strands side by side. One of them, the spine, goes
straight down; the others go left of it if they run before it, else right. Lengths are in one unit, y grows downwards.

No library does it: grandalf 0.8's Sugiyama layout bends the spine at every fork and join, sets the short strands at the
top instead of spreading them, needs more than a page's width, and runs its long arrows through boxes without our lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import networkx as nx


class Bundle(NamedTuple):
    """What lies between two nodes, from left to right; where that is an edge alone, the spine is empty."""

    left: list[Series]
    spine: Series
    right: list[Series]


Series = list[str | Bundle]  # from top to bottom: a bundle, a node, a bundle, ..., a bundle


def with_lanes(wires: nx.DiGraph) -> nx.DiGraph:
    """The graph with a node of its own, a lane, in every edge from a fork straight to a join: it passes others by.

    Args:
        wires: acyclic, its nodes in the order of execution, the inputs of a node numbered by the edges' `operand`.
    """
    laned = wires.copy()
    for above, below in wires.edges:
        if wires.out_degree(above) > 1 and wires.in_degree(below) > 1:
            laned.remove_edge(above, below)
            laned.add_edge(above, lane(above, below), operand=0)
            laned.add_edge(lane(above, below), below, operand=len(wires))  # the last of all: a lane is no spine
    return laned


def lane(above: str, below: str) -> str:
    """The name of the lane between two nodes."""
    return f"{above} → {below}"


def strands(wires: nx.DiGraph) -> Series:
    """The graph as a series, from its one input to its one output.

    Args:
        wires: as `with_lanes` gives it.

    Raises:
        ValueError: it does not fall into parallel strands.
    """
    top, *_, bottom = nx.topological_sort(wires)
    return [top, *_between(wires, top, bottom), bottom]


def vertical(series: Series, heights: Mapping[str, float], gap: float) -> tuple[dict[str, float], float]:
    """The y of every node's centre and the height of all, which is the least that leaves a gap at every edge.

    Args:
        series: as `strands` gives it.
        heights: of the nodes.
        gap: the least distance of a node to the next.
    """
    def least(series: Series) -> float:
        return sum(heights[item] if isinstance(item, str) else max(map(least, [*item.left, item.spine, *item.right]))
                   for item in series) if series else gap

    def place(series: Series, y: float, height: float) -> Iterator[tuple[str, float]]:
        # A strand shorter than those beside it gets longer arrows, all by the same.
        spare = (height - least(series)) / max(1, sum(isinstance(item, Bundle) for item in series))
        for item in series:
            if isinstance(item, str):
                yield item, y + heights[item] / 2
                y += heights[item]
            else:
                tall = least([item]) + spare
                for strand in (*item.left, item.spine, *item.right):
                    yield from place(strand, y, tall)
                y += tall

    return dict(place(series, 0, least(series))), least(series)


def horizontal(series: Series, widths: Mapping[str, float], gap: float) -> tuple[dict[str, float], float, float]:
    """The x of every node's centre relative to the spine, and how far all reaches to the left and the right of it.

    Args:
        series: as `strands` gives it.
        widths: of the nodes.
        gap: between one strand and the next.
    """
    xs, left, right = {}, 0.0, 0.0
    for item in series:
        if isinstance(item, str):
            xs[item] = 0.0
            reach = [widths[item] / 2] * 2
        else:
            inner, *reach = horizontal(item.spine, widths, gap)
            xs |= inner
            for side, sign, outward in ((0, -1, item.left[::-1]), (1, 1, item.right)):
                for strand in outward:
                    inner, *extent = horizontal(strand, widths, gap)
                    shift = sign * (reach[side] + gap + extent[1 - side])
                    xs |= {name: x + shift for name, x in inner.items()}
                    reach[side] += gap + sum(extent)
        left, right = max(left, reach[0]), max(right, reach[1])
    return xs, left, right


def _between(wires: nx.DiGraph, above: str, below: str) -> Series:
    """What lies between two nodes, cut at the nodes that every path from one to the other passes."""
    dominators = nx.immediate_dominators(wires, above)
    stops = [below]
    while stops[0] != above:
        stops.insert(0, dominators[stops[0]])
    return [item for start, stop in pairwise(stops) for item in (_bundle(wires, start, stop), stop)][:-1]


def _bundle(wires: nx.DiGraph, above: str, below: str) -> Bundle:
    """The strands between two nodes in the order of execution; the lower one's first operand ends the spine."""
    inside = nx.descendants(wires, above) & nx.ancestors(wires, below)
    order = [name for name in wires if name in inside]
    parts = sorted(nx.weakly_connected_components(wires.subgraph(inside)),
                   key=lambda part: min(map(order.index, part)))
    if not parts:
        return Bundle([], [], [])
    if len(parts) == 1:
        raise ValueError(f"what lies between {above} and {below} does not fall into parallel strands")
    first = min(inside & set(wires.pred[below]), key=lambda name: wires.edges[name, below]["operand"])
    spine = next(i for i, part in enumerate(parts) if first in part)
    series = [_between(_only(wires, {above, *part, below}), above, below) for part in parts]
    return Bundle(series[:spine], series[spine], series[spine + 1:])


def _only(wires: nx.DiGraph, names: set[str]) -> nx.DiGraph:
    """The subgraph, its nodes in the order of the whole; NetworkX's own view may have them in any."""
    part = nx.DiGraph()
    part.add_nodes_from(name for name in wires if name in names)
    part.add_edges_from(edge for edge in wires.edges(data=True) if {*edge[:2]} <= names)
    return part

"""Figure 2: parallel strands around a straight spine."""

from __future__ import annotations

import networkx as nx

from ghostlib.exhibits.figure_2 import layout


def test_strands_stand_side_by_side_around_the_first_operand():
    wires = nx.DiGraph([("top", name) for name in "abcd"])
    for operand, name in enumerate("bacd"):
        wires.add_edge(name, "bottom", operand=operand)
    series = layout.strands(layout.with_lanes(wires))
    xs, left, right = layout.horizontal(series, {"a": 2, "b": 4, "c": 6, "d": 8, "top": 1, "bottom": 1}, 1)
    assert xs == {"top": 0, "a": -4, "b": 0, "c": 6, "d": 14, "bottom": 0} and (left, right) == (5, 18)
    ys, height = layout.vertical(series, {"a": 2, "b": 4, "c": 4, "d": 4, "top": 1, "bottom": 1}, 1)
    assert ys == {"top": 0.5, "a": 4, "b": 4, "c": 4, "d": 4, "bottom": 7.5} and height == 8

"""Figure 2: the drawing shows what the graphs say, and can be read."""

from __future__ import annotations

import networkx as nx
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ghostlib.exhibits import figures
from ghostlib.exhibits.figure_2 import diagram
from ghostlib.models import zoo
from ghostlib.models.reparam import reparameterize
from tests import blocks
from tests.blocks import PLAIN, SQUEEZED, STRIDED, graph_of

PARTS = {"ghost1": "first", "ghost2": "second"}


@pytest.fixture(scope="module")
def forms_of():
    return blocks.forms()


@pytest.fixture(scope="module", params=[STRIDED, PLAIN, SQUEEZED])
def drawing(forms_of, request):
    figure = diagram.draw(forms_of[request.param], PARTS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure, canvas.get_renderer()


def boxes_of(figure, renderer):
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch) and patch.get_gid()]
    return patches, [patch.get_window_extent(renderer) for patch in patches]


def test_boxes_and_labels_are_apart_and_in_the_figure(drawing):
    figure, renderer = drawing
    _, boxes = boxes_of(figure, renderer)
    texts = [*figure.axes[0].texts, *figure.axes[0].get_legend().get_texts()]
    labels = [text.get_window_extent(renderer) for text in texts]
    for group in (boxes, labels):
        assert not [(a, b) for i, a in enumerate(group) for b in group[:i] if a.overlaps(b)]
        assert all(0 <= box.x0 < box.x1 <= figure.bbox.width and 0 <= box.y0 < box.y1 <= figure.bbox.height
                   for box in group)
    inside = [any(box.x0 <= label.x0 and label.x1 <= box.x1 and box.y0 <= label.y0 and label.y1 <= box.y1
                  for box in boxes) for label in labels]
    assert inside.count(True) == len(boxes)  # each holds its text; titles, names of parts and the legend are outside


def test_no_arrow_passes_through_a_box(drawing):
    figure, renderer = drawing
    patches, boxes = boxes_of(figure, renderer)
    inner = [box.padded(-1) for box in boxes]  # px: an arrow touches the two that it joins
    arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    lines = [line for arrow in arrows
             for line in arrow.get_path().transformed(figure.axes[0].transData).to_polygons(closed_only=False)]
    assert len(lines) > len(boxes)
    assert not [patches[i].get_gid() for line in lines for i, box in enumerate(inner)
                if Path(line).intersects_bbox(box, filled=False)]


def test_the_text_is_legible_at_the_width_of_a_page():
    network = zoo.create("ghostnetv3_100")
    training = graph_of(network)
    folded = graph_of(reparameterize(network))
    figure = diagram.draw({"deployed": folded, "training": training, "folded": folded}, PARTS)
    assert figure.get_figwidth() == pytest.approx(7.16)
    assert min(text.get_fontsize() for text in [*figure.axes[0].texts, *figure.axes[0].get_legend().get_texts()]) >= 7


def test_what_forms_share_stands_at_the_same_height(forms_of):
    figure = diagram.draw(forms_of[STRIDED], PARTS)
    heights = {}
    for patch in figure.axes[0].patches:
        if isinstance(patch, FancyBboxPatch) and patch.get_gid():
            heights.setdefault(patch.get_gid(), set()).add(round(patch.get_y() + patch.get_height() / 2, 6))
    assert len(heights["conv_dw"]) == len(heights["ghost1.cat"]) == len(heights["shortcut.2"]) == 1


def test_forms_of_different_blocks_are_not_drawn_side_by_side(forms_of):
    with pytest.raises(ValueError, match="one, two: not forms of one block"):
        diagram.draw({"one": forms_of[STRIDED]["deployed"], "two": forms_of[PLAIN]["deployed"]}, PARTS)


def test_a_band_for_what_is_not_there_is_an_error(forms_of):
    with pytest.raises(ValueError, match="no child 'conv_dw'"):
        diagram.draw(forms_of[PLAIN], {"conv_dw": "stride 2"})


def test_a_block_that_is_no_parallel_strands_is_an_error():
    edges = [("input", "a"), ("input", "b"), ("a", "b"), ("a", "output"), ("b", "output")]
    graph = nx.DiGraph()
    for i, edge in enumerate(edges):
        graph.add_edge(*edge, operand=i)
    for name in graph:
        graph.nodes[name].update(kind="join", lines=(name,), site=name)
    with pytest.raises(ValueError, match="between input and output"):
        diagram.draw({"bridge": graph}, PARTS)


def test_equal_blocks_give_equal_files(forms_of, tmp_path):
    for folder in ("a", "b"):
        figures.write(diagram.draw(forms_of[STRIDED], PARTS), tmp_path / folder, "figure_2")
    for name in ("figure_2.png", "figure_2.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

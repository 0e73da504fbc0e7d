"""Figure 2: what is drawn is what the modules do, and the drawing can be read."""

from __future__ import annotations

import copy

import networkx as nx
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from torch import nn

from ghostlib.exhibits import figures
from ghostlib.exhibits.figure_2 import diagram, layout, trace
from ghostlib.models import zoo
from ghostlib.models.reparam import add_branches, reparameterize

STRIDED, PLAIN, SQUEEZED = "blocks.5.0", "blocks.6.0", "blocks.6.3"  # all with DFC attention; the last with SE as well
PARTS = {"ghost1": "first", "ghost2": "second"}


@pytest.fixture(scope="module")
def deployed():
    return zoo.create("ghostnetv2_100", 10, 0.25)


def branched(network, **options):
    return add_branches(copy.deepcopy(network), **options)


def graph_of(network, name=STRIDED):
    block = network.get_submodule(name)
    channels = next(m.in_channels for m in block.modules() if isinstance(m, nn.Conv2d))
    return trace.graph(block, torch.zeros(1, channels, 12, 12))


@pytest.fixture(scope="module")
def forms_of(deployed):
    """The three forms of a block by its name."""
    blocks = (STRIDED, PLAIN, SQUEEZED)
    training = branched(deployed)
    forms = {name: {"deployed": graph_of(deployed, name), "training": graph_of(training, name)} for name in blocks}
    reparameterize(training)
    return {name: {**forms[name], "folded": graph_of(training, name)} for name in blocks}


def without_norms(graph):
    """The graph with an edge in place of each BN."""
    graph = graph.copy()
    for name in [name for name, kind in graph.nodes(data="kind") if kind == "norm"]:
        (before,) = graph.pred[name]
        graph.add_edges_from((before, after, data) for after, data in graph.succ[name].items())
        graph.remove_node(name)
    return graph


def structure(graph):
    """Nodes and edges to compare, whether or not a convolution has a bias."""
    nodes = {name: (node["kind"], node["lines"][:2], node["site"]) for name, node in graph.nodes.items()}
    return nodes, {(*edge, operand) for *edge, operand in graph.edges(data="operand")}


@pytest.mark.parametrize("name", [STRIDED, PLAIN, SQUEEZED])
def test_folded_v3_is_v2_without_the_norms_of_its_sites(forms_of, name):
    forms = forms_of[name]
    assert structure(without_norms(forms["folded"])) == structure(without_norms(forms["deployed"]))
    kinds = [[kind for _, kind in form.nodes(data="kind")].count("norm") for form in forms.values()]
    assert kinds[2] == kinds[0] - (5 if name == STRIDED else 4)


@pytest.mark.parametrize("name", [STRIDED, PLAIN, SQUEEZED])
def test_every_convolution_norm_and_parameter_of_the_module_is_in_the_graph(deployed, name):
    for network in (deployed, branched(deployed)):
        block, graph = network.get_submodule(name), graph_of(network, name)
        for kinds, layer in ((("conv", "depthwise"), nn.Conv2d), (("norm",), nn.BatchNorm2d)):
            drawn = {node for node, kind in graph.nodes(data="kind") if kind in kinds}
            assert drawn == {path for path, module in block.named_modules() if isinstance(module, layer)}
        assert sum(count for _, count in graph.nodes(data="parameters")) == sum(p.numel() for p in block.parameters())


def test_the_edges_are_those_of_the_forward(deployed):
    graph = graph_of(deployed)
    into = {name: sorted(graph.pred[name], key=lambda source: graph.edges[source, name]["operand"]) for name in graph}
    assert into["ghost1.cat"] == ["ghost1.primary_conv.2", "ghost1.cheap_operation.2"]
    assert into["ghost1.mul"] == ["ghost1.cat", "ghost1.interpolate"]
    assert into["conv_dw"] == ["ghost1.mul"]
    assert into["add"] == ["ghost2.cat", "shortcut.3"]
    assert set(graph.succ["input"]) == {"ghost1.avg_pool2d", "ghost1.primary_conv.0", "shortcut.0"}
    assert nx.is_directed_acyclic_graph(graph) and set(nx.ancestors(graph, "output")) == set(graph) - {"output"}


def test_a_convolution_is_described_by_kernel_channels_and_stride():
    lines = dict(graph_of(zoo.create("ghostnetv2_100")).nodes(data="lines"))  # row 3, 240, 80, 0, 2 of the network
    assert lines["ghost1.primary_conv.0"] == ("1×1", "40→120")
    assert lines["ghost1.short_conv.2"] == ("1×5 DW", "240")
    assert lines["conv_dw"] == ("3×3 DW", "240, /2")
    assert lines["ghost2.primary_conv.0"] == ("1×1", "240→40")
    assert lines["output"] == ("output", "80×6×6")


@pytest.mark.parametrize("branches, scale", [(3, True), (2, True), (2, False), (1, False)])
def test_training_adds_the_branches_that_were_asked_for_where_the_authors_have_them(deployed, branches, scale):
    training = graph_of(branched(deployed, branches=branches, scale=scale))
    forms = {"deployed": graph_of(deployed), "training": training}
    counted = trace.counts(forms).filter(like="branches at ", axis=0)
    assert (counted["deployed"] == 1).all()
    cheap, strided = branches + scale + 1, branches + scale  # + 1: the BN alone, where the shape is kept
    expected = {"ghost1.primary_conv.0": branches, "ghost1.cheap_operation.0": cheap, "conv_dw": strided,
                "ghost2.primary_conv.0": branches, "ghost2.cheap_operation.0": cheap}
    untouched = [f"{branch}.{i}" for branch in ("ghost1.short_conv", "shortcut") for i in (0, 2, 4)][:-1]
    found = counted["training"].rename(lambda name: name.removeprefix("branches at "))
    assert found.to_dict() == {**expected, **dict.fromkeys(untouched, 1)}
    terms = {training.nodes[name]["lines"] for name in training.pred["ghost1.cheap_operation.0.add"]}
    assert terms == {("BN",)}  # every branch ends in one


def test_the_attention_branch_is_the_same_in_all_forms(forms_of):
    attention = ["ghost1.avg_pool2d", *(f"ghost1.short_conv.{i}" for i in range(6)), "ghost1.gate_fn",
                 "ghost1.interpolate", "ghost1.mul"]
    first, *others = [structure(form.subgraph(attention)) for form in forms_of[STRIDED].values()]
    assert {edge[:2] for edge in first[1]} == set(zip(attention, attention[1:], strict=False))
    assert others == [first, first]


def test_reading_a_block_leaves_it_as_it_was(deployed):
    block = branched(deployed).get_submodule(PLAIN).train()
    before = copy.deepcopy(block.state_dict())
    first = trace.graph(block, torch.randn(2, 20, 8, 8))
    assert block.training and all(torch.equal(value, before[key]) for key, value in block.state_dict().items())
    assert structure(first) == structure(trace.graph(block, torch.zeros(1, 20, 8, 8)))


class Residual(nn.Module):
    """A sum right behind a convolution, whose output an activation shares with another."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        y = self.norm(self.conv(x))
        return self.act(y) + (x + y)


def test_only_the_sum_of_the_branches_and_what_nothing_else_uses_belong_to_a_convolution():
    graph = trace.graph(add_branches(Residual()), torch.zeros(1, 4, 3, 3))
    assert set(graph.pred["add"]) == {"input", "conv.add"} and len(graph.pred["conv.add"]) == 3
    alone = {name for name, site in graph.nodes(data="site") if site == name}
    assert alone == {"input", "act", "add", "add@1", "output"}


def test_strands_stand_side_by_side_around_the_first_operand():
    wires = nx.DiGraph([("top", name) for name in "abcd"])
    for operand, name in enumerate("bacd"):
        wires.add_edge(name, "bottom", operand=operand)
    series = layout.strands(layout.with_lanes(wires))
    xs, left, right = layout.across(series, {"a": 2, "b": 4, "c": 6, "d": 8, "top": 1, "bottom": 1}, 1)
    assert xs == {"top": 0, "a": -4, "b": 0, "c": 6, "d": 14, "bottom": 0} and (left, right) == (5, 18)
    ys, height = layout.down(series, {"a": 2, "b": 4, "c": 4, "d": 4, "top": 1, "bottom": 1}, 1)
    assert ys == {"top": 0.5, "a": 4, "b": 4, "c": 4, "d": 4, "bottom": 7.5} and height == 8


def test_an_operation_without_a_box_is_an_error():
    with pytest.raises(ValueError, match="no box for 0"):
        trace.graph(nn.Sequential(nn.PixelShuffle(2)), torch.zeros(1, 4, 4, 4))


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


def test_equal_blocks_give_equal_files(deployed, tmp_path):
    for folder in ("a", "b"):
        figures.write(diagram.draw({"one": graph_of(deployed)}, PARTS), tmp_path / folder, "figure_2")
    for name in ("figure_2.png", "figure_2.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

"""The graph of a block is what the module does."""

from __future__ import annotations

import copy

import networkx as nx
import pytest
import torch
from torch import nn

from ghostlib.measures import trace
from ghostlib.models import zoo
from ghostlib.models.reparam import add_branches
from tests import blocks
from tests.blocks import PLAIN, SQUEEZED, STRIDED, branched, graph_of


@pytest.fixture(scope="module")
def deployed():
    return blocks.deployed()


@pytest.fixture(scope="module")
def forms_of():
    return blocks.forms()


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


def test_an_operation_without_a_kind_is_an_error():
    with pytest.raises(ValueError, match="0 has no kind"):
        trace.graph(nn.Sequential(nn.PixelShuffle(2)), torch.zeros(1, 4, 4, 4))

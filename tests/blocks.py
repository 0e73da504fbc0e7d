"""Three blocks of GhostNetV2, in the forms that they are trained and deployed in, as graphs."""

from __future__ import annotations

import copy

import networkx as nx
import torch
from torch import nn

from ghostlib.measures.trace import graph
from ghostlib.models import zoo
from ghostlib.models.reparam import add_branches, reparameterize

STRIDED, PLAIN, SQUEEZED = "blocks.5.0", "blocks.6.0", "blocks.6.3"  # all with DFC attention; the last with SE as well


def deployed() -> nn.Module:
    return zoo.create("ghostnetv2_100", 10, 0.25)


def branched(network: nn.Module, **options) -> nn.Module:
    """A copy with branches."""
    return add_branches(copy.deepcopy(network), **options)


def graph_of(network: nn.Module, name: str = STRIDED) -> nx.DiGraph:
    block = network.get_submodule(name)
    channels = next(m.in_channels for m in block.modules() if isinstance(m, nn.Conv2d))
    return graph(block, torch.zeros(1, channels, 12, 12))


def forms() -> dict[str, dict[str, nx.DiGraph]]:
    """The three forms of every block, by its name."""
    names, network = (STRIDED, PLAIN, SQUEEZED), deployed()
    training = branched(network)
    found = {name: {"deployed": graph_of(network, name), "training": graph_of(training, name)} for name in names}
    reparameterize(training)
    return {name: {**found[name], "folded": graph_of(training, name)} for name in names}

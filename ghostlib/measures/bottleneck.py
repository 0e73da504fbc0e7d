"""Figure 2: one block of GhostNetV2, and of GhostNetV3 while it trains and folded; the same for every profile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ghostlib.files import write_atomic
from ghostlib.measures import places

if TYPE_CHECKING:
    import networkx as nx

# The first block of the fourth stage: all that a block can have but squeeze-and-excitation.
BLOCK, INPUT = "blocks.5.0", (1, 40, 28, 28)  # (N, C, H, W) of what reaches it in an image of 224 px


def measure(profile_name: str) -> None:
    """Traces the block in its three forms; writes their graphs as nodes and links, in the order of the panels."""
    import networkx as nx
    import torch

    from ghostlib.measures.trace import graph
    from ghostlib.models import reparam, zoo

    v2, v3, x = zoo.create("ghostnetv2_100"), zoo.create("ghostnetv3_100"), torch.zeros(INPUT)
    forms = {"(a) GhostNetV2\nas deployed": graph(v2.get_submodule(BLOCK), x),
             "(b) GhostNetV3\nwhile training": graph(v3.get_submodule(BLOCK), x)}
    reparam.reparameterize(v3)
    forms["(c) GhostNetV3\nafter folding"] = graph(v3.get_submodule(BLOCK), x)
    written = [{"title": title, **nx.node_link_data(form, edges="links")} for title, form in forms.items()]
    write_atomic(places.figure_2_file(profile_name), json.dumps(written, indent=1, ensure_ascii=False) + "\n")


def read(profile_name: str) -> dict[str, nx.DiGraph]:
    """The graphs that `measure` wrote, as `trace.graph` describes them, by the title of their panel.

    Raises:
        ValueError: the file is damaged.
    """
    import networkx as nx

    path = places.figure_2_file(profile_name)
    if not path.exists():
        places.announce(path, "does not exist")
        measure(profile_name)
    try:
        forms = {form.pop("title"): nx.node_link_graph(form, edges="links")
                 for form in json.loads(path.read_text(encoding="utf-8"))}
        for form in forms.values():
            for _, node in form.nodes(data=True):
                node["lines"] = tuple(node["lines"])  # JSON has lists alone
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); remove it, and it is measured again") from error
    return forms

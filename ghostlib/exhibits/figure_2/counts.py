"""How many branches and convolutions the forms of a block have."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import pandas as pd

from ghostlib.exhibits.figure_2.diagram import CONVOLUTIONS


def table(forms: Mapping[str, nx.DiGraph]) -> pd.DataFrame:
    """A column a form: the parallel branches at each convolution, then what the whole block holds.

    Args:
        forms: one block's graphs by title, as `measures.bottleneck.read` gives them.
    """
    columns = {}
    for title, form in forms.items():
        kinds, sites = (nx.get_node_attributes(form, key) for key in ("kind", "site"))
        convolved = dict.fromkeys(sites[name] for name in form if kinds[name] in CONVOLUTIONS)
        entries = [sites[name] for name in form if sites[name] not in map(sites.get, form.pred[name])]
        columns[title] = {
            **{f"branches at {site}": entries.count(site) for site in convolved},
            "convolutions": sum(kind in CONVOLUTIONS for kind in kinds.values()),
            "batch normalisations": list(kinds.values()).count("norm"),
            "parameters": sum(nx.get_node_attributes(form, "parameters").values()),
        }
    return pd.DataFrame(columns)

"""How many branches and convolutions the forms of a block have."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import pandas as pd

from ghostlib.exhibits.figure_2.diagram import CONVOLUTIONS

_CLAIM = ("GhostNetV3 is GhostNetV2 with parallel branches while it trains; for deployment they all fold into the "
          "convolutions of GhostNetV2.")


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
        columns[title.replace("\n", " ")] = {  # it has two lines above a panel
            **{f"branches at {site}": entries.count(site) for site in convolved},
            "convolutions": sum(kind in CONVOLUTIONS for kind in kinds.values()),
            "batch normalisations": list(kinds.values()).count("norm"),
            "parameters": sum(nx.get_node_attributes(form, "parameters").values()),
        }
    return pd.DataFrame(columns)


def conclusion(forms: Mapping[str, nx.DiGraph]) -> str:
    """Markdown: the claim of Figure 2, what was counted of it in the traced block, and whether it holds there.

    Args:
        forms: GhostNetV2 as deployed, GhostNetV3 while training and GhostNetV3 after folding, in this order.
    """
    counted = table(forms)
    deployed, _, folded = (counted[form].drop(["batch normalisations", "parameters"]) for form in counted)
    told = ", ".join(f"{form} has {count}" for form, count in counted.loc["convolutions"].items())
    verdict = ("**It is so:** at every site (c) has one convolution, as (a) has." if deployed.equals(folded) else
               "**It is not so:** (c) and (a) differ in their convolutions.")
    lines = [f"**Claim** (§4.1, Figure 2): {_CLAIM}", f"**Counted:** of convolutions {told}.", verdict]
    return "  \n".join(lines)

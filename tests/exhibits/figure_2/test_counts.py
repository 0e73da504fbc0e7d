"""Figure 2: the branches that are counted are those that training adds."""

from __future__ import annotations

import pytest

from ghostlib.exhibits.figure_2 import counts
from tests import blocks
from tests.blocks import branched, graph_of


@pytest.fixture(scope="module")
def deployed():
    return blocks.deployed()


@pytest.mark.parametrize("branches, scale", [(3, True), (2, True), (2, False), (1, False)])
def test_training_adds_the_branches_of_its_options_where_the_authors_have_them(deployed, branches, scale):
    training = graph_of(branched(deployed, branches=branches, scale=scale))
    forms = {"deployed": graph_of(deployed), "training": training}
    counted = counts.table(forms).filter(like="branches at ", axis=0)
    assert (counted["deployed"] == 1).all()
    cheap, strided = branches + scale + 1, branches + scale  # + 1: the BN alone, where the shape is kept
    expected = {"ghost1.primary_conv.0": branches, "ghost1.cheap_operation.0": cheap, "conv_dw": strided,
                "ghost2.primary_conv.0": branches, "ghost2.cheap_operation.0": cheap}
    untouched = [f"{branch}.{i}" for branch in ("ghost1.short_conv", "shortcut") for i in (0, 2, 4)][:-1]
    found = counted["training"].rename(lambda name: name.removeprefix("branches at "))
    assert found.to_dict() == {**expected, **dict.fromkeys(untouched, 1)}
    terms = {training.nodes[name]["lines"] for name in training.pred["ghost1.cheap_operation.0.add"]}
    assert terms == {("BN",)}  # every branch ends in one


def test_the_conclusion_follows_from_the_counts_and_a_title_fills_one_line(deployed):
    plain, training = graph_of(deployed), graph_of(branched(deployed))
    held = counts.conclusion({"(a) plain\nnetwork": plain, "(b)": training, "(c)": plain})
    convolutions = counts.table({"(a)": plain, "(b)": training}).loc["convolutions"]
    assert f"(a) plain network has {convolutions['(a)']}, (b) has {convolutions['(b)']}, (c) has" in held
    assert "**It is so:**" in held and convolutions["(b)"] > convolutions["(a)"]
    assert "**It is not so:**" in counts.conclusion({"(a)": plain, "(b)": training, "(c)": training})

"""The exhibit of learning rates: what is best and used stands in the table, and each kind has its panel."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.exhibits import rates
from ghostlib.training.profile import Tune

KINDS = {"ghostnetv2, lamb": {5: [60, 62], 10: [70, 72], 20: [65, 67], 40: [None, 1]},
         "mobilenetv2, rmsproptf": {5: [80, 80], 10: [70, 70], 20: [60, 60], 40: [50, 50]},
         "deit, lamb": {5: [None, None], 10: [None, None], 20: [None, None], 40: [None, None]},
         "resnet, sgd": {5: [1, 1], 10: [2, 2], 20: [3, 3], 40: [2, 2]},
         "mixnet_s, lamb, teacher": {5: [1, 1], 10: [2, 2], 20: [3, 3], 40: [2, 2]}}


@pytest.fixture
def trained() -> pd.DataFrame:
    records = [(kind, rate, seed, top1) for kind, of_kind in KINDS.items() for rate, values in of_kind.items()
               for seed, top1 in enumerate(values, start=8)]
    return pd.DataFrame(records, columns=["kind", "lr_scale", "seed", "val_top1"])


@pytest.fixture
def profile(tiny):
    tune = Tune(seeds=(8, 9), rates=(5, 10, 20, 40))
    return tiny.model_copy(update={"tune": tune, "rates": {"ghostnetv2, lamb": 20.0}})


def test_the_table_has_what_was_tried_and_is_best_and_used(trained, profile):
    table = rates.table(trained, profile).set_index("Kind of recipe")
    assert list(table.index) == list(KINDS)
    assert table.loc["ghostnetv2, lamb"].to_list() == ["5, 10, 20, 40", "10", "71.00 ± 1.41", "20", "no"]
    assert table.loc["mobilenetv2, rmsproptf"].to_list() == ["5, 10, 20, 40", "5", "80.00 ± 0.00", "—", "yes"]
    assert table.loc["deit, lamb"].to_list() == ["5, 10, 20, 40", "—", "—", "—", "—"]
    document = rates.document(trained, profile)
    assert document.startswith("**Learning rates") and document.count("\n|") == 2 + len(KINDS)
    assert "nothing else: 8, 9. All rates are tried with seed 8, and with the others" in document
    assert profile.scale in document


def test_each_kind_has_a_panel_with_a_dot_a_seed_and_a_star(trained, profile):
    figure = rates.figure(trained, profile)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [panel.get_title(loc="left") for panel in panels] == list(KINDS) and len(figure.axes) == 8
    for panel, kind in zip(panels, KINDS, strict=True):
        dots, *stars = panel.collections
        assert len(dots.get_offsets()) == 8
        assert [label.get_text() for label in panel.get_xticklabels()] == ["5", "10", "20", "40"]
        assert len(stars) == (kind != "deit, lamb")
    assert panels[0].lines[0].get_ydata()[:3].tolist() == [61, 71, 66]
    assert pd.isna(panels[0].lines[0].get_ydata()[3])  # where a seed diverged
    assert panels[0].collections[1].get_offsets().tolist() == [[1, 71]]
    assert panels[1].collections[1].get_offsets().tolist() == [[0, 80]]


def test_a_profile_whose_rates_are_given_says_so(trained, tiny):
    said = "The learning rates of profile 'tiny' are given in experiments.yaml; none was chosen here."
    assert rates.document(trained.head(0), tiny).splitlines()[2:] == [said]
    figure = rates.figure(trained.head(0), tiny)
    assert [text.get_text() for text in figure.texts] == [said] and not figure.axes

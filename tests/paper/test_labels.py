"""Labels: a mistyped one is named before anything is trained for it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from ghostlib.config import ConfigError
from ghostlib.paper import labels
from ghostlib.training.profile import load_params

EXPERIMENTS = load_params(Path(__file__).parents[2] / "params.yaml")["experiments"]


def test_the_committed_labels_are_the_paper_s_and_the_claims():
    labels.check(EXPERIMENTS)


@pytest.mark.parametrize(("experiment", "part", "old", "new", "told"), [
    ("table_6", "columns", "cosine_0", "cosine0", r"experiments\.table_6\.columns: unknown 'cosine0'; .*'cosine_0'"),
    ("rivals", "rows", "GhostNetV2 1.0×", "GhostNetV2 1.0", r"rivals\.rows: unknown 'GhostNetV2 1\.0'"),
    ("table_9", "rows", "GhostNetV3 1.0×", "GhostNetV3 1.0", r"table_9\.rows: unknown 'GhostNetV3 1\.0'"),
    ("table_1", "rows", "w/ ReP", None, r"table_1\.rows: 'w/ ReP' missing, which the paper has"),
    ("causes", "rows", "w/ ReP, γ = 1/√B", "w/ ReP, g = 1/√B", r"claims\.yaml: .*: of causes, rows: unknown")])
def test_a_label_that_is_no_other_s_is_named(experiment, part, old, new, told):
    changed = copy.deepcopy(EXPERIMENTS)
    cells = changed[experiment][part]
    changed[experiment][part] = {new if name == old else name: value for name, value in cells.items()
                                 if new or name != old}
    with pytest.raises(ConfigError, match=told):
        labels.check(changed)


def test_rows_of_table_9_may_be_left_out():
    changed = copy.deepcopy(EXPERIMENTS)
    del changed["table_9"]["rows"]["GhostNetV3 0.5×"], changed["rivals"]["rows"]["GhostNetV2 1.0×"]
    labels.check(changed)

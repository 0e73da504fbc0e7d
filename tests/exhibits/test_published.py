"""The exhibit of the public weights: every row of Table 9 says which there are, and what they gave."""

from __future__ import annotations

import pandas as pd

from ghostlib.exhibits import published as exhibit
from ghostlib.measures import published
from ghostlib.models import catalog

NOTHING = pd.DataFrame(columns=published.COLUMNS)
SCORED = pd.DataFrame([("GhostNetV3 1.0×", "ghostnetv3-1.0.pth.tar", "a", "b", 50000, 77.134, 93.236, "Some GPU",
                        "2026-01-02")], columns=published.COLUMNS)


def test_each_row_says_its_weights_and_what_they_gave_beside_the_paper_s():
    table = exhibit.table(SCORED).set_index("Row")
    assert list(table.index) == list(catalog.rows())
    assert table.loc["GhostNetV3 1.0×"].to_list() == [
        "ghostnetv3-1.0.pth.tar", "yes", "the paper's, averaged weights", "77.1", "77.13", "93.3", "93.24"]
    assert table.loc["MobileNetV3-S"].to_list()[1:] == [
        "no", "timm's own, with LAMB, RandAugment and averaged weights", "67.4", "—", "—", "—"]
    assert table.loc["GhostNetV3 1.3×", "Weights"] == "none: the authors published GhostNetV3 at 1.0× only"


def test_the_document_says_where_it_was_scored_or_with_which_command_it_would_be():
    assert "- Scored on: Some GPU (2026-01-02)." in exhibit.document(SCORED)
    told = exhibit.document(NOTHING)
    assert f"Nothing was scored: ImageNet's validation images were not found. With them: `{published.COMMAND}`" in told
    assert "Scored on" not in told and told.count("\n|") == 2 + len(catalog.rows())

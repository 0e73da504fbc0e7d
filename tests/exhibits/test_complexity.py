"""Every row of Tables 9 and 10 is counted, and every difference from the paper has its reason."""

from __future__ import annotations

import pytest

from ghostlib.exhibits import complexity
from ghostlib.measures import counts
from ghostlib.models import catalog
from ghostlib.paper import claims, numbers
from ghostlib.paper.numbers import MACS, PARAMS


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("counts"))
        return complexity.compare(counts.read("digits"))


def test_every_row_of_both_tables_is_counted_in_the_paper_s_order(counted):
    assert list(catalog.rows()) == list(numbers.table("table_9").index)
    assert list(catalog.backbones()) == list(numbers.table("table_10").index)
    for table, quantities in (("table_9", [PARAMS, MACS]), ("table_10", [MACS])):
        of = counted[counted["table"] == table]
        assert list(zip(of["row"], of["quantity"], strict=True)) == [
            (row, quantity) for row in numbers.table(table).index for quantity in quantities]


def test_every_flag_has_a_reason(counted):
    unexplained = complexity.flagged(counted).query("reason == ''")
    assert unexplained.empty, unexplained[["row", "quantity", "paper", "measured", "difference"]].to_string()


def test_every_reason_explains_a_flag(counted):
    flagged = set(zip(*complexity.flagged(counted)[["row", "quantity"]].to_numpy().T, strict=True))
    assert {(row, quantity) for row, of in complexity.reasons().items() for quantity in of} == flagged


def test_the_table_stars_what_is_flagged(counted):
    table = complexity.table_of_counts(counted, "complexity_9")
    assert list(table.index) == list(catalog.rows())
    assert table.loc["GhostNetV3 0.5×", (MACS, "difference")] == "+3.4 %*"
    assert table.loc["GhostNetV3 1.0×"].tolist() == ["6.1", "6.15", "+0.8 %", "167", "167.0", "+0.0 %"]
    starred = table.xs("difference", axis=1, level=1).map(lambda text: text.endswith("*")).to_numpy().sum()
    assert starred == len(complexity.flagged(counted[counted["table"] == "table_9"]))


def test_the_notes_give_every_star_its_reason(counted):
    notes = complexity.notes(counted, "complexity_9")
    assert any("GhostNetV3 0.5×" in note for note in notes) and not any("do not know" in note for note in notes)
    starless = counted.assign(difference=0.0)
    assert len(complexity.notes(starless, "complexity_9")) == 2


def test_the_verdicts_and_the_stars_know_one_tolerance(counted):
    assert complexity.tolerance() == claims.load()[0].tolerance == 0.02
    assert list(counted.columns) == complexity.COLUMNS

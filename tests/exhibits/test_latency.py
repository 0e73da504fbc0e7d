"""Latencies beside the paper's: ratios and ranks within one machine."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.exhibits import latency
from ghostlib.models import catalog
from ghostlib.paper import claims, numbers
from ghostlib.paper.numbers import CPU

PUBLISHED = numbers.table("table_9")[CPU]


def measured(scale: float, reverse: bool = False) -> pd.DataFrame:
    """The paper's own latencies, times a factor, as one engine's measurement; or in the opposite order."""
    times = {name: PUBLISHED[row] for row, name in catalog.deployed().items()}
    times = {name: 1 / time if reverse else time for name, time in times.items()}
    return pd.DataFrame([{"network": name, "engine": "reversed" if reverse else "same", "threads": 1 + reverse,
                          "median_ms": scale * time, "p10_ms": scale * time - 0.01, "p90_ms": scale * time + 0.01}
                         for name, time in times.items()])


@pytest.fixture(scope="module")
def both():
    return pd.concat([measured(3.0), measured(1.0, reverse=True)])


def test_a_machine_three_times_as_slow_has_the_paper_s_ratios(both):
    ratios = latency.ratios(both)
    assert ratios["same, 1 thread"].tolist() == pytest.approx(ratios["Table 9"].tolist())
    first = ratios.iloc[0]
    assert first["ratio"] == "GhostNetV3 1.0× / MobileOne-S1" and first["Table 9"] == pytest.approx(7.81 / 14.86)
    assert first["reversed, 2 threads"] == pytest.approx(14.86 / 7.81)


def test_the_same_order_ranks_as_one_and_the_opposite_as_minus_one(both):
    ranks = latency.ranks(both).set_index("engine")
    assert ranks.loc["same, 1 thread", ["Spearman", "Kendall"]].tolist() == pytest.approx([1, 1])
    assert ranks.loc["reversed, 2 threads", ["Spearman", "Kendall"]].tolist() == pytest.approx([-1, -1])
    # Two rows "+ ours" and three of V3 deploy a network that another row has.
    assert (ranks["networks"] == len(PUBLISHED) - 5).all()


def test_every_row_has_the_paper_s_times_and_ours_in_columns_of_their_own(both):
    table = latency.table_of_times(both)
    assert list(table.index) == list(PUBLISHED.index)
    assert table.loc["MobileNetV2 1.0×", ("paper", "i7-8700")] == "7.96"
    assert table.loc["MobileNetV2 1.0×", ("paper", "Kirin 9000")] == "14.97"
    assert table.loc["MobileNetV2 1.0×", ("same", "1 thread")] == "23.9 (23.9–23.9)"


def test_the_claims_are_about_rows_of_the_table(both):
    assert {row for claim in claims.ratios().values() for row in (claim.row, claim.to)} <= set(PUBLISHED.index)
    assert len(latency.ratios(both)) == len(claims.ratios())


def test_a_network_at_the_paper_s_size_stands_below_its_row_and_in_a_ratio_of_its_own(both):
    row = "MobileViT-XXS at 224 px"
    half = both[both["network"] == "mobilevit_xxs"].assign(network="mobilevit_xxs_224")
    half[["median_ms", "p10_ms", "p90_ms"]] /= 2
    times = pd.concat([both, half])
    table, ratios = latency.table_of_times(times), latency.ratios(times).set_index("ratio")
    assert list(table.index.drop(row)) == list(PUBLISHED.index) and (table.loc[row, "paper"] == "—").all()
    assert table.index.get_loc(row) == table.index.get_loc("MobileViT-XXS") + 1
    ours, own = (ratios.loc[f"GhostNetV3 1.0× / {to}"] for to in (row, "MobileViT-XXS"))
    assert ours["Table 9"] == own["Table 9"] and ours["same, 1 thread"] == pytest.approx(2 * own["same, 1 thread"])
    assert latency.ranks(times).equals(latency.ranks(both))
    told = latency.notes({"cpu": "Some CPU"}, latency.ratios(times), latency.ranks(times))
    assert any("a row of its own has 224 px" in note for note in told)
    assert not any("of its own" in note for note in latency.notes({}, latency.ratios(both), latency.ranks(both)))


def test_the_notes_say_of_which_calls_the_percentiles_are(both):
    notes = latency.notes({"cpu": "Some CPU"}, latency.ratios(both), latency.ranks(both))
    assert any("of all calls, but of trimmed calls where it was timed before 2026-11-26" in note for note in notes)


def test_the_machine_is_the_one_that_the_file_of_times_names():
    times = pd.DataFrame([{"cpu": "A", "cpus": 2, "system": "Linux", "engines": "E 1", "date": "2026-01-02", "x": 1}])
    assert latency.machine(times) == {"cpu": "A", "cpus": "2", "system": "Linux", "engines": "E 1",
                                      "date": "2026-01-02"}


def test_the_notes_name_the_machine_and_pass_no_host_off_as_a_phone(both):
    notes = latency.notes({"cpu": "Some CPU"}, latency.ratios(both), latency.ranks(both))
    assert "Some CPU" in notes[0] and "no phone was measured" in notes[2]
    assert any("half the latency and prints 0.53; here same, 1 thread 0.53" in note for note in notes)

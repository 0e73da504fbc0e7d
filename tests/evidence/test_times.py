"""Times are judged over sessions: what a session is, the mean of several, and what follows."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ghostlib.evidence import evidence, stats, times, verdicts
from ghostlib.evidence.verdict import Verdict
from ghostlib.models import catalog
from ghostlib.paper import claims, numbers
from tests.evidence.files import verdict, write_times

ROOT = Path(__file__).parents[2]
RULE, CLAIMS = claims.load()
CPU = numbers.table("table_9")[numbers.CPU]


def change(path: Path, network: str, factor: float) -> None:
    timed = pd.read_csv(path)
    timed.loc[timed["network"] == network, "median_ms"] *= factor
    timed.to_csv(path, index=False)


def test_the_paper_s_own_times_confirm_its_claims(tmp_path):
    write_times(tmp_path)
    judged = verdicts.judge(evidence.evidence(tmp_path)).set_index("id")
    timed = judged[(judged["experiment"] == "latency") & ~judged.index.str.startswith("latency-mobile-")].drop(
        ["latency-mobile", "latency-ranks"])
    assert len(timed) == 7 and set(timed["verdict"]) == {"confirmed"} and set(timed["sessions"]) == {5}
    assert "ONNX Runtime, 1 thread: " in timed.loc["latency-mobileone", "reason"]


def test_a_ratio_is_the_geometric_mean_over_sessions_with_an_interval_between_them(tmp_path):
    write_times(tmp_path)
    row = evidence.evidence(tmp_path).query("claim == 'latency-mobileone'").iloc[0]
    read = [pd.read_csv(path).query("engine == 'ONNX Runtime' and threads == 1").set_index("network")["median_ms"]
            for path in sorted((tmp_path.parent / "sessions").glob("*.csv"))]
    logs = [math.log(of["ghostnetv2_100"] / of["mobileone_s1"]) for of in read]
    assert np.ptp(logs) > 0.01 and row["ours"] == pytest.approx(7.81 / 14.86) == pytest.approx(row["paper"])
    assert (row["low"], row["high"]) == pytest.approx(np.exp(stats.t_interval(logs)))


def test_a_session_of_the_profile_counts_once(tmp_path):
    """It is one of the sessions, until it is another."""
    write_times(tmp_path)
    assert len(times.Sessions.load(tmp_path).cpus) == 5
    change(tmp_path / "runs" / "latency.csv", "mobileone_s1", 1.2)
    found = times.Sessions.load(tmp_path)
    assert len(found.cpus) == len(found.used) == 6 and times.OWN in found.cpus
    assert verdict(tmp_path, "latency-mobileone")["sessions"] == 6


def test_sessions_alone_are_judged_where_the_profile_has_none(tmp_path):
    write_times(tmp_path)
    (tmp_path / "runs" / "latency.csv").unlink()
    assert verdict(tmp_path, "latency-mobileone")["verdict"] == "confirmed"


@pytest.mark.parametrize("sessions", [1, 4])
def test_fewer_than_five_sessions_decide_nothing(tmp_path, sessions):
    write_times(tmp_path, sessions=sessions)
    judged = verdicts.judge(evidence.evidence(tmp_path)).set_index("id")
    for claim in ("latency-mobileone", "latency-ranks", "balance-cpu"):
        row = judged.loc[claim]
        assert row["verdict"] == "inconclusive"
        assert math.isnan(row["low"]) == (sessions == 1 and claim != "latency-ranks")
        assert f"Of {sessions} sessions, and 5 are the least for a verdict." in row["reason"]


def test_means_are_told_for_each_kind_of_processor(tmp_path):
    write_times(tmp_path)
    for path in sorted((tmp_path.parent / "sessions").glob("*.csv"))[:2]:
        pd.read_csv(path).assign(cpu="Another CPU").to_csv(path, index=False)
        change(path, "mobileone_s1", 0.5)
    reason = verdict(tmp_path, "latency-mobileone")["reason"]
    assert re.search(r"thread: 1\.0\d× \[\d\.\d+×, \d\.\d+×\] in 2 sessions on Another CPU, "
                     r"0\.5\d× \[0\.\d+×, 0\.\d+×\] in 3 sessions on Some CPU\.", reason)


@pytest.mark.parametrize(("s1", "expected"), [(7.81 / 0.53, "confirmed"), (7.81 / 0.555, "inconclusive"),
                                              (7.81 / 0.58, "contradicted")])
def test_half_is_up_to_what_rounds_to_it(tmp_path, s1, expected):
    """0.5 may be 0.55; the interval is 2 % to either side."""
    write_times(tmp_path, mobileone_s1=s1)
    row = verdict(tmp_path, "latency-mobileone")
    assert row["verdict"] == expected
    if expected != "confirmed":
        assert row["ours"] == pytest.approx(7.81 / s1) and row["low"] < row["ours"] < row["high"]
        assert "The interval over 5 sessions must lie below 0.55" in row["reason"]


@pytest.mark.parametrize(("widths", "expected", "said"), [
    (0.8, "inconclusive", "must lie below 0.55 and reaches across it."),
    (1.2, "inconclusive", "must lie below 0.55 and lies above it, but not when widened for the claim's 3 comparisons."),
    (1.6, "contradicted", "must lie below 0.55 and lies above it, also when widened for the claim's 3 comparisons.")])
def test_one_of_several_ratios_contradicts_by_an_interval_that_is_widened_for_their_number(tmp_path, widths, expected,
                                                                                          said):
    """Of five sessions and three ratios by a factor of 3.96 / 2.78 = 1.43."""
    write_times(tmp_path)
    rows = evidence.evidence(tmp_path).query("claim == 'latency-mobileone'").set_index("comparison")
    row = rows.iloc[0]
    half = math.log(row["high"] / row["ours"])
    assert math.log(row["ours"] / row["most"]) / half == pytest.approx(3.9608 / 2.7764, abs=1e-3)
    assert rows.iloc[2]["test"] == "at least" and rows.iloc[2]["most"] > rows.iloc[2]["high"]
    write_times(tmp_path, mobileone_s1=7.81 / (0.55 * math.exp(widths * half)))
    row = verdict(tmp_path, "latency-mobileone")
    assert row["verdict"] == expected and said in row["reason"]


def test_the_only_ratio_of_a_claim_is_not_widened(tmp_path):
    write_times(tmp_path)
    row = evidence.evidence(tmp_path).query("claim == 'latency-mobilevit'").iloc[0]
    assert row["most"] == pytest.approx(row["low"])
    write_times(tmp_path, mobilevit_xxs=7.81 / (row["high"] / row["ours"]) ** 1.2)
    row = verdict(tmp_path, "latency-mobilevit")
    assert row["verdict"] == "contradicted" and "must lie below 1.00 and lies above it. ONNX" in row["reason"]


def test_a_ratio_at_224_px_stands_beside_the_one_that_decides(tmp_path):
    write_times(tmp_path)
    before = evidence.evidence(tmp_path)
    assert not before["note"].str.contains("at 224 px").any()
    write_times(tmp_path, mobilevit_xxs_224=7.81 / 0.9)
    after = evidence.evidence(tmp_path)
    note = after.loc[after["claim"] == "latency-mobilevit", "note"].item()
    assert re.search(r" / MobileViT-XXS at 224 px: ONNX Runtime, 1 thread: 0\.90× \[.*\] in 5 sessions on", note)
    pd.testing.assert_frame_equal(before.drop(columns="note"), after.drop(columns="note"))


def test_bounds_are_the_sentences_own_numbers_and_the_paper_s_ratios_keep_them():
    bounds = {name: times.bound(ratio, RULE) for name, ratio in claims.ratios().items()}
    assert bounds == {"v3-100-mobileone-s1": 0.55, "v3-130-mobileone-s2": 0.65, "mobileone-s4-v3-160": 2.75,
                      "v3-100-mobilenetv2": 1.15, "v3-100-fbnet-c": 1, "v3-100-mobilenetv3-l": 1.15,
                      "v3-100-mnasnet-a1": 1.15, "v3-100-mobilevit-xxs": 1, "mobileformer-508-v3-160": 6.75}
    for name, ratio in claims.ratios().items():
        printed = CPU[ratio.row] / CPU[ratio.to]
        assert printed >= bounds[name] if ratio.direction == "at least" else printed <= bounds[name]


def test_at_least_is_the_other_side(tmp_path):
    write_times(tmp_path, mobileone_s4=18.87 * 2)
    row = verdict(tmp_path, "latency-mobileone")
    assert row["verdict"] == "contradicted" and row["ours"] == pytest.approx(2) and row["comparison"].startswith(
        "MobileOne-S4 / GhostNetV3 1.6×")


def test_other_engines_are_told_and_decide_nothing(tmp_path):
    write_times(tmp_path)
    before = verdict(tmp_path, "latency-mobilenetv2")
    for path in (tmp_path.parent / "sessions").glob("*.csv"):
        timed = pd.read_csv(path)
        timed.loc[(timed["engine"] == "OpenVINO") & (timed["network"] == "ghostnetv2_100"), "median_ms"] *= 3
        timed[(timed["threads"] == 1) | (timed["network"] != "mobilenetv2_100")].to_csv(path, index=False)
    row = verdict(tmp_path, "latency-mobilenetv2")
    assert "With other engines (threads): OpenVINO (1) 3.00×." in row["reason"]
    assert row["verdict"] == before["verdict"] and row["ours"] == pytest.approx(before["ours"])


def test_a_file_of_times_that_was_cut_to_its_header_is_named(tmp_path):
    write_times(tmp_path)
    path = tmp_path / "runs" / "latency.csv"
    path.write_text("".join(path.read_text().partition("\n")[:2]))
    with pytest.raises(ValueError, match="latency.csv holds no times: it was cut; time them again"):
        times.Sessions.load(tmp_path)


def test_an_untimed_network_is_not_attempted(tmp_path):
    write_times(tmp_path)
    for path in [tmp_path / "runs" / "latency.csv", *(tmp_path.parent / "sessions").glob("*.csv")]:
        pd.read_csv(path).query("network != 'fbnetc_100'").to_csv(path, index=False)
    row = verdict(tmp_path, "latency-fbnet")
    assert row["verdict"] == "not attempted" and "FBNet-C" in row["comparison"] and "lists it" in row["reason"]
    assert "37 networks" in verdict(tmp_path, "latency-ranks")["reason"]


def test_a_graph_that_a_session_timed_under_two_names_is_the_mean_of_both(tmp_path):
    write_times(tmp_path)
    path = tmp_path.parent / "sessions" / "2026-01-02-a.csv"
    timed = pd.read_csv(path)
    twice = timed[timed["network"] == "ghostnetv2_100"].assign(network="ghostnetv3_100")
    before = verdict(tmp_path, "latency-mobilevit")["ours"]
    pd.concat([timed, twice.assign(median_ms=twice["median_ms"] * 4)]).to_csv(path, index=False)
    assert verdict(tmp_path, "latency-mobilevit")["ours"] == pytest.approx(before * 2 ** (1 / 5))


def test_a_scrambled_order_of_times_contradicts_the_ranks(tmp_path):
    write_times(tmp_path, **{name: 1 / CPU[row] for row, name in list(catalog.deployed().items())[::2]})
    row = verdict(tmp_path, "latency-ranks")
    assert row["verdict"] == "contradicted" and row["low"] < row["ours"] < row["high"] < RULE.rank_agreement


def test_a_faster_network_that_is_as_accurate_dominates_and_one_that_may_be_is_open(tmp_path):
    write_times(tmp_path, mobileone_s2=5.0, mixnet_l=14.46)
    row = verdict(tmp_path, "balance-cpu")
    assert row["verdict"] == "contradicted" and row["comparison"] == "GhostNetV3 1.0× / MobileOne-S2"
    assert "Dominated: GhostNetV3 1.0× by MobileOne-S2." in row["reason"] and "Not decided is" not in row["reason"]
    write_times(tmp_path, mixnet_l=7.81)
    row = verdict(tmp_path, "balance-cpu")
    assert row["verdict"] == "inconclusive"
    assert "Not decided is whether these are dominated: GhostNetV3 1.0× by MixNet-L." in row["reason"]
    write_times(tmp_path, mixnet_l=7.81 / 1.03)  # certain by itself, and not as one of 45
    row = verdict(tmp_path, "balance-cpu")
    assert row["verdict"] == "inconclusive"
    assert "Not decided is whether these are dominated: GhostNetV3 1.0× by MixNet-L." in row["reason"]
    assert row["low"] > 1 and "but not when widened for the claim's 45 comparisons." in row["reason"]


def test_every_committed_session_is_dated_and_whole():
    paths = list((ROOT / "results" / "sessions").glob("*.csv"))
    assert len(paths) >= 7
    assert all(re.fullmatch(rf"{pd.read_csv(path)['date'].iloc[0]}-[a-z]", path.stem) for path in paths)
    loaded = times.Sessions.load(ROOT / "results" / "digits")
    later = loaded.logs[loaded.logs.index.get_level_values("session").map(lambda name: "2026-11-29" <= name < "3")]
    assert len(later) >= 5 and np.isfinite(later).all(axis=None)
    found = loaded.used
    assert len(found) >= len(paths) and np.isfinite(found[[*{*catalog.deployed().values()}]]).all(axis=None)


def test_no_verdict_on_times_is_bounded(tmp_path):
    write_times(tmp_path)
    judged = verdicts.judge(evidence.evidence(tmp_path))
    assert Verdict.BOUNDED not in set(judged.loc[judged["sessions"] > 0, "verdict"])

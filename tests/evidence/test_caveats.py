"""What stands beside a verdict: fairer rivals and averages, computed from the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ghostlib.evidence import evidence, stats, verdicts
from ghostlib.evidence.quantities import with_interval
from ghostlib.paper import claims
from tests.evidence.files import verdict, write, write_counts, write_times

WIDTHS = ("1.0×", "1.3×", "1.6×")
TOP1 = "Top-1 (%)"
RULE, CLAIMS = claims.load()


def write_rivals(folder: Path, fairer: list[float], seeds: int = 3) -> None:
    """GhostNetV3 at 80 %, the ordinary GhostNetV2 ten points behind it, and the same network without the strategy."""
    def jitter(values: list[float]) -> list[float]:
        return [value + 0.1 * (-1) ** seed for seed, value in enumerate(values)]

    v3 = {(f"GhostNetV3 {width}", TOP1): [80.0] * seeds for width in WIDTHS}
    v2 = {(f"GhostNetV2 {width}", TOP1): [70.0] * seeds for width in WIDTHS}
    write(folder, "table_9", {cell: jitter(values) for cell, values in v2.items()} | v3)
    write(folder, "rivals", {(f"GhostNetV2 {width}", TOP1): [value] * seeds
                             for width, value in zip(WIDTHS, fairer, strict=True)})


def test_what_the_optimiser_alone_gains_stands_beside_the_verdict_with_its_intervals(tmp_path):
    write_rivals(tmp_path, [71.0, 70.0, 69.0])
    row = verdict(tmp_path, "v3-beats-v2")
    assert row["verdict"] == "confirmed" and row["but"].startswith("over a rival that may be weak")
    # Differences 0.9, 1.1, 0.9: mean 0.9667, standard error 0.0667, t(2) = 4.3027.
    assert "without branches and teacher, the rival gains +0.97 [+0.68, +1.25] (1.0×), " in row["caveat"]
    assert "1 of the 3 intervals lies above zero, 1 below it. The ordinary training of the rival" in row["caveat"]
    assert row["reason"].endswith(row["caveat"])


def test_what_stands_beside_a_verdict_decides_nothing(tmp_path):
    write_rivals(tmp_path, [79.0, 80.0, 81.0])
    rows = evidence.evidence(tmp_path)
    asides = rows[~rows["decides"]]
    assert len(asides) and asides[["p", "p_holm", "detectable"]].isna().all(axis=None)
    without = verdicts.judge(rows[rows["decides"]])
    told = verdicts.judge(rows)
    assert without["verdict"].equals(told["verdict"]) and without["ours"].equals(told["ours"])


def test_one_seed_has_a_difference_and_no_interval(tmp_path):
    write_rivals(tmp_path, [71.0, 70.0, 69.0], seeds=1)
    caveat = verdict(tmp_path, "v3-beats-v2")["caveat"]
    assert "+0.90 (1.0×), −0.10 (1.3×), −1.10 (1.6×) points, without an interval: one seed." in caveat


def test_where_no_fairer_rival_was_trained_nothing_is_said_of_one(tmp_path):
    write_rivals(tmp_path, [71.0, 70.0, 69.0])
    (tmp_path / "runs" / "rivals.csv").unlink()
    row = verdict(tmp_path, "v3-beats-v2")
    assert row["verdict"] == "confirmed" and "gains" not in row["caveat"]
    assert verdict(tmp_path, "strategy-adds")["reason"] == ("runs/rivals.csv does not exist: that stage was not run.")


def test_an_average_is_taken_within_each_seed(tmp_path):
    less = {"α=0.5": [5.0, 1.0, 3.0], "α=0.9": [1.0, 5.0, 4.0], "α=1.0": [3.0, 3.5, 2.0]}
    write(tmp_path, "table_3", {("ResNet-101", alpha): [80.0] * 3 for alpha in less} | {
        (teacher, alpha): [80 - value for value in values] for alpha, values in less.items()
        for teacher in ("DeiT-B", "BEiTv2-B")})
    pd.DataFrame({"stands_in_for": ["ResNet-101", "DeiT-B", "BEiTv2-B"], "run": "key",
                  "test_top1": [80.0, 90.0, 95.0]}).to_csv(tmp_path / "teachers.csv", index=False)
    row = verdict(tmp_path, "better-teacher-helps")
    low, high = stats.t_interval([-3, -9.5 / 3, -3])
    assert (f"Averaged over α within a seed, the accuracy of DeiT-B's students minus that of ResNet-101's is "
            f"{with_interval(-27.5 / 9, low, high, 'points')} points (0 of 9 pairs are ahead): "
            "the interval lies below zero.") in row["caveat"]


def test_a_caveat_does_not_deny_its_verdict(tmp_path):
    """What was judged is not called untested."""
    write_times(tmp_path, mobileformer_508=18.87 * 1.3)
    write_counts(tmp_path)
    row = verdict(tmp_path, "latency-mobileformer")
    assert row["verdict"] == "contradicted" and "this project's implementation" in row["statement"]
    assert "What is judged is whether the printed ratio holds for the network that this project wrote" in row["reason"]
    tried = verdicts.judge(evidence.evidence(tmp_path)).query("verdict != 'not attempted'")
    assert not tried["reason"].str.contains("not tested|not judged", regex=True).any()
    assert verdict(tmp_path, "latency-mobilevit")["verdict"] == "confirmed"


def test_a_cell_of_which_a_seed_diverged_decides_nothing_and_the_reason_says_so(tmp_path):
    cells = {(row, width): [70.0, 71.0, 72.0] for row in ("w/o ReP", "w/ ReP") for width in WIDTHS}
    write(tmp_path, "table_1", cells | {("w/ ReP", "1.3×"): [99.0, 99.0, np.nan]})
    path = tmp_path / "runs" / "table_1.csv"
    rows = pd.read_csv(path)
    lost = rows.iloc[:1].assign(row="w/ ReP", column="1.3×", seed=2, metric="diverged", value=1)
    pd.concat([rows, lost]).to_csv(path, index=False)
    found = evidence.evidence(tmp_path).query("claim == 'reparam-helps'")
    told = dict(zip(found["comparison"], found["note"], strict=True))
    assert told["w/ ReP over w/o ReP (1.3×)"] == "Table 1, w/ ReP, 1.3×: a training diverged."
    assert verdict(tmp_path, "reparam-helps")["verdict"] != "confirmed"

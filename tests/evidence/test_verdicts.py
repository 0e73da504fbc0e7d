"""Verdicts: every one can be reached, and none says more than the numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ghostlib.evidence import evidence, proxy, stats, verdicts
from ghostlib.evidence.decide import decide, margin
from ghostlib.evidence.verdict import Verdict
from ghostlib.exhibits import complexity
from ghostlib.paper import claims, numbers
from tests.evidence.files import cosine, right, verdict, write, write_counts, write_right, write_weights

RULE, CLAIMS = claims.load()
NAN = math.nan


def test_a_verdict_has_a_sign_a_color_and_a_precedence():
    assert [str(found) for found in Verdict] == ["exact", "confirmed", "bounded", "contradicted", "inconclusive",
                                                 "not attempted"]
    assert len({found.sign for found in Verdict}) == len(Verdict) == len({found.precedence for found in Verdict})
    assert min(Verdict, key=lambda found: found.precedence) is Verdict.CONTRADICTED  # by one comparison
    held, open_or_not = [v for v in Verdict if v.holds], [v for v in Verdict if not v.holds]
    assert held == [Verdict.EXACT, Verdict.CONFIRMED]
    assert {found.color for found in held}.isdisjoint(found.color for found in open_or_not)


# -- accuracies

def test_nothing_measured_is_nothing_judged(tmp_path):
    judged = verdicts.judge(evidence.evidence(tmp_path))
    assert list(judged["id"]) == [claim.id for claim in CLAIMS] and list(judged.columns) == verdicts.COLUMNS
    assert set(judged["verdict"]) == {"not attempted"} and judged["ours"].isna().all() and judged["reason"].all()
    reasons = judged.set_index("id")["reason"]
    assert reasons["distillation-helps"] == ("runs/table_5.csv does not exist: that stage was not run. "
                                             "runs/table_2.csv does not exist: that stage was not run.")
    assert reasons["latency-ranks"].startswith("runs/latency.csv does not exist")
    assert "no phone" in reasons["latency-mobile"]


def test_confirmed_needs_all_comparisons_and_shows_the_weakest(tmp_path):
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [75, 76.5, 77]))
    row = verdict(tmp_path, "cosine-beats-step")
    assert (row["verdict"], row["part"]) == ("confirmed", "")
    assert row["comparison"] == "cosine_1e-5 over step (w/ ReP&KD)"
    assert row["paper"] == pytest.approx(78.97 - 78.40) and row["ours"] == pytest.approx(31 / 6)
    # Differences 5, 5.5, 5: mean 5.1667, standard error 1/6, t(2) = 4.3027.
    assert (row["low"], row["high"]) == pytest.approx((31 / 6 - 4.3027 / 6, 31 / 6 + 4.3027 / 6), abs=1e-3)


def test_what_holds_has_the_fewest_seeds_of_its_comparisons(tmp_path):
    step, zero, five = [70, 71, 72, 70.5, 71.5, 70, 71, 72], [80, 81.5, 82, 80.5, 81, 80, 81, 82.5], [95, 96.5, 97]
    write(tmp_path, "table_6", cosine(step, zero, [*five, *[float("nan")] * 5]))
    row = verdict(tmp_path, "cosine-beats-step")
    assert (row["verdict"], row["seeds"]) == ("confirmed", 3) and row["comparison"].startswith("cosine_0")


def test_the_weakest_of_ratios_that_are_to_be_small_and_large_is_so_by_factors():
    rows = pd.DataFrame({"ours": [0.65, 2.5], "low": [0.6, 2.4], "high": [0.7, 2.6], "bound": [0.55, 2.75],
                         "test": ["at most", "at least"], "unit": "×", "seeds": 0, "sessions": 7})
    near = [margin(row, claims.load()[0]) for _, row in rows.iterrows()]
    assert near == pytest.approx([-math.log(0.7 / 0.55), math.log(2.4 / 2.75)]) and near[0] < near[1]


def test_one_comparison_wholly_on_the_other_side_contradicts(tmp_path):
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [65, 66.5, 67]))
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "contradicted" and row["comparison"].startswith("cosine_1e-5") and row["high"] < 0
    assert "1 of 2 comparisons are confirmed." in row["reason"] and "below zero, also when widened" in row["reason"]


def test_an_interval_that_only_chance_of_many_comparisons_puts_there_does_not_contradict(tmp_path):
    """Differences -1, -2, -2: Student's interval is -1.67 ± 4.303 / 3, for two comparisons ± 6.205 / 3."""
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [69, 69, 70]))
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "inconclusive" and row["high"] < 0 and "but not when widened" in row["reason"]
    assert row["part"] == "1 of 2 comparisons hold, and none fails once widened for their number"
    rows = evidence.evidence(tmp_path).set_index("comparison")
    assert rows.loc["cosine_1e-5 over step (w/ ReP&KD)", "most"] == pytest.approx(-5 / 3 + 6.2053 / 3, abs=1e-3)


def test_an_interval_that_holds_zero_is_inconclusive_and_says_what_could_be_detected(tmp_path):
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [69, 73, 73]))
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "inconclusive" and row["low"] < 0 < row["high"] and row["seeds"] == 3
    assert f"is {row['detectable']:.2f} points" in row["reason"]
    assert "p =" not in row["reason"]


def test_one_seed_is_inconclusive_however_large_the_difference(tmp_path):
    write(tmp_path, "table_6", cosine([10], [99], [98]))
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "inconclusive" and "(2 of 2 have the claimed sign)" in row["reason"]
    assert math.isnan(row["low"]) and math.isnan(row["detectable"]) and row["comparison"].startswith("cosine_1e-5")


def test_an_interval_without_width_says_nothing(tmp_path):
    write(tmp_path, "table_6", cosine([70, 71, 72], [71, 72, 73], [70, 71, 72]))
    row = verdict(tmp_path, "cosine-to-zero")
    assert row["verdict"] == "inconclusive" and "no width" in row["reason"]


def test_only_seeds_of_both_cells_are_paired(tmp_path):
    write(tmp_path, "table_6", cosine([70, NAN, 72, 73], [80, 90, NAN, 84], [75, 75, 75]))
    row = evidence.evidence(tmp_path).query("comparison == 'cosine_0 over step (w/ ReP&KD)'").iloc[0]
    assert row["seeds"] == 2 and row["ours"] == pytest.approx((10 + 11) / 2)


def test_a_missing_cell_leaves_a_claim_unattempted_unless_another_contradicts_it(tmp_path):
    write(tmp_path, "table_6", {cell: of for cell, of in cosine([70, 71], [80, 82], []).items() if of})
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "not attempted" and row["reason"] == "runs/table_6.csv: no seed has both cells."
    write(tmp_path, "table_6", cosine([70, 71, 72], [60, 61.5, 62], []))
    assert verdict(tmp_path, "cosine-beats-step")["verdict"] == "contradicted"


def test_a_seed_twice_is_an_error_that_names_the_file(tmp_path):
    write(tmp_path, "table_6", cosine([70], [80], [75]))
    path = tmp_path / "runs" / "table_6.csv"
    pd.concat([pd.read_csv(path)] * 2).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"runs/table_6\.csv holds one seed of a cell twice"):
        evidence.evidence(tmp_path)


def test_labels_that_look_like_numbers_are_labels(tmp_path):
    write(tmp_path, "table_7", {("w/ ReP&KD", decay): [value] for decay, value in zip(
        ["0.01", "0.03", "0.05", "0.07", "0.1"], [70, 71, 75, 72, 73], strict=True)})
    row = verdict(tmp_path, "large-weight-decay-hurts")
    assert row["ours"] == 2 and row["comparison"] == "0.05 over 0.1 (w/ ReP&KD)"


def test_detection_is_judged_by_map(tmp_path):
    write(tmp_path, "table_10", {(row, "mAP"): [i, i + 1.5, i + 2] if "V3" in row else [0, 1, 2]
                                 for i, row in enumerate(numbers.table("table_10").index)}, metric="mAP")
    row = verdict(tmp_path, "detection-v3-beats-v2")
    assert row["verdict"] == "confirmed" and row["paper"] == pytest.approx(0.4)


def test_cells_of_two_tables_are_compared(tmp_path):
    write(tmp_path, "table_5", {(row, column): [80, 81, 83] for row in numbers.table("table_5").index
                                for column in numbers.table("table_5").columns})
    write(tmp_path, "table_2", {(row, column): [70, 70, 70] for row in numbers.table("table_2").index
                                for column in numbers.table("table_2").columns})
    assert verdict(tmp_path, "distillation-helps")["verdict"] == "confirmed"


def test_a_caveat_ends_the_reason_of_what_was_attempted(tmp_path):
    caveat = next(claim.caveat for claim in CLAIMS if claim.id == "v3-beats-mobilenetv2")
    assert caveat not in verdict(tmp_path, "v3-beats-mobilenetv2")["reason"]
    rows = ("GhostNetV3 1.0×", "MobileNetV2 1.0×")
    write(tmp_path, "table_9", {(row, "Top-1 (%)"): [70.0] for row in rows})
    row = verdict(tmp_path, "v3-beats-mobilenetv2")
    assert row["reason"].endswith(caveat) and row["comparison"] == "GhostNetV3 1.0× over MobileNetV2 1.0×"


def test_the_reason_says_where_the_paper_s_own_numbers_disagree(tmp_path):
    published = numbers.table("table_8")
    cells = {(row, column): [70.0] for row in published.index for column in published.columns}
    write(tmp_path, "table_8", cells)
    said = "The paper's own numbers say the opposite of RandAug over AutoAug (DeiT-tiny). "
    assert said in verdict(tmp_path, "randaug-beats-autoaug")["reason"]


# -- over seeds and test images, and within the margin

STEP, ZERO, FIVE = (("w/ ReP&KD", column) for column in ("step", "cosine_0", "cosine_1e-5"))


def write_table_6(folder: Path, step: list[float], zero: list[float], five: list[float], noise: float = 0.003,
                  losses: dict[tuple[str, str], list[float]] | None = None) -> None:
    """The cells of Table 6 with these gains, by image, and log-losses."""
    write_right(folder, "table_6", {cell: right(gains, noise=noise, seed=i) for i, (cell, gains) in
                                    enumerate([(STEP, step), (ZERO, zero), (FIVE, five)])}, losses)


def test_the_interval_covers_the_test_images_where_these_are_known_and_the_reason_says_so(tmp_path):
    write_table_6(tmp_path, [0, 0.001, 0], [0.02, 0.023, 0.02], [0.02, 0.024, 0.023])
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "confirmed" and "of 3 seeds, over seeds and test images, lies above zero." in row["reason"]
    wide = evidence.evidence(tmp_path).query("decides and claim == 'cosine-beats-step'")
    (tmp_path / "correct" / "table_6.csv").unlink()
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "confirmed" and "of 3 seeds, over seeds alone, lies above zero." in row["reason"]
    narrow = evidence.evidence(tmp_path).query("decides and claim == 'cosine-beats-step'")
    assert (wide["low"] < narrow["low"]).all() and (wide["most"] > narrow["most"]).all()
    assert (wide["half_images"] > 0).all() and narrow[["half_images", "crossed_low"]].isna().all(axis=None)
    assert wide["half_seeds"].to_numpy() == pytest.approx(narrow["half_seeds"].to_numpy(), abs=1e-3)


def test_few_images_leave_open_what_seeds_alone_would_confirm(tmp_path):
    """Of 400 images each seed gains the same two: other images could as well have shown a loss."""
    one = {STEP: right([0] * 6, 400, 0), ZERO: right([0.005] * 6, 400, 0), FIVE: right([0.005] * 6, 400, 0)}
    one[ZERO][0, 5] = False  # or else the seeds were all alike
    write_right(tmp_path, "table_6", one)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "inconclusive" and row["low"] < 0 < row["ours"]
    (tmp_path / "correct" / "table_6.csv").unlink()
    claim = evidence.evidence(tmp_path).query("comparison == 'cosine_0 over step (w/ ReP&KD)'").iloc[0]
    assert decide(claim, RULE) is Verdict.CONFIRMED


def test_seeds_that_are_all_alike_say_nothing_however_the_images_differ(tmp_path):
    write_right(tmp_path, "table_6", {STEP: right([0] * 6, noise=0), ZERO: right([0.02] * 6, noise=0)})
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "not attempted"  # without cosine_1e-5
    claim = evidence.evidence(tmp_path).query("comparison == 'cosine_0 over step (w/ ReP&KD)'").iloc[0]
    assert claim["low"] > 0 and decide(claim, RULE) is Verdict.INCONCLUSIVE


def test_bounded_needs_six_seeds_and_the_whole_interval_within_the_margin(tmp_path):
    write_table_6(tmp_path, [0] * 6, [0] * 6, [0] * 6)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "bounded" and -0.5 < row["low"] < 0 < row["high"] < 0.5
    assert "0 of 2 comparisons are confirmed, 2 bounded." in row["reason"] and "Significant" not in row["reason"]
    assert "lies within ±0.5 points: any effect at this scale is smaller than that." in row["reason"]
    write_table_6(tmp_path, [0] * 5, [0] * 5, [0] * 5)
    assert verdict(tmp_path, "cosine-beats-step")["verdict"] == "inconclusive"
    write_table_6(tmp_path, [0] * 6, [0] * 6, [0, 0.01] * 3)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "inconclusive" and row["high"] > 0.5


def test_bounded_and_confirmed_comparisons_make_a_claim_bounded_and_a_contradicted_one_goes_first(tmp_path):
    write_table_6(tmp_path, [0] * 6, [0.02] * 6, [0] * 6)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "bounded" and row["comparison"].startswith("cosine_1e-5")
    assert "1 of 2 comparisons are confirmed, 1 bounded." in row["reason"]
    assert verdict(tmp_path, "cosine-to-zero")["verdict"] == "confirmed"
    write_table_6(tmp_path, [0.02] * 6, [0.02] * 6, [0] * 6)
    assert verdict(tmp_path, "cosine-beats-step")["verdict"] == "contradicted"


def test_an_effect_that_is_certain_and_small_is_decided_and_called_small(tmp_path):
    write_table_6(tmp_path, [0] * 6, [0.0025] * 6, [0.0025] * 6, noise=0.001)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "confirmed" and "All of it lies within ±0.5 points, the margin." in row["reason"]
    write_table_6(tmp_path, [0.0025] * 6, [0] * 6, [0] * 6, noise=0.001)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "contradicted" and "All of it lies within ±0.5 points, the margin." in row["reason"]


def test_map_has_no_margin(tmp_path):
    write(tmp_path, "table_10", {(row, "mAP"): [20 + i / 100 + seed * (1 + (i + seed) % 2 / 50) for seed in range(6)]
                                 for i, row in enumerate(numbers.table("table_10").index)}, metric="mAP")
    rows = evidence.evidence(tmp_path).query("claim == 'detection-v3-beats-v2' and decides")
    assert rows["margin"].isna().all() and (rows["high"].abs() < 0.5).all()
    assert verdict(tmp_path, "detection-v3-beats-v2")["verdict"] != "bounded"


# -- no better, and a slope

def write_table_2(folder: Path, five: list[float], four: list[float] | None = None, noise: float = 0.003) -> None:
    """Three, four and five branches, by image; three gain nothing."""
    gains = {"N=3": [0] * len(five), "N=4": four or [0] * len(five), "N=5": five}
    write_right(folder, "table_2", {(row, "w/ 1×1 DW"): right(gain, noise=noise, seed=i)
                                    for i, (row, gain) in enumerate(gains.items())})


def test_no_better_is_shown_by_an_interval_that_leaves_out_a_gain_of_the_margin(tmp_path):
    write_table_2(tmp_path, [0] * 6)
    row = verdict(tmp_path, "three-branches-suffice")
    assert row["verdict"] == "confirmed" and -0.5 < row["low"] < 0 and "lies above −0.50 points." in row["reason"]
    assert row["comparison"] in tuple(f"N=3 over N={n} (w/ 1×1 DW), above −0.50" for n in (4, 5))
    write_table_2(tmp_path, [-0.02] * 6)  # a loss confirms it, too
    assert verdict(tmp_path, "three-branches-suffice")["verdict"] == "confirmed"


def test_a_gain_beyond_the_margin_contradicts_that_there_is_none_and_a_smaller_one_does_not(tmp_path):
    write_table_2(tmp_path, [0.02] * 6)
    row = verdict(tmp_path, "three-branches-suffice")
    assert row["verdict"] == "contradicted" and row["comparison"].startswith("N=3 over N=5")
    assert "lies below −0.50 points, also when widened for the claim's 2 comparisons." in row["reason"]
    write_table_2(tmp_path, [0.0025] * 6, noise=0.001)
    row = verdict(tmp_path, "three-branches-suffice")
    assert row["verdict"] == "confirmed" and row["high"] < 0  # certain, and too small to count
    write_table_2(tmp_path, [0.005] * 6)
    row = verdict(tmp_path, "three-branches-suffice")
    assert row["verdict"] == "inconclusive" and row["low"] < -0.5 < row["high"]
    assert "holds −0.50 points" in row["reason"]


def test_of_no_better_the_p_is_that_of_a_gain_of_the_margin(tmp_path):
    write_table_2(tmp_path, [0] * 6)
    rows = evidence.evidence(tmp_path).query("decides and claim == 'three-branches-suffice'")
    assert rows["p"].to_list() == [2 / 2**6] * 2 and (rows["bound"] == -RULE.margin).all()


def write_teachers(folder: Path, accuracies: list[float]) -> None:
    pd.DataFrame({"stands_in_for": ["ResNet-101", "DeiT-B", "BEiTv2-B"], "run": "key", "test_top1": accuracies}).to_csv(
        folder / "teachers.csv", index=False)


def write_students(folder: Path, *values: list[float]) -> None:
    """Of three teachers, the same at every α."""
    write(folder, "table_3", {(row, column): of for row, of in zip(numbers.table("table_3").index, values, strict=True)
                              for column in numbers.table("table_3").columns})


@pytest.mark.parametrize(("best", "expected"), [([74, 75.5, 76], "confirmed"), ([66, 67.5, 68], "contradicted"),
                                                ([70, 73, 69], "inconclusive")])
def test_students_rise_with_their_teachers_by_a_slope_within_each_seed(tmp_path, best, expected):
    write_students(tmp_path, [70, 71, 72], [70, 71, 72], best)
    write_teachers(tmp_path, [80.0, 85.0, 90.0])
    row = verdict(tmp_path, "better-teacher-helps")
    slopes = [np.polyfit([80, 85, 90], [first, first, last], 1)[0] for first, last in zip([70, 71, 72], best,
                                                                                        strict=True)]
    assert row["verdict"] == expected and row["unit"] == "points a point"
    assert (row["ours"], row["low"], row["high"]) == pytest.approx((np.mean(slopes), *stats.t_interval(slopes)))
    assert "Teachers: ResNet-101 80.0 %, DeiT-B 85.0 %, BEiTv2-B 90.0 %." in row["reason"]


def test_without_teachers_that_differ_there_is_no_slope(tmp_path):
    write_students(tmp_path, [70, 71, 72], [70, 71, 72], [74, 75.5, 76])
    assert verdict(tmp_path, "better-teacher-helps")["reason"].startswith("teachers.csv does not tell")
    write_teachers(tmp_path, [80.0] * 3)
    row = verdict(tmp_path, "better-teacher-helps")
    assert row["verdict"] == "not attempted" and row["reason"] == "All teachers are equally accurate."


def test_what_the_strategy_adds_is_judged_over_the_fair_rivals(tmp_path):
    networks = [*(f"GhostNetV2 {width}" for width in ("1.0×", "1.3×", "1.6×")), "MobileNetV2 1.0×", "ShuffleNetV2 1.0×"]
    write(tmp_path, "rivals", {(name, "Top-1 (%)"): [70, 71, 72] for name in networks})
    write(tmp_path, "table_9", {(name.replace("V2", "V3") if "Ghost" in name else f"{name} + ours", "Top-1 (%)"):
                                [72, 73.5, 74] for name in networks})
    row = verdict(tmp_path, "strategy-adds")
    assert row["verdict"] == "confirmed" and row["claimed_by"] == "us" and math.isnan(row["paper"])
    assert row["ours"] == pytest.approx(13 / 6) and "5 of 5 comparisons are confirmed." in row["reason"]


def test_what_branches_cost_in_short_trainings_is_judged_by_both_remedies_and_told_over_the_plain_network(tmp_path):
    short = {"w/o ReP": [80, 81, 82], "w/ ReP": [78, 79.2, 80.1], "w/ ReP, γ = 1/√B": [81, 82.1, 83],
             "w/ ReP, BN rates ÷ B": [79, 80.1, 81]}
    write(tmp_path, "causes", {(row, "rate × 1"): values for row, values in short.items()})
    row = verdict(tmp_path, "branch-normalisations-cost")
    assert row["verdict"] == "confirmed" and row["claimed_by"] == "us" and math.isnan(row["paper"])
    assert row["comparison"] == "w/ ReP, BN rates ÷ B over w/ ReP (rate × 1)"
    told = row["reason"].partition("Over the network that is trained alike without branches, the difference is ")[2]
    assert told.startswith("−1.90 [") and "] (neither), +1.03 [" in told and "] (γ), −0.97 [" in told
    assert "1 of the 3 intervals lies above zero, 2 below it." in told
    pd.read_csv(tmp_path / "runs" / "causes.csv").head(0).to_csv(tmp_path / "runs" / "causes.csv", index=False)
    row = verdict(tmp_path, "branch-normalisations-cost")  # as a profile that does not run it writes it
    assert row["verdict"] == "not attempted" and "leaves out the experiment causes" in row["reason"]


# -- the mean contrast

def test_the_mean_of_a_claim_s_comparisons_is_taken_within_each_seed_and_decides_nothing(tmp_path):
    write(tmp_path, "table_6", cosine([70, 71, 72, 73], [80, 81.5, 82, NAN], [65, 66.5, 67, 68]))
    row = verdict(tmp_path, "cosine-beats-step")
    # Within a seed (10 - 5) / 2, (10.5 - 4.5) / 2 and (10 - 5) / 2; the fourth lacks a cell.
    low, high = stats.t_interval([2.5, 3, 2.5])
    assert (row["mean"], row["mean_low"], row["mean_high"]) == pytest.approx((8 / 3, low, high))
    assert row["mean_word"] == "above zero" and row["verdict"] == "contradicted"
    told = "Averaged over the 2 comparisons within a seed: +2.67 [+1.95, +3.38] points, above zero."
    assert told in row["reason"]
    rows = evidence.evidence(tmp_path).query("note == 'mean contrast'").set_index("claim")
    assert not rows["decides"].any() and rows[["p", "p_holm", "most", "detectable"]].isna().all(axis=None)
    assert rows.loc["cosine-beats-step", "seeds"] == 3 and rows.loc["cosine-to-zero", "seeds"] == 3
    assert rows.loc["cosine-beats-step", "paper"] == pytest.approx((79.13 + 78.97) / 2 - 78.40)
    assert "Averaged" not in verdict(tmp_path, "cosine-to-zero")["reason"]  # it has one comparison


@pytest.mark.parametrize(("five", "word"), [([76.5, 78.5, 77], "below zero"), ([91, 80, 85], "holds zero"),
                                            ([60, 60.5, 60], "")])
def test_the_mean_has_a_word_of_its_own(tmp_path, five, word):
    """`step` is at 80, and so is `cosine_0`, or as far above it as `cosine_1e-5` is below: a mean without any width."""
    zero = [80.0] * 3 if word else [160 - value for value in five]
    write(tmp_path, "table_6", cosine([80.0] * 3, zero, five))
    assert verdict(tmp_path, "cosine-beats-step")["mean_word"] == word


def test_the_mean_has_the_interval_over_seeds_and_images_that_its_comparisons_have(tmp_path):
    write_table_6(tmp_path, [0] * 6, [0] * 6, [0] * 6)
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["mean_word"] == "within the margin"
    assert "[" in row["reason"] and "points, within the margin." in row["reason"]
    by_image = np.mean([right([0] * 6, seed=i).astype(float) for i in (1, 2)], axis=0) - right([0] * 6, seed=0)
    assert (row["mean_low"], row["mean_high"]) == pytest.approx(stats.crossed_interval(100 * by_image))


# -- log-loss

def test_log_loss_stands_beside_and_is_told_where_it_says_the_opposite(tmp_path):
    def write_losses(zero: list[float]) -> None:
        write_table_6(tmp_path, [0] * 6, [0.02] * 6, [0.02] * 6,
                      losses={STEP: [0.5, 0.51, 0.5, 0.49, 0.5, 0.51], ZERO: zero})

    write_losses([0.6, 0.62, 0.6, 0.59, 0.61, 0.6])
    rows = evidence.evidence(tmp_path).set_index("comparison")
    row = rows.loc["cosine_0 over step (w/ ReP&KD)"]
    differences = [0.1, 0.11, 0.1, 0.1, 0.11, 0.09]
    low, high = stats.t_interval(differences)
    assert (row["loss"], row["loss_low"], row["loss_high"]) == pytest.approx((np.mean(differences), low, high))
    assert math.isnan(rows.loc["cosine_1e-5 over step (w/ ReP&KD)", "loss"])
    row = verdict(tmp_path, "cosine-beats-step")
    assert (f"Test log-loss says the opposite of cosine_0 over step (w/ ReP&KD) (+0.1017 [+{low:.4f}, +{high:.4f}] "
            "nats).") in row["reason"] and row["verdict"] == "confirmed"
    write_losses([0.4, 0.42, 0.4, 0.39, 0.41, 0.4])
    assert "log-loss" not in verdict(tmp_path, "cosine-beats-step")["reason"]
    write_losses([0.4, 0.82, 0.4, 0.79, 0.41, 0.4])
    assert "log-loss" not in verdict(tmp_path, "cosine-beats-step")["reason"]  # its interval holds zero


def test_many_comparisons_that_log_loss_opposes_are_counted(tmp_path):
    rates = {"0.005": (0.02, 0.6), "0.001": (0, 0.5), "0.02": (0, 0.5)}
    cells = {(row, rate): values for row in ("w/ ReP&KD", "w/o ReP&KD") for rate, values in rates.items()}
    write_right(tmp_path, "figure_3", {cell: right([gain] * 6, seed=i) for i, (cell, (gain, _)) in
                                       enumerate(cells.items())},
                {cell: [loss + seed % 2 / 100 * (cell[1] == "0.005") for seed in range(6)]
                 for cell, (_, loss) in cells.items()})
    reason = verdict(tmp_path, "learning-rate-between")["reason"]
    assert "Test log-loss says the opposite of 4 of the 4 comparisons." in reason


# -- the word

def large_gain(seeds: int) -> dict[tuple[str, str], list[float]]:
    return cosine([70 + i / 10 for i in range(seeds)], [80 + i / 5 for i in range(seeds)], [74.9] * seeds)


def test_holm_corrects_for_the_comparisons_of_all_claims(tmp_path):
    write(tmp_path, "table_6", large_gain(8))  # three comparisons in two claims, each with the smallest p of 8 seeds
    rows = evidence.evidence(tmp_path).dropna(subset="p")
    assert rows["decides"].all()
    assert rows["p"].to_list() == pytest.approx([2 / 2**8] * 3) and rows["claim"].nunique() == 2
    assert rows["p_holm"].to_list() == pytest.approx([3 * 2 / 2**8] * 3)


@pytest.mark.parametrize(("seeds", "said"), [
    (5, "lies above zero."), (6, "Sign-flip p = 0.031, 0.094 after Holm"),
    (8, "Significant, sign-flip p = 0.0078, 0.023 after")])
def test_significant_needs_six_seeds_and_a_small_corrected_p(tmp_path, seeds, said):
    write(tmp_path, "table_6", large_gain(seeds))
    row = verdict(tmp_path, "cosine-beats-step")
    assert row["verdict"] == "confirmed" and said in row["reason"]
    assert ("Significant" in row["reason"]) == (seeds == 8)


# -- counts

def test_counts_within_the_tolerance_are_exact_and_others_contradict_with_their_reason(tmp_path):
    write_counts(tmp_path, 1.019)
    for claim in ("v3-counts", "v3-costs-what-v2-costs", "table-9-counts", "detection-counts"):
        assert verdict(tmp_path, claim)["verdict"] == "exact"
    write_counts(tmp_path, 1.021)
    row = verdict(tmp_path, "table-9-counts")
    assert row["verdict"] == "contradicted" and "V3" in row["comparison"] and "+2.1 %" in row["reason"]
    assert "78 of 86 comparisons are exact." in row["reason"]
    assert row["reason"].endswith(complexity.reasons()["GhostNetV3 0.5×"][numbers.PARAMS])
    row = verdict(tmp_path, "v3-costs-what-v2-costs")
    assert row["verdict"] == "contradicted" and (row["paper"], row["ours"]) == pytest.approx((1, 1.021))


def test_fewer_operations_are_told_from_more(tmp_path):
    write_counts(tmp_path)
    row = verdict(tmp_path, "detection-needs-fewer")
    assert row["verdict"] == "exact" and row["ours"] == pytest.approx(342 / 613) and "counts have no noise" in row[
        "reason"]
    write_counts(tmp_path, 2)
    row = verdict(tmp_path, "detection-needs-fewer")
    assert row["verdict"] == "contradicted" and row["reason"].startswith("0 of 2 comparisons are exact. +11.6 %")


def test_a_network_that_is_as_accurate_and_needs_fewer_operations_dominates_and_is_named(tmp_path):
    write_counts(tmp_path)
    row = verdict(tmp_path, "balance-counts")
    assert row["verdict"] == "exact" and "No network is shown to dominate any of them." in row["reason"]
    path = tmp_path / "runs" / "complexity.csv"
    counted = pd.read_csv(path)
    counted.loc[counted["row"].isin(["MobileOne-S2", "GhostNetV2 1.0×"]), "measured"] = 40.0
    counted.to_csv(path, index=False)  # the former is as accurate as 0.5× and 1.0×, the latter only as 0.5×
    row = verdict(tmp_path, "balance-counts")
    assert row["verdict"] == "contradicted" and row["comparison"] == "GhostNetV3 1.0× / MobileOne-S2"
    assert ("Dominated: GhostNetV3 0.5× by GhostNetV2 1.0×, MobileOne-S2; GhostNetV3 1.0× by MobileOne-S2."
            in row["reason"]) and "Not decided is" not in row["reason"]


RESULTS = [runs.parent for runs in (Path(__file__).parents[2] / "results").glob("*/runs")]


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_the_committed_results_can_be_judged(folder):
    judged = verdicts.judge(evidence.evidence(folder))
    assert len(judged) == len(CLAIMS) and set(judged["verdict"]) <= set(Verdict)
    assert not judged.loc[judged["seeds"] == 1, "verdict"].isin(["confirmed", "contradicted"]).any()
    assert set(proxy.proxy(folder)["experiment"]) <= {*numbers.load(), *claims.OWN}


# -- public weights

@pytest.mark.parametrize(("top1", "expected", "told"), [
    (77.134, "exact", "+0.03 points from the printed number. Their training: the paper's, averaged weights."),
    (77.2, "exact", "+0.10 points"), (77.0, "exact", "−0.10 points"), (77.202, "contradicted", "+0.10 points"),
    (76.936, "contradicted", "−0.16 points from the printed number.")])
def test_an_accuracy_of_public_weights_is_exact_within_a_tenth_of_a_point(top1, expected, told, tmp_path):
    write_weights(tmp_path, **{"GhostNetV3 1.0×": top1})
    row = verdict(tmp_path, "weights-v3")
    assert row["verdict"] == expected and told in row["reason"]
    assert (row["paper"], row["ours"], row["unit"], row["seeds"]) == (77.1, top1, "%", 0)
    assert row["comparison"] == "GhostNetV3 1.0× by ghostnetv3-1.0.pth.tar" and math.isnan(row["low"])


def test_of_several_rows_of_public_weights_the_furthest_decides_and_one_not_scored_says_how_to(tmp_path):
    rows = next(claim.weights for claim in CLAIMS if claim.id == "weights-of-authors")
    printed = {row: numbers.value("table_9", row, numbers.TOP1) for row in rows}
    write_weights(tmp_path, **printed)
    row = verdict(tmp_path, "weights-of-authors")
    assert row["verdict"] == "exact" and row["reason"].startswith(f"{len(rows)} of {len(rows)} comparisons are exact.")
    write_weights(tmp_path, **{row: value for row, value in printed.items() if row != "PiT-ti"})
    row = verdict(tmp_path, "weights-of-authors")
    assert row["verdict"] == "not attempted" and "`ghostlib evaluate --published --data FOLDER`" in row["reason"]
    write_weights(tmp_path, **printed | {"PiT-xs": 78.2, "PiT-ti": 72.9})
    row = verdict(tmp_path, "weights-of-authors")
    assert row["verdict"] == "contradicted" and row["comparison"] == "PiT-xs by pit_xs_224.in1k"
    assert f"{len(rows) - 2} of {len(rows)} comparisons are exact. +5.80 points from" in row["reason"]


def test_a_claim_about_times_that_holds_names_once_the_engines_with_which_it_does_not():
    claim = next(claim for claim in claims.load()[1] if claim.latencies and not claim.but)
    decided = pd.DataFrame({"against": ["PyTorch", "", "OpenVINO, PyTorch"]})
    assert verdicts._but(claim, decided) == "not with PyTorch or OpenVINO"
    assert verdicts._but(claim, decided.iloc[1:2]) == ""
    assert verdicts._but(claim.model_copy(update={"but": "in one room"}), decided) == (
        "in one room, and not with PyTorch or OpenVINO")

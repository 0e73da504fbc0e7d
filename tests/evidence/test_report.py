"""The report says what the frames say, and misses nothing for want of a run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from ghostlib.evidence import claim_tables, cost, evidence, forest, summary, verdicts
from ghostlib.evidence.report import Report
from ghostlib.evidence.verdict import Verdict
from ghostlib.exhibits import figures
from ghostlib.paper import claims
from tests.evidence.files import cosine, judged, right, write, write_counts, write_right, write_times

ROOT = Path(__file__).parents[2]


@pytest.fixture
def three_seeds(tmp_path) -> Report:
    """One table of three seeds, counts and times."""
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [69, 73, 73]))
    write_counts(tmp_path, 1.021)
    write_times(tmp_path)
    return judged(tmp_path)


def test_with_nothing_run_everything_is_reported_as_not_attempted(tmp_path):
    found = judged(tmp_path)
    assert found.counts.loc["all", "not attempted"] == found.counts.loc["all", "all"] == len(claims.load()[1])
    assert "No accuracy was measured." in found.markdown and "](tables" not in found.markdown
    assert found.markdown.count("Not run at this scale.") == found.claims["experiment"].nunique()
    drawn, compared = forest.draw(found.claims, found.evidence, "tiny"), (found.claims["unit"] == "points").sum()
    assert not drawn.axes and drawn.texts[0].get_text() == (
        f"Not attempted at this scale: {compared} of the {compared} claims about differences of accuracy.")
    assert f"| all | {len(found.claims)} | {len(found.claims)} |" in summary.answer(found)


def test_every_claim_is_there_with_its_verdict_numbers_and_reason(three_seeds):
    text = three_seeds.markdown
    for claim in three_seeds.claims.itertuples():
        line = next(line for line in text.splitlines() if line.startswith(f"| {claim.statement} "))
        place = claim.place + (" (our claim)" if claim.claimed_by == "us" else "")
        assert f"**{claim.verdict}** — {claim.reason}" in line and f" {place}. |" in line
    assert (three_seeds.claims["claimed_by"] == "us").sum() == sum(claim.ours for claim in claims.load()[1]) > 0
    row = next(line for line in text.splitlines() if line.startswith("| A cosine schedule to zero is better"))
    assert "| +0.16 | +9.50 [" in row and "] | 3 seeds | " in row
    assert "[Table 6](tables/table_6.md) · [executed notebook](notebooks/table_6.ipynb)" in text
    assert "(tables/table_7.md)" not in text  # it was not run
    assert all(row.sentence in text for row in three_seeds.errata.itertuples())
    assert "- The trainings' costs were not recorded." in text


def test_the_verdicts_are_counted_by_kind(three_seeds):
    counts = three_seeds.counts
    assert list(counts.columns) == [*Verdict, "all"] and list(counts.index) == [*claims.SUBJECTS, "all"]
    parts = counts.drop(index="all")
    assert (parts.sum() == counts.loc["all"]).all() and counts.loc["all", "all"] == len(three_seeds.claims)
    assert counts.loc["sizes and operations", "contradicted"] >= 1
    assert counts.loc["object detection", "not attempted"] == 5


def test_what_a_scale_can_show_depends_on_its_seeds(tmp_path, three_seeds):
    assert "3 paired seeds" in three_seeds.reach and "Below 6 seeds" in three_seeds.reach
    assert "can be ranked at all: 1 of 1" in three_seeds.reach and "not points on ImageNet" in three_seeds.reach
    write(tmp_path, "table_6", cosine([70], [80], [75]))
    assert "One seed a training: how much seeds differ is unknown" in judged(tmp_path).reach
    assert "One seed decides no claim about accuracy, however large" in summary.answer(judged(tmp_path))
    write(tmp_path, "table_6", cosine([70 + i / 10 for i in range(6)], [80 + i / 5 for i in range(6)], [74.9] * 6))
    assert "6 paired seeds" in judged(tmp_path).reach and "Below 6" not in judged(tmp_path).reach


def test_the_table_in_brief_shows_the_headline_claims_and_the_decided_ones(three_seeds):
    headline = {claim.statement for claim in claims.load()[1] if claim.headline}
    judged = three_seeds.claims
    decided = set(judged.loc[judged["verdict"].isin(["exact", "confirmed", "contradicted"]), "statement"])
    assert 5 <= len(headline) <= 15 and decided - headline
    text = summary.table(three_seeds)
    assert all(statement in text for statement in headline | decided)
    assert sum(line.startswith("|") for line in text.splitlines()) == 2 + len(headline | decided)
    assert "](" not in text  # a link cannot hold in two folders


def test_the_answer_counts_every_claim_and_names_what_held_and_what_failed(three_seeds):
    text, judged = summary.answer(three_seeds), three_seeds.claims
    held = judged["verdict"].isin(["exact", "confirmed"])
    failed = judged[judged["verdict"] == "contradicted"]
    assert "3 paired seeds" in text and f"{len(judged)} claims" in text and "](" not in text
    row = next(line for line in text.splitlines() if line.startswith("| all "))
    assert row.startswith(f"| all | {held.sum()} | {len(failed)} |") and row.endswith(f"| {len(judged)} |")
    assert text.count("**Held**") <= held.sum() and 0 < len(failed) == text.count("**Failed**") <= summary.FEW
    for claim in failed.itertuples():
        line = next(line for line in text.splitlines() if claim.statement.rstrip(".") in line)
        assert line.startswith("- **Failed**")


def test_the_same_results_give_the_same_files(tmp_path, three_seeds):
    written = []
    for name in ("first", "second"):
        shutil.copytree(tmp_path, tmp_path / name, ignore=shutil.ignore_patterns("first", "second", "sessions"))
    shutil.copytree(tmp_path.parent / "sessions", tmp_path / "sessions")
    for name in ("first", "second"):
        found = judged(tmp_path / name)
        found.write()
        figures.write(forest.draw(found.claims, found.evidence, "tiny"), tmp_path / name / "figures", "claims")
        files = sorted((tmp_path / name).rglob("*.*"))
        written.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
        assert claim_tables.html(found.claims) == claim_tables.html(three_seeds.claims)
    assert written[0] == written[1]
    assert {"report.md", "answer.md", "summary.md", "report.json", "metrics.json", "figures/claims.png",
            "figures/claims.svg", *(f"tables/{of}.csv" for of in ("claims", "evidence", "proxy"))} <= set(written[0])
    read = pd.read_csv(tmp_path / "first" / "tables" / "claims.csv")
    assert list(read.columns) == [column for column in verdicts.COLUMNS if column not in ("p", "p_holm")]
    assert len(read) == len(claims.load()[1])
    read = pd.read_csv(tmp_path / "first" / "tables" / "evidence.csv")
    assert list(read.columns) == [column for column in evidence.COLUMNS if column not in ("p", "p_holm")]


def test_a_bar_in_a_text_does_not_end_its_cell():
    assert claim_tables.markdown(pd.DataFrame({"a": ["x|y"], "b": [1]})) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"


def test_the_figure_has_a_row_a_claim_that_was_attempted_and_draws_the_deciding_interval(three_seeds):
    figure = forest.draw(three_seeds.claims, three_seeds.evidence, "tiny")
    left, right = figure.axes
    compared = three_seeds.claims.query("unit == 'points'")
    attempted = compared[compared["verdict"] != Verdict.NOT_ATTEMPTED]
    labels = [" ".join(label.get_text().split()) for label in left.get_yticklabels()]
    assert len(attempted) == 2 and all(map(str.startswith, labels, attempted["statement"])) and len(labels) == 2
    assert figure.get_supxlabel() == (f"Not attempted at this scale: {len(compared) - 2} of the {len(compared)} claims "
                                      "about differences of accuracy.")
    segments = next(of for of in right.collections if hasattr(of, "get_segments")).get_segments()
    assert [(a[0], b[0]) for a, b in segments] == list(zip(attempted["low"], attempted["high"], strict=True))
    whole = three_seeds.claims[three_seeds.claims["id"].isin(attempted["id"])]
    assert not forest.draw(whole, three_seeds.evidence, "tiny").get_supxlabel()


# -- what it says of itself

def test_the_reading_says_what_an_interval_of_times_is_of_and_what_git_shows_of_the_rule(three_seeds):
    text = " ".join(three_seeds.markdown.split())
    assert "Student's of the logarithms between sessions, and fewer than 5 decide nothing" in text
    assert " ".join(claims.history().split()) in " ".join(text.split()) and "run in full" not in text


def test_the_row_of_a_weakly_confirmed_claim_says_so_and_the_summary_says_why(three_seeds):
    ahead = {("GhostNetV3 1.0×", "Top-1 (%)"): [80, 81.5, 82], ("GhostNetV2 1.0×", "Top-1 (%)"): [70, 71, 72]}
    write(three_seeds.folder, "table_9", {(row.replace("1.0", width), column): values for (row, column), values in
                                          ahead.items() for width in ("1.0", "1.3", "1.6")})
    lines = summary.table(judged(three_seeds.folder)).splitlines()
    row = next(line for line in lines if line.startswith("| At each of three widths"))
    assert "| confirmed (3 seeds), but over a rival that may be weak, with a teacher" in row
    note = next(line for line in lines if line.startswith("- At each of three widths"))
    assert "*Confirmed (3 seeds), but over a rival that may be weak, " in note and "by RMSProp" in note


def test_no_table_shows_a_p_below_six_seeds(three_seeds):
    assert not any(re.match("p( |$)", column) for column in claim_tables.quantities(three_seeds.claims))
    three_seeds.write()
    told = json.loads((three_seeds.folder / "report.json").read_bytes())["claims"]
    assert all(claim["p"] is None for claim in told)
    write(three_seeds.folder, "table_6", cosine([70 + i / 10 for i in range(8)], [80 + i / 5 for i in range(8)],
                                                [74.9] * 8))
    judged(three_seeds.folder).write()
    told = json.loads((three_seeds.folder / "report.json").read_bytes())["claims"]
    assert {claim["experiment"] for claim in told if claim["p"] is not None} == {"table_6"}
    for name, columns in (("claims", verdicts.COLUMNS), ("evidence", evidence.COLUMNS)):
        assert list(pd.read_csv(three_seeds.folder / "tables" / f"{name}.csv").columns) == columns


def test_a_verdict_by_few_seeds_is_shown_with_their_number_wherever_it_is_shown_in_short(tmp_path):
    for seeds, said in ((3, "confirmed (3 seeds)"), (6, "confirmed")):
        step = [70 + i / 10 for i in range(seeds)]
        write(tmp_path, "table_6", cosine(step, [80 + i / 5 for i in range(seeds)], [74.9] * seeds))
        found = judged(tmp_path)
        row = next(row for row in summary.table(found).splitlines() if row.startswith("| A cosine schedule, to zero"))
        assert row.endswith(f"| {said}, but at one rate for both |")
        line = next(line for line in summary.answer(found).splitlines() if "A cosine schedule, to zero" in line)
        assert line.startswith("- **Held** (3 seeds): " if seeds == 3 else "- **Held**: ")
        drawn = forest.draw(found.claims, found.evidence, "tiny").axes[0].get_yticklabels()
        text = " ".join(next(of.get_text() for of in drawn if "A cosine schedule, to zero" in of.get_text()).split())
        assert ("– confirmed (3 seeds)" in text) == (seeds == 3)


def test_what_is_bounded_is_counted_and_told_as_data(tmp_path):
    write_right(tmp_path, "table_6", {("w/ ReP&KD", column): right([gain] * 6, seed=i) for i, (column, gain) in
                                      enumerate([("step", 0), ("cosine_0", 0), ("cosine_1e-5", 0.02)])})
    found = judged(tmp_path)
    assert found.counts.loc["accuracy", "bounded"] == found.counts.loc["accuracy", "contradicted"] == 1
    write_right(tmp_path, "table_6", {("w/ ReP&KD", column): right([gain] * 6, seed=i) for i, (column, gain) in
                                      enumerate([("step", 0), ("cosine_0", 0), ("cosine_1e-5", 0)])})
    found = judged(tmp_path)
    found.write()
    assert found.counts.loc["accuracy", "bounded"] == 2
    assert summary.answer(found).count("**Within the margin**") == 2
    assert json.loads((tmp_path / "metrics.json").read_bytes())["verdicts"]["bounded"] == 2
    told = {claim["id"]: claim for claim in json.loads((tmp_path / "report.json").read_bytes())["claims"]}
    claim = told["cosine-beats-step"]
    assert claim["verdict"] == "bounded" and claim["mean_word"] == "within the margin"
    assert -0.5 < claim["mean_low"] < claim["mean"] < claim["mean_high"] < 0.5
    assert Verdict.BOUNDED.color in claim_tables.html(found.claims)


def test_the_answer_names_what_enough_seeds_leave_open(tmp_path):
    def answered(seeds: int) -> list[str]:
        write(tmp_path, "table_6", cosine([70, 72, 74, 70, 72, 74][:seeds], [73, 70, 73, 75, 70, 75][:seeds],
                                          [70, 74, 73, 70, 73, 75][:seeds]))
        found = judged(tmp_path)
        assert found.counts.loc["accuracy", "inconclusive"] == 2 and "within ±0.5 points" in summary.answer(found)
        assert list(claim_tables.in_short(found.claims[found.claims["experiment"] == "table_6"])) == [
            "inconclusive (0 of 2 comparisons hold)", "inconclusive"]
        return [line for line in summary.answer(found).splitlines() if line.startswith("- **Open**")]

    assert not answered(5)
    first, second = answered(6)
    assert first.endswith("(cosine_0 over step (w/ ReP&KD): paper +0.73, here +0.67 [−2.35, +3.68] points; "
                          "0 of 2 comparisons hold).")
    assert "(cosine_0 over cosine_1e-5 (w/ ReP&KD): paper +0.16," in second and second.endswith("points).")


def test_the_answer_names_what_enough_sessions_leave_open(three_seeds):
    """The times of `three_seeds` are the paper's, but for those that a session more or less decides."""
    def opened(sessions: int) -> list[str]:
        of = three_seeds.claims["id"] == "latency-fbnet"
        changed = three_seeds.claims.assign(verdict=three_seeds.claims["verdict"].mask(of, Verdict.INCONCLUSIVE),
                                            sessions=three_seeds.claims["sessions"].mask(of, sessions))
        said = summary.answer(replace(three_seeds, claims=changed)).splitlines()
        return [line for line in said if line.startswith("- **Open**") and "FBNet-C" in line]

    assert len(opened(5)) == 1 and not opened(4)


def test_the_answer_tells_what_could_be_attempted_from_what_could_not(three_seeds):
    untried = three_seeds.counts.loc["all", "not attempted"]
    line, = (line for line in summary.answer(three_seeds).splitlines() if line.startswith("- **Not attempted**"))
    waiting, absent = map(int, re.findall(r"\((\d+)\)", line))
    never = [claim for claim in claims.load()[1] if claim.not_attempted or claim.weights]
    assert waiting + absent == untried and absent == len(never)


def test_the_answer_tells_what_diverged_from_what_was_not_run(three_seeds):
    path = three_seeds.folder / "runs" / "table_6.csv"
    rows = pd.read_csv(path)
    lost = rows["column"].eq("step") & rows["seed"].eq(1)
    pd.concat([rows[~lost], rows[lost].head(1).assign(metric="diverged", value=1)]).to_csv(path, index=False)
    found = judged(three_seeds.folder)
    more = found.counts.loc["all", "not attempted"] - three_seeds.counts.loc["all", "not attempted"]
    assert more and f"as a training diverged that they compare ({more})" in summary.answer(found)


def test_the_report_as_data_says_what_the_documents_say(three_seeds):
    three_seeds.write()
    told = json.loads((three_seeds.folder / "report.json").read_bytes())
    assert told["profile"] == "digits" and told["scale"] in three_seeds.markdown and told["trainings"] == 1
    assert told["seeds"] == {"values": [0], "fewest": 3, "most": 3} and told["rule"]["significant_seeds"] == 6
    assert set(told["detectable"]) == {"least", "median", "most"}
    assert told["verdicts"]["all"]["all"] == len(told["claims"]) == len(claims.load()[1])
    assert told["sessions"] == {f"2026-01-02-{letter}": "Some CPU" for letter in "abcde"}
    assert told["machine"] == {"cpu": "Some CPU", "cpus": "2", "system": "Linux", "engines": "An Engine 1.0",
                               "date": "2026-01-02"}
    assert "BEiTv2-B (stand-in: resnet10, 30 epochs)" in told["teachers"] and told["teachers"] in three_seeds.markdown
    assert [entry["experiment"] for entry in told["proxy"] if entry["rankable"]] == ["table_6"]
    assert all(f"- {entry['place']}: {entry['sentence']}" in three_seeds.markdown for entry in told["errata"])
    for claim in told["claims"]:
        assert claim["reason"] in three_seeds.markdown and claim["reason"].endswith(claim["caveat"])
    assert {claim["id"]: claim["exhibit"] for claim in told["claims"]}["latency-ranks"] == "table_9"


def test_the_metrics_are_few_and_only_what_was_measured(tmp_path, three_seeds):
    three_seeds.write()
    told = json.loads((tmp_path / "metrics.json").read_bytes())
    assert set(told) == {"verdicts", "time_ratio"} and sum(told["verdicts"].values()) == len(claims.load()[1])
    assert told["time_ratio"]["v3-100-mobileone-s1"] == pytest.approx(7.81 / 14.86, abs=1e-3)
    write(tmp_path, "table_9", {("GhostNetV3 1.0×", "Top-1 (%)"): [70, 71], ("GhostNetV2 1.0×", "Top-1 (%)"): [60, 62]})
    write(tmp_path, "table_10", {("GhostNetV3 1.0× @416", "mAP"): [20.0]}, metric="mAP")
    judged(tmp_path).write()
    told = json.loads((tmp_path / "metrics.json").read_bytes())
    assert told["top1"] == {"ghostnetv2_100": 61, "ghostnetv3_100": 70.5}
    assert told["mAP"] == {"ghostnetv3_100_416": 20}
    runs = tmp_path / "runs" / "table_9.csv"
    results = pd.read_csv(runs)
    lost = (results["row"] == "GhostNetV2 1.0×") & (results["seed"] == 0)
    results.assign(metric=results["metric"].mask(lost, "diverged")).to_csv(runs, index=False)
    judged(tmp_path).write()
    assert json.loads((tmp_path / "metrics.json").read_bytes())["top1"] == {"ghostnetv3_100": 70.5}


def test_teachers_are_named_with_their_accuracies_once_they_are_known(tmp_path):
    pd.DataFrame([("DeiT-B", "key", 97.5)], columns=["stands_in_for", "run", "test_top1"]).to_csv(
        tmp_path / "teachers.csv", index=False)
    assert "DeiT-B (stand-in: resnet10, 10 epochs, 97.5 %), BEiTv2-B (stand-in: resnet10, 30 epochs)." in judged(
        tmp_path).teachers


def test_reporting_imports_no_torch():
    code = ("import sys; from ghostlib.evidence import report, forest, claim_tables; from ghostlib.site import build; "
            "found = report.load('digits'); found.markdown; sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# -- costs

def test_costs_are_summed_over_the_trainings_that_results_name(tmp_path):
    for folder in ("runs", "costs"):
        (tmp_path / folder).mkdir()
    pd.DataFrame({"run": ["a", "a", "b", "detector"]}).to_csv(tmp_path / "runs" / "table_6.csv", index=False)
    pd.DataFrame({"run": ["teacher", "gone"]}).to_csv(tmp_path / "teachers.csv", index=False)
    columns = ["run", "kind", "seconds", "device", "date"]
    pd.DataFrame([("a", "classifier", 1800.0, "Some CPU", "2026-01-03"),
                  ("b", "classifier", 3600.0, "Some CPU", "2026-01-02"),
                  ("teacher", "teacher", 360.0, "Some CPU", "2026-01-02"),
                  ("stale", "classifier", 9e9, "Another", "2025-01-01")], columns=columns).to_csv(
        tmp_path / "costs" / "classifiers.csv", index=False)
    pd.DataFrame([("detector", "detector", 36.0, "Some CPU", "2026-01-04"),
                  ("backbone", "classifier", 720.0, "Some CPU", "2026-01-04")], columns=columns).to_csv(
        tmp_path / "costs" / "detectors.csv", index=False)
    found = cost.cost(tmp_path)
    assert (found.trainings, found.recorded) == (6, 5) and found.hours == pytest.approx(6516 / 3600)
    said = cost.sentences(found, {})
    assert "1 other classifier, of results that are not here or have been replaced, took 2500000.0 hours" in said[0]
    assert "1.8 hours" in said[0] and "5 of 6" in said[0] and said[1] == "Trained on: Some CPU."
    assert said[2] == "Dates of the trainings: 2026-01-02 to 2026-01-04 (UTC)."
    assert json.loads(json.dumps(found.record()))["dates"] == ["2026-01-02", "2026-01-04"]


def test_of_several_devices_the_report_says_what_each_trained(tmp_path):
    for folder in ("runs", "costs"):
        (tmp_path / folder).mkdir()
    for name, runs in {"table_6": ["a", "b"], "table_1": ["b"], "rivals": ["c"]}.items():
        pd.DataFrame({"run": runs}).to_csv(tmp_path / "runs" / f"{name}.csv", index=False)
    pd.DataFrame([("a", "classifier", 1.0, "One", "2026-01-03"), ("b", "classifier", 1.0, "Two", "2026-01-03"),
                  ("c", "classifier", 1.0, "One", "2026-01-03")], columns=["run", "kind", "seconds", "device", "date"]
                 ).to_csv(tmp_path / "costs" / "classifiers.csv", index=False)
    assert "Trained on: One (Table 6, Rivals); Two (Table 1, Table 6)." in cost.sentences(cost.cost(tmp_path), {})


def test_costs_that_were_not_recorded_are_not_invented(tmp_path):
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / "classifiers.csv").write_text(
        "run,kind,seconds,device,date\nb,classifier,7200,A CPU,2026-01-01\n")
    assert cost.sentences(cost.cost(tmp_path), {})[0] == "Training: none."
    (tmp_path / "runs").mkdir()
    pd.DataFrame({"run": ["a"]}).to_csv(tmp_path / "runs" / "table_6.csv", index=False)
    told = cost.sentences(cost.cost(tmp_path), {})[0]
    assert told == ("The trainings' costs were not recorded. 1 other classifier, of results that are not here or have "
                    "been replaced, took 2.0 hours.")

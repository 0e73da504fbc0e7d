"""The report says what the frames say, misses nothing for want of a run, and stays in step with what quotes it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from ghostlib.evidence import claim_tables, cost, evidence, forest, report, verdicts
from ghostlib.exhibits import figures
from ghostlib.paper import claims, errata
from ghostlib.runs.store import Store
from ghostlib.training.profile import load_params, load_profile
from tests.reporting.test_claims import cosine, write, write_counts, write_times

ROOT = Path(__file__).parents[2]


def judged(folder: Path) -> report.Report:
    """As `report.load`, of a folder that may lie anywhere."""
    rows = evidence.evidence(folder)
    return report.Report(folder, load_profile("digits", load_params(ROOT / "params.yaml")), verdicts.judge(rows), rows,
                         evidence.proxy(folder), errata.errata(), ["Training: 1.5 hours."])


@pytest.fixture
def three_seeds(tmp_path) -> report.Report:
    """One table of three seeds, counts, times, and a table's file to link."""
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [69, 73, 73]))
    write_counts(tmp_path, 1.021)
    write_times(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "table_6.md").write_text("")
    return judged(tmp_path)


def test_with_nothing_run_everything_is_reported_as_not_attempted(tmp_path):
    found = judged(tmp_path)
    assert found.counts.loc["all", "not attempted"] == found.counts.loc["all", "all"] == len(claims.load()[1])
    assert "No accuracy was measured." in found.markdown and "](tables" not in found.markdown
    assert found.markdown.count("Not run at this scale.") == found.claims["experiment"].nunique()
    assert forest.draw(found.claims, found.evidence, "tiny").axes[1].get_title(loc="left").endswith("nothing")
    assert f"{len(found.claims)} not attempted" in found.summary


def test_every_claim_is_there_with_its_verdict_numbers_and_reason(three_seeds):
    text = three_seeds.markdown
    for claim in three_seeds.claims.itertuples():
        line = next(line for line in text.splitlines() if line.startswith(f"| {claim.statement} "))
        assert f"**{claim.verdict}** — {claim.reason}" in line and f"| {claim.place} |" in line
    row = next(line for line in text.splitlines() if line.startswith("| A cosine schedule to zero is better"))
    assert "| +0.16 | +9.50 [" in row and "] | 3 | " in row
    assert "[Table 6](tables/table_6.md)" in text and "(tables/table_7.md)" not in text
    assert all(row.sentence in text for row in three_seeds.errata.itertuples()) and "- Training: 1.5 hours." in text


def test_the_verdicts_are_counted_by_kind(three_seeds):
    counts = three_seeds.counts
    assert list(counts.columns) == [*verdicts.COLORS, "all"] and list(verdicts.SIGNS) == list(verdicts.COLORS)
    assert set(verdicts.COLORS) == set(verdicts.VERDICTS)
    parts = counts.drop(index="all")
    assert (parts.sum() == counts.loc["all"]).all() and counts.loc["all", "all"] == len(three_seeds.claims)
    assert counts.loc["sizes and operations", "contradicted"] >= 1
    assert counts.loc["object detection", "not attempted"] == 2


def test_what_a_scale_can_show_depends_on_its_seeds(tmp_path, three_seeds):
    assert "3 paired seeds" in three_seeds.reach and "Below 6 seeds" in three_seeds.reach
    assert "can be ranked at all: 1 of 1" in three_seeds.reach and "not points on ImageNet" in three_seeds.reach
    write(tmp_path, "table_6", cosine([70], [80], [75]))
    assert "One seed a training: no difference" in judged(tmp_path).reach
    write(tmp_path, "table_6", cosine([70 + i / 10 for i in range(6)], [80 + i / 5 for i in range(6)], [74.9] * 6))
    assert "6 paired seeds" in judged(tmp_path).reach and "Below 6" not in judged(tmp_path).reach


def test_the_summary_shows_the_headline_claims_the_decided_ones_and_every_count(three_seeds):
    headline = {claim.statement for claim in claims.load()[1] if claim.headline}
    judged = three_seeds.claims
    decided = set(judged.loc[judged["verdict"].isin(["confirmed", "contradicted"]), "statement"])
    assert 5 <= len(headline) <= 10 and decided - headline
    assert all(statement in three_seeds.summary for statement in headline | decided)
    assert len(three_seeds.summary.splitlines()) == 2 + 2 + len(headline | decided)
    assert f"{three_seeds.counts.loc['all', 'exact']} exact" in three_seeds.summary
    assert "](" not in three_seeds.summary  # a link cannot hold in two folders


def test_the_same_results_give_the_same_files(tmp_path, three_seeds):
    written = []
    for name in ("first", "second"):
        shutil.copytree(tmp_path, tmp_path / name, ignore=shutil.ignore_patterns("first", "second"))
        found = judged(tmp_path / name)
        found.write()
        figures.write(forest.draw(found.claims, found.evidence, "tiny"), tmp_path / name / "figures", "claims")
        files = sorted((tmp_path / name).rglob("*.*"))
        written.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
        assert claim_tables.html(found.claims) == claim_tables.html(three_seeds.claims)
    assert written[0] == written[1]
    assert {"report.md", "summary.md", "figures/claims.png", "figures/claims.svg",
            *(f"tables/{of}.csv" for of in ("claims", "evidence", "proxy"))} <= set(written[0])
    read = pd.read_csv(tmp_path / "first" / "tables" / "claims.csv")
    assert list(read.columns) == verdicts.COLUMNS and len(read) == len(claims.load()[1])
    assert list(pd.read_csv(tmp_path / "first" / "tables" / "evidence.csv").columns) == evidence.COLUMNS


def test_a_bar_in_a_text_does_not_end_its_cell():
    assert claim_tables.markdown(pd.DataFrame({"a": ["x|y"], "b": [1]})) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"


def test_the_figure_has_a_row_a_claim_about_accuracy_and_draws_the_deciding_interval(three_seeds):
    figure = forest.draw(three_seeds.claims, three_seeds.evidence, "tiny")
    left, right = figure.axes
    assert len(left.get_yticks()) == (three_seeds.claims["unit"] == "points").sum()
    segments = next(of for of in right.collections if hasattr(of, "get_segments")).get_segments()
    with_interval = three_seeds.claims.query("unit == 'points'").dropna(subset="low")
    assert [(a[0], b[0]) for a, b in segments] == list(zip(with_interval["low"], with_interval["high"], strict=True))


# -- costs

def test_costs_are_summed_over_the_runs_teachers_and_backbones(tmp_path):
    store = Store(tmp_path / "store")
    for run, seconds in {"a": 1800.0, "b": 3600.0, "teacher": 360.0, "backbone": 720.0, "unrelated": 9e9}.items():
        (store.root / run).mkdir(parents=True)
        (store.root / run / "cost.json").write_text(json.dumps({"seconds": seconds, "device": "Some CPU"}))
    (store.root / "b" / "run.json").write_text(json.dumps({"backbone": "backbone"}))
    (store.root / "b" / "cost.json").write_text(json.dumps({"seconds": 3600.0}))
    (tmp_path / "runs").mkdir()
    pd.DataFrame({"run": ["a", "a", "b"]}).to_csv(tmp_path / "runs" / "table_6.csv", index=False)
    pd.DataFrame({"run": ["teacher", "gone"]}).to_csv(tmp_path / "teachers.csv", index=False)
    told = cost.costs(tmp_path, store)
    assert told[0].startswith("Training: 1.8 hours") and "4 of 5" in told[0] and told[1] == "Trained on: Some CPU."
    assert told[-1].startswith("Energy:") and cost.costs(tmp_path, store) == told
    assert "no record of the 4 trainings" in cost.costs(tmp_path, Store(tmp_path / "empty"))[0]
    assert cost.costs(tmp_path / "nothing", store)[0] == "Training: none."


# -- what quotes the report

def test_a_summary_replaces_what_is_between_the_markers_and_nothing_else(tmp_path):
    readme, results = tmp_path / "README.md", tmp_path / "digits"
    results.mkdir()
    (results / "summary.md").write_text("new \\1 text\n")
    readme.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    for _ in range(2):
        report.main([str(readme), str(results)])
        assert readme.read_text() == f"above\n{report.BEGIN}\nnew \\1 text\n{report.END}\nbelow\n"
    with pytest.raises(ValueError, match="needs the lines <!-- summary"):
        report.insert("no markers", "text")


def test_the_readme_shows_the_committed_summary():
    """A run of one's own may differ, e.g. in latencies: then the README speaks of the committed one."""
    path = "results/digits/summary.md"
    committed = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True)
    if committed.returncode:
        pytest.skip(f"git knows no {path}")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.insert(readme, committed.stdout) == readme, (
        "README.md is out of step; python -m ghostlib.evidence.report README.md results/digits")


def test_what_the_reproducibility_report_names_is_there():
    text = (ROOT / "REPRODUCIBILITY.md").read_text(encoding="utf-8")
    proofs = re.findall(r"`(tests/\S+\.py)::(\w+)`", text)
    assert len(proofs) > 10
    for path, name in proofs:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
    for place in re.findall(r"\]\(([^)#]+)", text):
        assert place.startswith("results/") or (ROOT / place).exists(), place
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
                for line in readme.splitlines() if line.startswith("#")}
    assert set(re.findall(r"README\.md#([\w-]+)", text)) <= headings

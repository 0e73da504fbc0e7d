"""README.md and the documents quote what is committed; a run of one's own may differ, e.g. in latencies."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from ghostlib.evidence import summary

ROOT = Path(__file__).parents[2]


def committed(path: str) -> str:
    """A file of results/fashion as git knows it."""
    shown = subprocess.run(["git", "show", f"HEAD:results/fashion/{path}"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode:
        pytest.skip(f"git knows no {path} of fashion")
    return shown.stdout


@pytest.fixture(scope="module")
def evidence() -> pd.DataFrame:
    return pd.read_csv(io.StringIO(committed("tables/evidence.csv")))


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]\d+\.\d+", text.replace("−", "-"))]


def test_a_text_replaces_what_is_between_its_markers_and_nothing_else():
    readme = "above\n<!-- answer: begin -->\nold\n<!-- answer: end -->\nbelow\n"
    for _ in range(2):
        readme = summary.insert(readme, "answer", "new \\1 text\n")
        assert readme == "above\n<!-- answer: begin -->\nnew \\1 text\n<!-- answer: end -->\nbelow\n"
    with pytest.raises(ValueError, match="needs the lines <!-- summary: begin"):
        summary.insert(readme, "summary", "text")


@pytest.mark.parametrize("name", ["answer", "summary"])
def test_the_readme_shows_what_is_committed(name):
    readme = text_of("README.md")
    assert summary.insert(readme, name, committed(f"{name}.md")) == readme, "README.md is out of step; ghostlib readme"


def test_the_gains_in_the_readme_are_those_of_the_evidence(evidence):
    rows = re.findall(r"^\| (\w+NetV2) (1\.\d×) \| (.+) \| (.+) \| (.+) \|$", text_of("README.md"), re.M)
    claims = ["strategy-helps-others", "strategy-adds", "v3-beats-v2", "reparam-helps"]
    known = evidence[evidence["decides"] & evidence["claim"].isin(claims)]
    assert len(rows) == 5
    for network, width, *cells in rows:
        ours = f"GhostNetV3 {width}" if network == "GhostNetV2" else f"{network} {width} + ours"
        whole = [f"{ours} over {network} {width}{rival}" for rival in ("", " without branches and teacher")]
        for cell, comparison in zip(cells, (*whole, f"w/ ReP over w/o ReP ({width})"), strict=True):
            if network != "GhostNetV2" and comparison not in whole:
                assert cell == "—"
                continue
            found = known[known["comparison"].str.endswith(comparison)].iloc[0]
            assert numbers(cell) == pytest.approx([found["ours"], found["low"], found["high"]], abs=0.00501)


@pytest.mark.parametrize("path", ["README.md", "docs/findings.md"])
def test_every_interval_that_is_told_is_one_of_the_evidence(path, evidence):
    """Of any comparison: that the README's table has the right ones is asked above, as is what is between markers."""
    told = re.findall(r"[+−][\d.]+\s+\[[+−][\d.]+,\s+[+−][\d.]+\]", re.sub(
        r"<!-- (\w+): begin -->.*<!-- \1: end -->", "", text_of(path), flags=re.DOTALL))
    assert len(told) > 10
    known = evidence.loc[evidence["unit"].isin(["points", "points a point"]), ["ours", "low", "high"]]
    for interval in told:
        rounding = 0.501 * 10 ** -len(re.search(r"\.(\d+)", interval)[1])
        assert ((known - numbers(interval)).abs() < rounding).all(axis="columns").any(), interval


@pytest.mark.parametrize("path", ["README.md", "docs/findings.md"])
def test_what_the_seeds_are_said_to_detect_is_what_the_report_says(path):
    detected = r"detect ([\d.]+) points in the\s+median\s+comparison\s+and\s+([\d.]+)\s+in"
    [here] = re.findall(detected, text_of(path))
    assert [here] == re.findall(detected, committed("report.md"))


def test_every_accuracy_that_the_findings_tell_is_in_a_table_or_a_trial_of_rates():
    told = {float(number) for number in re.findall(r"(?<![+−\d.])\b\d\d\.\d\d\b(?! points)",
                                                         text_of("docs/findings.md"))}
    assert len(told) > 10
    trials = pd.read_csv(io.StringIO(committed("tuning/rates.csv")))
    of_seeds = trials.groupby(["kind", "lr_scale"])["val_top1"].mean()
    tables = [pd.read_csv(io.StringIO(committed(f"tables/{name}.csv")))
              for name in ("figure_3", *(f"table_{number}" for number in range(1, 8)))]
    known = pd.concat([trials["val_top1"], of_seeds, *(table[column] for table in tables
                                                       for column in ("paper", "measured"))])
    assert [number for number in told if not ((known - number).abs() < 0.00501).any()] == []


def test_the_tests_that_the_reproducibility_report_names_are_there():
    proofs = re.findall(r"`(tests/\S+\.py)::(\w+)`", text_of("REPRODUCIBILITY.md"))
    assert len(proofs) > 10
    for path, name in proofs:
        assert f"def {name}(" in text_of(path), f"{path}::{name}"


@pytest.mark.parametrize("path", ["README.md", "REPRODUCIBILITY.md", "CONTRIBUTING.md", "detection/README.md", *sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))])
def test_a_document_links_what_is_there(path):
    """Not in results/, which a run of one's own writes."""
    for place, heading in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text_of(path)):
        target = (ROOT / path).parent / place if place else ROOT / path
        if place.startswith("https://") or target.resolve().is_relative_to(ROOT / "results"):
            continue
        assert target.exists(), place
        if heading:
            assert heading in headings(target.read_text(encoding="utf-8")), f"{place}#{heading}"


def headings(text: str) -> set[str]:
    """The addresses of a document's headings."""
    return {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
            for line in text.splitlines() if line.startswith("#")}

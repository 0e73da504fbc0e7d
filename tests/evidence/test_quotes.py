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
    """What is between markers is generated, and compared above."""
    told = re.findall(r"[+−][\d.]+\s+\[[+−][\d.]+,\s+[+−][\d.]+\]", re.sub(
        r"<!-- (\w+): begin -->.*<!-- \1: end -->", "", text_of(path), flags=re.DOTALL))
    assert len(told) > 10
    known = evidence.loc[evidence["unit"] == "points", ["ours", "low", "high"]]
    for interval in told:
        assert ((known - numbers(interval)).abs() < 0.00501).all(axis="columns").any(), interval


@pytest.mark.parametrize("path", ["README.md", "docs/findings.md"])
def test_what_the_seeds_are_said_to_detect_is_what_the_report_says(path):
    detected = r"detect ([\d.]+) points in the\s+median\s+comparison\s+and\s+([\d.]+)\s+in"
    [here] = re.findall(detected, text_of(path))
    assert [here] == re.findall(detected, committed("report.md"))


def test_what_the_reproducibility_report_names_is_there():
    text = text_of("REPRODUCIBILITY.md")
    proofs = re.findall(r"`(tests/\S+\.py)::(\w+)`", text)
    assert len(proofs) > 10
    for path, name in proofs:
        assert f"def {name}(" in text_of(path), f"{path}::{name}"
    for place in re.findall(r"\]\(([^)#]+)", text):
        assert place.startswith(("results/", "https://")) or (ROOT / place).exists(), place
    headings = {re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
                for line in text_of("README.md").splitlines() if line.startswith("#")}
    assert set(re.findall(r"README\.md#([\w-]+)", text + text_of("docs/findings.md"))) <= headings

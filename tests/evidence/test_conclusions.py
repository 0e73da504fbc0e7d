"""What notebooks begin with: three lines a claim that say what report.json says, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ghostlib.evidence import conclusions, record
from ghostlib.measures import places
from ghostlib.paper import claims, exhibits

ROOT = Path(__file__).parents[2]
_CLAIM = {"place": "§5.1, Table 1", "claimed_by": "the paper", "exhibit": "table_1", "experiment": "table_1",
          "comparison": "a over b", "paper": 0.9, "ours": 1.5, "low": None, "high": None, "unit": "points", "seeds": 1,
          "sessions": 0, "but": "", "caveat": ""}


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Writes report.json of claims, each given as what differs from `_CLAIM`."""
    monkeypatch.setenv(places.FOLDER, str(tmp_path))

    def write(*given: dict) -> None:
        content = {"profile": "tiny", "rule": {"confidence": 0.95}, "claims": [_CLAIM | claim for claim in given],
                   "verdicts": {"all": dict.fromkeys(["exact", "confirmed", "contradicted", "inconclusive",
                                                      "not attempted", "all"], 1)}}
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / "report.json").write_text(json.dumps(content), encoding="utf-8")

    return write


def claim(verdict: str, name: str = "a-claim", **given) -> dict:
    return {"id": name, "statement": f"{name} holds.", "verdict": verdict, "reason": "It is so."} | given


def test_three_lines_say_the_claim_what_came_out_and_why(judged):
    judged(claim("inconclusive", reason="One seed. A small profile.", caveat="A small profile."))
    title, lines = conclusions.opening("table_1", "tiny").split("\n\n")
    assert title == f"# {exhibits.find('table_1').heading}"
    assert lines == ("**Claim** (§5.1, Table 1): a-claim holds.  \n"
                     "**Measured:** a over b: +1.50 points (1 seed, so no interval); the paper has +0.90.  \n"
                     "**Inconclusive:** One seed.")


def test_what_is_decided_has_its_interval_seeds_and_all_that_weighs_it(judged):
    judged(claim("confirmed", ours=1.5, low=1.0, high=2.0, seeds=6, paper=None, claimed_by="us", but="barely",
                 reason="Six seeds. A weak rival.", caveat="A weak rival."))
    lines = conclusions.opening("table_1", "tiny").splitlines()[2:]
    assert lines[0].startswith("**Claim** (§5.1, Table 1, our claim): ")
    assert lines[1] == ("**Measured:** a over b: +1.50 [+1.00, +2.00] points (95 % interval, 6 seeds); the paper "
                        "prints no such number.  ")
    assert lines[2] == "**Confirmed, but barely:** Six seeds. A weak rival."


def test_several_claims_are_counted_and_what_is_decided_comes_first(judged):
    judged(claim("not attempted", "third", ours=None, seeds=0), claim("inconclusive", "second"),
           claim("confirmed", "first"))
    text = conclusions.opening("table_1", "tiny")
    assert "**3 claims are tested here, at the scale of `tiny`: 1 confirmed, 1 inconclusive, 1 not attempted.**" in text
    assert text.index("first holds") < text.index("second holds") < text.index("third holds")
    assert "**Measured:** nothing.  \n**Not attempted:** It is so." in text


def test_a_claim_is_concluded_where_it_is_tested_and_named_where_its_exhibit_is(judged):
    timed = claim("confirmed", "faster", exhibit="table_9", experiment="latency", seeds=0, sessions=7, unit="×")
    balanced = claim("exact", "balanced", exhibit="figure_5", experiment="complexity", seeds=0, unit="×")
    judged(timed, balanced, claim("inconclusive", "better", exhibit="table_9", experiment="table_9"))
    comparison = conclusions.opening("comparison", "tiny")
    assert "faster holds" not in comparison and "better holds" in comparison and "balanced holds" in comparison
    assert "Concluded where it is tested: 1 more claim about Table 9, in [CPU latency](latency.ipynb)." in comparison
    assert "7 sessions" in (latency := conclusions.opening("latency", "tiny")) and "at the scale of" not in latency
    assert "balanced holds" in conclusions.opening("complexity", "tiny")


def test_every_claim_is_concluded_in_a_notebook_that_there_is():
    there = {"causes", *conclusions.TITLES, *(exhibit.notebook for exhibit in exhibits.load().values())}
    for known in claims.load()[1]:
        found = conclusions._notebooks({"id": known.id, "experiment": known.experiment, "exhibit": known.shown_at})
        assert found and found <= there
    assert "causes" in conclusions._notebooks({"id": "branch-normalisations-cost", "experiment": "table_1",
                                               "exhibit": "table_1"})


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_source_notebook_has_the_title_that_it_gets(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    if opened := re.search(r'conclusions\.opening\("(\w+)"', "".join(cells[2]["source"])):
        assert "".join(cells[0]["source"]).startswith(f"# {conclusions.title(opened[1])}\n")


def test_without_verdicts_it_says_so_and_how_to_get_them(judged):
    text = conclusions.opening("table_1", "tiny")
    assert text.startswith("# Table 1: ") and "`ghostlib verdicts tiny`" in text and "report.json` is not there" in text
    assert conclusions.finding("table_1", "tiny") == exhibits.find("table_1").heading


def test_a_picture_is_told_by_the_verdicts_on_what_it_shows(judged):
    judged(claim("confirmed"), claim("exact", "counted", experiment="complexity"),
           claim("inconclusive", "faster", exhibit="figure_1", experiment="latency"))
    assert conclusions.finding("table_1", "tiny").endswith("re-parameterization. Confirmed: a-claim holds.")
    assert conclusions.finding("figure_1", "tiny").endswith("Inconclusive: faster holds.")


def test_what_it_reads_is_what_the_report_writes():
    assert set(_CLAIM) | {"id", "statement", "verdict", "reason"} <= set(record._CLAIM)


def test_what_has_no_notebook_of_these_is_named():
    with pytest.raises(ValueError, match="'mine' is no table or figure of the paper: an experiment of your own has"):
        conclusions.title("mine")

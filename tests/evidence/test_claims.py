"""The claims as data: they are whole, and a broken one is an error that names it."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from ghostlib.config import ConfigError
from ghostlib.evidence import evidence
from ghostlib.experiments import Experiment
from ghostlib.measures import pretrained
from ghostlib.paper import claims, errata, exhibits, numbers
from ghostlib.training.profile import load_params

ROOT = Path(__file__).parents[2]
RULE, CLAIMS = claims.load()


def cells_of(claim: claims.Claim) -> list[tuple[str, ...]]:
    pairs = [*claim.better, *claim.not_better, *(pair for aside in claim.asides for pair in aside.pairs)]
    students = claim.correlates and [(row, column) for row in claim.correlates.teachers
                                     for column in claim.correlates.columns]
    return [*(cell for pair in pairs for cell in (pair.cell, pair.than)), *(students or ())]


def test_ids_are_unique_and_every_experiment_has_a_claim():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.experiment for claim in CLAIMS} == {*numbers.load(), "complexity", "latency", "published"}
    assert {name for claim in CLAIMS for name in claim.latencies} == set(claims.ratios())


def test_every_claim_is_about_something_and_belongs_to_an_exhibit():
    assert {claim.subject for claim in CLAIMS} == set(claims.SUBJECTS)
    assert all(claim.shown_at in exhibits.load() for claim in CLAIMS)
    shown = {claim.id: claim.shown_at for claim in CLAIMS}
    assert shown["table-9-counts"] == shown["latency-mobile"] == "table_9" and shown["detection-counts"] == "table_10"


def test_every_compared_cell_is_trained():
    experiments = load_params()["experiments"]
    trained = {(name, cell.row, cell.column) for name in experiments for profile in ("digits", "fashion")
               for cell in Experiment.load(name, profile).cells}
    assert set(claims.OWN) == set(experiments) - set(numbers.load())
    compared = {claim.locate(cell) for claim in CLAIMS for cell in cells_of(claim)}
    assert {cell for cell in compared if cell[0] in experiments} <= trained
    assert {cell[2] for cell in compared if cell[0] == "table_10"} == {"mAP"}


def test_the_paper_s_numbers_are_on_the_claimed_side_but_where_its_own_tables_contradict_it(tmp_path):
    """No pair of cells is the wrong way round."""
    rows = evidence.evidence(tmp_path)
    assert rows["decides"].all()  # an aside has no row where nothing was measured
    differences = rows[rows["unit"] == "points"].set_index("comparison")["paper"].round(6)
    assert list(differences[differences < 0].index) == ["RandAug over AutoAug (DeiT-tiny)"]
    assert list(differences[differences == 0].index) == ["N=3 over N=5 (w/ 1×1 DW), above −0.50"]
    gains = differences[differences.index.str.contains("ours") & differences.notna()]
    assert gains.to_list() == pytest.approx([3.0, 2.2])  # §5.5
    assert differences["Table 5 over Table 2 (w/ 1×1 DW, N=3)"] == pytest.approx(79.13 - 77.6)
    slope = rows.set_index("claim").loc["better-teacher-helps", "paper"]
    means = numbers.table("table_3").loc[["ResNet-101", "DeiT-B", "BEiTv2-B"]].mean(axis=1)
    assert slope == pytest.approx(np.polyfit([77.4, 81.8, 86.5], means, 1)[0])


def test_what_is_ours_has_no_number_of_the_paper_and_says_so_in_its_name(tmp_path):
    rows = evidence.evidence(tmp_path).set_index("claim").loc["strategy-adds"]
    assert rows["paper"].isna().all()
    assert list(rows["comparison"]) == [
        *(f"Table 9, GhostNetV3 {width} over GhostNetV2 {width} without branches and teacher"
          for width in ("1.0×", "1.3×", "1.6×")),
        *(f"Table 9, {name} 1.0× + ours over {name} 1.0× without branches and teacher"
          for name in ("MobileNetV2", "ShuffleNetV2"))]
    assert {claim.claimed_by for claim in CLAIMS if cells_of(claim)} == {"the paper", "us"}
    assert all(claim.ours for claim in CLAIMS for pair in (*claim.better, *claim.not_better)
               if {claim.locate(pair.cell)[0], claim.locate(pair.than)[0]} & set(claims.OWN))


def test_every_row_with_public_weights_is_in_one_claim_about_them_with_those_of_authors_apart():
    sources = {row: source for row, source in pretrained.sources().items() if source.name}
    claimed = {claim.id: claim.weights for claim in CLAIMS if claim.weights}
    assert sorted(row for rows in claimed.values() for row in rows) == sorted(sources)
    others = set(claimed["weights-of-others"])
    assert others == {row for row, source in sources.items() if not source.authors}


@pytest.mark.parametrize(("change", "message"), [
    ({"betterr": []}, "a-claim: unknown key 'betterr'; did you mean 'better'"),
    ({"better": [{"cell": ["N=3", "w/ 1×1 DW"], "then": []}]}, "a-claim: .*unknown key 'better.0.then'"),
    ({"experiment": "table_11"}, "a-claim: experiment: unknown 'table_11'; known: table_1,"),
    ({"better": [{"cell": ["N=9", "w/ 1×1 DW"], "than": ["N=1", "w/ 1×1 DW"]}]}, "a-claim: better.cell: .*'N=9'"),
    ({"better": [{"cell": ["N=3", "w/ 1×1 DW"], "than": ["N=1", "DW"]}]}, "a-claim: better.than: .*'DW'"),
    ({"better": [], "latencies": ["x"]}, "a-claim: latencies: unknown x"),
    ({"better": [], "not_better": [{"cell": ["N=9", "w/ 1×1 DW"], "than": ["N=1", "w/ 1×1 DW"]}]},
     "a-claim: not_better.cell: .*'N=9'"),
    ({"better": [], "not_better": [{"cell": ["table_10", "MobileNetV2 @320", "mAP"], "than": ["N=1", "w/ 1×1 DW"]}]},
     "a-claim: not_better: detectors' mAP has no margin"),
    ({"better": [], "correlates": {"teachers": {"N=1": 70, "N=9": 80}, "columns": ["w/ 1×1 DW"]}},
     "a-claim: correlates: .*'N=9'"),
    ({"better": [], "counts": {"table": "table_10", "rows": ["MobileNetV2 @320"], "fewer_than": ["MobileNetV2"]}},
     "a-claim: counts: table_10 has no row MobileNetV2"),
    ({"better": [], "undominated": {"rows": ["x"], "cost": "FLOPs (M)"}}, "a-claim: undominated: table_9 has no row x"),
    ({"better": [], "undominated": {"rows": ["GhostNetV3 1.0×"], "cost": "mAP"}}, "a-claim: undominated.cost: 'mAP'"),
    ({"better": [], "undominated": {"rows": ["GhostNetV3 1.6×"], "cost": "FLOPs (M)"}},
     "a-claim: undominated: no row of table_9 is as accurate as GhostNetV3 1.6×"),
    ({"better": [], "weights": ["GhostNetV3 1.0×", "GhostNetV3 1.3×"]},
     "a-claim: weights: published.yaml has none of GhostNetV3 1.3×"),
    ({"better": [], "ranks": "x"}, "a-claim: ranks: table_9 has no column 'x'"),
    ({"better": [], "counts": {"table": "table_9", "rows": ["x"]}}, "a-claim: counts: table_9 has no row x"),
    ({"not_attempted": "why"}, "a-claim: .*exactly one of"),
    ({"exhibit": "table_11"}, "a-claim: exhibit: 'table_11' is none; known: table_1,"),
    ({"asides": [{"says": "So", "pairs": [{"cell": ["N=9", "w/ 1×1 DW"], "than": ["N=1", "w/ 1×1 DW"]}]}]},
     "a-claim: asides.cell: .*'N=9'"),
])
def test_a_broken_claim_is_an_error_that_names_it_and_the_key(change, message):
    claim = {"id": "a-claim", "statement": "It is so.", "place": "§1", "experiment": "table_2",
             "better": [{"cell": ["N=3", "w/ 1×1 DW"], "than": ["N=1", "w/ 1×1 DW"]}]}
    claims.parse({"rule": RULE.model_dump(), "claims": [claim]})
    with pytest.raises(ConfigError, match=message):
        claims.parse({"rule": RULE.model_dump(), "claims": [{**claim, **change}]})
    with pytest.raises(ConfigError, match="a-claim: id: another claim has it"):
        claims.parse({"rule": RULE.model_dump(), "claims": [claim, claim]})


@pytest.mark.parametrize(("old", "new", "told"), [
    ("rule:\n", "rule:\n  margin: 0.4\n", r"claims\.yaml, line \d+: key 'margin' stands twice"),
    ("history:\n", "histry:\n", r"^claims\.yaml: unknown key 'histry'; did you mean 'history'"),
    ("claims:\n", "claims:\n  -\n", "claims.yaml: claims holds nothing, where keys with values are meant"),
    ("rule:\n", "rule: [\n", r"claims\.yaml is not valid YAML: line \d+")])
def test_a_file_of_claims_that_cannot_be_meant_as_written_is_named(old, new, told, tmp_path, monkeypatch):
    """YAML's own readers take the last of two keys: comparisons would vanish and a verdict turn."""
    text = (Path(claims.__file__).parent / "claims.yaml").read_text(encoding="utf-8")
    assert text.count(f"\n{old}") == 1
    (tmp_path / "claims.yaml").write_text(text.replace(f"\n{old}", f"\n{new}"), encoding="utf-8")
    monkeypatch.setattr(claims.resources, "files", lambda package: tmp_path)
    for cached in (claims.load, claims._data):
        monkeypatch.setattr(claims, cached.__name__, cached.__wrapped__)
    with pytest.raises(ConfigError, match=told):
        claims.load()


def test_errata_are_sentences_of_their_own():
    listed = errata.errata()
    assert list(listed.columns) == ["place", "sentence"] and listed["sentence"].is_unique
    assert listed["sentence"].str.endswith(".").all() and listed["place"].all()


def test_an_erratum_names_a_note_by_its_id():
    assert errata.errata().set_index("place").loc["§4.2, Eq. 4", "sentence"] == numbers.note("table_4", "eq-4")
    with pytest.raises(ValueError, match="unknown note of table_4 'eq-5'; known: .*eq-4"):
        numbers.note("table_4", "eq-5")


def test_the_history_of_the_rule_is_the_one_that_git_shows():
    def times_of(*arguments: str) -> list[datetime]:
        log = subprocess.run(["git", "log", "--format=%aI", *arguments], cwd=ROOT, capture_output=True, text=True)
        return sorted(datetime.fromisoformat(line) for line in log.stdout.split())

    rule, fashion = times_of("--follow", "--", "ghostlib/paper/claims.yaml"), times_of("--", "results/fashion/runs")
    digits = times_of("--", "results/digits/runs")
    if not (rule and fashion and digits):
        pytest.skip("this copy has no history")
    assert digits[0] < rule[0] < fashion[0]
    first = claims.history().splitlines()[0]
    assert first.startswith(f"- {rule[0]:%Y-%m-%d}: ") and f"first committed at {rule[0]:%H:%M} UTC" in first
    assert f"the first result of `fashion` followed at {fashion[0]:%H:%M}" in first

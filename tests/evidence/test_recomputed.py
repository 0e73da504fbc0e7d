"""Every comparison and verdict on accuracies, computed a second time from the CSV files by the rule as it is written.

It reads claims.yaml and a profile's folder, and shares no code with what it checks: a sceptic may read this file alone.
"""

from __future__ import annotations

import base64
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from tests.evidence import files

ROOT = Path(__file__).parents[2]
WRITTEN = yaml.safe_load((ROOT / "ghostlib" / "paper" / "claims.yaml").read_text(encoding="utf-8"))
RULE = WRITTEN["rule"]
CLAIMS = [claim for claim in WRITTEN["claims"] if "better" in claim]


class Profile:
    """results/<profile>: (table, row, column) -> seed -> accuracy, and -> which test images are right."""

    def __init__(self, folder: Path):
        self.accuracies: dict[tuple[str, ...], dict[int, float]] = {}
        self.right: dict[tuple[str, ...], dict[int, np.ndarray]] = {}
        labels = {"row": str, "column": str}
        for path in folder.glob("runs/*.csv"):
            runs = pd.read_csv(path, dtype=labels)
            if "metric" in runs:
                for row in runs[runs["metric"] == ("mAP" if path.stem == "table_10" else "test_top1")].itertuples():
                    self.accuracies.setdefault((path.stem, row.row, row.column), {})[row.seed] = row.value
        for path in folder.glob("correct/*.csv"):
            for row in pd.read_csv(path, dtype=labels).itertuples():
                bits = np.unpackbits(np.frombuffer(base64.b64decode(row.correct), np.uint8))[:row.images]
                self.right.setdefault((path.stem, row.row, row.column), {})[row.seed] = bits.astype(int)


def compare(profile: Profile, cell: tuple[str, ...], than: tuple[str, ...], comparisons: int) -> dict | None:
    """`cell` minus `than`: the mean, its interval, the upper end of the widened one, and the verdict on it."""
    a, b = profile.accuracies.get(cell, {}), profile.accuracies.get(than, {})
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    differences = np.array([a[seed] - b[seed] for seed in seeds])
    n, mean = len(seeds), differences.mean()
    if n == 1:
        return {"ours": mean, "low": math.nan, "high": math.nan, "most": math.nan, "verdict": "inconclusive"}
    from_seeds = differences.std(ddof=1) / math.sqrt(n)
    from_images = 0.0
    right = [(profile.right.get(cell, {}).get(seed), profile.right.get(than, {}).get(seed)) for seed in seeds]
    if all(x is not None and y is not None for x, y in right):
        by_image = 100 * np.array([x - y for x, y in right])  # (seeds, images)
        assert by_image.mean() == pytest.approx(mean, abs=1e-3)
        seeds, images = by_image.shape
        rows, columns = (by_image.mean(axis=axis).var() for axis in (1, 0))  # the rest of the variance is interaction
        interaction = (by_image.var() - rows - columns) * seeds * images / ((seeds - 1) * (images - 1))
        from_images = math.sqrt(max(0, columns * images / (images - 1) - interaction / seeds) / images)

    def half(level: float) -> float:
        return math.hypot(stats.t.ppf(1 - level / 2, n - 1) * from_seeds, stats.norm.ppf(1 - level / 2) * from_images)

    alpha = 1 - RULE["confidence"]
    low, high, most = mean - half(alpha), mean + half(alpha), mean + half(alpha / comparisons)
    if from_seeds < 1e-9:
        verdict = "inconclusive"  # all seeds alike
    elif low > 0:
        verdict = "confirmed"
    elif most < 0:
        verdict = "contradicted"
    elif (n >= RULE["bounded_seeds"] and -RULE["margin"] < low and high < RULE["margin"] and cell[0] != "table_10"):
        verdict = "bounded"
    else:
        verdict = "inconclusive"
    return {"ours": mean, "low": low, "high": high, "most": most, "verdict": verdict}


def recompute(folder: Path) -> tuple[dict[str, list[dict | None]], dict[str, str]]:
    """Each claim's comparisons, None for one that was not measured, and its verdict."""
    profile, compared, verdicts = Profile(folder), {}, {}
    for claim in CLAIMS:
        pairs = [[cell if len(cell) == 3 else [claim["experiment"], *cell] for cell in (pair["cell"], pair["than"])]
                 for pair in claim["better"]]
        found = [compare(profile, tuple(cell), tuple(than), len(pairs)) for cell, than in pairs]
        words = {comparison["verdict"] if comparison else "not attempted" for comparison in found}
        compared[claim["id"]] = found
        verdicts[claim["id"]] = next(word for word in ("contradicted", "not attempted", "inconclusive", "bounded",
                                                       "confirmed") if word in words)
    return compared, verdicts


def check(folder: Path) -> dict[str, str]:
    """Compares all with tables/evidence.csv and tables/claims.csv, and gives the verdicts."""
    compared, verdicts = recompute(folder)
    evidence = pd.read_csv(folder / "tables" / "evidence.csv").query("decides")
    claims = pd.read_csv(folder / "tables" / "claims.csv").set_index("id")
    for claim, found in compared.items():
        rows = evidence[evidence["claim"] == claim]
        assert len(rows) == len(found), claim
        for comparison, row in zip(found, rows.itertuples(), strict=True):
            for name in ("ours", "low", "high", "most"):
                expected = comparison[name] if comparison else math.nan
                assert getattr(row, name) == pytest.approx(expected, rel=1e-4, abs=2e-3, nan_ok=True), (
                    f"{claim}, {row.comparison}: {name}")
    assert {claim: claims.loc[claim, "verdict"] for claim in verdicts} == verdicts
    return verdicts


@pytest.mark.parametrize("profile", ["digits", "fashion"])
def test_the_committed_tables_are_what_the_committed_runs_say(profile):
    assert check(ROOT / "results" / profile).keys() == {claim["id"] for claim in CLAIMS}


@pytest.fixture(scope="module")
def six_seeds(tmp_path_factory) -> Path:
    """Six seeds of three tables, image by image, and of Table 10; with the tables that the project makes of them."""
    folder = tmp_path_factory.mktemp("six")
    gains = {"table_6": {("w/ ReP&KD", "step"): [0] * 6, ("w/ ReP&KD", "cosine_0"): [0.02] * 6,
                         ("w/ ReP&KD", "cosine_1e-5"): [0.02] * 6},
             "table_7": {("w/ ReP&KD", "0.05"): [0] * 6, ("w/ ReP&KD", "0.07"): [0.02] * 6,
                         ("w/ ReP&KD", "0.1"): [0] * 6, ("w/ ReP&KD", "0.01"): [0.0, 0.03] * 3,
                         ("w/ ReP&KD", "0.03"): [0] * 6},
             "table_1": {(row, width): [gain] * 6 for row, gain in (("w/ ReP", 0.02), ("w/o ReP", 0))
                         for width in ("1.0×", "1.3×")}}
    for number, (table, cells) in enumerate(gains.items()):
        files.write_right(folder, table, {cell: files.right(gain, seed=10 * number + i)
                                          for i, (cell, gain) in enumerate(cells.items())})
    files.write(folder, "table_10", {(f"{network} @{side}", "mAP"): [20 + i + seed / 10 + seed % 2 / 20
                                                                     for seed in range(6)]
                                     for i, network in enumerate(["GhostNetV2 1.0×", "GhostNetV3 1.0×"])
                                     for side in (320, 416)}, metric="mAP")
    files.judged(folder).write()
    return folder


def test_the_tables_of_six_seeds_and_their_images_are_what_the_files_say(six_seeds):
    found = check(six_seeds)
    assert found["cosine-beats-step"] == "confirmed" and found["cosine-to-zero"] == "bounded"
    assert found["large-weight-decay-hurts"] == "contradicted" and found["small-weight-decay-hurts"] == "inconclusive"
    assert found["reparam-helps"] == "not attempted"  # without width 1.6×


@pytest.mark.parametrize("column", ["ours", "low", "high", "most"])
def test_a_number_that_does_not_follow_is_found(six_seeds, tmp_path, column):
    """The check itself can fail."""
    shutil.copytree(six_seeds, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tables" / "evidence.csv"
    evidence = pd.read_csv(path)
    evidence.loc[evidence["claim"] == "cosine-to-zero", column] += 0.01
    evidence.to_csv(path, index=False)
    with pytest.raises(AssertionError, match=f"cosine-to-zero, .*: {column}"):
        check(tmp_path)

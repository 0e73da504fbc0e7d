"""Every comparison and verdict on accuracies and on ratios of times, computed a second time from the CSV files.

By the rule as it is written. It reads the paper's YAML files, a profile's folder and the sessions beside it, and shares
no code with what it checks: a sceptic may read this file alone.
"""

from __future__ import annotations

import base64
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from ghostlib.models import catalog
from tests.evidence import files

ROOT = Path(__file__).parents[2]
WRITTEN = yaml.safe_load((ROOT / "ghostlib" / "paper" / "claims.yaml").read_text(encoding="utf-8"))
RULE = WRITTEN["rule"]
CLAIMS = [claim for claim in WRITTEN["claims"]
          if {"better", "not_better", "correlates", "latencies", "weights"} & set(claim)
          or claim.get("undominated", {}).get("cost") == "CPU latency (ms)"]
TABLE_9 = yaml.safe_load((ROOT / "ghostlib" / "paper" / "numbers.yaml").read_text(encoding="utf-8"))["table_9"]
TOP1 = {row: values[TABLE_9["columns"].index("Top-1 (%)")] for row, values in TABLE_9["rows"].items()}
RATIOS = {ratio["id"]: ratio for ratio in yaml.safe_load(
    (ROOT / "ghostlib" / "paper" / "latency.yaml").read_text(encoding="utf-8"))}


class Profile:
    """results/<profile>: (table, row, column) -> seed -> accuracy, and -> which test images are right; teachers."""

    def __init__(self, folder: Path):
        self.accuracies: dict[tuple[str, ...], dict[int, float]] = {}
        self.right: dict[tuple[str, ...], dict[int, np.ndarray]] = {}
        self.teachers: dict[str, float] = {}
        labels = {"row": str, "column": str}
        if (folder / "teachers.csv").exists():
            stand_ins = pd.read_csv(folder / "teachers.csv")
            self.teachers = dict(zip(stand_ins["stands_in_for"], stand_ins["test_top1"], strict=True))
        for path in folder.glob("runs/*.csv"):
            runs = pd.read_csv(path, dtype=labels)
            if "metric" in runs:
                for row in runs[runs["metric"] == ("mAP" if path.stem == "table_10" else "test_top1")].itertuples():
                    self.accuracies.setdefault((path.stem, row.row, row.column), {})[row.seed] = row.value
        for path in folder.glob("correct/*.csv"):
            for row in pd.read_csv(path, dtype=labels).itertuples():
                bits = np.unpackbits(np.frombuffer(base64.b64decode(row.correct), np.uint8))[:row.images]
                self.right.setdefault((path.stem, row.row, row.column), {})[row.seed] = bits.astype(int)


def judge(differences: np.ndarray, by_image: np.ndarray | None, comparisons: int, bound: float = 0.0,
          margin: float = math.inf) -> dict:
    """The mean of a value a seed, its interval, the upper end of the widened one, and the verdict on it.

    `bound` is what the interval must lie above; `by_image` (seeds, images) has the same values image by image.
    """
    n, mean = len(differences), differences.mean()
    if n == 1:
        return {"ours": mean, "low": math.nan, "high": math.nan, "most": math.nan, "verdict": "inconclusive"}
    from_seeds = differences.std(ddof=1) / math.sqrt(n)
    from_images = 0.0
    if by_image is not None:
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
    elif low > bound:
        verdict = "confirmed"
    elif most < bound:
        verdict = "contradicted"
    elif n >= RULE["bounded_seeds"] and -margin < low and high < margin < math.inf:
        verdict = "bounded"
    else:
        verdict = "inconclusive"
    return {"ours": mean, "low": low, "high": high, "most": most, "verdict": verdict}


def compare(profile: Profile, cell: tuple[str, ...], than: tuple[str, ...], comparisons: int,
            bound: float = 0.0) -> dict | None:
    """`cell` minus `than`."""
    a, b = profile.accuracies.get(cell, {}), profile.accuracies.get(than, {})
    seeds = sorted(set(a) & set(b))
    if not seeds:
        return None
    right = [(profile.right.get(cell, {}).get(seed), profile.right.get(than, {}).get(seed)) for seed in seeds]
    known = all(x is not None and y is not None for x, y in right)
    by_image = 100 * np.array([x - y for x, y in right]) if known else None
    margin = math.inf if cell[0] == "table_10" else RULE["margin"]
    return judge(np.array([a[seed] - b[seed] for seed in seeds]), by_image, comparisons, bound, margin)


def slope(profile: Profile, table: str, teachers: list[str], columns: list[str]) -> dict | None:
    """By how much students' accuracy rises with their teachers', by a line in each seed."""
    cells = [[(table, teacher, column) for column in columns] for teacher in teachers]
    seeds = set.intersection(*(set(profile.accuracies.get(cell, {})) for of in cells for cell in of))
    if not seeds or not set(teachers) <= set(profile.teachers):
        return None
    x, seeds = [profile.teachers[teacher] for teacher in teachers], sorted(seeds)

    def lines(values: dict) -> np.ndarray:
        """(seeds, ...): for each seed, a line through the teachers' means over the columns."""
        means = [np.mean([[values[cell][seed] for cell in of] for of in cells], axis=1) for seed in seeds]
        return np.array([np.polyfit(x, mean, 1)[0] for mean in means])

    known = all(seed in profile.right.get(cell, {}) for of in cells for cell in of for seed in seeds)
    return judge(lines(profile.accuracies), 100 * lines(profile.right) if known else None, 1)


def read_sessions(folder: Path) -> list[dict[str, float]]:
    """Of each session, network -> median (ms) with ONNX Runtime on one thread: the profile's own if it is another."""
    paths = [*sorted(folder.parent.glob("sessions/*.csv")), *folder.glob("runs/latency.csv")]
    found: list[dict[str, float]] = []
    for path in paths:
        timed = pd.read_csv(path)
        timed = timed[(timed["engine"] == "ONNX Runtime") & (timed["threads"] == 1)]
        medians = dict(zip(timed["network"], timed["median_ms"], strict=True))
        if medians not in found:
            found.append(medians)
    return found


def ratio(sessions: list[dict[str, float]], entry: dict, comparisons: int) -> dict | None:
    """The geometric mean over sessions; where one timed GhostNetV3 and V2, which are deployed alike, of both.

    `most` is the better end for the claim of the interval that is widened for its comparisons.
    """
    deployed = catalog.rows()

    def log(session: dict[str, float], row: str) -> float:
        names = {re.sub("ghostnetv[23]", f"ghostnetv{version}", deployed[row]) for version in (2, 3)} & set(session)
        return float(np.mean([math.log(session[name]) for name in names])) if names else math.nan

    logs = np.array([log(session, entry["row"]) - log(session, entry["to"]) for session in sessions])
    logs = logs[~np.isnan(logs)]
    if not len(logs):
        return None
    low, high, most = math.nan, math.nan, math.nan
    favour = 1 if entry["direction"] == "at least" else -1
    if len(logs) > 1:
        half, wide = (stats.t.ppf(1 - (1 - RULE["confidence"]) / 2 / count, len(logs) - 1) * logs.std(ddof=1)
                      / math.sqrt(len(logs)) for count in (1, comparisons))
        low, high, most = (math.exp(logs.mean() + part) for part in (-half, half, favour * wide))
    bound, verdict = 1 + RULE["latency_tolerance"] if entry["bound"] == "same" else entry["bound"], "inconclusive"
    if len(logs) >= RULE["latency_sessions"]:
        if favour * (low if favour > 0 else high) > favour * bound:
            verdict = "confirmed"
        elif favour * most < favour * bound:
            verdict = "contradicted"
    return {"ours": math.exp(logs.mean()), "low": low, "high": high, "most": most, "verdict": verdict}


def by_weights(folder: Path, row: str) -> dict | None:
    """The accuracy that a row's public weights gave, as good as the printed one if no more than so far from it."""
    path = folder / "runs" / "published.csv"
    scored = dict(pd.read_csv(path)[["row", "top1"]].to_numpy()) if path.exists() else {}
    if row not in scored:
        return None
    near = abs(scored[row] - TOP1[row]) < RULE["weights_tolerance"] + 1e-6
    return {"ours": scored[row], "low": math.nan, "high": math.nan, "most": math.nan,
            "verdict": "exact" if near else "contradicted"}


def recompute(folder: Path) -> tuple[dict[str, list[dict | None]], dict[str, str]]:
    """Each claim's comparisons, None for one that was not measured, and its verdict."""
    profile, sessions, compared, verdicts = Profile(folder), read_sessions(folder), {}, {}
    for claim in CLAIMS:
        if "latencies" in claim:
            found = [ratio(sessions, RATIOS[name], len(claim["latencies"])) for name in claim["latencies"]]
        elif "weights" in claim:
            found = [by_weights(folder, row) for row in claim["weights"]]
        elif "undominated" in claim:
            pairs = [(row, other) for row in claim["undominated"]["rows"] for other in TOP1
                     if other.split()[0] != row.split()[0] and TOP1[other] >= TOP1[row]]
            found = [ratio(sessions, {"row": row, "to": other, "direction": "at most", "bound": 1}, len(pairs))
                     for row, other in pairs]
        elif "correlates" in claim:
            found = [slope(profile, claim["experiment"], list(claim["correlates"]["teachers"]),
                           claim["correlates"]["columns"])]
        else:
            pairs = [[tuple(cell if len(cell) == 3 else [claim["experiment"], *cell]) for cell in
                      (pair["cell"], pair["than"])] for pair in claim.get("better") or claim["not_better"]]
            if "better" in claim:
                found = [compare(profile, cell, than, len(pairs)) for cell, than in pairs]
            else:  # than is behind by less than the margin
                found = [compare(profile, than, cell, len(pairs), -RULE["margin"]) for cell, than in pairs]
        words = {comparison["verdict"] if comparison else "not attempted" for comparison in found}
        compared[claim["id"]] = found
        verdicts[claim["id"]] = next(word for word in ("contradicted", "not attempted", "inconclusive", "bounded",
                                                       "confirmed", "exact") if word in words)
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


# Every profile whose results are committed; `digits` always is.
@pytest.mark.parametrize("profile", sorted({"digits", *(
    path.parts[-3] for path in (ROOT / "results").glob("*/tables/claims.csv"))}))
def test_the_committed_tables_are_what_the_committed_runs_say(profile):
    assert check(ROOT / "results" / profile).keys() == {claim["id"] for claim in CLAIMS}


@pytest.fixture(scope="module")
def six_seeds(tmp_path_factory) -> Path:
    """Six seeds of five tables, image by image, and of Table 10; with the tables that the project makes of them."""
    folder = tmp_path_factory.mktemp("six") / "profile"
    folder.mkdir()
    files.write_times(folder, mobileone_s1=7.81 / 0.555, mobilevit_xxs=7.0)
    gains = {"table_6": {("w/ ReP&KD", "step"): [0] * 6, ("w/ ReP&KD", "cosine_0"): [0.02] * 6,
                         ("w/ ReP&KD", "cosine_1e-5"): [0.02] * 6},
             "table_7": {("w/ ReP&KD", "0.05"): [0] * 6, ("w/ ReP&KD", "0.07"): [0.02] * 6,
                         ("w/ ReP&KD", "0.1"): [0] * 6, ("w/ ReP&KD", "0.01"): [0.0, 0.03] * 3,
                         ("w/ ReP&KD", "0.03"): [0] * 6},
             "table_1": {(row, width): [gain] * 6 for row, gain in (("w/ ReP", 0.02), ("w/o ReP", 0))
                         for width in ("1.0×", "1.3×")},
             "table_2": {(row, "w/ 1×1 DW"): [gain] * 6 for row, gain in (("N=3", 0), ("N=4", 0), ("N=5", 0.02))},
             "table_3": {(row, column): [gain, gain + 0.01] * 3
                         for row, gain in (("ResNet-101", 0), ("DeiT-B", 0.01), ("BEiTv2-B", 0.03))
                         for column in ("α=0.5", "α=0.9", "α=1.0")}}
    for number, (table, cells) in enumerate(gains.items()):
        files.write_right(folder, table, {cell: files.right(gain, seed=10 * number + i)
                                          for i, (cell, gain) in enumerate(cells.items())})
    pd.DataFrame({"stands_in_for": ["ResNet-101", "DeiT-B", "BEiTv2-B"], "run": "key", "test_top1": [70.0, 75, 90]}
                 ).to_csv(folder / "teachers.csv", index=False)
    files.write(folder, "table_10", {(f"{network} @{side}", "mAP"): [20 + i + seed / 10 + seed % 2 / 20
                                                                     for seed in range(6)]
                                     for i, network in enumerate(["GhostNetV2 1.0×", "GhostNetV3 1.0×"])
                                     for side in (320, 416)}, metric="mAP")
    files.write_weights(folder, **{"GhostNetV3 1.0×": 77.134, "PiT-xs": 78.2})
    files.judged(folder).write()
    return folder


def test_the_tables_of_six_seeds_and_their_images_are_what_the_files_say(six_seeds):
    found = check(six_seeds)
    assert found["cosine-beats-step"] == "confirmed" and found["cosine-to-zero"] == "bounded"
    assert found["large-weight-decay-hurts"] == "contradicted" and found["small-weight-decay-hurts"] == "inconclusive"
    assert found["reparam-helps"] == "not attempted"  # without width 1.6×
    assert found["latency-mobileone"] == "inconclusive" and found["latency-mobilevit"] == "contradicted"
    assert found["latency-mobilenetv2"] == "confirmed"
    assert found["weights-v3"] == "exact" and found["weights-of-authors"] == "contradicted"
    assert found["weights-of-others"] == "not attempted"
    assert found["three-branches-suffice"] == "contradicted" and found["better-teacher-helps"] == "confirmed"


@pytest.mark.parametrize(("claim", "column"), [
    *(("cosine-to-zero", column) for column in ("ours", "low", "high", "most")),
    *(("latency-searched", column) for column in ("ours", "low", "high", "most")), ("better-teacher-helps", "ours"),
    ("weights-v3", "ours")])
def test_a_number_that_does_not_follow_is_found(six_seeds, tmp_path, claim, column):
    """The check itself can fail."""
    shutil.copytree(six_seeds.parent, tmp_path.parent, dirs_exist_ok=True)
    path = tmp_path / "tables" / "evidence.csv"
    evidence = pd.read_csv(path)
    evidence.loc[evidence["claim"] == claim, column] += 0.01
    evidence.to_csv(path, index=False)
    with pytest.raises(AssertionError, match=f"{claim}, .*: {column}"):
        check(tmp_path)

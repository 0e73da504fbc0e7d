"""Measured files of a profile, as small as a test needs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ghostlib.evidence import evidence, report, verdicts
from ghostlib.experiments import COLUMNS, TOP1_METRIC
from ghostlib.measures import counts, published
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.training.bits import packed
from ghostlib.training.profile import load_params, load_profile

ROOT = Path(__file__).parents[2]
DIGITS = load_profile("digits", load_params(ROOT / "params.yaml"))


def judged(folder: Path) -> report.Report:
    """As `report.load`, of a folder that may lie anywhere."""
    return report.Report.gather(folder, DIGITS)


def verdict(folder: Path, claim: str) -> pd.Series:
    """The row of one claim among the verdicts."""
    found = evidence.evidence(folder)
    return verdicts.judge(found[found["claim"] == claim]).iloc[0]


def write(folder: Path, experiment: str, cells: dict[tuple[str, str], list[float]], metric: str = TOP1_METRIC) -> None:
    """A long-format file: the values of seeds 0, 1, ... of each (row, column); NaN for a seed that was not run."""
    records = [(experiment, row, column, seed, "key", name, value, "data", "settings")
               for (row, column), values in cells.items() for seed, value in enumerate(values) if value == value
               for name in (metric, f"{metric}_raw")]
    (folder / "runs").mkdir(exist_ok=True)
    pd.DataFrame(records, columns=COLUMNS).to_csv(folder / "runs" / f"{experiment}.csv", index=False)


def write_right(folder: Path, experiment: str, cells: dict[tuple[str, str], np.ndarray],
                losses: dict[tuple[str, str], list[float]] | None = None) -> None:
    """Which test images are right, (seeds, images) booleans a cell, with their accuracies and, if given, log-losses."""
    values = [(row, column, seed, metric, value) for (row, column), right in cells.items()
              for metric, of in (("test_top1", 100 * right.mean(axis=1)), ("test_loss", (losses or {}).get(
                  (row, column), []))) for seed, value in enumerate(of)]
    runs = pd.DataFrame([(experiment, row, column, seed, "key", metric, value, "data", "settings")
                         for row, column, seed, metric, value in values], columns=COLUMNS)
    correct = pd.DataFrame([(experiment, row, column, seed, right.shape[1], packed(right[seed]))
                            for (row, column), right in cells.items() for seed in range(len(right))],
                           columns=["experiment", "row", "column", "seed", "images", "correct"])
    for place, frame in (("runs", runs), ("correct", correct)):
        (folder / place).mkdir(exist_ok=True)
        frame.to_csv(folder / place / f"{experiment}.csv", index=False, float_format="%.4f")


def right(gains: list[float], images: int = 4000, noise: float = 0.003, seed: int = 0) -> np.ndarray:
    """(seeds, images): four of five images are right; a seed errs on some others, and gains a share of all of them."""
    easy, rng = np.arange(images) % 5 > 0, np.random.default_rng(seed)
    flipped = easy ^ (rng.random((len(gains), images)) < noise)
    return flipped | ((np.arange(images) % 5 == 0) & (np.arange(images) < np.array(gains)[:, None] * images * 5))


def write_times(folder: Path, sessions: int = 5, **times: float) -> None:
    """Sessions whose mean is the paper's latencies, or another median for the networks that are named.

    Each network is faster by up to 1 % in one session and slower by as much in another; neighbours in Table 9 are so in
    other sessions. The middle one is the profile's own.
    """
    published = numbers.table("table_9")[numbers.CPU]
    medians = {name: published[row] for row, name in catalog.deployed().items()} | times
    for place in (folder / "runs", folder.parent / "sessions"):
        place.mkdir(exist_ok=True)
    for session in range(sessions):
        drifts = [1.005 ** ((session + i) % sessions - (sessions - 1) / 2) for i in range(len(medians))]
        timed = pd.DataFrame([(name, engine, threads, ms / of * drift)
                              for (name, ms), drift in zip(medians.items(), drifts, strict=True)
                              for engine, threads, of in (
                                  ("ONNX Runtime", 1, 1), ("ONNX Runtime", 2, ms), ("OpenVINO", 1, ms))],
                             columns=["network", "engine", "threads", "median_ms"])
        timed = timed.assign(p10_ms=0.9 * timed["median_ms"], p90_ms=1.1 * timed["median_ms"], cpu="Some CPU", cpus=2,
                             system="Linux", engines="An Engine 1.0", date="2026-01-02")
        timed.to_csv(folder.parent / "sessions" / f"2026-01-02-{'abcdefghi'[session]}.csv", index=False)
        if session == sessions // 2:
            timed.to_csv(folder / "runs" / "latency.csv", index=False)


def write_counts(folder: Path, factor: float = 1.0) -> None:
    """The paper's counts; those of GhostNetV3 times a factor."""
    records = [(table, row, "network", 224, quantity, value * (factor if "GhostNetV3" in row else 1))
               for table in ("table_9", "table_10")
               for (row, quantity), value in numbers.table(table).stack(future_stack=True).items()
               if quantity in (numbers.PARAMS, numbers.MACS)]
    (folder / "runs").mkdir(exist_ok=True)
    pd.DataFrame(records, columns=counts.COLUMNS).to_csv(folder / "runs" / "complexity.csv", index=False)


def write_weights(folder: Path, **top1: float) -> None:
    """What the public weights of rows of Table 9 gave (%), as the stage `published` writes it."""
    scored = pd.DataFrame([(row, "weights", "a", "b", published.IMAGES, value, value, "Some GPU", "2026-01-02")
                           for row, value in top1.items()], columns=published.COLUMNS)
    (folder / "runs").mkdir(exist_ok=True)
    scored.to_csv(folder / "runs" / "published.csv", index=False)


def cosine(step: list[float], zero: list[float], five: list[float]) -> dict[tuple[str, str], list[float]]:
    """The cells of Table 6."""
    return {("w/ ReP&KD", "step"): step, ("w/ ReP&KD", "cosine_0"): zero, ("w/ ReP&KD", "cosine_1e-5"): five}

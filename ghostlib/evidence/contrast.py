"""Differences of two cells over the seeds and the test images that both have, and the mean of several of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ghostlib.evidence import measured, stats
from ghostlib.paper.claims import Rule

MEAN = "mean contrast"  # the note of the evidence's row that holds the mean over a claim's comparisons
LOST = "a training diverged."  # how the note ends of a comparison of cells of which a seed diverged
Cell = tuple[str, str, str]  # table, row, column


@dataclass(frozen=True)
class Measured:
    """What the cells of a profile hold.

    Attributes:
        accuracies: table -> a row a seed, a column a (row, column); %, or mAP.
        losses: the same of the log-loss on the test images, in nats.
        correct: cell -> seed -> which test images are right, (images,) booleans.
        teachers: a teacher -> the top-1 (%) of its stand-in.
        diverged: cells of which a seed diverged -> these seeds. Nothing else holds such a cell: of the seeds that did
            not diverge it would be too good.
    """

    accuracies: Mapping[str, pd.DataFrame]
    losses: Mapping[str, pd.DataFrame]
    correct: Mapping[Cell, Mapping[int, np.ndarray]]
    teachers: Mapping[str, float]
    diverged: Mapping[Cell, Sequence[int]]

    @classmethod
    def load(cls, folder: str | Path, files: Mapping[str, pd.DataFrame]) -> Self:
        """Of results/<profile>, whose runs/*.csv `measured.read` gave.

        Raises:
            ValueError: a file holds a seed of a cell twice, or correct/ is of other trainings than runs/.
        """
        diverged, sound = measured.diverged(files), measured.undiverged(files)
        accuracies, losses = measured.accuracies(sound), measured.losses(sound)
        correct = measured.correct(folder, measured.accuracies(files))
        correct = {cell: seeds for cell, seeds in correct.items() if cell not in diverged}
        return cls(accuracies, losses, correct, measured.teachers(folder), diverged)


@dataclass(frozen=True)
class Contrast:
    """One cell minus another, or another sum of cells times weights that add up to 0, or a mean of such.

    Attributes:
        seeds: a value a seed that has all cells, in points.
        images: (seeds, images), the same for each test image; None where it is not known of all.
        losses: in nats, a value for each of the seeds, NaN where it is not known.
    """

    seeds: pd.Series
    images: np.ndarray | None
    losses: pd.Series

    @classmethod
    def of(cls, weights: Mapping[Cell, float], values: Measured) -> Self:
        """The sum of the cells times their weights."""
        seeds = _sum(weights, values.accuracies).dropna()
        images = _by_image(weights, values.correct, list(seeds.index))
        if images is not None:  # files have four decimals, by which equal differences seem to vary
            seeds = pd.Series(images.mean(axis=1), seeds.index)
        return cls(seeds, images, _sum(weights, values.losses).reindex(seeds.index))

    @classmethod
    def between(cls, cell: Cell, than: Cell, values: Measured) -> Self:
        """`cell` minus `than`."""
        return cls.of({cell: 1.0, than: -1.0}, values)

    @classmethod
    def mean(cls, parts: Sequence[Self]) -> Self:
        """The mean of several within each seed that has all of them."""
        frame = pd.concat([part.seeds for part in parts], axis=1).dropna()
        images = None
        if len(frame) and all(part.images is not None for part in parts):
            kept = [part.images[part.seeds.index.get_indexer(frame.index)] for part in parts]
            images = sum(kept) / len(kept) if len({part.shape for part in kept}) == 1 else None
        losses = pd.concat([part.losses for part in parts], axis=1).reindex(frame.index)
        return cls(frame.mean(axis=1), images, losses.mean(axis=1, skipna=False))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The one that decides: over seeds and test images where these are known, else Student's over the seeds."""
        if self.images is None:
            return stats.t_interval(self.seeds, confidence)
        return stats.crossed_interval(self.images, confidence)

    def record(self, rule: Rule, comparisons: int = 1, bound: float = 0.0) -> dict[str, Any]:
        """What the evidence holds of it, as one of so many comparisons with a bound; see `evidence.evidence`."""
        low, high = self.interval(rule.confidence)
        _, most = self.interval(1 - rule.alpha / comparisons)  # Bonferroni's
        left, right = stats.t_interval(self.seeds, rule.confidence)
        crossed_low, crossed_high, error = math.nan, math.nan, math.nan
        detectable = stats.smallest_detectable(self.seeds, rule.alpha, rule.power)
        if self.images is not None:
            crossed_low, crossed_high = stats.pigeonhole_interval(self.images, rule.confidence)
            error = stats.image_error(self.images)
            detectable = math.hypot(detectable, error * (stats.quantile(rule.confidence) + stats.quantile(
                2 * rule.power - 1)))
        loss_low, loss_high = stats.t_interval(self.losses, rule.confidence)
        tested = len(self.seeds) >= rule.significant_seeds
        return {"seeds": len(self.seeds), "ours": self.seeds.mean(), "low": low, "high": high, "most": most,
                "half_seeds": (right - left) / 2, "half_images": error * stats.quantile(rule.confidence),
                "crossed_low": crossed_low, "crossed_high": crossed_high,
                "p": stats.sign_flip_p(self.seeds - bound) if tested else math.nan, "detectable": detectable,
                "loss": self.losses.mean(skipna=False), "loss_low": loss_low, "loss_high": loss_high}


def _sum(weights: Mapping[Cell, float], values: Mapping[str, pd.DataFrame]) -> pd.Series:
    """A value a seed, NaN where it lacks a cell; empty where all seeds do."""
    cells = [values[table].get((row, column)) if table in values else None for table, row, column in weights]
    if any(cell is None for cell in cells):
        return pd.Series(dtype=float)
    return sum(weight * cell for weight, cell in zip(weights.values(), cells, strict=True))


def _by_image(weights: Mapping[Cell, float], correct: Mapping[Cell, Mapping[int, np.ndarray]],
              seeds: list[int]) -> np.ndarray | None:
    """The sum in points, (seeds, images), each image right (100) or not (0); None if a seed's images are not known."""
    found = [[correct.get(cell, {}).get(seed) for cell in weights] for seed in seeds]
    if not found or any(array is None for arrays in found for array in arrays):
        return None
    if len({array.shape for arrays in found for array in arrays}) > 1:
        return None  # not the same test images
    return np.array([100 * sum(weight * array.astype(float) for weight, array in zip(weights.values(), arrays,
                                                                                    strict=True)) for arrays in found])

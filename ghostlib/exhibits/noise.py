"""How much of a difference between two cells of an experiment may be chance."""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ghostlib.experiments import TOP1_METRIC
from ghostlib.measures import places
from ghostlib.paper import claims
from ghostlib.paper.claims import Rule
from ghostlib.training.bits import unpacked


class Detectable(NamedTuple):
    """The smallest true difference of two cells that would be seen, in the metric's unit: NaN where it is not known.

    Attributes:
        median: over all pairs of cells.
        least: of the pair whose seeds and images agree best.
        most: of the noisiest pair.
    """

    median: float = math.nan
    least: float = math.nan
    most: float = math.nan


def detectable(results: pd.DataFrame, correct: pd.DataFrame | None = None, metric: str = TOP1_METRIC) -> Detectable:
    """The smallest true difference of two cells that the seeds and the test images would show.

    Of a pair it is √(((t(1 - α/2) + t(power)) · sd / √S)² + ((z(1 - α/2) + z(power)) · σ / √I)²), with the level and
    the power of claims.yaml, Student's quantiles of S - 1 degrees of freedom and the normal's: sd is that of the S
    seeds' differences, and σ that of their mean difference over the I test images. Either part is left out where it is
    not known. No verdict follows from it: it is what a picture shows. (A verdict's own is by the noncentral t.)

    Args:
        results: in long format, with the columns `experiments.COLUMNS`.
        correct: which test images each training gets right, as `places.correct_file` holds it.
        metric: which of the results' metrics; the test images are of top-1 alone.

    Returns:
        All NaN for fewer than two cells, and where neither part is known.
    """
    rule, _ = claims.load()
    results = places.undiverged(results)
    values = results[results["metric"] == metric].pivot(index="seed", columns=["row", "column"], values="value")
    images = {} if correct is None or correct.empty else {
        cell: np.mean([unpacked(seed.correct, seed.images) for seed in of_cell.itertuples()], axis=0)
        for cell, of_cell in correct.groupby(["row", "column"])}
    found = [_of_pair(values[a] - values[b], images.get(a), images.get(b), rule) for a, b in combinations(values, 2)]
    if not found or np.isnan(found).all():
        return Detectable()
    return Detectable(float(np.nanmedian(found)), float(np.nanmin(found)), float(np.nanmax(found)))


def _of_pair(differences: pd.Series, a: np.ndarray | None, b: np.ndarray | None, rule: Rule) -> float:
    """Of one value a seed; a and b: (I,), the share of the seeds that have an image right in each cell."""
    seeds, levels = differences.count(), [1 - rule.alpha / 2, rule.power]
    parts = [sum(stats.t.ppf(levels, seeds - 1)) * differences.std() / math.sqrt(seeds)] if seeds > 1 else []
    if a is not None and b is not None and a.shape == b.shape:
        parts.append(sum(stats.norm.ppf(levels)) * (100 * (a - b)).std(ddof=1) / math.sqrt(len(a)))
    return float(np.hypot.reduce(parts)) if parts else math.nan

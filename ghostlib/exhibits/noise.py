"""How much of a difference between two cells of an experiment may be chance."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

from ghostlib.experiments import TOP1_METRIC
from ghostlib.paper import claims
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

    Of a pair it is (z(1 - α/2) + z(power)) · σ, with the level and the power of claims.yaml. σ²
    is sd²/S of the S seeds' differences plus the variance over the I test images of their mean difference by I; either
    is left out where it is not known. By the normal's quantiles it is somewhat small for a pair of few seeds: no
    verdict follows from it, it is what a picture shows.

    Args:
        results: in long format, with the columns `experiments.COLUMNS`.
        correct: which test images each training gets right, as `places.correct_file` holds it.
        metric: which of the results' metrics; the test images are of top-1 alone.

    Returns:
        All NaN for fewer than two cells, and where neither part is known.
    """
    rule, _ = claims.load()
    values = results[results["metric"] == metric].pivot(index="seed", columns=["row", "column"], values="value")
    images = {} if correct is None or correct.empty else {
        cell: np.mean([unpacked(seed.correct, seed.images) for seed in of_cell.itertuples()], axis=0)
        for cell, of_cell in correct.groupby(["row", "column"])}
    variances = [_variance(values[a] - values[b], images.get(a), images.get(b)) for a, b in combinations(values, 2)]
    if not variances or np.isnan(variances).all():
        return Detectable()
    reach = NormalDist().inv_cdf(1 - rule.alpha / 2) + NormalDist().inv_cdf(rule.power)
    found = reach * np.sqrt(variances)
    return Detectable(float(np.nanmedian(found)), float(np.nanmin(found)), float(np.nanmax(found)))


def _variance(differences: pd.Series, a: np.ndarray | None, b: np.ndarray | None) -> float:
    """Of the mean of one value a seed; a and b: (I,), the share of the seeds that have an image right in each cell."""
    parts = [differences.var() / differences.count()]
    if a is not None and b is not None and a.shape == b.shape:
        parts.append((100 * (a - b)).var(ddof=1) / len(a))
    return math.nan if np.isnan(parts).all() else float(np.nansum(parts))

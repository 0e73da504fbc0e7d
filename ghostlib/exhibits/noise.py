"""How much of a difference between two cells of an experiment may be chance."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

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
    seeds, levels = differences.count(), [NormalDist().inv_cdf(level) for level in (1 - rule.alpha / 2, rule.power)]
    parts = []
    if seeds > 1:
        parts.append(sum(_student(z, seeds - 1) for z in levels) * differences.std() / math.sqrt(seeds))
    if a is not None and b is not None and a.shape == b.shape:
        parts.append(sum(levels) * (100 * (a - b)).std(ddof=1) / math.sqrt(len(a)))
    return float(np.hypot.reduce(parts)) if parts else math.nan


def _student(z: float, freedom: int) -> float:
    """Student's quantile at the level of the normal's `z`: within 1 % from two degrees of freedom on, at one 11 % low.

    Abramowitz and Stegun (1964), "Handbook of mathematical functions", 26.7.5. SciPy, which has it exactly, takes a
    second to import.
    """
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
             (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160)
    return sum(term / freedom**order for order, term in enumerate(terms))

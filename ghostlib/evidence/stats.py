"""The statistics behind a verdict: paired differences over seeds, many claims at once, and rankings.

A *difference* is one seed's value of arm A minus the same seed's value of arm B, in the unit of the metric (points of
accuracy, ms). A NaN among the differences makes a result NaN: to drop it would be to choose among the seeds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

# A test of n seeds has 2^n sign flips; up to this n all are counted, beyond it as many are drawn as this n has.
_EXACT = 16
_DRAWN = 6_000  # halvings of many seeds


def t_interval(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean difference, mean ± t(n - 1) · sd / √n.

    Student (1908), "The probable error of a mean".

    Args:
        differences: (n,), one a seed.
        confidence: the share of such intervals that hold the true mean, if differences are normally distributed.

    Returns:
        (low, high) in the unit of the differences; NaNs for n < 2, and zero width where all are equal.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return math.nan, math.nan
    if _constant(d):
        return float(d.mean()), float(d.mean())
    low, high = stats.t.interval(confidence, len(d) - 1, loc=d.mean(), scale=stats.sem(d))
    return float(low), float(high)


def crossed_interval(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the mean difference over seeds and test images, both drawn at random and crossed.

    A difference is that of a seed's mean, of an image's, and their interaction: Var(mean) = σ²ₛ/S + σ²ᵢ/I + σ²ₛᵢ/(S·I)
    for crossed random effects, as in Searle, Casella and McCulloch (1992), "Variance components", ch. 5. Student's
    half-width of the seeds' means is of the first and the third term, `image_error` of the second; the half-width is
    the root of the sum of their squares.

    Args:
        differences: (S, I), seed by image: for one seed and one test image, whether arm A is right minus whether B is,
            in any unit.
        confidence: as in `t_interval`.

    Returns:
        (low, high) in the unit of the differences; NaNs for S < 2 or I < 2.
    """
    d = np.asarray(differences, dtype=float)
    low, high = t_interval(d.mean(axis=1), confidence)
    half = math.hypot((high - low) / 2, quantile(confidence) * image_error(d))
    return float(d.mean()) - half, float(d.mean()) + half


def image_error(differences: ArrayLike) -> float:
    """The standard error σᵢ/√I of the mean difference that comes from the test images alone, whatever the seeds.

    The variance over images of the seeds' mean estimates σ²ᵢ + σ²ₛᵢ/S; the residual mean square, σ²ₛᵢ. Where their
    difference is negative, as it is by chance where images differ by the seed alone, it is 0.

    Args:
        differences: (S, I), as `crossed_interval` takes them.

    Returns:
        In the unit of the differences; NaN for S < 2 or I < 2.
    """
    d = np.asarray(differences, dtype=float)
    count, images = d.shape
    if count < 2 or images < 2:
        return math.nan
    of_seed, of_image = d.mean(axis=1, keepdims=True), d.mean(axis=0)
    interaction = ((d - of_seed - of_image + d.mean())**2).sum() / ((count - 1) * (images - 1))
    return math.sqrt(max(0.0, of_image.var(ddof=1) - interaction / count) / images)


def quantile(confidence: float) -> float:
    """How many standard errors the normal interval of that confidence reaches to either side."""
    return float(stats.norm.isf((1 - confidence) / 2))


def pigeonhole_interval(differences: ArrayLike, confidence: float = 0.95, resamples: int = 2000,
                        seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean difference by a bootstrap that draws seeds and test images independently.

    Owen (2007), "The pigeonhole bootstrap": a difference counts as often as its seed was drawn times as often as its
    image was. With many of both its variance is, as that of `crossed_interval`, never too small; with a handful of
    seeds the interval is too narrow, as a bootstrap's is.

    Args:
        differences: (S, I), as `crossed_interval` takes them.
        confidence: as in `t_interval`.
        resamples: how many times S seeds and I images are drawn, with replacement.
        seed: of these draws. Equal seeds give equal intervals.

    Returns:
        (low, high) in the unit of the differences. NaNs for S < 3, where resamples have few means, and for I < 2.
    """
    d = np.asarray(differences, dtype=float)
    if d.shape[0] < 3 or d.shape[1] < 2 or np.isnan(d).any():
        return math.nan, math.nan
    seeds, images = (_drawn(count, resamples, seed + i) for i, count in enumerate(d.shape))
    # Sums of whole numbers are exact, whatever the order in which so many threads add them up. Points are whole, and so
    # is the mean of n differences times n.
    n = next((n for n in range(1, 9) if np.allclose(n * d, np.round(n * d), rtol=0, atol=1e-9)), None)
    whole = (d if n is None else np.round(n * d)).astype(np.float32)
    # (resamples, images) @ (images, seeds) -> (resamples, seeds)
    sums = ((images @ whole.T).astype(float) * seeds).sum(axis=1) / (n or 1)
    low, high = np.quantile(sums / d.size, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@functools.lru_cache(maxsize=4)
def _drawn(count: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, count): how often a sample of `count`, drawn with replacement, has each of `count` things."""
    rng = np.random.default_rng(seed)
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(resamples)]
    return np.array(drawn, dtype=np.float32)


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of a mean of zero: the share of sign flips whose |mean| is at least the observed one.

    Fisher (1935), "The design of experiments", §21. If neither arm is better, each difference could as well have had
    the other sign. All 2^n flips are counted up to n = 16; beyond, the observed one and 2^16 - 1 drawn with a fixed
    seed, so that p is never zero (Phipson and Smyth, 2010, "Permutation p-values should never be zero").

    Args:
        differences: (n,), one a seed.

    Returns:
        At least 2 / 2^n, so that no result of five seeds is below 0.05; 1 where all differences are 0; NaN for n < 1.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 1 or np.isnan(d).any():
        return math.nan
    largest = np.abs(d).sum()  # of the flips' |totals|
    if len(d) == 1 or largest == 0:
        return 1.0  # every flip has the same |mean|
    # SciPy's ties are closer than the rounding errors of a difference of two accuracies.
    found = stats.permutation_test((d / largest,), lambda sample, axis: np.round(np.abs(sample.sum(axis=axis)), 9),
                                   permutation_type="samples", alternative="greater", batch=2**12,
                                   n_resamples=np.inf if len(d) <= _EXACT else 2**_EXACT - 1,
                                   rng=np.random.default_rng(0))
    return float(found.pvalue)


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values adjusted for how many claims are tested: rejecting those ≤ α is wrong anywhere with probability ≤ α.

    Holm (1979), "A simple sequentially rejective multiple test procedure": the i-th smallest of m is multiplied by
    m - i + 1, and is no smaller than the one before it.

    Args:
        p_values: (m,) in [0, 1]. A NaN is a claim that was not tested.

    Returns:
        (m,) in the order of `p_values`, at most 1. NaNs stay, and do not count in m.
    """
    p = np.asarray(p_values, dtype=float)
    ascending = np.argsort(p)[:np.count_nonzero(~np.isnan(p))]  # NaNs sort last
    adjusted = np.full(p.shape, np.nan)
    adjusted[ascending] = np.maximum.accumulate(p[ascending] * np.arange(len(ascending), 0, -1)).clip(max=1)
    return adjusted


def smallest_detectable(differences: ArrayLike, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true mean difference that a two-sided paired t-test with so many seeds and this spread would detect.

    Cohen (1988), "Statistical power analysis for the behavioral sciences", ch. 2: for a true mean δ, t follows the
    noncentral t distribution with n - 1 degrees of freedom and noncentrality δ √n / sd. The sd is taken as known.

    Args:
        differences: (n,), one a seed. Only their number and spread matter.
        alpha: the level of the test.
        power: the probability of a p below `alpha`, itself above `alpha`, that counts as detecting.

    Returns:
        In the unit of the differences; NaN for n < 2, and 0 where all differences are equal.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return math.nan
    if _constant(d):
        return 0.0
    df = len(d) - 1
    critical = stats.t.isf(alpha / 2, df)
    miss = (1 - power) / 2
    # Here a low mean and a high sd cost at most half of what may be missed each: the power is reached.
    enough = critical * math.sqrt(stats.chi2.isf(miss, df) / df) + stats.norm.isf(miss)
    # P(t < -critical) as P(-t > critical), since `nct.cdf` is NaN far out in the lower tail (SciPy 1.17).
    noncentrality = optimize.brentq(
        lambda nc: stats.nct.sf(critical, df, nc) + stats.nct.sf(critical, df, -nc) - power, 0, enough)
    return float(noncentrality * stats.sem(d))


def rank_correlation(published: ArrayLike, measured: ArrayLike) -> tuple[float, float]:
    """How alike two columns rank the rows of a table: Spearman's ρ and Kendall's τ-b.

    Spearman (1904), "The proof and measurement of association between two things"; Kendall (1945), "The treatment of
    ties in ranking problems".

    Args:
        published, measured: (n,) each, in any unit. A row that is NaN in either does not count.

    Returns:
        (ρ, τ), in [-1, 1]. Both are NaN where a column is constant, ρ for fewer than three rows, τ for fewer than five.
    """
    pairs = np.array([published, measured], dtype=float)
    a, b = pairs[:, ~np.isnan(pairs).any(axis=0)]
    tau = stats.kendalltau(_rounded(a), _rounded(b)).statistic if len(a) >= 5 else math.nan
    return _spearman(a, b), float(tau)


def noise_ceiling(values: ArrayLike) -> float:
    """How well seeds rank the rows as other seeds do: how much of their ranking is signal.

    The mean Spearman's ρ between the rows' means in one half of the seeds and in the other, over all splits into two
    halves; of an odd number, each seed is left out in turn, so that the halves are of equal size. Of more than 12 seeds
    it is over 6,000 splits drawn at random, always the same. It is of half as many
    seeds, hence low: all seeds together may agree with a true ranking better than their halves do with each other. The
    Spearman-Brown step-up (1910) is for linear correlations and not applied.

    Args:
        values: (S, rows), in any unit. A row that is NaN for a seed does not count where that seed does.

    Returns:
        In [-1, 1]; NaN for S < 2, fewer than three rows, or a half in which all rows are equal.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return math.nan
    return float(np.mean([_spearman(values[list(a)].mean(axis=0), values[list(b)].mean(axis=0))
                          for a, b in _halvings(len(values))]))


def _halvings(seeds: int) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Pairs of halves of so many seeds: of up to 12 seeds all pairs (of 11 there are 1,386), of more `_DRAWN`."""
    size = seeds // 2
    if seeds > 12:
        random = np.random.default_rng(0)
        for _ in range(_DRAWN):
            drawn = random.permutation(seeds)
            yield drawn[:size], drawn[size:2 * size]
        return
    for a in combinations(range(seeds), size):
        yield from ((a, b) for b in combinations([seed for seed in range(seeds) if seed not in a], size) if a < b)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.array([a, b])[:, ~np.isnan(a + b)]
    if len(a) < 3 or _constant(a) or _constant(b):
        return math.nan
    return float(stats.spearmanr(_rounded(a), _rounded(b)).statistic)


def _rounded(x: np.ndarray) -> np.ndarray:
    """x over its largest magnitude, to nine digits: values that differ by rounding errors tie, as 0.3 and 0.1 + 0.2."""
    largest = np.abs(x).max(initial=0)
    return np.round(x / largest, 9) if largest > 0 else x


def _constant(x: np.ndarray) -> bool:
    return bool(np.ptp(_rounded(x)) == 0)

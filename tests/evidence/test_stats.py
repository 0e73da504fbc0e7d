"""Statistics against published values, values worked out by hand, and what holds for any data."""

from __future__ import annotations

import warnings
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_1samp

from ghostlib.evidence.stats import (
    _drawn,
    crossed_interval,
    holm,
    image_error,
    noise_ceiling,
    pigeonhole_interval,
    quantile,
    rank_correlation,
    sign_flip_p,
    smallest_detectable,
    t_interval,
)

# Extra hours of sleep under one drug rather than the other: Student (1908), the data set `sleep` of R.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
# Crossed minus self-fertilised maize, in eighths of an inch: Darwin (1876), in Fisher (1935), "The design of
# experiments", §17.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]

steady = settings(max_examples=50, deadline=None, derandomize=True)
# Hundredths of a point, as accuracies come: far from where rounding errors would be the data.
points = st.integers(-5000, 5000).map(lambda hundredths: hundredths / 100)


def differences(least: int, most: int = 8) -> st.SearchStrategy[np.ndarray]:
    return arrays(float, st.integers(least, most), elements=points)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_t_interval_is_r_s_for_student_s_sleep_data():
    assert t_interval(SLEEP) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)  # t.test(extra ~ group, paired)


def test_t_interval_of_two_differences_by_hand():
    # Mean 2, standard error 1, and t(0.75; 1) = 1, as a Cauchy distribution has it.
    assert t_interval([1, 3], confidence=0.5) == pytest.approx((1, 3))


class TestIntervals:
    def test_needs_seeds_and_all_of_them(self):
        assert np.isnan(t_interval([1.0, 2.0, 4.0][:1])).all()
        assert np.isnan(t_interval([1.0, 2.0, np.nan])).all()

    # 80.3 - 80 and 0.3 differ by rounding alone.
    @pytest.mark.parametrize("value", [[0.0] * 3, [0.3] * 3, [-7.1] * 6, [80.3 - 80.0, 0.3, 40.3 - 40.0]])
    def test_no_spread_no_width(self, value):
        low, high = t_interval(value)
        assert low == high == pytest.approx(np.mean(value))

    @given(d=differences(3), shift=points)
    @steady
    def test_moves_with_the_data(self, d, shift):
        assert t_interval(d + shift) == pytest.approx(np.add(t_interval(d), shift), abs=1e-5)

    @given(d=differences(3))
    @steady
    def test_holds_the_mean_and_more_with_more_confidence(self, d):
        assume(np.ptp(d) > 0)
        (low, high), (lower, higher) = t_interval(d, 0.8), t_interval(d, 0.95)
        assert lower <= low + 1e-9 and high <= higher + 1e-9 and lower < higher


# -- over seeds and test images

def crossed(seeds: float, images: float, both: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Differences around zero: standard deviations over seeds, over images, and of what is of both."""
    return (rng.normal(0, seeds, (shape[0], 1)) + rng.normal(0, images, (1, shape[1]))
            + rng.normal(0, both, shape))


@pytest.mark.parametrize(("seeds", "images", "both"), [(1, 0, 0.5), (0.05, 2, 0.5), (0.3, 3, 3), (0, 0, 3)])
def test_the_crossed_interval_holds_the_truth_as_often_as_it_says(seeds, images, both):
    rng = np.random.default_rng(0)
    found = [crossed_interval(crossed(seeds, images, both, (6, 100), rng)) for _ in range(400)]
    assert np.mean([low < 0 < high for low, high in found]) > 0.95 - 2 * (0.95 * 0.05 / 400) ** 0.5


def test_student_s_interval_alone_misses_what_is_of_the_test_images():
    rng = np.random.default_rng(0)
    found = [t_interval(crossed(0.05, 2, 0.5, (6, 100), rng).mean(axis=1)) for _ in range(400)]
    assert np.mean([low < 0 < high for low, high in found]) < 0.7


def test_the_crossed_interval_is_student_s_where_images_do_not_differ_and_normal_where_seeds_do_not():
    d = np.repeat(np.array(SLEEP)[:, None], 7, axis=1)
    assert crossed_interval(d) == pytest.approx(t_interval(SLEEP)) and image_error(d) == pytest.approx(0, abs=1e-12)
    low, high = crossed_interval(np.tile([1.0, 0.0, 0.0, -1.0, 1.0], (6, 1)))  # sd √0.7, standard error √(0.7 / 5)
    assert (low, high) == pytest.approx((0.2 - 1.959964 * 0.14**0.5, 0.2 + 1.959964 * 0.14**0.5))
    # Ever more images of the same kind leave what is of the seeds.
    halves = [np.diff(crossed_interval(np.tile(crossed(1, 1, 0, (6, 50), np.random.default_rng(0)), (1, times))))[0]
              for times in (1, 10, 1000)]
    seeds = np.diff(t_interval(crossed(1, 1, 0, (6, 50), np.random.default_rng(0)).mean(axis=1)))[0]
    assert halves[0] > halves[1] > halves[2] == pytest.approx(seeds, rel=1e-3)


def test_the_crossed_interval_by_hand():
    # Seeds' means 1/2 and 3/4: t(0.975; 1) = 12.706 times 1/8. Images' means 1, 0, 1, 1/2: variance 11/48, of which the
    # residual mean square, 1/8, over two seeds is 3/48; what is left, 1/6, over four images.
    d = [[1, 0, 1, 0], [1, 0, 1, 1]]
    half = ((12.7062 / 8) ** 2 + 1.959964**2 / 24) ** 0.5
    assert crossed_interval(d) == pytest.approx((0.625 - half, 0.625 + half), abs=1e-4)
    assert image_error(d) == pytest.approx(1 / 24**0.5) and quantile(0.95) == pytest.approx(1.959964)


def test_images_that_differ_by_the_seed_alone_add_nothing():
    assert image_error([[1, 0, 1, 0], [0, 1, 0, 1]]) == 0
    noise = np.random.default_rng(0).normal(size=(6, 5000))
    assert image_error(noise) < 0.5 * noise.mean(axis=0).std() / 5000**0.5


@pytest.mark.parametrize(("interval", "least"), [(crossed_interval, 2), (pigeonhole_interval, 3)])
def test_both_need_seeds_and_images_and_all_of_them(interval, least):
    d = crossed(1, 1, 1, (4, 6), np.random.default_rng(0))
    assert np.isfinite(interval(d[:least])).all() and np.isnan(interval(d[:least - 1])).all()
    assert np.isnan(interval(d[:, :1])).all()
    d[1, 2] = np.nan
    assert np.isnan(interval(d)).all()


@pytest.mark.parametrize("interval", [crossed_interval, pigeonhole_interval])
def test_both_turn_with_the_sign_and_do_not_see_the_order_of_the_images_or_the_unit(interval):
    d = np.random.default_rng(0).integers(-1, 2, (6, 400)).astype(float)
    low, high = interval(d)
    exact = interval is crossed_interval
    assert interval(-d) == pytest.approx((-high, -low), abs=1e-9 if exact else 0.005)
    assert interval(100 * d[:, ::-1]) == pytest.approx((100 * low, 100 * high), abs=1e-6 if exact else 0.5)


def test_the_pigeonhole_bootstrap_is_owen_s_over_all_resamples():
    d = np.array([[0.0, 1.0, 4.0], [2.0, 0.5, 1.0], [3.0, 0.0, 7.0]])
    draws = [np.array(draw) for draw in product(range(3), repeat=3)]
    means = [d[np.ix_(seeds, images)].mean() for seeds in draws for images in draws]
    for confidence in (0.5, 0.8):
        expected = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
        assert pigeonhole_interval(d, confidence, resamples=20_000) == pytest.approx(expected, abs=0.06)


def test_the_two_intervals_agree_where_seeds_are_many():
    d = crossed(1, 5, 1, (60, 500), np.random.default_rng(0))
    (low, high), (lower, higher) = crossed_interval(d), pigeonhole_interval(d)
    assert higher - lower == pytest.approx(high - low, rel=0.1) and lower == pytest.approx(low, abs=0.1 * (high - low))


@pytest.mark.parametrize("of", [1, 3])
def test_the_pigeonhole_bootstrap_of_points_is_exact(of):
    """Threads of a matrix product add in any order; whole numbers have one sum."""
    whole = 100 * np.random.default_rng(0).integers(-of, of + 1, size=(6, 2_000))
    seeds, images = _drawn(6, 200, 0).astype(int), _drawn(2_000, 200, 1).astype(int)
    sums = ((images @ whole.T) * seeds).sum(axis=1)
    expected = np.quantile(sums / of / whole.size, [0.025, 0.975])
    assert pigeonhole_interval(whole / of, resamples=200) == tuple(expected)


def test_the_pigeonhole_bootstrap_draws_the_same_again_and_depends_on_its_seed():
    d = crossed(1, 1, 1, (5, 30), np.random.default_rng(0))
    assert pigeonhole_interval(d, resamples=99) == pigeonhole_interval(d, resamples=99)
    assert pigeonhole_interval(d, resamples=99) != pigeonhole_interval(d, resamples=99, seed=7)


def test_sign_flips_of_darwin_s_maize_as_fisher_counted_them():
    assert sign_flip_p(DARWIN) == 2 * 863 / 2**15  # §21: 835 totals above the observed one, 28 equal to it


def test_sign_flips_by_hand():
    # |±1 ± 2 ± 4| is 7, 5, 3 or 1, each twice; -1 + 2 + 4 = 5.
    assert sign_flip_p([-1, 2, 4]) == 4 / 8
    # The zero doubles the two extreme flips; 0.1 + 0.2 - 0.3 is no tie but for rounding.
    assert sign_flip_p(SLEEP) == 4 / 2**10
    assert sign_flip_p([0.1, 0.2, -0.3]) == sign_flip_p([0.0, 0.0]) == sign_flip_p([5.0]) == 1
    # |±0.1 ± 0.2 ± 0.1| is 0.4, 0.2, 0.2 or 0, each twice, and 0.2 was observed: if not for rounding, a tie.
    assert sign_flip_p([80 - 80.1, 70.2 - 70, 60.1 - 60]) == 6 / 8


@given(hundredths=st.lists(st.integers(-500, 500), min_size=1, max_size=8))
@steady
def test_sign_flip_p_is_the_share_of_all_flips_counted_in_whole_numbers(hundredths):
    totals = [abs(sum(flip)) for flip in product(*((h, -h) for h in hundredths))]
    expected = sum(total >= abs(sum(hundredths)) for total in totals) / len(totals)
    # As accuracies differ: 80.3 - 80 is not 0.3, and ties must be ties all the same.
    assert sign_flip_p([(8000 + h) / 100 - 80 for h in hundredths]) == expected


@pytest.mark.parametrize("n", [*range(1, 9), 16])
def test_the_smallest_sign_flip_p(n):
    assert sign_flip_p(np.arange(1, n + 1)) == 2 / 2**n


def test_many_seeds_are_drawn_and_never_give_zero():
    assert sign_flip_p(np.arange(1, 41)) == 2**-16
    # Zeros change no share, but are too many to count all. The sd of the drawn p is 0.0009.
    assert sign_flip_p([*DARWIN, 0, 0]) == pytest.approx(1726 / 2**15, abs=0.004)
    assert sign_flip_p(np.ones(20)) == sign_flip_p(np.ones(20))


def test_sign_flips_need_a_seed_and_all_of_them():
    assert np.isnan(sign_flip_p([])) and np.isnan(sign_flip_p([1.0, np.nan]))


@given(d=differences(1), scale=st.sampled_from([1e-3, 1 / 3, 7.0]), data=st.data())
@steady
def test_sign_flip_p_does_not_depend_on_sign_unit_or_order(d, scale, data):
    p = sign_flip_p(d)
    assert 2 / 2**len(d) <= p <= 1
    assert p == sign_flip_p(-d) == sign_flip_p(scale * d) == sign_flip_p(data.draw(st.permutations(d.tolist())))


def test_holm_by_hand():
    # 4 × 0.005, 3 × 0.01, 2 × 0.03, 1 × 0.04 and no smaller than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])


def test_holm_neither_counts_nor_loses_a_claim_that_was_not_tested():
    np.testing.assert_allclose(holm([np.nan, 0.04, 0.01, np.nan]), [np.nan, 0.04, 0.02, np.nan])
    assert np.isnan(holm([np.nan])).all() and holm([]).shape == (0,)


@given(p=arrays(float, st.integers(1, 10), elements=st.floats(0, 1)))
@steady
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


# Sample sizes for a paired t-test at α 0.05 and power 0.8, as Cohen's small, medium and large effects need: R's
# power.t.test(delta, sd = 1, power = 0.8, type = "paired") gives 198.15, 33.37 and 14.30.
@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_smallest_detectable_is_where_the_published_sample_size_is_enough(effect, seeds):
    assert smallest_detectable(_of_sd_one(seeds)) <= effect < smallest_detectable(_of_sd_one(seeds - 1))


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_a_t_test_detects_the_smallest_detectable_as_often_as_its_power(seeds):
    true = smallest_detectable(_of_sd_one(seeds))
    runs = np.random.default_rng(0).normal(true, 1, (20_000, seeds))
    assert np.mean(ttest_1samp(runs, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.015)  # 5 sd


def test_smallest_detectable_of_too_few_seeds_no_spread_and_too_little_power():
    assert np.isnan(smallest_detectable([1.0])) and np.isnan(smallest_detectable([1.0, np.nan]))
    assert smallest_detectable([80.3 - 80.0, 0.3]) == 0
    with pytest.raises(ValueError):
        smallest_detectable([1.0, 2.0], alpha=0.05, power=0.04)


@given(d=differences(2), shift=points, scale=st.sampled_from([0.1, 3.0]))
@steady
def test_smallest_detectable_knows_the_spread_alone(d, shift, scale):
    assert smallest_detectable(scale * d + shift) == pytest.approx(scale * smallest_detectable(d), rel=1e-6, abs=1e-6)


def test_rank_correlations_by_hand():
    # Four ranks are off by one, ρ = 1 - 6 · 4 / (5 · 24); of the ten pairs two are swapped, τ = (8 - 2) / 10.
    assert rank_correlation([1, 2, 3, 4, 5], [20, 10, 30, 50, 40]) == pytest.approx((0.8, 0.6))
    # A tie: 9 of 10 pairs agree and one is tied in `measured`, so τ-b = 9 / √(10 · 9).
    assert rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 4, 4])[1] == pytest.approx(9 / 90**0.5)
    # The same tie, but for rounding.
    assert rank_correlation([1, 2, 3, 4, 5], [0.0, 0.1, 0.2, 0.3, 0.1 + 0.2])[1] == pytest.approx(9 / 90**0.5)


def test_rank_correlation_needs_rows_that_have_both_and_differ():
    rho, tau = rank_correlation([1, 2, np.nan, 3, 4], [1, np.nan, 3, 5, 7])
    assert rho == pytest.approx(1) and np.isnan(tau)
    rho, tau = rank_correlation([1, 2, 3, 4], [4, 3, 2, 1])
    assert rho == pytest.approx(-1) and np.isnan(tau)
    assert np.isnan(rank_correlation([1, 2], [1, 2])).all()
    assert np.isnan(rank_correlation([1, 2, 3, 4, 5], [7.0] * 5)).all()
    assert np.isnan(rank_correlation([], [])).all()


@given(pairs=arrays(float, st.tuples(st.just(2), st.integers(5, 9)), elements=points))
@steady
def test_rank_correlation_is_symmetric_bounded_and_of_ranks_alone(pairs):
    a, b = pairs
    assume(np.ptp(a) > 0 and np.ptp(b) > 0)
    both = rank_correlation(a, b)
    assert np.abs(both).max() <= 1 + 1e-9
    assert rank_correlation(b, a) == pytest.approx(both)
    assert rank_correlation(-a, b) == pytest.approx(np.negative(both))
    assert rank_correlation(3 * a - 2, b) == pytest.approx(both)


def test_noise_ceiling_by_hand():
    same, swapped, reverse = [1, 2, 3], [2, 1, 3], [3, 2, 1]
    assert noise_ceiling([same, swapped]) == pytest.approx(0.5)
    # Of three seeds each is left out in turn: ρ is 1/2, -1 and -1/2.
    assert noise_ceiling([same, swapped, reverse]) == pytest.approx(-1 / 3)
    # Three splits of four: the halves' means of (1, 2, 3)s and of two swapped ones, (1.5, 1.5, 3) against itself twice.
    assert noise_ceiling([same, same, swapped, swapped]) == pytest.approx((0.5 + 1 + 1) / 3)
    # A tie in both seeds, if not for rounding.
    assert noise_ceiling([[0.3, 0.1 + 0.2, 1], [1, 1, 2]]) == pytest.approx(1)


def test_noise_ceiling_of_many_seeds_is_over_a_sample_of_halves_and_always_the_same():
    noisy = np.random.default_rng(1).normal(np.arange(5), 3, (13, 5))
    halves = [(a, b) for a in combinations(range(13), 6)
              for b in combinations([seed for seed in range(13) if seed not in a], 6) if a < b]
    some = np.random.default_rng(2).choice(len(halves), 300, replace=False)
    sample = np.mean([rank_correlation(*(noisy[list(half)].mean(0) for half in halves[i]))[0] for i in some])
    assert noise_ceiling(noisy) == noise_ceiling(noisy) == pytest.approx(sample, abs=0.08)
    assert noise_ceiling(np.tile(np.arange(4), (40, 1))) == 1


def test_noise_ceiling_needs_two_seeds_three_rows_and_a_ranking():
    assert np.isnan(noise_ceiling([[1, 2, 3]])) and np.isnan(noise_ceiling(np.empty((0, 3))))
    assert np.isnan(noise_ceiling([[1, 2], [1, 2]]))
    assert np.isnan(noise_ceiling([[1, 2, 3], [5, 5, 5]]))
    assert noise_ceiling([[1, 2, 3, np.nan], [1, 2, 3, 0]]) == pytest.approx(1)


@given(values=arrays(float, st.tuples(st.integers(2, 5), st.integers(3, 6)), elements=points), data=st.data())
@steady
def test_noise_ceiling_does_not_depend_on_the_order_of_seeds_or_rows(values, data):
    ceiling = noise_ceiling(values)
    shuffled = values[data.draw(st.permutations(range(len(values))))]
    shuffled = shuffled[:, data.draw(st.permutations(range(values.shape[1])))]
    assert noise_ceiling(shuffled) == pytest.approx(ceiling, nan_ok=True)


def _of_sd_one(seeds: int) -> np.ndarray:
    spread = np.linspace(-1, 1, seeds)
    return spread / spread.std(ddof=1)

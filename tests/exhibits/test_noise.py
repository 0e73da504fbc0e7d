"""What may be chance: of seeds, of test images, of both, and of nothing known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from ghostlib.exhibits import noise
from ghostlib.training.bits import packed

REACH = 1.959964 + 0.841621  # the level 0.05 from both sides, and the power 0.8
OF_TWO, OF_THREE = 12.706205 + 1.376382, 4.302653 + 1.060660  # the same of Student's quantiles, of so many seeds


def results(values):
    """(row, column) -> a value a seed."""
    return pd.DataFrame([(*cell, seed, "test_top1", value) for cell, of_cell in values.items()
                         for seed, value in enumerate(of_cell)], columns=["row", "column", "seed", "metric", "value"])


def correct(right):
    """(row, column) -> for each seed which images are right."""
    return pd.DataFrame([(*cell, seed, len(images), packed(np.array(images, dtype=bool))) for cell, of_cell in
                         right.items() for seed, images in enumerate(of_cell)],
                        columns=["row", "column", "seed", "images", "correct"])


def test_of_seeds_it_is_the_median_over_the_pairs_of_cells():
    frame = results({("a", "x"): [1, 1, 1], ("b", "x"): [1, 2, 3], ("c", "x"): [0, 4, 8]})
    sds = np.array([3, 1, 4])  # of the differences: the median, the least and the most
    assert noise.detectable(frame) == pytest.approx(tuple(OF_THREE * sds / 3 ** 0.5), rel=0.01)
    lost = pd.DataFrame([("d", "x", seed, metric, value) for seed, metric, value in
                         ((0, "test_top1", 90.0), (1, "test_top1", 10.0), (2, "diverged", 1.0))], columns=frame.columns)
    assert noise.detectable(pd.concat([frame, lost])) == noise.detectable(frame), "a cell of which a seed diverged"


def test_one_seed_has_the_test_images_alone():
    frame = results({("a", "x"): [50.0], ("b", "x"): [50.0]})
    assert np.isnan(noise.detectable(frame)).all()
    found = noise.detectable(frame, correct({("a", "x"): [[1, 1, 0, 0]], ("b", "x"): [[1, 0, 1, 0]]}))
    assert found == pytest.approx((REACH * 100 * (2 / 3 / 4) ** 0.5,) * 3)


def test_seeds_and_test_images_add_up_in_squares():
    frame = results({("a", "x"): [50, 52], ("b", "x"): [50, 50]})
    right = correct({("a", "x"): [[1, 1, 0, 0]] * 2, ("b", "x"): [[1, 0, 1, 0]] * 2})
    assert noise.detectable(frame, right).median == pytest.approx((OF_TWO**2 + REACH**2 * 1e4 * 2 / 3 / 4) ** 0.5,
                                                                 rel=0.02)


@pytest.mark.parametrize("seeds", range(3, 31))
def test_student_s_quantiles_are_those_of_scipy(seeds):
    for level in (0.8, 0.9, 0.975):
        assert noise._student(norm.ppf(level), seeds - 1) == pytest.approx(t.ppf(level, seeds - 1), rel=0.01)


def test_one_cell_has_nothing_to_differ_from():
    assert np.isnan(noise.detectable(results({("a", "x"): [1, 2]}))).all()

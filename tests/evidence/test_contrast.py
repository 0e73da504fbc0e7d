"""Differences by seed and by image: paired, of the same trainings, and nothing where something is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ghostlib.evidence import measured, stats
from ghostlib.evidence.contrast import Contrast, Measured
from ghostlib.paper import claims
from tests.evidence.files import cosine, right, write, write_right

RULE, _ = claims.load()
STEP, ZERO, FIVE = (("table_6", "w/ ReP&KD", column) for column in ("step", "cosine_0", "cosine_1e-5"))


def load(folder: Path) -> Measured:
    return Measured.load(folder, measured.read(folder))


@pytest.fixture
def by_image(tmp_path) -> dict[tuple[str, str, str], np.ndarray]:
    """A file with three cells of three seeds and 40 images."""
    cells = {STEP: right([0, 0.05, 0], 40, 0.1, seed=1), ZERO: right([0.1, 0.1, 0.15], 40, 0.1, seed=2),
             FIVE: right([0.1, 0.05, 0.2], 40, 0.1, seed=3)}
    write_right(tmp_path, "table_6", {cell[1:]: of for cell, of in cells.items()})
    return cells


def test_which_images_are_right_is_read_as_it_was_written(tmp_path, by_image):
    found = load(tmp_path).correct
    assert all((found[cell][seed] == of[seed]).all() for cell, of in by_image.items() for seed in range(3))


def test_a_difference_is_of_the_same_seeds_and_the_same_images(tmp_path, by_image):
    contrast = Contrast.between(ZERO, STEP, load(tmp_path))
    np.testing.assert_array_equal(contrast.images, 100.0 * (by_image[ZERO].astype(int) - by_image[STEP]))
    np.testing.assert_allclose(contrast.seeds, contrast.images.mean(axis=1))
    record = contrast.record(RULE, comparisons=3)
    assert (record["low"], record["high"]) == pytest.approx(stats.crossed_interval(contrast.images))
    assert record["most"] == pytest.approx(stats.crossed_interval(contrast.images, 1 - 0.05 / 3)[1])
    half = np.hypot(record["half_seeds"], record["half_images"])
    assert half == pytest.approx((record["high"] - record["low"]) / 2)
    assert record["detectable"] > stats.smallest_detectable(contrast.seeds)


def test_the_mean_is_over_the_seeds_that_all_have(tmp_path, by_image):
    path = tmp_path / "runs" / "table_6.csv"
    runs = pd.read_csv(path)
    runs[(runs["seed"] != 1) | (runs["column"] != "cosine_0")].to_csv(path, index=False)
    path = tmp_path / "correct" / "table_6.csv"
    correct = pd.read_csv(path)
    correct[(correct["seed"] != 1) | (correct["column"] != "cosine_0")].to_csv(path, index=False)
    values = load(tmp_path)
    mean = Contrast.mean([Contrast.between(ZERO, STEP, values), Contrast.between(FIVE, STEP, values)])
    expected = 50.0 * (by_image[ZERO].astype(int) + by_image[FIVE] - 2 * by_image[STEP].astype(int))[[0, 2]]
    assert list(mean.seeds.index) == [0, 2]
    np.testing.assert_allclose(mean.images, expected)
    np.testing.assert_allclose(mean.seeds, expected.mean(axis=1))


def test_one_seed_or_cell_without_its_images_leaves_student_s_interval(tmp_path, by_image):
    path = tmp_path / "correct" / "table_6.csv"
    correct = pd.read_csv(path)
    correct[(correct["seed"] != 1) | (correct["column"] != "cosine_0")].to_csv(path, index=False)
    values = load(tmp_path)
    lacking, whole = Contrast.between(ZERO, STEP, values), Contrast.between(FIVE, STEP, values)
    assert lacking.images is None and whole.images is not None
    assert lacking.interval(0.95) == stats.t_interval(lacking.seeds) and len(lacking.seeds) == 3
    assert Contrast.mean([lacking, whole]).images is None


def test_cells_of_other_test_images_are_not_paired_by_image(tmp_path, by_image):
    write_right(tmp_path, "table_7", {("w/ ReP&KD", "0.05"): right([0, 0, 0], 50, 0.1)})
    contrast = Contrast.between(("table_7", "w/ ReP&KD", "0.05"), STEP, load(tmp_path))
    assert contrast.images is None and len(contrast.seeds) == 3


def test_images_of_other_trainings_are_an_error_that_names_the_files(tmp_path, by_image):
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [75, 76.5, 77]))
    with pytest.raises(ValueError, match=r"correct/table_6\.csv is not of the trainings in runs/table_6\.csv: w/ ReP"):
        load(tmp_path)


def test_images_of_an_experiment_whose_results_were_removed_count_for_nothing(tmp_path, by_image):
    (tmp_path / "runs" / "table_6.csv").unlink()
    assert not any(cell[0] == "table_6" for cell in load(tmp_path).correct)


def test_nothing_is_known_of_old_results_but_their_accuracies(tmp_path):
    write(tmp_path, "table_6", cosine([70, 71, 72], [80, 81.5, 82], [75, 76.5, 77]))
    contrast = Contrast.between(ZERO, STEP, load(tmp_path))
    record = contrast.record(RULE)
    assert (record["low"], record["high"]) == stats.t_interval([10, 10.5, 10])
    assert np.isnan([record[name] for name in ("half_images", "crossed_low", "crossed_high", "loss", "loss_low",
                                               "loss_high", "p")]).all()


def test_seeds_whose_differences_files_round_apart_are_alike(tmp_path):
    """Of 360 images one more is right in each of three seeds: by four decimals the differences seem to vary."""
    hits = {STEP[1:]: [344, 340, 341], ZERO[1:]: [345, 341, 342]}
    cells = {cell: np.array([np.arange(360) < count for count in counts]) for cell, counts in hits.items()}
    write_right(tmp_path, "table_6", cells)
    contrast = Contrast.between(ZERO, STEP, load(tmp_path))
    assert contrast.images is not None and contrast.record(RULE)["half_seeds"] == 0


def test_one_seed_has_a_difference_and_no_interval(tmp_path):
    write_right(tmp_path, "table_6", {STEP[1:]: right([0], 40), ZERO[1:]: right([0.1], 40)},
                {STEP[1:]: [0.5], ZERO[1:]: [0.4]})
    record = Contrast.between(ZERO, STEP, load(tmp_path)).record(RULE)
    assert record["ours"] == pytest.approx(10, abs=5) and record["loss"] == pytest.approx(-0.1)
    assert np.isnan([record[name] for name in ("low", "high", "most", "crossed_low", "detectable", "loss_low")]).all()


def test_a_loss_that_one_seed_lacks_is_not_that_of_the_others(tmp_path):
    cells = {STEP[1:]: right([0] * 3, 40, 0.1, seed=1), ZERO[1:]: right([0.1] * 3, 40, 0.1, seed=2)}
    write_right(tmp_path, "table_6", cells, {STEP[1:]: [0.5, 0.51, 0.5], ZERO[1:]: [0.4, 0.4]})
    record = Contrast.between(ZERO, STEP, load(tmp_path)).record(RULE)
    assert record["seeds"] == 3 and np.isnan([record["loss"], record["loss_low"], record["loss_high"]]).all()

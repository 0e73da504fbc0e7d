"""Table 10: measured beside published, and the picture of what was measured as found."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ghostlib.exhibits import detection, figures
from ghostlib.models import catalog
from ghostlib.paper.numbers import MAP

COUNTED = pd.DataFrame([{"table": "table_10", "row": row, "quantity": "FLOPs (M)", "paper": 1.0, "measured": 2.0}
                        for row in catalog.backbones()])


@pytest.fixture
def compared():
    values = {"mAP": 20.0, "AP50": 40.0, "AP small": float("nan"), "untrained AP50": 0.1}
    return detection.compare(pd.DataFrame([
        {"row": row, "metric": metric, "value": value + seed, "seed": seed}
        for row in catalog.backbones() for seed in (0, 1) for metric, value in values.items()]))


def test_every_row_has_mean_sd_and_seeds_and_only_the_map_has_the_paper_s(compared):
    cell = compared.set_index(["row", "quantity"]).loc["GhostNetV3 1.0× @416"]
    assert cell.loc[MAP, ["paper", "measured", "seeds"]].tolist() == [24.6, 20.5, 2]
    assert cell.loc["AP50", "measured"] == 40.5 and np.isnan(cell.loc["AP50", "paper"])
    assert cell.loc["AP small", "seeds"] == 0 and cell.loc["untrained AP50", "sd"] == pytest.approx(0.5 ** 0.5)


def test_a_row_of_which_a_seed_diverged_has_no_mean():
    results = [{"row": row, "metric": "mAP", "value": 20.0, "seed": seed} for row in catalog.backbones()
               for seed in (0, 1)]
    results[1] |= {"metric": "diverged", "value": 1.0}
    first, second, *_ = detection.compare(pd.DataFrame(results)).query("quantity == @MAP").itertuples()
    assert np.isnan(first.measured) and first.seeds == 1 and second.measured == 20
    assert (first.diverged, second.diverged) == (1, 0)


def test_where_every_detector_diverged_the_table_and_the_picture_say_so():
    results = pd.DataFrame([{"row": row, "metric": "diverged", "value": 1.0, "seed": 0}
                            for row in catalog.backbones()])
    compared = detection.compare(results)
    shown = detection.table_of_detectors(compared, COUNTED)
    assert set(shown[MAP, "ours"]) == {"diverged (1 of 1)"} and ("AP50", "ours") not in shown
    drawn = detection.by_resolution(compared.query("quantity == @MAP"))
    figure = figures.compare(drawn, detection.by_resolution(results.assign(column="mAP")), "a title", "a scale")
    assert "of every cell a training diverged" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_what_no_image_holds_has_no_column(compared):
    table = detection.table_of_detectors(compared, COUNTED)
    assert list(table.index) == list(catalog.backbones())
    assert table.loc["MobileNetV2 @320", (MAP, "ours")] == "20.5 ± 0.7"
    assert ("AP50", "ours") in table and ("AP small", "ours") not in table


def test_backbone_and_resolution_are_a_row_and_a_column(compared):
    by_side = detection.by_resolution(compared)
    assert set(by_side["column"]) == {"320 px", "416 px"}
    assert set(by_side["row"]) == {"MobileNetV2", "GhostNetV1 1.1×", "GhostNetV2 1.0×", "GhostNetV3 1.0×"}


def test_a_profile_of_smaller_images_says_its_own_resolutions():
    assert detection.sides_here("digits") == {"320 px": "320 px, here 96", "416 px": "416 px, here 128"}
    assert detection.sides_here("imagenet") == {}


def test_of_overlapping_detections_the_most_certain_is_drawn_where_its_score_is_high_enough(tmp_path):
    there = {"category": "7", "bbox": [1, 2, 8, 9]}
    found = [{"category": category, "bbox": bbox, "score": score} for category, bbox, score in (
        ("7", [1, 2, 8, 8], 0.9), ("1", [1, 2, 8, 9], 0.8), ("4", [9, 2, 6, 9], 0.2), ("3", [0, 11, 5, 5], 0.05))]
    Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(tmp_path / "1.png")
    (tmp_path / "detections.json").write_text(json.dumps({"measured_at": "a scale", "images": [
        {"file": "1.png", "objects": [there], "detections": {"GhostNetV3 1.0× @416": found}}]}))
    figure = detection.pictures(tmp_path)
    truth, ours = figure.axes
    assert [text.get_text() for text in truth.texts] == ["7"]
    assert [text.get_text() for text in ours.texts] == ["4 0.20", "7 0.90"]
    assert [box.get_linestyle() for box in (*truth.patches, *ours.patches)] == ["-", (0, (3, 1.5)), "-"]
    assert ours.get_title(loc="left") == "GhostNetV3 1.0× @416"
    assert "score 0.1 or more" in figure.get_suptitle() and "a scale" in figure.get_suptitle()


@pytest.mark.parametrize(("other", "share"), [([0, 0, 2, 2], 1), ([2, 0, 2, 2], 0), ([1, 0, 2, 2], 1 / 3),
                                              ([0, 0, 1, 1], 1 / 4)])
def test_overlap_is_intersection_over_union(other, share):
    assert detection.overlap([0, 0, 2, 2], other) == pytest.approx(share)

"""The charts of Figures 1 and 5 as data: what each panel holds, and that it is JSON that a page can carry."""

from __future__ import annotations

import json
import re

import altair
import pytest
from matplotlib.colors import to_rgb

from ghostlib.site import charts


@pytest.mark.parametrize("name, titles", [
    ("figure_1", ["The paper", "Latency measured here in one session, accuracy as published",
                  "Trained here at the scale of tiny, the whole network's cost"]),
    ("figure_5", ["The paper", "Counted here, accuracy as published", "The paper (no phone was measured here)",
                  "Trained here at the scale of tiny, the whole network's cost"])])
def test_a_figure_has_the_panels_of_its_picture(folder, name, titles):
    drawn = charts.figure(name, folder, "Some CPU")
    assert [panel["title"] for panel in drawn["panels"]] == titles
    for panel in drawn["panels"]:
        altair.LayerChart.from_dict(panel["spec"])  # raises what is against Vega-Lite's schema
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn


def test_an_exhibit_that_is_no_landscape_has_no_chart_and_none_has_one_without_table_9(folder):
    assert charts.figure("figure_2", folder, "") is None
    (folder / "tables" / "table_9.csv").unlink()
    assert charts.figure("figure_1", folder, "") is None


def test_a_network_tells_its_numbers_the_paper_s_and_ours_and_of_what(folder):
    rows = {row["title"]: row for row in charts.figure("figure_1", folder, "")["rows"]}
    assert rows["GhostNetV3 1.0×"]["cpu"] == "paper (i7-8700): 7.8 · here: 10.1"
    assert rows["GhostNetV3 1.0×"]["top1"].startswith("paper (ImageNet): 77.1 · here (tiny): ")
    assert rows["MobileOne-S1"]["top1"] == "paper (ImageNet): 75.9" and rows["MobileOne-S1"]["top1_measured"] is None
    assert rows["MobileNetV2 1.0× + ours"]["family"] == "MobileNet"
    assert rows["MobileNetV2 1.0× + ours"]["outline"] == "GhostNetV3"


def test_an_axis_holds_every_point_and_only_measured_accuracies_are_filled(folder):
    drawn = charts.figure("figure_1", folder, "")
    for panel in drawn["panels"]:
        points = panel["spec"]["layer"][-1]["encoding"]
        x, y = points["x"]["field"], points["y"]["field"]
        shown = [row for row in drawn["rows"] if row[x] is not None and row[y] is not None]
        assert len(shown) == (3 if y == "top1_measured" else 4)
        for axis, field in (("x", x), ("y", y)):
            low, high = points[axis]["scale"]["domain"]
            assert all(low < row[field] < high for row in shown)
        assert ("field" in points["fill"]) == (y == "top1_measured")


def test_families_differ_in_shape_and_stand_out_from_either_page(folder):
    families = charts.figure("figure_1", folder, "")["families"]
    assert len({family["shape"] for family in families}) == len(families)
    for family in families:
        assert contrast(family["light"], "#ffffff") >= 3 <= contrast(family["dark"], "#161a18")


def test_vega_s_names_are_not_the_page_s():
    library = charts.library()
    assert library.startswith("(() => {") and library.rstrip().endswith("})();")
    assert "window.vegaEmbed=" in library and not re.search(r"\bimport\s*\(?[\"']https?:", library)


def contrast(first: str, second: str) -> float:
    """By WCAG 2.1."""
    def luminance(color: str) -> float:
        channels = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(color)]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)

"""Figures 1 and 5: every row has a name that hides nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from ghostlib.exhibits import comparison, figures, landscape, panels
from ghostlib.models import catalog
from ghostlib.paper import numbers

TRAINED = {"GhostNetV3 1.0×": 81.0, "MobileNetV2 1.0× + ours": 70.0}  # %


@pytest.fixture(scope="module")
def compared():
    """Table 9 with what `landscape` reads of it: row, quantity, paper, measured."""
    published = numbers.table("table_9")
    measured = published.copy()
    # Powers of 1.1, so that no two of our points fall together as V2's and V3's do in the paper.
    measured[numbers.CPU] = [1.1 ** i for i in range(len(measured))]
    measured[numbers.MACS] = 2 * published[numbers.MACS]
    measured[numbers.TOP1] = published.index.map(TRAINED)
    long = [frame.rename_axis(index="row", columns="quantity").stack(future_stack=True).rename(source)
            for source, frame in (("paper", published), ("measured", measured))]
    frame = long[0].to_frame().join(long[1]).reset_index().assign(sd=np.nan, seeds=1, low=np.nan, high=np.nan)
    timed = frame["quantity"] == numbers.CPU
    frame.loc[timed, "low"], frame.loc[timed, "high"] = 0.9 * frame["measured"], 1.3 * frame["measured"]
    return frame


def figure_1(compared):
    return landscape.figure("figure_1", compared, "Figure 1", "Some CPU", "digits")


def figure_5(compared):
    return landscape.figure("figure_5", compared, "Figure 5", "Some CPU", "digits")


@pytest.mark.parametrize(("row", "expected"), [
    ("GhostNetV3 0.5×", ("GhostNetV3", "0.5×")), ("MobileNetV3-S", ("MobileNet", "V3-S")),
    ("MobileNetV2 1.0× + ours", ("MobileNet", "V2 1.0× + ours")), ("MobileNeXt 1.4×", ("MobileNet", "NeXt 1.4×")),
    ("MobileViT-XXS", ("transformer", "MobileViT-XXS")), ("MobileOne-S0", ("MobileOne", "S0"))])
def test_a_row_belongs_to_one_family(row, expected):
    assert panels.family(row) == expected


def test_every_row_belongs_to_a_family_and_an_unknown_one_does_not():
    labels = [panels.family(row) for row in catalog.rows()]
    assert len(set(labels)) == len(labels)
    with pytest.raises(ValueError, match="'VGG-16' belongs to no family"):
        panels.family("VGG-16")


def panels_of(figure):
    """Without the legend's."""
    return [axis for axis in figure.axes if axis.axison]


def points_of(axis):
    return [point for family in axis.collections if isinstance(family, PathCollection)
            for point in family.get_offsets()]


@pytest.mark.parametrize(("draw", "rows"), [(figure_1, [43, 43, 2]), (figure_5, [43, 43, 43, 2])])
def test_every_row_has_a_name_that_hides_neither_another_nor_a_point(compared, draw, rows):
    figure = draw(compared)
    renderer = FigureCanvasAgg(figure).get_renderer()
    assert [len([text for text in axis.texts if text.get_text()]) for axis in panels_of(figure)] == rows
    for axis in panels_of(figure):
        names = [(text.get_text(), Text.get_window_extent(text, renderer)) for  # without its line
                 text in axis.texts if text.get_text()]
        points = [axis.transData.transform(point) for point in points_of(axis)]
        assert len(points) == len(names)
        discs = [("a point", Bbox.from_extents(*(place - 3), *(place + 3))) for place in points]  # px
        hidden = [(a, b) for (a, first), (b, second) in (
            *combinations(names, 2), *((name, disc) for name in names for disc in discs)) if first.overlaps(second)]
        assert not hidden, (axis.get_title(loc="left"), hidden)


@pytest.mark.parametrize(("draw", "rows"), [(figure_1, [43, 43, 2]), (figure_5, [43, 43, 43, 2])])
def test_public_weights_have_a_panel_of_their_own_where_any_were_scored(compared, draw, rows):
    scored = pd.DataFrame({"row": ["DeiT-tiny", "PiT-ti", "PiT-xs"], "quantity": comparison.WEIGHTS_TOP1,
                           "measured": [72.2, 72.9, 78.2]})
    panels = panels_of(draw(pd.concat([compared, scored])))
    assert [len([text for text in axis.texts if text.get_text()]) for axis in panels] == [*rows, 3]
    assert panels[-1].get_title(loc="left") == "Both measured here, published weights"
    assert sorted(y for _, y in points_of(panels[-1])) == [72.2, 72.9, 78.2]


@pytest.mark.parametrize(("draw", "titles"), [
    (figure_1, ["The paper", "Latency measured here in one session, accuracy as published"]),
    (figure_5, ["The paper", "Counted here, accuracy as published", "The paper (no phone was measured here)"])])
def test_where_every_training_diverged_there_is_no_panel_of_them(compared, draw, titles):
    none = compared.assign(measured=compared["measured"].mask(compared["quantity"] == numbers.TOP1))
    assert [axis.get_title(loc="left") for axis in panels_of(draw(none))] == titles


def test_what_was_not_measured_may_come_as_objects(compared):
    """As it does where a profile trains no row."""
    measured = compared["measured"].mask(compared["quantity"] == numbers.TOP1).astype(object)
    assert len(panels_of(figure_1(compared.assign(measured=measured, low=measured)))) == 2


def test_a_latency_measured_here_has_a_whisker_and_the_paper_s_has_none(compared):
    paper, timed, trained = panels_of(figure_1(compared))
    whiskers = [[segment for lines in axis.collections if isinstance(lines, LineCollection)
                 for segment in lines.get_segments()]
                for axis in (paper, timed, trained)]
    assert [len(segments) for segments in whiskers] == [0, 43, 2]
    assert all(end[0] / start[0] == pytest.approx(1.3 / 0.9) for start, end in whiskers[1])


def test_an_accuracy_measured_here_is_filled_and_a_published_one_hollow(compared):
    paper, timed, trained = panels_of(figure_1(compared))
    fills = [{to_hex(color) for family in axis.collections if isinstance(family, PathCollection)
              for color in family.get_facecolor()} for axis in (paper, timed, trained)]
    assert fills[0] == fills[1] == {"#ffffff"} and "#ffffff" not in fills[2]
    assert trained.get_title(loc="left").endswith("(one seed)")


def test_equal_values_give_equal_files(compared, tmp_path):
    for folder in ("a", "b"):
        figures.write(figure_1(compared), tmp_path / folder, "figure_1")
    for name in ("figure_1.png", "figure_1.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

"""Figures: what is drawn is what was given, twice the same file."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ghostlib.exhibits import figures, tables
from ghostlib.paper import numbers
from tests.reporting.test_tables import results_of

NAMES = [f"table_{i}" for i in range(1, 9)] + ["figure_3", "figure_4"]


STAND_INS = {"BEiTv2-B": "BEiTv2-B (stand-in: a small network, 15 epochs, 99.9 %)"}


def draw(name, seeds=(0, 1)):
    results = results_of(name, seeds)
    title, scale = f"{name}: a title", "a scale " * 20
    return figures.compare(tables.compare(name, results), results, title, scale, "x", STAND_INS)


@pytest.mark.parametrize("name", NAMES)
def test_every_measured_value_and_every_printed_one_is_on_a_panel(name):
    figure = draw(name)
    printed = numbers.table(name)
    assert len(figure.axes) == (1 if printed.isna().all(axis=None) else 2)
    ours = sorted(y for line in figure.axes[-1].lines for y in line.get_ydata())
    assert ours == pytest.approx(sorted(50.5 + i for i in range(printed.size)))
    if len(figure.axes) == 2:
        theirs = sorted(y for line in figure.axes[0].lines for y in line.get_ydata() if y == y)
        assert theirs == pytest.approx(sorted(printed.stack().dropna()))


@pytest.mark.parametrize("name", ["table_1", "table_3", "table_8", "figure_4"])
def test_no_label_hides_another(name):
    figure = draw(name)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [*figure.texts,
             *(text for axis in figure.axes for text in (axis.title, axis._left_title, axis.xaxis.label)),
             *(text for legend in figure.legends for text in legend.get_texts())]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text().strip()]
    overlaps = [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.overlaps(b)]
    assert not overlaps, [(texts[i].get_text(), texts[j].get_text()) for i, j in overlaps]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)


def test_equal_numbers_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        figures.write(draw("table_7"), tmp_path / folder, "table_7")
    for ending in (".png", ".svg"):
        assert (tmp_path / "a" / f"table_7{ending}").read_bytes() == (tmp_path / "b" / f"table_7{ending}").read_bytes()

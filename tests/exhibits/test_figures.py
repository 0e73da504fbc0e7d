"""Figures: what is drawn is what was given, twice the same file."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ghostlib.exhibits import figures, tables
from ghostlib.paper import numbers
from tests.exhibits.test_tables import results_of

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


def test_a_shown_figure_carries_its_name_and_is_the_file_that_was_written(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda image, metadata: shown.append((image, metadata)))
    figure = draw("table_7")
    figures.show(figure, tmp_path, "table_7")
    figures.display(figures.curves(history(), "a title"))
    (image, metadata), (curves, nothing) = shown
    assert metadata == {"figure": "table_7"} and nothing == {}
    assert image.data == (tmp_path / "table_7.png").read_bytes() and image.width == 880
    assert curves.data.startswith(b"\x89PNG")
    assert (tmp_path / "table_7.svg").read_bytes().startswith(b"<?xml")


def history():
    return pd.DataFrame([{"row": row, "column": "c", "seed": seed, "epoch": epoch, "accuracy": 10 * epoch + seed}
                         for row in ("a", "b") for seed in (0, 2) for epoch in (1, 2)])


def test_a_learning_curve_is_the_mean_over_the_seeds():
    (axis,) = figures.curves(history(), "a title").axes
    assert [line.get_label() for line in axis.lines] == ["a, c", "b, c"]
    assert all(list(line.get_ydata()) == [11, 21] for line in axis.lines)


def test_learning_curves_show_the_validation_where_there_was_one():
    validated = history().assign(val_top1=lambda table: table["epoch"].where(table["epoch"] == 2) + table["seed"])
    training, validation = figures.curves(validated, "a title").axes
    assert training.get_ylabel() == "accuracy on training views (%)"
    assert validation.get_ylabel() == "top-1 on validation images (%)"
    assert all(list(line.get_xdata()) == [2] and list(line.get_ydata()) == [3] for line in validation.lines)


def test_equal_numbers_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        figures.write(draw("table_7"), tmp_path / folder, "table_7")
    for ending in (".png", ".svg"):
        assert (tmp_path / "a" / f"table_7{ending}").read_bytes() == (tmp_path / "b" / f"table_7{ending}").read_bytes()

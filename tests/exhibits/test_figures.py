"""Figures: what is drawn is what was given, twice the same file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ghostlib.exhibits import figures, noise, tables
from ghostlib.paper import numbers
from tests.exhibits.test_tables import results_of

NAMES = [f"table_{i}" for i in range(1, 9)] + ["figure_3", "figure_4"]


STAND_INS = {"BEiTv2-B": "BEiTv2-B (stand-in: a small network, 15 epochs, 99.9 %)"}


def draw(name, seeds=(0, 1), narrow=False):
    results = results_of(name, seeds)
    title, scale = f"{name}: a title", "a scale " * 20
    return figures.compare(tables.compare(name, results), results, title, scale, "x", STAND_INS, narrow=narrow)


def marks(axis):
    """The values of every mark that is drawn, in their order."""
    return sorted(y for drawn in axis.containers for y in drawn.lines[0].get_ydata() if y == y)


@pytest.mark.parametrize("name", NAMES)
def test_every_measured_value_and_every_printed_one_is_on_a_panel(name):
    figure = draw(name)
    printed = numbers.table(name)
    assert marks(figure.axes[-1]) == pytest.approx([50.5 + i for i in range(printed.size)])
    if printed.notna().any(axis=None):
        assert len(figure.axes) == 2
        assert marks(figure.axes[0]) == pytest.approx(sorted(printed.stack().dropna()))


@pytest.mark.parametrize(("name", "along", "lined"), [
    ("table_2", ["N=1", "N=2", "N=3", "N=4", "N=5"], True), ("table_3", ["α=0.5", "α=0.9", "α=1.0"], True),
    ("table_6", ["step", "cosine_0", "cosine_1e-5"], False), ("table_7", ["0.01", "0.03", "0.05", "0.07", "0.1"], True),
    ("table_8", ["AutoAug", "RandAug"], False)])
def test_lines_run_along_numbers_and_kinds_are_dots(name, along, lined):
    for axis in draw(name).axes:
        assert [label.get_text() for label in axis.get_xticklabels()][:len(along)] == along
        assert {drawn.lines[0].get_linestyle() for drawn in axis.containers} == {"-" if lined else "None"}


def test_rates_and_decays_lie_on_logarithms():
    assert np.diff(draw("figure_3").axes[0].get_xticks())[1:].tolist() == pytest.approx([np.log10(2)] * 3)
    assert draw("figure_4").axes[0].get_xticks().tolist() == pytest.approx([2, 3, 4, 4.30103, 5])


def test_a_point_of_accuracy_is_as_high_in_the_paper_s_panel_as_in_ours():
    for name, least in (("table_7", figures.SPAN), ("table_2", 10)):  # of cells 50.5, 51.5, ...
        paper, ours = (np.ptp(axis.get_ylim()) for axis in draw(name).axes)
        assert paper == pytest.approx(ours) and ours >= least


def test_where_the_paper_prints_nothing_and_ours_spread_far_the_best_have_a_panel_of_their_own():
    whole, best = draw("figure_3").axes
    assert best.get_title(loc="left") == "the same, the uppermost 5 points"
    assert np.ptp(best.get_ylim()) == pytest.approx(5) and best.get_ylim()[1] > whole.dataLim.y1 > 59
    results = results_of("figure_3", (0, 1), lambda i, seed: 50 + i / 10 + seed)
    near = figures.compare(tables.compare("figure_3", results), results, "t", "s")
    assert len(near.axes) == 1


def test_seeds_and_their_spread_are_drawn_and_what_may_be_chance_has_a_bar_that_is_told():
    results = results_of("table_7", range(4), lambda i, seed: 50 + i + (i + seed) % 2)
    figure = figures.compare(tables.compare("table_7", results), results, "t", "s")
    _, ours = figure.axes
    whiskers, dots, bar = ours.collections
    assert [np.ptp(path[:, 1]) for path in whiskers.get_segments()] == pytest.approx([2 * (1 / 3) ** 0.5] * 5)
    assert len(dots.get_offsets()) == 20
    assert np.ptp(bar.get_segments()[0][:, 1]) == pytest.approx(noise.detectable(results).median)
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["± standard deviation, and each, of 4 seeds",
                    "smallest detectable difference: 2.4 points in the median pair, 0.0 to 2.4 in all"]


@pytest.mark.parametrize("name", ["table_3", "figure_3"])
def test_the_form_for_phones_has_the_same_panels_one_a_row(name, tmp_path):
    wide, narrow = (draw(name, narrow=narrow) for narrow in (False, True))
    assert narrow.get_figwidth() < 4 and [marks(axis) for axis in narrow.axes] == [marks(axis) for axis in wide.axes]
    assert [axis.get_subplotspec().colspan.start for axis in narrow.axes] == [0, 0]
    figures.write(wide, tmp_path, name, narrow)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png", f"{name}.svg", f"{name}_narrow.svg"}


def test_only_our_panel_has_our_names_for_the_columns():
    results = results_of("table_7", (0, 1))
    figure = figures.compare(tables.compare("table_7", results), results, "t", "s", labels={"0.05": "0.05, here 1"})
    paper, ours = ([label.get_text() for label in axis.get_xticklabels()] for axis in figure.axes)
    assert "0.05" in paper and "0.05, here 1" in ours


def test_one_seed_says_that_it_has_no_spread():
    assert [text.get_text() for text in draw("table_7", [0]).legends[0].get_texts()] == ["one seed: no spread is known"]


@pytest.mark.parametrize("name", ["table_1", "figure_3"])
def test_an_experiment_that_the_profile_leaves_out_has_the_paper_s_panel_and_says_so(name):
    results = results_of(name).iloc[:0]
    figure = figures.compare(tables.compare(name, results), results, "a title", "a scale", "x", STAND_INS)
    assert figure.legends[0].get_texts()[-1].get_text() == "not measured at this profile" and not marks(figure.axes[-1])


def test_where_all_diverged_it_does_not_say_that_nothing_was_measured():
    results = results_of("table_7")
    comparison = tables.compare("table_7", results).assign(measured=np.nan, sd=np.nan, seeds=0, diverged=2)
    figure = figures.compare(comparison, results.iloc[:0], "a title", "a scale", "x", STAND_INS)
    assert figure.legends[0].get_texts()[-1].get_text() == "of every cell a training diverged"


def test_a_cell_of_which_a_seed_diverged_has_no_mark():
    results = results_of("table_7", (0, 1))
    lost = (results["column"] == "0.03") & (results["seed"] == 1)
    results.loc[lost & (results["metric"] == "test_top1"), ["metric", "value"]] = "diverged", 1.0
    figure = figures.compare(tables.compare("table_7", results), results, "t", "s")
    assert marks(figure.axes[-1]) == pytest.approx([50.5, 52.5, 53.5, 54.5])


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", ["table_1", "table_3", "table_8", "figure_4"])
def test_no_label_hides_another(name, narrow):
    figure = draw(name, narrow=narrow)
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


def test_a_learning_curve_is_the_mean_over_the_seeds_under_a_short_name():
    figure = figures.curves(history(), "a title")
    (axis,) = figure.axes
    assert [line.get_label() for line in axis.lines] == ["a", "b"]
    assert all(list(line.get_ydata()) == [11, 21] for line in axis.lines)
    assert figure.legends[0].get_title().get_text() == "mean of 2 seeds"


def test_where_every_training_diverged_it_says_so():
    (text,) = figures.curves(history()[:0], "How they learned.").texts
    assert text.get_text() == "How they learned. No training reached the end of an epoch."


def test_validation_is_dashed_in_the_colour_of_its_run_beside_the_losses():
    validated = history().assign(val_top1=lambda table: table["epoch"].where(table["epoch"] == 2) + table["seed"],
                                 loss=2.0, val_loss=1.0)
    figure = figures.curves(validated, "a title")
    accuracy, loss = figure.axes
    assert (accuracy.get_ylabel(), loss.get_ylabel()) == ("top-1 accuracy (%)", "loss (nats)")
    for axis in (accuracy, loss):
        training, validation = axis.lines[:2], axis.lines[2:]
        assert [line.get_color() for line in training] == [line.get_color() for line in validation]
        assert {line.get_linestyle() for line in training} == {"-"} != {line.get_linestyle() for line in validation}
    assert all(list(line.get_xdata()) == [2] and list(line.get_ydata()) == [3] for line in accuracy.lines[2:])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "in training",
                                                                           "on validation images"]


def test_no_two_runs_of_an_experiment_look_alike():
    cells = [(row, column) for row in ("w/o ReP", "w/ ReP") for column in ("1.0×", "1.3×", "1.6×")]
    frame = pd.DataFrame([{"row": row, "column": column, "seed": 0, "epoch": epoch, "loss": 1.0}
                          for row, column in cells for epoch in (1, 2)])
    (axis,) = figures.curves(frame, "a title").axes
    assert len({line.get_color() for line in axis.lines}) == len(axis.lines) == 6
    assert axis.lines[0].get_label() == "w/o ReP · 1.0×"


def test_equal_numbers_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        figures.write(draw("table_7"), tmp_path / folder, "table_7")
    for ending in (".png", ".svg"):
        assert (tmp_path / "a" / f"table_7{ending}").read_bytes() == (tmp_path / "b" / f"table_7{ending}").read_bytes()

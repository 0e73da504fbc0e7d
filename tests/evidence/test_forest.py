"""The picture of the claims: no value stretches its axis, and every symbol is told."""

from __future__ import annotations

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ghostlib.evidence import forest
from ghostlib.evidence.verdict import Verdict
from tests.evidence.files import cosine, judged, write


def drawn(tmp_path, outlier):
    write(tmp_path, "table_6", cosine([79.8, 80.1, 80.2], [80, 80.5, 81], [80.5, 80, 81]))
    found = judged(tmp_path)
    row = found.evidence[found.evidence["decides"]].dropna(subset="ours").iloc[:1]
    more = pd.concat([row.assign(ours=value) for value in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, outlier)])
    return found, forest.draw(found.claims, pd.concat([found.evidence, more]), "a scale")


def test_what_lies_far_beyond_all_else_is_written_at_the_edge(tmp_path):
    _, figure = drawn(tmp_path, 87.0)
    paper, ours = figure.axes
    assert ours.get_xlim()[1] < 30 and [text.get_text() for text in ours.texts] == ["+87 ▸"]
    assert not paper.texts


def test_an_interval_that_is_cut_ends_in_an_arrow(tmp_path):
    found, figure = drawn(tmp_path, 0.9)
    whole = [marker for marker in figure.axes[1].collections if len(marker.get_offsets()) == 1]
    wide = found.claims.assign(low=found.claims["low"].where(found.claims["id"] != "cosine-to-zero", -90.0))
    cut = forest.draw(wide, found.evidence, "a scale").axes[1]
    ends = [tuple(mark.get_offsets()[0]) for mark in cut.collections if len(mark.get_offsets()) == 1]
    assert cut.get_xlim()[0] > -90 and cut.get_xlim()[0] in {x for x, _ in ends}
    assert figure.axes[1].get_xlim()[0] not in {mark.get_offsets()[0][0] for mark in whole}


def test_what_is_near_the_others_is_drawn(tmp_path):
    _, figure = drawn(tmp_path, 0.9)
    assert not figure.axes[1].texts and figure.axes[1].get_xlim()[1] > 0.9


def test_on_a_phone_statements_stand_above_their_rows_and_hide_nothing(tmp_path):
    found, wide = drawn(tmp_path, 87.0)
    narrow = forest.draw(found.claims, found.evidence, "a scale " * 30, narrow=True)
    FigureCanvasAgg(narrow).draw()
    statements = [" ".join(label.get_text().split()) for label in wide.axes[0].get_yticklabels()]
    assert [" ".join(text.get_text().split()) for text in narrow.axes[0].texts] == statements
    boxes = [text.get_window_extent() for text in narrow.axes[0].texts]
    rows = [narrow.axes[0].transData.transform((0, y))[1] for y in range(len(boxes))]
    assert all(box.y0 > row for box, row in zip(boxes, rows, strict=True))
    assert all(box.y1 < row for box, row in zip(boxes[1:], rows, strict=False))
    texts = [*narrow.texts, *narrow.legends[0].get_texts(), *narrow.axes[0].texts]
    assert all(0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= narrow.bbox.width for text in texts)


def test_where_nothing_was_attempted_the_sentence_fits_a_phone(tmp_path):
    found, _ = drawn(tmp_path, 87.0)
    claims = found.claims.assign(verdict=Verdict.NOT_ATTEMPTED)
    narrow = forest.draw(claims, found.evidence, "a scale", narrow=True)
    FigureCanvasAgg(narrow).draw()
    told, = narrow.texts
    assert "Not attempted at this scale" in told.get_text() and told.get_window_extent().x1 <= narrow.bbox.width < 400


def test_what_decides_is_drawn_and_the_legend_has_every_symbol(tmp_path):
    found, figure = drawn(tmp_path, 87.0)
    claims = found.claims[(found.claims["unit"] == "points") & (found.claims["verdict"] != Verdict.NOT_ATTEMPTED)]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told[:-4] == [f"decides: {verdict}" for verdict in Verdict if verdict in set(claims["verdict"])]
    assert told[-4:] == ["another comparison of the claim", "its 95 % interval", "less than 0.5 points of top-1",
                         "beyond the axis, with its value if it has one"]
    low, high = figure.axes[1].get_xlim()
    marks = [x for dots in figure.axes[1].collections for x, _ in dots.get_offsets()]
    assert all(any(abs(min(max(value, low), high) - x) < 1e-9 for x in marks) for value in claims["ours"])

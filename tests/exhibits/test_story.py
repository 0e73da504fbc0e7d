"""The words around an experiment: from params.yaml, the paper and the measured files, never from the run store."""

from __future__ import annotations

import pandas as pd
import pytest

from ghostlib.exhibits import story
from ghostlib.exhibits.story import Story
from ghostlib.measures import classifiers


@pytest.fixture
def digits(monkeypatch):
    teachers = pd.DataFrame([("BEiTv2-B", "resnet10", 15, 98.7654)],
                            columns=["stands_in_for", "network", "epochs", "test_top1"])
    monkeypatch.setattr(story.classifiers, "read_teachers", lambda profile_name: teachers)
    monkeypatch.setattr("ghostlib.runs.store.Store", lambda *_: pytest.fail("the run store is read"))


def test_a_story_has_the_exhibit_s_title_the_scale_the_stand_ins_the_remarks_and_the_paper_s_notes(digits):
    table_3 = Story.load("table_3", "digits", ["A remark."])
    named = "BEiTv2-B (stand-in: resnet10, 15 epochs, 98.8 %)"
    assert table_3.title.startswith("Table 3: The choice of teacher, and the share α of the distillation")
    assert table_3.stand_ins == {"BEiTv2-B": named}
    scale, teachers, remark, *paper = table_3.notes
    assert scale == f"Measured at: {table_3.scale}." and named in teachers and remark == "A remark."
    assert paper and all(note.startswith("On the paper: ") for note in paper)
    assert "results/digits/runs/table_3.csv" in table_3.closing.split("Written:")[0]
    assert "results/digits/tables/table_3.{csv,md,tex,json}" in table_3.closing.split("Written:")[1]


def test_learning_curves_are_told_by_what_they_end_between_of_what_is_recorded():
    history = pd.DataFrame([("a", "1.0×", seed, epoch, loss, top1) for seed in (0, 1) for epoch, loss, top1 in (
        (1, 2.0, 50.0), (2, 1.0, 60.0 + 10 * seed), (3, 0.5, None))] + [("b", "1.0×", 0, 3, 0.9, 71.0)],
                           columns=["row", "column", "seed", "epoch", "loss", "val_top1"])
    assert story.learning(history) == ("Learning curves of 2 cells over 3 epochs. Their last validation top-1 lies "
                                       "between 65.0 % (a) and 71.0 % (b).")
    assert "training loss lies between 0.5 (a) and 0.9" in story.learning(history.drop(columns="val_top1"))
    assert "nothing was trained" in story.learning(history.iloc[:0])


def test_without_stand_ins_no_teacher_is_named(digits, monkeypatch):
    monkeypatch.setattr(story.classifiers, "read_teachers", lambda name: pd.DataFrame(columns=classifiers.TEACHERS))
    assert not any("stand-in" in note for note in Story.load("table_1", "digits").notes)

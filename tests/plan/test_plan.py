"""A plan, from its settings to its words, with a fake store and made-up times."""

from __future__ import annotations

import pytest

from ghostlib.measures import places
from ghostlib.plan import estimate
from ghostlib.plan import plan as planning
from ghostlib.plan.estimate import Costs
from ghostlib.plan.plan import make
from ghostlib.plan.timing import Took
from ghostlib.training import datasets


def made_up(plan, **took) -> Costs:
    """A second a step of every kind, and nothing for what is shared."""
    of_kinds = {one.alone: Took(**{"step": 1, "values": 1_000_000, **took}) for one in plan.trainings}
    shared = {kind: Took() for one in plan.trainings for kind in (one.views, one.answers)}
    return Costs(shared | of_kinds)


def test_a_plan_counts_what_is_wanted_finished_and_left(params, store, finish):
    plan = make("tiny", params, store)
    assert [one.wanted.part for one in plan.trainings] == ["teachers"] * 2 + ["tables and figures"] * 4 + ["rates"] * 8
    assert plan.left == list(plan.trainings) and plan.missing == ""
    finish(plan.trainings[0].job)
    finish(plan.trainings[2].job)
    plan = make("tiny", params, store)
    assert [plan.trainings.index(one) for one, _ in plan.finished] == [0, 2] and len(plan.left) == 12
    student = next(one for one in plan.trainings if one.wanted.part == "tables and figures" and one.teacher)
    assert student.requires == plan.trainings[:1]


def test_without_its_images_a_finished_training_is_known_by_its_settings(params, store, finish, monkeypatch, tmp_path):
    """It was trained where the images are; now nothing of them may be read."""
    monkeypatch.chdir(tmp_path)
    job = make("large", params, store).trainings[2].job
    with monkeypatch.context() as patch:
        patch.setattr(type(job), "data", "the digest of the images")
        finish(job)
    del job.__dict__["key"]
    monkeypatch.setattr(datasets, "load", lambda profile: pytest.fail("reads them"))
    plan = make("large", params, store)
    assert [one.job for one, _ in plan.finished] == [job] and "ImageNet" in plan.missing
    assert plan.left[0].sizes.val == 20 and plan.left[0].steps == 3, "a stand-in's epoch of 48 images"


def test_the_words_say_how_many_how_long_how_large_and_what_is_missing(params, store, monkeypatch):
    monkeypatch.setattr(planning, "default_workers", lambda trainings: 1)
    plan = make("tiny", params, store)
    words = planning.text(plan, made_up(plan), ["COCO: not found"], price=36)
    lines = [line.split() for line in words.splitlines()]
    assert ["rates", "ghostnetv2_100", "8", "0", "8", "1", "0.02", "timing"] in lines
    assert ["teachers", "resnet10", "2", "0", "2", "1", "0.0042", "timing"] in lines
    assert "14 trainings wanted, 0 finished, 14 left." in words
    # 3 + 12 steps of teachers, 4 × 9 and 8 × 9
    assert "Time left: 2 minutes (classifiers 51 seconds, rates 72 seconds); at 36 EUR an hour 1.23 EUR." in words
    assert f"Disk: {14 * 8 / 1000:.2g} GB" in words and words.endswith("Missing:\n- COCO: not found")
    assert "run on cpu" in words


def test_counts_alone_say_nothing_of_time(params, store):
    plan = make("tiny", params, store)
    words = planning.text(plan, None, [])
    assert "14 left" in words and "Nothing is missing" in words and "step" not in words.partition("\n\n")[2]


def test_what_cannot_be_timed_is_told(params, store):
    plan = make("tiny", params, store)
    costs = Costs({kind: took for kind, took in made_up(plan).took.items() if "resnet10" not in str(kind)})
    words = planning.text(plan, costs, [])
    assert "2 of them could not be timed." in words and "not timed" in words


def test_nothing_left_is_a_plan_too(params, store, finish):
    for one in make("tiny", params, store).trainings:
        finish(one.job)
    plan = make("tiny", params, store)
    words = planning.text(plan, Costs({}), [])
    assert "14 trainings wanted, 14 finished, 0 left." in words and "Time left" not in words


def test_memory_is_shown_where_it_was_measured(params, store):
    plan = make("tiny", params, store)
    for one in plan.trainings:
        object.__setattr__(one.job, "profile", one.job.profile.model_copy(update={"device": "cuda"}))
    object.__setattr__(plan, "profile", plan.profile.model_copy(update={"device": "cuda"}))
    row = planning._timed(plan.left, made_up(plan, memory=2_500_000_000), "cuda")
    assert row["GPU memory (GB)"] == "2.5"


def test_bytes_are_of_weights_averages_and_states(params, store):
    plan = make("tiny", params, store)
    one = plan.left[-1]
    kept, states = estimate.bytes_left([one], made_up(plan))
    assert kept == 4 * 2_000_000, "the weights and one average, in float32"
    assert states == 2 * 4 * 1_000_000 * (3 + 2), "two states: weights, two moments, two averages"


@pytest.mark.parametrize(("seconds", "told"), [(42, "42 seconds"), (1980, "33 minutes"), (5400, "1.5 hours"),
                                               (100_000, "27.8 hours"), (864_000, "10.0 days"),
                                               (8e9, "254 years")])
def test_durations_are_in_a_reader_s_unit(seconds, told):
    assert planning.duration(seconds) == told


def test_an_identity_looks_for_no_device(tiny):
    assert places.scale_of(tiny.model_copy(update={"device": "auto"}))["device"] == "auto"

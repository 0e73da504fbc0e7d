"""How long trainings take: what is timed, what finished ones say, what is shared, and when the last one ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostlib.detection import run as detection
from ghostlib.plan import estimate, timing
from ghostlib.plan.estimate import Costs, from_finished, seconds_of
from ghostlib.plan.timing import Took
from ghostlib.plan.wanted import Sizes, Training, Wanted, identity
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.listing import DIVERGED, FINISHED, Stored
from ghostlib.training.profile import load_params

SIZES = Sizes(train=48, val=20, test=40)  # three steps an epoch of 16 images


@pytest.fixture
def training(tiny):
    """A training of the tiny profile: nine steps, without validation and without averages unless told."""
    silent = tiny.model_copy(update={"validate_epochs": None})

    def make(profile=silent, seed=0, requires=(), **overrides) -> Training:
        recipe = profile.resolve({"teacher": None, "ema_decays": (0.0,), "ema_decay": 0.0, **overrides})
        run = ClassifierRun(recipe, profile, seed)
        return Training(identity(run), Wanted("tables and figures", run), SIZES, requires)
    return make


@pytest.fixture
def detector() -> Training:
    run = detection.runs("digits", load_params())[0]
    return Training(identity(run), Wanted("detectors", run), SIZES)


def stored(seconds: float, state: str = FINISHED, device: str = "", **described: str) -> Stored:
    from ghostlib.machine import cpu_name

    return Stored(Path("none"), state, "", described, {"seconds": seconds, "device": device or cpu_name()}, "", 0)


def test_a_training_is_in_the_engine_s_order_as_its_job_is(make_run, training):
    run, planned = make_run(), training()
    data = Sizes(len(run.splits.train), len(run.splits.val), len(run.splits.test))
    assert data == SIZES and planned.steps == run.steps == 9
    assert planned.work == run.work and planned.cohort == planned.job.cohort


def test_a_training_takes_its_steps_its_scoring_and_what_is_before_and_after(training):
    planned = training(profile=training().job.profile.model_copy(update={"validate_epochs": 2}),
                       ema_decays=(0.9999, 0.99999), ema_decay=0.9999)  # of nine steps: the weights, and one average
    took = Took(begin=1, step=10, validate=0.1, score=0.01, end=2)
    assert Costs({planned.alone: took}).own(planned) == pytest.approx(1 + 90 + 20 * 0.1 + 2 * 60 * 0.01 + 2)


def test_a_detector_takes_its_steps_and_two_evaluations(detector):
    took = Took(begin=5, step=1, score=0.1, steps=300)
    assert Costs({detector.alone: took}).own(detector) == pytest.approx(5 + 300 + 2 * 60 * 0.1)


def test_what_a_cohort_shares_counts_once(training):
    short, long = training(teacher="weak", epochs=1), training(teacher="weak", alpha=0.9)
    plain, strong = training(), training(teacher="strong")
    took = {one.alone: Took(step=1) for one in (short, long)}
    took |= {short.views: Took(step=0.1), short.answers: Took(step=0.01), strong.answers: Took(step=0.02)}
    costs = Costs(took)
    views, weak = 0.1 * (9 * 16 + 60), 0.01 * 9 * 16  # of the longest, with the images that are scored
    assert costs.together([short, long, plain]) == pytest.approx(3 + 9 + 9 + views + weak)
    assert costs.together([long, strong]) == pytest.approx(18 + views + weak + 0.02 * 9 * 16)


def test_on_a_gpu_views_are_made_while_a_step_runs(training, tiny):
    gpu = tiny.model_copy(update={"validate_epochs": None, "workers": 4, "device": "cuda"})
    planned = training(profile=gpu)
    for view, seconds in ((1e-6, 9), (1, (9 * 16 + 60) / min(4, estimate.all_threads()))):
        costs = Costs({planned.alone: Took(step=1), planned.views: Took(step=view)})
        assert costs.together([planned]) == pytest.approx(seconds)


def test_finished_trainings_of_a_kind_stand_for_those_left_with_all_that_they_share(training, detector):
    done = [training(seed=seed) for seed in range(4)]
    left, other = training(lr=0.001, epochs=6), training(branches=1)
    took = from_finished([(done[0], stored(90)), (done[1], stored(900)), (done[2], stored(45)), (detector, stored(70)),
                          (done[3], stored(1, DIVERGED)), (done[3], stored(1, device="another")),
                          (done[3], stored(1, resumed="its cost is that of the last start")),
                          (done[3], stored(1, restored_from="results/tiny"))])
    costs = Costs(took)
    assert costs.knows(left) and not costs.knows(other)
    assert costs.own(left) == costs.together([left]) == 18 * 10, "the median of 5, 10 and 100 seconds a step"
    assert costs.step(left) == 10 and costs.step(detector) is None


def test_a_finished_detector_says_what_another_of_its_kind_takes(detector):
    costs = Costs(from_finished([(detector, stored(70))]))
    assert costs.together([detector]) == 70


def test_the_last_one_ends_where_the_engine_s_order_ends_it(training, tiny):
    """Ten seeds, so no cohorts: two processes take five each; what a teacher trains is waited for."""
    trainings = [training(seed=seed) for seed in range(10)]
    costs = Costs({trainings[0].alone: Took(step=1), trainings[0].views: Took()})
    assert seconds_of(trainings, costs, 2) == 5 * 9
    assert seconds_of(trainings, costs, 1) == seconds_of(trainings[:5], costs, 1) * 2 == 90
    assert seconds_of([], costs, 2) == 0
    teacher = training(seed=11, epochs=6)
    students = [training(seed=seed, teacher="weak", requires=(teacher,)) for seed in range(2)]
    costs = Costs(dict(costs.took) | {students[0].answers: Took()})
    assert seconds_of([*students, teacher], costs, 2) == 18 + 9


def test_what_is_known_is_not_timed(training, monkeypatch):
    monkeypatch.setattr(timing, "arm", lambda *arguments: pytest.fail("timed"))
    planned = training()
    assert estimate.time_kinds([planned], {planned.kind: Took()}, None) == {}

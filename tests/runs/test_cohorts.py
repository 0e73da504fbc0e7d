"""Which jobs a worker takes next."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostlib.runs.cohorts import MOST, in_order, next_cohort


@dataclass(frozen=True)
class Fake:
    """As much of a job as planning sees."""

    key: str
    work: float
    cohort: str | None = "one"
    requires: tuple[Fake, ...] = ()


@dataclass(frozen=True)
class Loner:
    """A job of another kind, which has no cohort."""

    key: str
    work: float
    requires: tuple[Fake, ...] = ()


def jobs(*works, cohort="one"):
    return [Fake(f"{cohort} {i}", work, cohort) for i, work in enumerate(works)]


def plan(todo, workers):
    """The cohorts, each taken by the worker that is free first, and when the last one ends if work is time."""
    waiting, free, taken = in_order(todo), [0.0] * workers, []
    while waiting:
        taken.append(next_cohort(waiting, set(), workers))
        waiting = [job for job in waiting if job not in taken[-1]]
        free = sorted(free)
        free[0] += sum(job.work for job in taken[-1])
    return taken, max(free)


@given(works=st.lists(st.integers(1, 100), min_size=1, max_size=80), workers=st.integers(1, 8),
       cohorts=st.integers(1, 3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_job_goes_once_in_small_cohorts_and_no_worker_waits_longer_than_for_the_largest_job(
        works, workers, cohorts):
    todo = [Fake(str(i), work, f"{i % cohorts}") for i, work in enumerate(works)]
    taken, end = plan(todo, workers)
    assert sorted(job.key for cohort in taken for job in cohort) == sorted(job.key for job in todo)
    assert all(len(cohort) <= MOST and len({job.cohort for job in cohort}) == 1 for cohort in taken)
    assert end <= sum(works) / workers + max(works)


def test_seventy_runs_on_two_workers_share_nearly_all_and_end_together():
    taken, end = plan(jobs(*range(30, 100)), 2)
    assert len(taken) <= 20 and end < 1.02 * sum(range(30, 100)) / 2


@pytest.mark.parametrize("works", [(5, 5), (5, 1), (1, 1)])
def test_two_runs_go_to_two_workers(works):
    waiting = in_order(jobs(*works))
    assert next_cohort(waiting, set(), 2) == waiting[:1]
    assert next_cohort(waiting, set(), 1) == waiting


def test_only_jobs_of_one_cohort_and_kind_go_together():
    one, other = jobs(9, 8, 7), jobs(9, 8, cohort="other")
    waiting = [*one, *other, Loner("a", 5), Loner("b", 5), Fake("c", 5, cohort=None), Fake("d", 5, cohort=None)]
    assert next_cohort(waiting, set(), 1) == one
    for first in range(5, 9):
        assert next_cohort(waiting[first:], set(), 1) == [waiting[first]]


def test_what_others_require_goes_first_and_they_wait_for_it():
    teacher, other = jobs(1, 50)
    student = Fake("student", 90, requires=(teacher,))
    waiting = in_order([student, other, teacher])
    assert waiting == [teacher, student, other]
    assert next_cohort(waiting, {"student", teacher.key, other.key}, 1) == [teacher, other]
    assert next_cohort([student], {"student", teacher.key}, 1) == []
    assert next_cohort([student], {"student"}, 1) == [student]

"""What the first of several processes does with a grid; how all of them train is tested beside the training."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ghostlib.runs import shared
from ghostlib.runs.cohorts import in_order
from ghostlib.runs.store import Store
from ghostlib.training.progress import NonFiniteLoss


@dataclass
class Fake:
    key: str
    work: float
    requires: tuple = ()
    diverges: bool = False
    label: str = ""
    seed: int = 0
    code: str = "same"

    class profile:
        device_type = "cpu"

    @classmethod
    def current_code(cls):
        return "same"

    def describe(self):
        return {}

    def train(self, folder, store, report):
        if self.diverges:
            raise NonFiniteLoss("the loss is nan")
        return {"steps": 1}


def lead(jobs, store):
    return shared._lead([job for job in in_order(jobs) if not store.finished(job)], store, "tests")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_what_is_required_is_trained_first_however_large(store):
    """A backbone with branches is more work than its teacher, and a detector needs both."""
    teacher = Fake("teacher", 30)
    backbone = Fake("backbone", 40, (teacher,))
    detector = Fake("detector", 10, (backbone,))
    assert lead([detector, backbone, teacher], store) == {}
    assert all(store.metrics(job) == {"steps": 1} for job in (teacher, backbone, detector))


def test_what_requires_a_run_that_diverged_fails_and_says_so(store):
    teacher = Fake("teacher", 30, diverges=True)
    student, other = Fake("student", 10, (teacher,)), Fake("other", 5)
    failures = lead([student, teacher, other], store)
    assert failures == {"student": "    it requires a run that diverged: the loss is nan"}
    assert store.diverged(teacher) and store.diverged(student) is None and store.metrics(other)

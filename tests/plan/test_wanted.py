"""What a profile wants: what its stages train, each once; and what of it lies in a store, known without its data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ghostlib.detection import run as detection
from ghostlib.experiments import Experiment
from ghostlib.measures import rates
from ghostlib.plan.wanted import PARTS, identity, stored_identity, wanted
from ghostlib.runs.classifier import ClassifierRun, stand_in_run
from ghostlib.training.profile import load_params, load_profile

PARAMS = load_params()


def described(job) -> dict:
    """What the store writes of a job, as a reader finds it."""
    return json.loads(json.dumps({"key": job.key, "seed": job.seed, "code": job.code, **job.describe()}))


@pytest.mark.parametrize("name", PARAMS["profiles"])
def test_it_is_what_the_stages_train_each_once(name):
    profile = load_profile(name, PARAMS)
    teachers = [stand_in_run(profile, teacher) for teacher, how in profile.teachers.items() if how.stand_in]
    cells = [run for experiment in PARAMS["experiments"] for _, run in Experiment.load(experiment, name, PARAMS).runs()]
    trials = [run for _, run in rates.trials(profile, PARAMS, rates.known(profile))]
    detectors = [*detection.trials(name, PARAMS), *detection.runs(name, PARAMS)]
    trained = [*teachers, *cells, *trials, *detectors, *(run.backbone for run in detectors)]
    found = wanted(name, PARAMS)
    assert found.keys() == {identity(job) for job in trained}
    assert {one.part for one in found.values()} <= PARTS.keys()
    required = {identity(other) for one in found.values() for other in one.job.requires}
    assert required <= found.keys(), "what another one requires is wanted, too"


def test_trainings_have_equal_identities_where_they_have_equal_keys():
    cells = [run for name in PARAMS["experiments"] for _, run in Experiment.load(name, "digits", PARAMS).runs()]
    jobs = [*cells, *detection.runs("digits", PARAMS)]
    keys = {identity(job): job.key for job in jobs}
    assert len(keys) == len(set(keys.values())) == len({job.key for job in jobs})


def test_a_stored_training_is_known_by_its_run_json(make_run, tiny):
    student = ClassifierRun(tiny.resolve({"teacher": "strong"}), tiny, 0)
    assert stored_identity(described(student), {}) == identity(student)
    assert stored_identity(described(make_run(seed=1)), {}) not in (None, identity(make_run()))
    other = tiny.model_copy(update={"networks": {"resnet10": {"lr": 0.001}}})  # its teacher's rate
    assert identity(ClassifierRun(student.recipe, other, 0)) != identity(student)


@pytest.mark.parametrize("change", [{"code": "0123456789abcdef"}, {"libraries": {"torch": "0.1"}},
                                    {"recipe": {"network": "none"}}, {"recipe": {"unknown": 1}}, {"profile": None}])
def test_what_other_code_or_libraries_trained_is_another_training(make_run, change):
    run = make_run()
    assert stored_identity(described(run) | change, {}) != identity(run)


def test_a_stored_detector_is_known_by_its_backbone_too():
    job = detection.runs("digits", PARAMS)[0]
    others = {job.backbone.key: described(job.backbone)}
    assert stored_identity(described(job), others) == identity(job)
    assert stored_identity(described(job), {}) is None, "its backbone is not there"
    backbone = replace(job.backbone, seed=1)
    assert stored_identity(described(job), {job.backbone.key: described(backbone)}) != identity(job)

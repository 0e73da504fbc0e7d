"""The run store: what a key depends on, and that equal runs train once."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock, Timeout

from ghostlib.machine import cpu_name
from ghostlib.runs import classifier, local
from ghostlib.runs.classifier import ClassifierRun, stand_in_run
from ghostlib.runs.store import Store, StoreError
from ghostlib.training.profile import Teacher


def test_a_key_changes_with_everything_that_decides_the_result(make_run, tiny, monkeypatch):
    others = {
        "nothing": make_run(), "recipe": make_run(lr=0.004), "seed": make_run(seed=1),
        "data": make_run(profile=tiny.model_copy(update={"val_images": 21})),
        "image size": make_run(profile=tiny.model_copy(update={"image_size": 35})),
        "width": make_run(profile=tiny.model_copy(update={"width_scale": 0.2})),
        "teacher": make_run(teacher="weak"), "another teacher": make_run(teacher="strong"),
        "threads": make_run(profile=tiny.model_copy(update={"threads": 2})), "code": replace(make_run(), code="other"),
        "device": make_run(profile=tiny.model_copy(update={"device": "cuda"})),
        **{f"weights {name}": make_run(profile=tiny.model_copy(update={"teachers": {"strong": Teacher(timm=name)}}),
                                       teacher="strong") for name in ("resnet18", "resnet34")},
    }
    keys = {name: run.key for name, run in others.items()}
    monkeypatch.setattr(classifier, "_libraries", lambda: {"torch": "another"})
    keys["libraries"] = make_run().key
    assert len(set(keys.values())) == len(keys), keys


def test_a_store_that_the_environment_leaves_empty_is_the_usual_one(monkeypatch):
    monkeypatch.setenv("GHOSTLIB_RUNS", "")
    assert str(Store().root) == ".runs"


def test_a_key_does_not_change_with_words_or_with_the_average_that_is_reported(make_run, tiny):
    base = make_run()
    assert make_run(ema_decay=0.99999).key == base.key
    renamed = tiny.model_copy(update={"name": "other", "scale": "other words", "workers": 1, "seeds": (0, 1)})
    assert ClassifierRun(base.recipe, renamed, 0).key == base.key


def test_a_run_asked_for_by_other_code_is_not_trained_by_this_one(make_run, store):
    stale = replace(make_run(), code="0123456789abcdef")
    with pytest.raises(StoreError, match="source changed"):
        store.ensure(stale)
    assert store.metrics(stale) is None


def test_a_student_s_key_changes_with_all_that_changes_its_teacher(make_run, tiny):
    student = make_run(teacher="weak")
    for change in ({"networks": {"resnet10": {"lr": 0.001}}}, {"base": {"weight_decay": 0.01}}):
        profile = tiny.model_copy(update=change)
        other = ClassifierRun(student.recipe, profile, 0)
        assert other.teacher_run.key != student.teacher_run.key
        assert other.key != student.key


def test_equal_runs_train_once(make_run, store):
    first, again = make_run(ema_decay=0.9999), make_run(ema_decay=0.99999)
    steps = []
    store.ensure(first, lambda progress: steps.append(progress.step))
    assert set(steps) == set(range(1, 10))
    steps.clear()
    assert store.ensure(again, lambda progress: steps.append(progress.step)) == store.metrics(first)
    assert not steps


def ensure_in_child(run, root, counts):
    steps = []
    Store(root).ensure(run, lambda progress: (steps.append(progress.step), time.sleep(0.05)))
    counts.put((os.getpid(), len(set(steps))))


def test_two_processes_that_want_the_same_run_do_not_both_train_it(make_run, store):
    context = local.context()
    counts = context.Queue()
    children = [context.Process(target=ensure_in_child, args=(make_run(branches=0), store.root, counts))
                for _ in range(2)]
    for child in children:
        child.start()
    trained = sorted(counts.get(timeout=60)[1] for _ in children)
    for child in children:
        child.join()
    assert trained == [0, 9]


def test_what_another_process_trains_is_left_to_it_and_waited_for_last(make_run, store, capfd):
    theirs, *ours = (make_run(branches=0, epochs=1, lr=lr) for lr in (1e-3, 2e-3, 3e-3))
    store.folder(theirs).mkdir(parents=True)
    lock = FileLock(store.folder(theirs) / ".lock")
    lock.acquire()
    ended = []
    for run, error in store.ensure_together([theirs, *ours], lambda run, progress: None):
        ended.append((run, error))
        if len(ended) == 2:
            assert not lock_is_held(store, ours[0]) and not lock_is_held(store, ours[1])
            lock.release()  # it was killed, say: the run is ours now
    assert ended == [(ours[0], None), (ours[1], None), (theirs, None)] and store.metrics(theirs) is not None
    assert f"run {theirs.key} is being trained by another process" in capfd.readouterr().err


def lock_is_held(store, run):
    try:
        with FileLock(store.folder(run) / ".lock", blocking=False):
            return False
    except Timeout:
        return True


def test_a_teacher_and_its_student_may_be_asked_for_together(make_run, store):
    student = make_run(branches=0, epochs=1, teacher="weak")
    ended = list(store.ensure_together([student.teacher_run, student], lambda run, progress: None))
    assert ended == [(student.teacher_run, None), (student, None)]


def test_every_run_of_a_cohort_is_locked_while_it_is_trained(make_run, store):
    runs = [make_run(branches=0, epochs=epochs) for epochs in (1, 2)]
    held = []
    for run, error in store.ensure_together(runs, lambda run, progress: held.append(
            tuple(lock_is_held(store, other) for other in runs))):
        assert error is None and store.metrics(run) is not None and not lock_is_held(store, run)
    assert held == [(True, True)] * 8 + [(False, True)] * 4  # epochs of three steps and a validation


def test_runs_of_a_cohort_divide_their_seconds(make_run, store):
    runs = [make_run(branches=0, epochs=epochs) for epochs in (1, 4)]
    start = time.perf_counter()
    assert all(error is None for _, error in store.ensure_together(runs, lambda run, progress: time.sleep(0.1)))
    short, long = (store.cost(run)["seconds"] for run in runs)
    assert 0 < short < long and short + long <= time.perf_counter() - start + 0.1  # both are rounded


def test_one_run_s_damaged_result_and_another_s_code_leave_the_rest_of_a_cohort_alone(make_run, store):
    torn, stale, good = (make_run(branches=0, epochs=1, lr=lr) for lr in (1e-3, 2e-3, 3e-3))
    stale = replace(stale, code="0123456789abcdef")
    store.folder(torn).mkdir(parents=True)
    (store.folder(torn) / "metrics.json").write_text("{")
    ended = {run.key: error for run, error in store.ensure_together([torn, stale, good], lambda run, progress: None)}
    assert ended[good.key] is None and store.metrics(good) is not None
    assert "is torn" in str(ended[torn.key]) and "source changed" in str(ended[stale.key])


@pytest.mark.parametrize("file", ["run.json", "metrics.json"])
def test_a_file_that_cannot_be_written_fails_its_own_run_alone(make_run, store, file):
    hindered, good = (make_run(branches=0, epochs=1, lr=lr) for lr in (1e-3, 2e-3))
    (store.folder(hindered) / file).mkdir(parents=True)  # a folder in its place
    store.metrics = lambda run: None  # which could not be read, either
    ended = {run.key: error for run, error in store.ensure_together([hindered, good], lambda run, progress: None)}
    assert file in str(ended[hindered.key]) and ended[good.key] is None
    assert Store(store.root).metrics(good) is not None and not lock_is_held(store, hindered)


def test_a_teacher_is_trained_once_before_its_first_student_and_answers_folded(make_run, store, tiny):
    student = make_run(teacher="strong", epochs=1)
    store.ensure(student)
    teacher = stand_in_run(tiny, "strong")
    assert student.teacher_run == teacher and store.metrics(teacher) is not None
    stamp = (store.folder(teacher) / "metrics.json").stat().st_mtime_ns
    store.ensure(make_run(teacher="strong", epochs=1, alpha=1.0))
    assert (store.folder(teacher) / "metrics.json").stat().st_mtime_ns == stamp


def test_seeds_pair_the_arms_networks_of_different_branches_begin_with_the_same_weights(make_run):
    one, three, plain = (make_run(**overrides).network().state_dict() for overrides in (
        dict(branches=1), dict(branches=3), dict(branches=3, scale=False)))
    for other in (one, plain):
        shared = other.keys() & three.keys()
        assert len(shared) == len(other) and any("branches.0" in name for name in shared)
        assert all(torch.equal(other[name], three[name]) for name in shared)


def test_a_torn_result_is_an_error_that_names_the_file_and_the_remedy(make_run, store):
    run = make_run()
    path = store.folder(run) / "metrics.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"test": {"to')
    for read in (store.metrics, store.ensure):
        with pytest.raises(StoreError, match=rf"{path} is torn .*remove the folder {path.parent}"):
            read(run)


def test_a_finished_run_says_what_it_was_and_what_it_cost_and_keeps_no_state(make_run, store):
    run = replace(make_run(branches=0, epochs=1), label="table_1 (w/ ReP, 1.0×), seed 0")
    store.ensure(run)
    described = json.loads((store.folder(run) / "run.json").read_bytes())
    assert described["key"] == run.key == make_run(branches=0, epochs=1).key and described["label"] == run.label
    assert described["recipe"]["epochs"] == 1
    assert store.cost(run)["seconds"] > 0 and store.cost(run)["device"] == cpu_name()
    assert not (store.folder(run) / "states").exists()

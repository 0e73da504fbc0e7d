"""The run store: what a key depends on, and that equal runs train once."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ghostlib.runs import engines
from ghostlib.runs import store as store_module
from ghostlib.runs.store import Run, Store, code_digest, stand_in_run


def test_a_key_changes_with_everything_that_decides_the_result(make_run, tiny):
    others = {
        "nothing": make_run(), "recipe": make_run(lr=0.004), "seed": make_run(seed=1),
        "data": make_run(profile=tiny.model_copy(update={"val_images": 21})),
        "image size": make_run(profile=tiny.model_copy(update={"image_size": 35})),
        "width": make_run(profile=tiny.model_copy(update={"width_scale": 0.2})),
        "teacher": make_run(teacher="weak"), "another teacher": make_run(teacher="strong"),
        "threads": make_run(profile=tiny.model_copy(update={"threads": 2})), "code": replace(make_run(), code="other"),
    }
    keys = {name: run.key for name, run in others.items()}
    assert len(set(keys.values())) == len(keys), keys


def test_a_key_does_not_change_with_words_or_with_the_average_that_is_reported(make_run, tiny):
    base = make_run()
    assert make_run(ema_decay=0.99999).key == base.key
    renamed = tiny.model_copy(update={"name": "other", "scale": "other words", "workers": 1, "seeds": (0, 1)})
    assert Run(base.recipe, renamed, 0).key == base.key


def test_the_code_digest_changes_with_any_source_file_of_networks_or_training(tmp_path):
    for room in ("models", "training", "reporting"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text("x = 1\n")
    first = code_digest(tmp_path)
    (tmp_path / "reporting" / "a.py").write_text("x = 2\n")
    assert code_digest(tmp_path) == first
    (tmp_path / "training" / "a.py").write_text("x = 2\n")
    second = code_digest(tmp_path)
    assert second != first
    (tmp_path / "models" / "b.py").write_text("")
    assert code_digest(tmp_path) not in (first, second)


def test_the_code_digest_passes_over_what_cannot_change_a_result(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "zoo.py").write_text("x = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "models" / "weights.py").write_text("x = 1\n")
    assert code_digest(tmp_path) == before


def test_what_the_code_digest_passes_over_is_there():
    package = Path(store_module.__file__).parents[1]
    assert all((package / file).is_file() for file in store_module._NO_MATTER)


def test_a_run_asked_for_by_other_code_is_not_trained_by_this_one(make_run, store):
    stale = replace(make_run(), code="0123456789abcdef")
    with pytest.raises(RuntimeError, match="source changed"):
        store.ensure(stale)
    assert store.metrics(stale) is None


def test_a_student_s_key_changes_with_all_that_changes_its_teacher(make_run, tiny):
    student = make_run(teacher="weak")
    for change in ({"networks": {"resnet10": {"lr": 0.001}}}, {"base": {"weight_decay": 0.01}}):
        profile = tiny.model_copy(update=change)
        other = Run(student.recipe, profile, 0)
        assert other.teacher_run.key != student.teacher_run.key
        assert other.key != student.key


def test_equal_runs_train_once(make_run, store):
    first, again = make_run(ema_decay=0.9999), make_run(ema_decay=0.99999)
    steps = []
    store.ensure(first, lambda progress: steps.append(progress.step))
    assert len(steps) == 9
    assert store.ensure(again, lambda progress: steps.append(progress.step)) == store.metrics(first)
    assert len(steps) == 9


def ensure_in_child(run, root, counts):
    steps = []
    Store(root).ensure(run, lambda progress: (steps.append(progress.step), time.sleep(0.05)))
    counts.put((os.getpid(), len(steps)))


def test_two_processes_that_want_the_same_run_do_not_both_train_it(make_run, store):
    context = engines.context()
    counts = context.Queue()
    children = [context.Process(target=ensure_in_child, args=(make_run(branches=0), store.root, counts))
                for _ in range(2)]
    for child in children:
        child.start()
    trained = sorted(counts.get(timeout=60)[1] for _ in children)
    for child in children:
        child.join()
    assert trained == [0, 9]


def test_a_teacher_is_trained_once_before_its_first_student_and_answers_folded(make_run, store, tiny):
    student = make_run(teacher="strong", epochs=1)
    store.ensure(student)
    teacher = stand_in_run(tiny, "strong")
    assert student.teacher_run == teacher and store.metrics(teacher) is not None
    stamp = (store.folder(teacher) / "metrics.json").stat().st_mtime_ns
    store.ensure(make_run(teacher="strong", epochs=1, alpha=1.0))
    assert (store.folder(teacher) / "metrics.json").stat().st_mtime_ns == stamp


def test_seeds_pair_the_arms_networks_of_different_branches_begin_with_the_same_weights(make_run):
    import torch

    torch.manual_seed(0)
    one = Store._network(make_run(branches=1)).state_dict()
    torch.manual_seed(0)
    three = Store._network(make_run(branches=3)).state_dict()
    torch.manual_seed(0)
    plain = Store._network(make_run(branches=3, scale=False)).state_dict()
    for other in (one, plain):
        shared = other.keys() & three.keys()
        assert len(shared) == len(other) and any("branches.0" in name for name in shared)
        assert all(torch.equal(other[name], three[name]) for name in shared)

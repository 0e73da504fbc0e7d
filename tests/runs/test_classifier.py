"""What a run of a classifier trains with: its teacher, its threads, and the average that stands for its key."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ghostlib.config import ConfigError
from ghostlib.models.rep_conv import RepConv
from ghostlib.runs import classifier
from ghostlib.runs.classifier import ClassifierRun, load_network


def test_a_teacher_answers_folded_with_its_averaged_weights(make_run, tiny, store):
    profile = tiny.model_copy(update={"teachers": {"weak": tiny.teachers["weak"].model_copy(update={
        "stand_in": {**tiny.teachers["weak"].stand_in, "branches": 2}})}})
    student = make_run(profile=profile, teacher="weak")
    folder = store.folder(student.teacher_run)
    store.ensure(student.teacher_run)
    last = load_file(folder / "weights.safetensors")
    save_file({name: torch.zeros_like(tensor) for name, tensor in last.items()}, folder / "weights.safetensors")
    teacher, views = student._teacher(store), torch.randn(2, 3, 33, 33)
    assert not any(isinstance(module, RepConv) for module in teacher.modules())
    averaged = load_network(store, student.teacher_run, "ema.safetensors")
    with torch.no_grad():
        answers = averaged(views)
    assert answers.any() and torch.equal(teacher(views), answers)
    assert student._arm(store.folder(student), teacher, None).teacher is teacher


def test_the_average_on_file_does_not_depend_on_which_cell_asked_first(make_run, store):
    """The paper's decay where it is tracked, whichever of them a cell reports."""
    for decay in (0.9999, 0.99999):
        arm = make_run(ema_decay=decay)._arm(store.root, None, None)
        assert arm.run.recipe.ema_decay == 0.9999


def test_processes_that_share_a_batch_see_as_many_images_at_a_time_as_one_would(make_run, tiny, store, monkeypatch):
    """Else batch normalisation would make runs of one key others, depending on how many processes trained them."""
    monkeypatch.setattr(classifier, "world_size", lambda: 2)
    run, told = make_run(), r"profiles\.tiny\.pass_images = None: 2 processes share a batch, .* set it to 8 or less"
    with pytest.raises(ConfigError, match=told):
        run.train(store.folder(run), store)
    [(job, error)] = ClassifierRun.train_together([run], store, lambda job, progress: None)
    assert job is run and isinstance(error, ConfigError)
    with pytest.raises(ConfigError, match="pass_images = 16: "):
        make_run(profile=tiny.model_copy(update={"pass_images": 16}))._arm(store.root, None, None)
    for given in ({"pass_images": 8}, {"sync_batchnorm": True, "device": "cuda"}):
        monkeypatch.setattr(ClassifierRun, "network", lambda run: nn.Identity())
        assert make_run(profile=tiny.model_copy(update=given))._arm(store.root, None, None)


def test_a_training_has_the_threads_of_its_profile(make_run, tiny, store):
    run, seen = make_run(profile=tiny.model_copy(update={"threads": 2}), branches=0, epochs=1), []
    other = make_run(profile=run.profile, branches=0, epochs=1, lr=1e-3)
    before = torch.get_num_threads()
    try:
        for act in (lambda: run.train(store.folder(run), store, lambda progress: seen.append(torch.get_num_threads())),
                    lambda: list(ClassifierRun.train_together(
                        [other], store, lambda job, progress: seen.append(torch.get_num_threads())))):
            torch.set_num_threads(1)
            act()
    finally:
        torch.set_num_threads(before)
    assert seen == [2] * 8  # three steps and a validation, twice

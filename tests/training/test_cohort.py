"""Arms that are trained together: they share their views and answers, and end as each would by itself."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch
from torch import nn

from ghostlib.runs import local
from ghostlib.runs.store import Store
from ghostlib.training import batches, checkpoint, distill, loop, views
from ghostlib.training.arm import Arm
from ghostlib.training.progress import NonFiniteLoss
from ghostlib.training.recipe import Recipe

FINAL_FILES = ("weights.safetensors", "ema.safetensors", "metrics.json")
MIXED = dict(dropout=0.2, mixup=0.2, cutmix=1.0, ema_decays=(0.9999, 0.99999))
# The fields of a recipe that decide what its batches are.
DECISIVE = {"batch_size", "crop_scale", "hflip", "auto_augment", "rand_magnitude", "erasing", "mixup", "cutmix",
            "label_smoothing"}
OTHERS = {"network", "branches", "scale", "skip", "branch_gamma", "branch_norm_lr", "dropout", "teacher", "alpha",
          "tau", "optimizer", "epochs", "lr", "lr_scale", "momentum", "weight_decay", "max_grad_norm", "schedule",
          "min_lr", "warmup", "warmup_lr", "step_interval", "step_rate", "ema_decay", "ema_decays"}


def three(make_run):
    """Two students of one teacher and an arm without one."""
    return [make_run(teacher="weak", alpha=0.5, **MIXED), make_run(teacher="weak", alpha=0.9, branches=0, **MIXED),
            make_run(network="ghostnetv2_100", branches=1, lr=1e-3, **MIXED)]


def together(store, runs):
    """Trains them; returns how each ended, by its key."""
    return {run.key: error for run, error in store.ensure_together(runs, lambda run, progress: None)}


def assert_same_bits(runs, one, other):
    for run in runs:
        for name in FINAL_FILES:
            assert (one.folder(run) / name).read_bytes() == (other.folder(run) / name).read_bytes(), (run.recipe, name)


def test_arms_end_as_each_does_alone_and_share_their_views_and_answers(make_run, tmp_path, monkeypatch):
    runs, alone, shared = three(make_run), Store(tmp_path / "alone"), Store(tmp_path / "shared")
    for run in runs:
        alone.ensure(run)
    shared.ensure(runs[0].teacher_run)
    counts = {"views": 0, "answers": 0}

    def counting(what, function):
        def counted(*arguments):
            counts[what] += 1
            return function(*arguments)
        return counted
    monkeypatch.setattr(views.Views, "__getitem__", counting("views", views.Views.__getitem__))
    monkeypatch.setattr(distill.Teacher, "forward", counting("answers", distill.Teacher.forward))
    assert together(shared, runs) == dict.fromkeys(run.key for run in runs)
    assert_same_bits(runs, alone, shared)
    # 3 epochs of 3 batches, the validation images after each of them, and all images to be scored
    assert counts == {"views": 9 * 16 + 3 * 20 + 20 + 40, "answers": 9}


def die_in_a_cohort(runs, root, last):
    """In a child process: kill -9 of itself at the step `last` of the longest run; never where that is None."""
    checkpoint.SECONDS_BETWEEN = 0
    longest = max(runs, key=lambda run: run.recipe.epochs)

    def report(run, progress):
        if run is longest and progress.step == last:
            os.kill(os.getpid(), signal.SIGKILL)
    assert all(error is None for _, error in Store(root).ensure_together(runs, report))


def in_child(*arguments):
    child = local.context().Process(target=die_in_a_cohort, args=arguments)
    child.start()
    child.join()
    return child.exitcode


def test_killed_arms_of_different_lengths_end_in_the_same_bits_whatever_their_companions(make_run, tmp_path):
    short, middle, long, late = (make_run(branches=branches, epochs=epochs, **MIXED)
                                 for branches, epochs in ((0, 1), (1, 3), (0, 4), (3, 3)))
    runs, alone, killed = [short, middle, long, late], Store(tmp_path / "alone"), Store(tmp_path / "killed")
    for run in runs:
        alone.ensure(run)
    assert in_child([middle, long], killed.root, 5) == -signal.SIGKILL  # one epoch of both is whole
    assert in_child([short, long, late], killed.root, 8) == -signal.SIGKILL
    assert killed.metrics(short) is not None  # it was kept as soon as it ended
    assert sorted(path.name for path in (killed.folder(long) / "states").iterdir()) == ["state-00000003.pt",
                                                                                      "state-00000006.pt"]
    assert in_child(runs, killed.root, None) == 0
    assert_same_bits(runs, alone, killed)


class Broken(nn.Module):
    """Its logits are NaN from the fourth batch on."""

    def __init__(self):
        super().__init__()
        self.layer, self.batches = nn.Linear(3 * 33 * 33, 10), 0

    def forward(self, views):
        self.batches += self.training
        return self.layer(views.flatten(1)) * (math.nan if self.batches > 3 else 1)


def test_an_arm_that_fails_does_not_stop_the_others(make_run, tmp_path):
    broken, good, foreign = make_run(branches=0), make_run(branches=0, lr=4e-3), make_run(branches=0, lr=3e-3)
    expected = loop.train(good.network(), good, tmp_path / "alone")
    checkpoint.save(tmp_path / "foreign" / "states", "another", 1, {})
    arms = [Arm(Broken(), broken, tmp_path / "broken"), Arm(good.network(), good, tmp_path / "good"),
            Arm(foreign.network(), foreign, tmp_path / "foreign")]
    outcomes = dict(loop.train_together(arms))
    assert outcomes[arms[1]] == expected
    assert isinstance(outcomes[arms[0]], NonFiniteLoss) and f"{broken.key} diverged: the loss is nan at step 4" in str(
        outcomes[arms[0]])
    assert isinstance(outcomes[arms[2]], checkpoint.CheckpointError)


def test_an_arm_ends_as_soon_as_its_epochs_are_over(make_run, tmp_path):
    runs = [make_run(branches=0, epochs=epochs) for epochs in (3, 1, 2)]
    arms = [Arm(run.network(), run, tmp_path / run.key) for run in runs]
    ended = [(arm.run.recipe.epochs, outcome["steps"]) for arm, outcome in loop.train_together(arms)]
    assert ended == [(1, 3), (2, 6), (3, 9)]


def test_arms_of_other_batches_are_refused(make_run, tmp_path):
    for other in (make_run(erasing=0.1), make_run(seed=1)):
        arms = [Arm(nn.Linear(1, 1), run, tmp_path) for run in (make_run(), other)]
        with pytest.raises(ValueError, match="cannot be trained together"):
            next(loop.train_together(arms))


def test_every_field_of_a_recipe_is_known_to_decide_the_batches_or_not():
    assert DECISIVE | OTHERS == set(Recipe.model_fields) and not DECISIVE & OTHERS


@pytest.mark.parametrize("changes", [
    dict(batch_size=8), dict(crop_scale=(0.5, 1)), dict(hflip=0.1), dict(auto_augment=None), dict(rand_magnitude=7),
    dict(erasing=0.1), dict(mixup=0.2), dict(cutmix=0.2)], ids=lambda changes: next(iter(changes)))
def test_recipes_of_other_batches_are_of_other_cohorts(make_run, changes):
    assert batches.decided_by(make_run(**changes).recipe) != batches.decided_by(make_run().recipe)
    assert make_run(**changes).cohort != make_run().cohort


def test_smoothed_labels_part_a_cohort_where_they_are_mixed(make_run):
    for mixup, same in ((0, True), (0.2, False)):
        smoothed, plain = make_run(mixup=mixup, label_smoothing=0.1), make_run(mixup=mixup)
        assert (smoothed.cohort == plain.cohort) is same


def test_in_float16_a_run_trains_by_itself(make_run, tiny):
    assert make_run(profile=tiny.model_copy(update={"precision": "fp16"})).cohort is None


def test_a_cohort_is_of_a_profile_and_a_seed(make_run, tiny):
    other = tiny.model_copy(update={"image_size": 35})
    assert make_run(lr=1e-3, branches=0, epochs=7, teacher="weak").cohort == make_run().cohort
    assert len({make_run().cohort, make_run(seed=1).cohort, make_run(profile=other).cohort}) == 3


def test_dropout_of_an_arm_does_not_depend_on_its_companions(make_run, tmp_path):
    seen = {}

    class Spy(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.layer, self.drop, self.name = nn.Linear(3 * 33 * 33, 10), nn.Dropout(0.5), name

        def forward(self, views):
            views = self.drop(views)
            if self.training:
                seen.setdefault(self.name, []).append(views.clone())
            return self.layer(views.flatten(1))
    run, beside = make_run(), make_run(lr=1e-3)
    loop.train(Spy("alone"), run, tmp_path / "alone")
    list(loop.train_together([Arm(Spy("first"), beside, tmp_path / "first"), Arm(Spy("second"), run, tmp_path / "b")]))
    assert all(torch.equal(a, b) for a, b in zip(seen["alone"], seen["second"], strict=True))

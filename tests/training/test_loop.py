"""The training loop: it learns, it resumes to the bit, it stops on a broken loss."""

from __future__ import annotations

import json
import math
import os
import signal
import types

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ghostlib import files
from ghostlib.models.reparam import RepConv
from ghostlib.runs import local
from ghostlib.runs.classifier import load_network
from ghostlib.runs.store import Store
from ghostlib.training import arm, checkpoint, loop, views
from ghostlib.training.evaluate import evaluate
from ghostlib.training.meter import Meter
from ghostlib.training.progress import NonFiniteLoss

FINAL_FILES = ("weights.safetensors", "ema.safetensors", "metrics.json")


def kill_myself(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(run, root, moment):
    """In a child process: kill -9 of itself at the moment, a step or the name of a function of checkpoint or loop."""
    checkpoint.SECONDS_BETWEEN = checkpoint.SECONDS_WITHIN = 0
    if moment == "rename":  # a state is half written
        def replace(source, target):
            kill_myself() if target.name.startswith("state-") else os.replace(source, target)

        files.os = types.SimpleNamespace(**vars(os) | {"replace": replace})
    elif moment in ("val", "test"):  # before the state of an epoch; when final weights are there and metrics are not
        score = loop._score
        loop._score = lambda arms, parts: kill_myself() if parts[-1] == moment else score(arms, parts)
    Store(root).ensure(run, lambda progress: kill_myself() if progress.step == moment else None)


def in_child(run, root, moment):
    child = local.context().Process(target=train_and_die, args=(run, root, moment))
    child.start()
    child.join()
    return child.exitcode


@pytest.mark.parametrize(("overrides", "moments"), [
    (dict(teacher="weak", dropout=0.2, mixup=0.2, cutmix=1.0, ema_decays=(0.9999, 0.99999)),
     (2, "val", 5, "rename", 9, "test")),
    (dict(branches=0, schedule="step", optimizer="rmsproptf"), (2, 8)),  # it saves another state, at the same moments
], ids=["the whole strategy with batch mixing and dropout", "the ordinary recipe"])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(make_run, tmp_path, overrides, moments):
    run = make_run(**overrides)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_child(run, whole, moment=None) == 0
    if run.teacher_run:
        Store(killed).ensure(run.teacher_run)
    for moment in moments:
        assert in_child(run, killed, moment) == -signal.SIGKILL
        assert not (killed / run.key / "metrics.json").exists()
    assert in_child(run, killed, moment=None) == 0
    for name in FINAL_FILES:
        assert (killed / run.key / name).read_bytes() == (whole / run.key / name).read_bytes(), name
    assert not [path for path in (killed / run.key).rglob("*") if path.suffix in (".pt", ".tmp")]


def test_a_resumed_run_passes_over_a_torn_state_and_refuses_a_foreign_one(make_run, store, capfd, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0)
    run = make_run()
    folder = store.folder(run) / "states"

    class Killed(BaseException):
        pass

    def stop(progress):
        if progress.step == 7:
            raise Killed
    with pytest.raises(Killed):
        store.ensure(run, stop)
    states = sorted(folder.glob("state-*.pt"))
    assert [state.name for state in states] == ["state-00000003.pt", "state-00000006.pt"]
    states[-1].write_bytes(states[-1].read_bytes()[:-100])
    seen = []
    store.ensure(run, lambda progress: progress.val_top1 is None and seen.append(progress.step))
    assert seen == [4, 5, 6, 7, 8, 9]
    assert f"{states[-1]} is torn" in capfd.readouterr().err

    other = make_run(lr=1e-3)
    checkpoint.save(store.folder(other) / "states", run.key, 1, {"history": []})
    with pytest.raises(checkpoint.CheckpointError, match=run.key):
        store.ensure(other)


def test_a_state_within_an_epoch_keeps_its_record_and_none_is_saved_where_it_ends(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", math.inf)
    monkeypatch.setattr(checkpoint, "SECONDS_WITHIN", 0)
    run, seen = make_run(), []

    class Killed(BaseException):
        pass

    def stop(progress):
        if progress.step == 4:  # the third is an epoch's last
            raise Killed
    with pytest.raises(Killed):
        Store(tmp_path / "killed").ensure(run, stop)
    metrics = Store(tmp_path / "killed").ensure(
        run, lambda progress: progress.val_top1 is None and seen.append(progress.step))
    assert seen == [3, 4, 5, 6, 7, 8, 9]
    assert metrics == Store(tmp_path / "whole").ensure(run)


class Broken(nn.Module):
    """Its logits are NaN from the third batch on."""

    def __init__(self):
        super().__init__()
        self.layer, self.batches = nn.Linear(3 * 33 * 33, 10), 0

    def forward(self, views):
        self.batches += self.training
        return self.layer(views.flatten(1)) * (math.nan if self.batches > 2 else 1)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_it_the_step_and_the_remedy(make_run, tmp_path):
    run = make_run(branches=0)
    with pytest.raises(NonFiniteLoss, match=rf"run {run.key} diverged.*step 3 of 9.*lr = 0.005.*a lower lr"):
        loop.train(Broken(), run, tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing poisoned is kept


def test_a_run_leaves_weights_averages_and_metrics(make_run, store):
    run = make_run(teacher="weak", ema_decay=0.99999, ema_decays=(0.999, 0.99999))
    metrics = store.ensure(run)
    folder = store.folder(run)
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert set(metrics["test"]["top1"]) == {"raw", "0.999", "0.99999"}
    assert all(0 <= value <= 100 for part in ("val", "test") for of in metrics[part].values() for value in of.values())
    assert [epoch["epoch"] for epoch in metrics["history"]] == [1, 2, 3]
    # After the last epoch the network was scored as it is in training; folded it says the same.
    assert metrics["history"][-1]["val_top1"] == metrics["val"]["top1"]["raw"]
    assert metrics["history"][-1]["val_loss"] == pytest.approx(metrics["val"]["loss"]["raw"], rel=1e-3)
    raw, averaged = load_file(folder / "weights.safetensors"), load_file(folder / "ema.safetensors")
    assert raw.keys() == averaged.keys() and any("branches.2" in name for name in raw)
    # β = 0.99999 over 9 steps is 0.58: an average is saved, not the weights; 0.999 clips to 0 and is the weights
    assert any(not torch.equal(raw[name], averaged[name]) for name in raw)
    losses = metrics["test"]["loss"]
    assert losses["0.999"] == losses["raw"] != losses["0.99999"]
    assert metrics["steps"] == 9 == run.steps


def test_validation_can_be_rarer_and_changes_no_training(make_run, store, tiny):
    weights = []
    for every in (1, 2, None):
        run = make_run(profile=tiny.model_copy(update={"validate_epochs": every}))
        scored = [epoch["epoch"] for epoch in store.ensure(run)["history"] if "val_top1" in epoch]
        assert scored == {1: [1, 2, 3], 2: [2], None: []}[every]
        weights.append((store.folder(run) / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


def test_an_epoch_is_closed_before_its_validation(make_run, store, monkeypatch):
    """As on an accelerator, whose values are read now and then: no speed counts the time that scoring took."""
    score, seen = loop._score, []
    monkeypatch.setattr(arm, "Meter", lambda steps, report, every, *others: Meter(steps, report, 50, *others))
    monkeypatch.setattr(loop, "_score", lambda arms, parts: (
        seen.append([of.meter.pending for of in arms]), score(arms, parts)))
    reported = []
    store.ensure(make_run(branches=0), lambda progress: reported.append((progress.step, progress.val_top1 is None)))
    assert seen == [[[]]] * 4  # after three epochs, and in the end
    assert reported == [(3, True), (3, False), (6, True), (6, False), (9, True), (9, False)]


def test_what_is_scored_is_folded_and_scores_as_the_training_form_does(make_run, store, tiny):
    run = make_run()
    metrics = store.ensure(run)
    folded = load_network(store, run, "weights.safetensors")
    assert not any(isinstance(module, RepConv) for module in folded.modules())
    scores = evaluate({"raw": folded}, views.eval_loader(run.splits.test, tiny), torch.device("cpu"))
    assert scores["top1"]["raw"] == metrics["test"]["top1"]["raw"]


def test_evaluate_counts_hits_in_percent():
    class Constant(nn.Module):
        def forward(self, views):
            return torch.arange(10.0).expand(len(views), 10)  # ranks class 9 first, 5..9 among the first five

    loader = [(torch.zeros(len(labels), 3, 2, 2), torch.tensor(labels), torch.zeros(len(labels), 5, dtype=torch.long))
              for labels in ([9, 8, 5, 0], [1])]
    scores = evaluate({"constant": Constant()}, loader, torch.device("cpu"))
    assert scores["top1"]["constant"] == pytest.approx(20) and scores["top5"]["constant"] == pytest.approx(60)


def test_the_arms_of_an_experiment_see_identical_views(make_run, tmp_path):
    """Two recipes that differ in network, branches and rate, the same seed: the views are the same tensors."""
    seen = {}

    class Spy(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.layer, self.views = nn.Linear(3 * 33 * 33, 10), seen.setdefault(name, [])

        def forward(self, views):
            if self.training:
                self.views.append(views.clone())
            return self.layer(views.flatten(1))

    for name, overrides in (("a", dict(lr=1e-3)), ("b", dict(branches=0, weight_decay=0.0, dropout=0.5))):
        run = make_run(**overrides)
        loop.train(Spy(name), run, tmp_path / name)
    assert len(seen["a"]) == 9
    assert all(torch.equal(a, b) for a, b in zip(seen["a"], seen["b"], strict=True))
    assert not torch.equal(seen["a"][0], seen["a"][3])  # another epoch, other views


def test_a_profile_that_asks_for_another_device_than_there_is_fails_before_training(make_run, tiny, tmp_path):
    if torch.cuda.is_available():
        elsewhere = "mps"
    else:
        elsewhere = "cuda"
    profile = tiny.model_copy(update={"device": elsewhere})
    with pytest.raises(RuntimeError, match=f"asks for device '{elsewhere}'"):
        loop.train(nn.Linear(1, 1), make_run(profile=profile), tmp_path)

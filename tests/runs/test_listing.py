"""What lies in a store: in which state, what of it is removed, and what another store's is worth."""

from __future__ import annotations

import json
import os
import re
import shutil
import time

import pytest
from filelock import FileLock

from ghostlib.runs.listing import DIVERGED, FINISHED, TRAINING, UNFINISHED, adopt, remove, stored
from ghostlib.runs.store import Store, StoreError
from ghostlib.training.progress import NonFiniteLoss

COST = {"seconds": 12.5, "device": "a CPU", "date": "2026-01-02"}


def put(store: Store, number: int, **files) -> str:
    """Writes a run's folder; files are named with _ for a dot, and hold what JSON can."""
    key = f"{number:016x}"
    folder = store.root / key
    (folder / "states").mkdir(parents=True)
    for name, content in {"run_json": {"key": key, "label": f"run {number}"}, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("_", ".", 1)).write_text(text)
    return key


def finished(store: Store, number: int, **files) -> str:
    return put(store, number, **{"metrics_json": {"test": {}}, "cost_json": COST, **files})


def test_runs_are_listed_with_what_they_took_and_how_far_they_are(store):
    whole, begun, detector, early = finished(store, 1), put(store, 2), put(store, 3), put(store, 4)
    for key, names in {begun: ("state-00000400.pt", "state-00000080.pt"), detector: ("epoch_7.pth", "epoch_10.pth",
                                                                                    "epoch_10.pth.sha256")}.items():
        for name in names:
            (store.root / key / "states" / name).write_bytes(bytes(1000))
    (store.root / "scenes").mkdir()
    found = {run.key: run for run in stored(store)}
    assert {key: run.state for key, run in found.items()} == {
        whole: FINISHED, begun: UNFINISHED, detector: UNFINISHED, early: UNFINISHED}
    assert [found[key].done for key in (whole, begun, detector, early)] == ["", "400 steps", "10 epochs", ""]
    assert found[whole].label == "run 1" and found[whole].cost == COST and found[whole].date == "2026-01-02"
    assert 2000 < found[begun].size < 2100
    assert stored(Store(store.root / "none")) == []


def test_a_training_may_end_while_it_is_listed(store, monkeypatch):
    key = put(store, 1)
    (store.root / key / "states" / "state-00000400.pt").touch()
    look = os.stat

    def end_first(path, **options):
        if str(path).endswith("run.json"):
            shutil.rmtree(store.root / key / "states", ignore_errors=True)
        return look(path, **options)

    monkeypatch.setattr(os, "stat", end_first)
    (found,) = stored(store)
    assert (found.key, found.done) == (key, "")


def test_what_the_store_itself_leaves_is_read(make_run, store, monkeypatch):
    good, bad = make_run(branches=0), make_run(branches=0, lr=0.001)

    def train(self, folder, store, report):
        if self == bad:
            raise NonFiniteLoss("infinite")
        assert [run.state for run in stored(store) if run.key == self.key] == [TRAINING]
        return {"test": {}}

    monkeypatch.setattr(type(good), "train", train)
    store.ensure(good)
    with pytest.raises(NonFiniteLoss):
        store.ensure(bad)
    found = {run.key: run for run in stored(store)}
    assert (found[good.key].state, found[bad.key].state) == (FINISHED, DIVERGED)
    assert all(run.ended and run.cost["device"] and run.described["recipe"] for run in found.values())


def test_a_torn_description_is_none(store):
    put(store, 1, run_json='{"key": "0', cost_json="[]")
    assert [(run.label, run.cost) for run in stored(store)] == [("", {})]


def test_whole_folders_are_removed_but_none_that_is_being_trained(store):
    ours, theirs, other = put(store, 1), put(store, 2), finished(store, 3)
    (store.root / ours / ".lock").touch()  # of a killed process
    with FileLock(store.root / theirs / ".lock"):
        runs = {run.key: run for run in stored(store)}
        assert runs[theirs].state == TRAINING
        assert remove([runs[ours], runs[theirs]]) == [runs[theirs]]
        assert sorted(os.listdir(store.root)) == [theirs, other]


@pytest.mark.parametrize(("left", "sweeps"), [
    (f".{'0' * 16}.9.removed", lambda store: remove(stored(store))),
    (f".{'0' * 16}.9.adopted", lambda store: adopt(store.root, store))])
def test_what_a_killed_command_left_is_swept_by_the_next_of_its_kind(left, sweeps, store, monkeypatch):
    finished(store, 1)
    (store.root / left).mkdir()
    sweeps(store)
    assert (store.root / left).exists(), "its process may live"
    finished(store, 2)
    later = time.time() + 100_000
    monkeypatch.setattr(time, "time", lambda: later)
    sweeps(store)
    assert not (store.root / left).exists()


def test_finished_runs_of_another_store_are_copied_and_none_is_replaced(store, tmp_path):
    theirs = Store(tmp_path / "theirs")
    new, known, lost = finished(theirs, 1), finished(theirs, 2), finished(theirs, 5, diverged_txt="infinite")
    put(theirs, 3)
    (theirs.root / put(theirs, 6) / "run.json").unlink()  # killed before it was written
    begun = finished(theirs, 4)
    (theirs.root / new / "states" / "state-00000001.pt").touch()
    (theirs.root / new / ".lock").touch()
    finished(store, 2, cost_json={"seconds": 1})
    put(store, 4)
    copied, here, refused = adopt(theirs.root, store)
    assert (copied, here, refused) == ([new, begun, lost], [known], [])
    assert {run.key for run in stored(store) if run.state == FINISHED} == {new, known, begun, lost}
    assert sorted(os.listdir(store.root / new)) == ["cost.json", "metrics.json", "run.json"]
    assert json.loads((store.root / known / "cost.json").read_text()) == {"seconds": 1}


def test_what_is_in_training_is_not_replaced_by_what_has_ended_elsewhere(store, tmp_path):
    theirs = Store(tmp_path / "theirs")
    finished(theirs, 1)
    with FileLock(store.root / put(store, 1) / ".lock"):
        copied, here, refused = adopt(theirs.root, store)
        assert (copied, here) == ([], []) and "0001 is in training here; stop that and adopt again" in refused[0]
    assert [run.state for run in stored(store)] == [UNFINISHED] and len(os.listdir(store.root)) == 1


@pytest.mark.parametrize(("files", "told"), [
    ({"metrics_json": '{"test"'}, r"metrics\.json is torn; copy .* again"),
    ({"run_json": '{"key"'}, r"run\.json is torn; copy .* again"),
    ({"run_json": {"key": "f" * 16}}, r"run\.json names run f{16}; rename .*0001 to its run's key")])
def test_a_run_that_cannot_be_used_is_named_with_a_remedy_and_the_others_are_copied(store, tmp_path, files, told):
    theirs = Store(tmp_path / "theirs")
    finished(theirs, 1, **files)
    good = finished(theirs, 2)
    copied, _, refused = adopt(theirs.root, store)
    assert copied == [good] and len(refused) == 1
    assert re.search(told, refused[0])
    assert os.listdir(store.root) == [good]


def test_a_folder_without_runs_is_an_error(store, tmp_path):
    with pytest.raises(StoreError, match="holds no runs; name the folder of a store"):
        adopt(tmp_path, store)

"""The grid: many runs, some of them bad."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from ghostlib.runs import engines, grid, local, worker
from ghostlib.runs.store import Store
from ghostlib.runs.worker import End
from ghostlib.training.profile import Teacher
from ghostlib.training.progress import NonFiniteLoss


@pytest.fixture
def kill_when(monkeypatch):
    """Kills a child that tells of a job's progress, if a condition holds of the child and the job's key."""
    def kill(condition):
        hear = local._Child.hear

        def hear_and_kill(child):
            news = hear(child)
            if any(not isinstance(said, End) and condition(child, key) for key, said, _ in news):
                os.kill(child.process.pid, signal.SIGKILL)
            return news
        monkeypatch.setattr(local._Child, "hear", hear_and_kill)
    return kill


def test_results_do_not_depend_on_the_order_or_the_number_of_workers(make_run, tiny, tmp_path):
    runs = [make_run(branches=0), make_run(branches=0, seed=1), make_run(branches=0, epochs=1, teacher="weak")]
    one = engines.run(runs, workers=1, store=Store(tmp_path / "one"))
    two = engines.run([*reversed(runs), runs[0]], workers=2, store=Store(tmp_path / "two"))
    assert one == two and len(one) == 3


@pytest.mark.parametrize(("workers", "expected"), [(1, [3]), (2, [1, 1, 1])])
def test_a_process_trains_as_many_runs_as_leave_no_other_idle(make_run, store, monkeypatch, workers, expected):
    started = []
    record = local._Child.__init__
    monkeypatch.setattr(local._Child, "__init__", lambda self, processes, jobs, *others: (
        started.append(len(jobs)), record(self, processes, jobs, *others))[1])
    engines.run([make_run(branches=0, epochs=1, lr=lr) for lr in (1e-3, 2e-3, 3e-3)], workers=workers, store=store)
    assert started == expected


def test_that_a_run_diverges_is_a_result(make_run, store, monkeypatch):
    good, bad = make_run(branches=0, epochs=1), make_run(branches=0, lr=1e30)
    assert engines.run([bad, good], workers=1, store=store) == {bad.key: None, good.key: store.metrics(good)}
    assert store.metrics(good) is not None and (store.folder(good) / "log.txt").read_text() == ""
    assert f"run {bad.key} diverged: the loss is" in store.diverged(bad) and store.cost(bad)["seconds"] > 0
    assert "NonFiniteLoss" in (store.folder(bad) / "log.txt").read_text()
    assert not (store.folder(bad) / "states").exists()
    monkeypatch.setattr(local, "_Child", None)  # nothing is trained again
    assert engines.run([bad], store=store) == {bad.key: None}
    with pytest.raises(NonFiniteLoss, match=f"run {bad.key} diverged"):
        store.ensure(bad)


def test_two_commands_share_a_grid_and_neither_waits_for_the_other_s_runs(make_run, store):
    runs = [make_run(branches=0, epochs=1, lr=lr) for lr in (1e-3, 2e-3, 3e-3)]
    theirs = store.folder(runs[0]) / ".lock"
    theirs.parent.mkdir(parents=True)
    seen = []

    def look(*arguments, record=local._Child.__init__):
        seen.append([job.key for job in arguments[2]])
        record(*arguments)
        if len(seen) == 2:
            lock.release()  # the other command was killed

    with pytest.MonkeyPatch.context() as patch, FileLock(theirs) as lock:
        patch.setattr(local._Child, "__init__", look)
        engines.run(runs, workers=1, store=store)
    assert len(seen) == 3 and seen[-1] == [runs[0].key]  # two shares of the others, and then what nobody trains
    assert all(store.metrics(run) for run in runs)


def test_each_worker_gets_a_gpu_for_itself(monkeypatch):
    monkeypatch.delenv(local.WORKERS, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8932f937,5")
    job = SimpleNamespace(profile=SimpleNamespace(device_type="cuda", threads=8))
    assert local.default_workers([job]) == 3 and local._gpus() == ["2", "GPU-8932f937", "5"]
    given = []
    monkeypatch.setattr(local, "_Child", lambda processes, jobs, store, gpu: (
        given.append(gpu), SimpleNamespace(gpu=gpu))[1])
    engine = local.Local([job], 4, None)
    for _ in range(4):
        engine.start([job])
    assert sorted(given[:3]) == ["2", "5", "GPU-8932f937"] and given[3] == given[0]
    del engine.active[1]
    engine.start([job])
    assert given[4] == given[1], "the one that nobody uses"


def test_a_worker_sees_the_gpu_that_it_was_given_and_no_other(monkeypatch):
    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr(worker, "train", lambda *arguments: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    for gpu in (None, "5"):
        local._train([], None, None, SimpleNamespace(send=None), gpu)
    assert seen == ["2,5", "5"]


@pytest.mark.parametrize(("threads", "expected"), [([1], 8), ([1, 2], 4), ([3], 2), ([16], 1)])
def test_on_a_cpu_there_are_as_many_workers_as_have_their_threads(threads, expected, monkeypatch):
    monkeypatch.delenv(local.WORKERS, raising=False)
    monkeypatch.setattr(local, "all_threads", lambda: 8)
    jobs = [SimpleNamespace(profile=SimpleNamespace(device_type="cpu", threads=count)) for count in threads]
    assert local.default_workers(jobs) == expected


def test_on_a_full_disk_no_other_run_is_started(make_run, store, monkeypatch):
    def full(self, job, *outcome):
        return OSError(errno.ENOSPC, "No space left on device", str(self.folder(job)))

    runs = [make_run(branches=0, epochs=1, lr=lr) for lr in (1e-3, 2e-3, 3e-3)]
    monkeypatch.setattr(grid, "next_cohort", lambda waiting, *others: waiting[:1])
    monkeypatch.setattr(local, "context", lambda: multiprocessing.get_context("fork"))
    monkeypatch.setattr(Store, "_keep", full)
    with pytest.raises(engines.GridError, match="3 of 3 runs failed") as failure:
        engines.run(runs, workers=1, store=store)
    told = str(failure.value)
    assert told.count("No space left on device") == 1
    assert told.count("could not be kept: the disk is full or read-only") == 2  # the others were not started
    assert len(list(store.root.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_disk_that_takes_no_log_either_is_told_as_one(tmp_path):
    job, said = SimpleNamespace(key="run"), []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / worker.LOG).symlink_to("/dev/full")
    full = OSError(errno.ENOSPC, "No space left on device", "state.pt")

    def ensure_together(jobs, report, wait):
        print("a warning")
        yield job, full

    store = SimpleNamespace(folder=lambda job: tmp_path / job.key, ensure_together=ensure_together)
    logs = SimpleNamespace(paths={"run": tmp_path / "run" / worker.LOG}, tail=lambda key: "")
    worker.train([job], store, logs, said.append)
    assert said == [("run", End.NO_SPACE, "    [Errno 28] No space left on device: 'state.pt'")]


def test_a_store_that_cannot_be_written_is_told_of_every_run(tmp_path):
    (tmp_path / "runs").write_text("a file in the place of the store")
    said, logs = [], SimpleNamespace(paths={key: tmp_path / "runs" / key / worker.LOG for key in ("a", "b")})
    worker.train([], None, logs, said.append)
    assert [(key, end) for key, end, _ in said] == [("a", End.FAILED), ("b", End.FAILED)]
    assert all("Not a directory" in told for *_, told in said)


def test_a_killed_worker_s_runs_are_all_reported_but_those_that_had_ended(make_run, store, kill_when):
    ended, *victims = (make_run(branches=0, epochs=epochs) for epochs in (1, 300, 250))
    kill_when(lambda child, key: ended.key not in child.left)
    with pytest.raises(engines.GridError, match="2 of 3 runs failed") as failure:
        engines.run([ended, *victims], workers=1, store=store)
    assert all(run.key in str(failure.value) for run in victims)
    assert str(failure.value).count("killed by signal 9; the same command goes on") == 2
    assert store.metrics(ended) is not None and store.metrics(victims[0]) is None


def test_a_failed_run_is_reported_with_its_log_while_the_others_finish(make_run, store):
    good = make_run(branches=0, epochs=1)
    bad = make_run(network="deit_tiny", branches=3)  # a transformer has nothing to expand
    with pytest.raises(engines.GridError) as failure:
        engines.run([bad, good], workers=1, store=store)
    assert store.metrics(good) is not None and store.metrics(bad) is None
    message = str(failure.value)
    assert "1 of 2 runs failed" in message and bad.key in message and str(store.folder(bad) / "log.txt") in message
    assert "nothing to add branches to" in message and good.key not in message


def test_a_killed_worker_costs_only_its_own_run(make_run, store, kill_when):
    victim, survivor = make_run(branches=0, epochs=300), make_run(branches=0, epochs=1)
    kill_when(lambda child, key: key == victim.key)
    with pytest.raises(engines.GridError, match="killed by signal 9"):
        engines.run([victim, survivor], workers=2, store=store)
    assert store.metrics(survivor) is not None and store.metrics(victim) is None


def test_a_run_may_have_data_loader_processes_and_sees_the_same_views(make_run, tiny, store, tmp_path):
    run = make_run(branches=0, epochs=1)
    loading = make_run(branches=0, epochs=1, profile=tiny.model_copy(update={"workers": 2}))
    alone = engines.run([run], store=store)
    assert engines.run([loading], store=Store(tmp_path / "other")) == alone


def test_without_its_teacher_a_run_fails_and_the_others_finish(make_run, tiny, store):
    broken = {"weak": Teacher(stand_in={"network": "deit_tiny", "branches": 3, "teacher": None, "epochs": 1})}
    profile = tiny.model_copy(update={"teachers": broken})
    student, alone = make_run(profile=profile, teacher="weak"), make_run(profile=profile, branches=0, epochs=1)
    with pytest.raises(engines.GridError, match="2 of 3 runs failed") as failure:
        engines.run([student, alone], store=store)
    assert f"it requires run {student.teacher_run.key}, stand-in for weak, which failed" in str(failure.value)
    assert store.metrics(alone) is not None


def test_what_requires_a_run_that_diverged_in_an_earlier_command_fails_and_does_not_count_as_diverged(
        make_run, store, monkeypatch):
    student = make_run(teacher="weak")
    store.folder(student.teacher_run).mkdir(parents=True)
    (store.folder(student.teacher_run) / "diverged.txt").write_text("the loss is nan")
    monkeypatch.setattr(local, "_Child", None)  # nothing is started
    with pytest.raises(engines.GridError, match=f"it requires run {student.teacher_run.key}, stand-in for weak, which "
                                                "failed, as it diverged; give that a smaller lr_scale"):
        engines.run([student], workers=1, store=store)


def test_an_interrupted_grid_leaves_no_child_behind(make_run, store, monkeypatch):
    run = make_run(branches=0, epochs=300)
    children = []

    def interrupt(child):
        children.append(child.process)
        raise KeyboardInterrupt
    monkeypatch.setattr(local._Child, "hear", interrupt)
    with pytest.raises(KeyboardInterrupt):
        engines.run([run], store=store)
    assert not children[0].is_alive()
    monkeypatch.undo()
    with FileLock(store.folder(run) / ".lock", timeout=1):
        pass  # nobody holds it


def test_an_unknown_engine_is_refused(make_run, store):
    with pytest.raises(ValueError, match="unknown engine 'cloud'; known: local"):
        engines.run([make_run()], engine="cloud", store=store)


def test_finished_runs_are_read_not_trained(make_run, store, capfd):
    run = make_run(branches=0, epochs=1)
    store.ensure(run)
    assert engines.run([run], store=store) == {run.key: store.metrics(run)}
    assert capfd.readouterr().err == ""


def test_a_killed_worker_s_log_says_nothing_of_an_earlier_start(make_run, store, kill_when):
    victim = make_run(branches=0, epochs=300)
    log = store.folder(victim) / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback (most recent call last):\nValueError: of yesterday\n")
    kill_when(lambda child, key: True)
    with pytest.raises(engines.GridError, match="killed by signal 9") as failure:
        engines.run([victim], store=store)
    assert "of yesterday" not in str(failure.value) and "of yesterday" in log.read_text()

"""The grid on a Ray cluster of several nodes, all of them on this machine: nothing is lost, whatever is killed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ghostlib.files import write_atomic
from ghostlib.runs import engines
from ghostlib.runs.store import Store, StoreError
from ghostlib.training.progress import NonFiniteLoss, Progress

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

from ghostlib.runs import cluster  # noqa: E402

LONG = pytest.mark.skipif(not os.environ.get("GHOSTLIB_LONG"), reason="half a minute and more: make test-cluster")

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class On:
    """What a grid asks of a job's profile."""

    device_type: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Sleep:
    """A job that sleeps: a step, a state and a line in `steps` every so many seconds, then a line in `ends`."""

    number: int
    steps: int = 1
    seconds: float = 0.0  # a step
    requires: tuple[Sleep, ...] = ()
    error: str = ""  # what it ends with: "diverges", "breaks", or "" for a result
    label: str = ""
    seed: int = 0
    code: str = "sleep"
    profile: On = On()

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.number} {self.error}".encode()).hexdigest()[:16]

    @property
    def work(self) -> float:
        return self.steps

    @classmethod
    def current_code(cls) -> str:
        return "sleep"

    def describe(self) -> dict[str, Any]:
        return {}

    def train(self, folder: Path, store: Store, report: Callable[[Progress], None]) -> dict[str, Any]:
        import ray

        state = folder / "states" / "step"
        done = int(state.read_text()) if state.exists() else 0
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "none"
        add(folder / "starts", f"{done} {node}")
        for step in range(done, self.steps):
            time.sleep(self.seconds)
            write_atomic(state, str(step + 1))
            add(folder / "steps", str(step))
            report(Progress(step + 1, self.steps, 0.0, math.nan, 1.0))
        if self.error:
            raise NonFiniteLoss("it diverges") if self.error == "diverges" else ValueError("it breaks")
        add(folder / "ends", "")
        return {"number": self.number}


def add(file: Path, line: str) -> None:
    with open(file, "a") as lines:
        lines.write(f"{line}\n")


def lines(store: Store, job: Sleep, file: str) -> list[str]:
    path = store.folder(job) / file
    return path.read_text().splitlines() if path.exists() else []


def wait_for(true: Callable[[], Any], seconds: float = 120.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes of a CPU, which every grid of this file finds; one test kills the second."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={
            "num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True})
        started.add_node(num_cpus=1)
        environment.setenv("RAY_ADDRESS", started.address)
        yield started
        started.shutdown()


@pytest.fixture
def two_nodes(nodes) -> Any:
    """That cluster, its second node started anew if a test has killed it."""
    if not nodes.worker_nodes:
        nodes.add_node(num_cpus=1)
    return nodes


def run(jobs: list[Any], store: Store) -> dict[str, Any]:
    return engines.run(jobs, store=store)


def test_a_failing_job_is_reported_with_its_log_while_the_others_finish(nodes, store):
    good, bad, diverging = Sleep(1), Sleep(2, error="breaks"), Sleep(3, error="diverges")
    after = Sleep(4, requires=(good,)), Sleep(5, requires=(bad,)), Sleep(6, requires=(diverging,))
    with pytest.raises(engines.GridError, match="3 of 6 runs failed") as failure:
        run([*after, bad, diverging, good], store)
    message = str(failure.value)
    assert "ValueError: it breaks" in message and str(store.folder(bad) / "log.txt") in message
    assert f"it requires run {bad.key}, which failed" in message
    assert good.key not in message and after[0].key not in message
    assert store.metrics(good) and store.metrics(after[0]) and store.diverged(diverging) == "it diverges"
    assert not lines(store, after[1], "starts") and not lines(store, after[2], "starts")


def test_a_node_killed_in_mid_grid_costs_no_run_and_trains_none_twice(nodes, store):
    jobs = [Sleep(number, steps=15, seconds=0.1) for number in range(5)]
    (lost,) = nodes.worker_nodes

    def kill() -> None:
        here = wait_for(lambda: [job for job in jobs if len(lines(store, job, "steps")) >= 3
                                 and lost.node_id in lines(store, job, "starts")[-1] and not lines(store, job, "ends")])
        victims.extend(here)
        nodes.remove_node(lost, allow_graceful=False)

    victims: list[Sleep] = []
    killer = threading.Thread(target=kill)
    killer.start()
    results = run(jobs, store)
    killer.join()
    assert results == {job.key: {"number": job.number} for job in jobs}
    for job in jobs:
        assert len(lines(store, job, "ends")) == 1
        begun = [int(line.split()[0]) for line in lines(store, job, "starts")]
        assert len(begun) == 1 + (job in victims) and begun[0] == 0 and all(step >= 2 for step in begun[1:])
    assert victims


@LONG
def test_the_grid_of_a_killed_command_stops_and_the_same_command_goes_on(nodes, store):
    # It has a cluster of its own, which goes with it.
    code = ("import sys; from ghostlib.runs import engines; from ghostlib.runs.store import Store\n"
            "from tests.runs.test_cluster import Sleep\n"
            "engines.run([Sleep(0, 20, 0.2), Sleep(1, 20, 0.2)], store=Store(sys.argv[1]))")
    jobs = [Sleep(number, 20, 0.2) for number in (0, 1)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = subprocess.Popen([sys.executable, "-c", code, str(store.root)], cwd=ROOT, stderr=subprocess.PIPE,
                               env={**environment, "GHOSTLIB_ENGINE": "ray"})
    wait_for(lambda: len(lines(store, jobs[0], "steps")) >= 3 or command.poll() is not None)
    assert command.poll() is None, command.stderr.read().decode()
    command.send_signal(signal.SIGKILL)
    command.communicate()
    wait_for(lambda: not any(map(store.held, jobs)))
    assert not any(map(store.finished, jobs))
    assert run(jobs, store) == {job.key: {"number": job.number} for job in jobs}
    starts = [[int(line.split()[0]) for line in lines(store, job, "starts")] for job in jobs]
    assert starts[0][0] == 0 and starts[0][1] >= 3 and len(starts[0]) == 2
    assert [len(lines(store, job, "ends")) for job in jobs] == [1, 1]


@LONG
def test_classifiers_on_nodes_are_those_of_this_process_to_the_bit(nodes, make_run, store, tmp_path):
    student = make_run(branches=0, epochs=1, teacher="weak")
    alone = Store(tmp_path / "alone")
    assert run([student], store) == {student.key: alone.ensure(student)}
    weights = [(where.folder(student) / "ema.safetensors").read_bytes() for where in (store, alone)]
    assert weights[0] == weights[1]


@dataclass(frozen=True)
class Pair(Sleep):
    """A job of two processes, which wait for each other at every step; the second writes down which it is."""

    def train(self, folder: Path, store: Store, report: Callable[[Progress], None]) -> dict[str, Any]:
        from torch import distributed

        def together(progress: Progress) -> None:
            distributed.barrier()
            report(progress)

        state = folder / "states" / "step"
        done = [int(state.read_text()) if state.exists() else 0]
        distributed.broadcast_object_list(done)
        if distributed.get_rank() == 0:
            assert distributed.get_world_size() == 2
            return Sleep.train(self, folder, store, together)
        add(folder / "second", str(os.getpid()))
        for _ in range(*done, self.steps):
            distributed.barrier()
        return {}


@LONG
def test_a_run_in_two_processes_of_a_cluster_goes_on_when_one_is_lost(two_nodes, store, monkeypatch):
    monkeypatch.setenv(engines.PROCESSES, "2")
    monkeypatch.setattr(cluster, "RETRIES", 1)
    job, bad, diverging = Pair(11, steps=20, seconds=0.2), Pair(12, error="breaks"), Pair(13, error="diverges")

    def kill() -> None:
        wait_for(lambda: len(lines(store, job, "steps")) >= 3, seconds=300)
        os.kill(int(lines(store, job, "second")[-1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(engines.GridError, match="1 of 3 runs failed") as failure:
        run([job, bad, diverging], store)
    killer.join()
    assert "ValueError: it breaks" in str(failure.value) and bad.key in str(failure.value)
    assert store.metrics(job) == {"number": 11} and store.diverged(diverging) == "it diverges"
    begun = [int(line.split()[0]) for line in lines(store, job, "starts")]
    assert begun[0] == 0 and begun[1] >= 3 and len(lines(store, job, "ends")) == 1


@LONG
def test_a_classifier_in_two_processes_of_a_cluster_is_that_of_one(two_nodes, tiny, store, tmp_path, monkeypatch):
    """A network without batch normalisation: its statistics are those of a process's part of a batch."""
    from ghostlib.runs.classifier import ClassifierRun

    profile = tiny.model_copy(update={"pass_images": 8})
    student = ClassifierRun(profile.resolve({"epochs": 1, "network": "deit_tiny", "branches": 0}), profile, 0)
    monkeypatch.setenv(engines.PROCESSES, "2")
    found = run([student], store)[student.key]
    alone = Store(tmp_path / "alone").ensure(student)
    assert found["correct"] == alone["correct"]
    assert found["test"]["loss"] == pytest.approx(alone["test"]["loss"], rel=1e-3)
    for job in (student, *student.requires):
        assert json.loads((store.folder(job) / "run.json").read_text())["processes"] == 2
        assert not (store.folder(job) / "states").exists()


def test_processes_for_a_run_want_a_cluster_and_a_number(store, monkeypatch):
    monkeypatch.setenv("GHOSTLIB_ENGINE", "local")
    monkeypatch.setenv(engines.PROCESSES, "8")
    with pytest.raises(ValueError, match="torchrun --nproc_per_node 8"):
        run([Sleep(1)], store)
    monkeypatch.setenv(engines.PROCESSES, "all")
    with pytest.raises(ValueError, match="GHOSTLIB_PROCESSES = 'all' is no number of processes"):
        run([Sleep(1)], store)


def test_a_node_that_would_train_something_else_is_found_out(store, tmp_path):
    @dataclass(frozen=True)
    class Elsewhere(Sleep):
        key: str = field(default="of the first node", init=False)

    job = Elsewhere(1)
    object.__setattr__(job, "key", "of another node")
    with pytest.raises(StoreError, match="would train run of the first node in place of run of another node"):
        cluster._train([job], store, Path.cwd(), {}, board=None)


def test_a_task_asks_for_its_threads_and_a_gpu_where_it_trains_on_one():
    assert cluster._needs([Sleep(0, profile=On("cpu", 4)), Sleep(1)]) == {"CPU": 4, "GPU": 0}
    assert cluster._needs([Sleep(0, profile=On("cuda", 8))]) == {"CPU": 8, "GPU": 1}


@pytest.mark.parametrize(("needs", "nodes", "fitted", "places"), [
    ({"CPU": 4, "GPU": 0}, [{"CPU": 10.0}, {"CPU": 4.0}, {}], 4, 3),
    ({"CPU": 4, "GPU": 0}, [{"CPU": 2.0}, {"CPU": 1.0}], 2.0, 1),  # fewer than it has threads: they share
    ({"CPU": 4, "GPU": 1}, [{"CPU": 64.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 8.0}], 4, 10),
    ({"CPU": 4, "GPU": 1}, [{"CPU": 64.0}], 4, 0),
    ({"CPU": 4, "GPU": 0}, [], 4, 0),
])
def test_a_cluster_has_room_for_what_each_node_holds(needs, nodes, fitted, places):
    assert cluster._fitted(needs, nodes) == ({**needs, "CPU": fitted}, places)


def test_an_engine_is_chosen_by_the_environment(store, monkeypatch):
    chosen = []
    for engine in ("local", "ray"):
        monkeypatch.setitem(engines._ENGINES, engine, lambda *args, engine=engine: chosen.append(engine) or {})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run([Sleep(1)], store)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    run([Sleep(1)], store)
    monkeypatch.setenv("GHOSTLIB_ENGINE", "local")
    run([Sleep(1)], store)
    assert chosen == ["local", "ray", "local"]

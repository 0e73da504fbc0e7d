"""Many jobs on a Ray cluster: a task for every few that can be trained together, as many as its nodes have room for."""

from __future__ import annotations

import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ghostlib.machine import all_threads, require
from ghostlib.runs.cohorts import in_order, next_cohort
from ghostlib.runs.engines import LOG, End, _orphans, _train_in_child
from ghostlib.runs.job import Job
from ghostlib.runs.store import Store, StoreError, name

RETRIES = 3  # of a task whose process or node was lost; a job that kills its process every time must come to an end
SECONDS = 1.0  # between two looks at what tasks say, and between two reports of a job
_OBJECTS = 100 * 2**20  # bytes of shared memory for a cluster that is started here: what tasks are sent is small
_SETTINGS = ("GHOSTLIB_RUNS", "IMAGENET_DIR")  # environment variables that say where data lie

Ended = tuple[End, str]  # how a job ended, and the last lines of its log if it failed


def train(todo: Mapping[str, Job], workers: int, store: Store, title: str) -> dict[str, str]:
    """Trains jobs on the cluster at $RAY_ADDRESS, or on one that is started on this machine and ends with them.

    On every node the project, the store and the data must lie where they lie here, and the libraries must be the same.
    What a lost node or process trained goes on from its states on another one.

    Args:
        todo: key -> job.
        workers: has no meaning here: as many tasks run as there are CPUs or GPUs for, on nodes that join later, too.
        store: where jobs live.
        title: what the progress bar says.

    Returns:
        Key -> the last lines of the log of each that failed.
    """
    if not todo:
        return {}
    with _cluster():
        return _Grid(todo, store, title).train()


@contextmanager
def _cluster() -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no statistics; it reads this when it is imported
    require("cluster", "ray")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    resources = {} if address else {"num_cpus": all_threads(), "object_store_memory": _OBJECTS}
    terminated = signal.getsignal(signal.SIGTERM)
    ray.init(address or "local", include_dashboard=False, logging_level="ERROR", log_to_driver=False, **resources)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)  # which Ray takes, to wait half a minute for nothing
    try:
        yield
    finally:
        ray.shutdown()  # which ends the tasks that are left, in a cluster that goes on, too


class _Grid:
    """The jobs of one command and how far they are."""

    def __init__(self, todo: Mapping[str, Job], store: Store, title: str):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        from tqdm import tqdm

        self.todo, self.store = todo, Store(store.root.resolve())
        self.waiting = in_order(todo.values())
        self.active: dict[Any, list[Job]] = {}  # Ray's reference to what a task will return -> its jobs
        self.unfinished, self.diverged, self.failures = set(todo), set(), {}
        self.task = ray.remote(_train)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.board = ray.remote(_Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        self.settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
        self.shares = dict.fromkeys(todo, 0.0)  # how much of each is done
        self.progress: dict[str, Any] = {}  # of those in training; the one heard last stands last
        self.bar = tqdm(
            total=len(todo), desc=title, unit="run", file=sys.stderr, smoothing=0, mininterval=0.5,
            bar_format="{desc} {percentage:3.0f}%|{bar:24}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}")

    def train(self) -> dict[str, str]:
        """Trains all; returns what `train` does."""
        try:
            while self.waiting or self.active:
                for job in _orphans(self.waiting, self.diverged, self.failures):
                    self.waiting.remove(job)
                    self._end(job.key, End.FAILED, self.failures[job.key])
                self._start()
                self._hear()
                self._show()
        finally:
            self.bar.close()
        return self.failures

    def _start(self) -> None:
        """Sends as many tasks as there is room for, and one more: while that one waits, an autoscaler adds a node."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        needs, places = _fitted(_needs(self.todo.values()), nodes)
        task = self.task.options(num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_retries=RETRIES)
        while len(self.active) <= places:
            free = [job for job in self.waiting if not self.store.held(job)]  # by another command
            if not (cohort := next_cohort(free, self.unfinished, max(1, places))):
                break
            self.waiting = [job for job in self.waiting if job not in cohort]
            self.active[task.remote(cohort, self.store, Path.cwd(), self.settings, self.board)] = cohort
        if not places:
            self.bar.set_postfix_str(f" no node with {needs['CPU']:g} CPUs and {needs['GPU']} GPUs")

    def _hear(self) -> None:
        import ray
        from ray.exceptions import RayActorError, RayError

        done = ray.wait(list(self.active), timeout=SECONDS)[0] if self.active else time.sleep(SECONDS) or ()
        try:
            news = ray.get(self.board.take.remote())
        except RayActorError:  # it starts again; how jobs ended is what their tasks return, too
            news = {}
        for key, said in news.items():
            if key not in self.unfinished:
                continue
            if isinstance(said, tuple):
                self._end(key, *said)
            else:
                self.progress.pop(key, None)
                self.progress[key], self.shares[key] = said, said.step / said.steps
        for task in done:
            cohort = self.active.pop(task)
            try:
                ends = ray.get(task)
            except RayError as error:  # the node lacks something, or one after the other was lost
                ends = {job.key: (End.FAILED, _tail(str(error))) for job in cohort}
            for job in cohort:
                if job.key in self.unfinished:
                    self._end(job.key, *ends[job.key])

    def _end(self, key: str, end: End, log: str) -> None:
        job = self.todo[key]
        self.progress.pop(key, None)
        self.shares[key] = float(end is not End.HELD)
        if end is End.HELD:
            self.waiting.append(job)
            return
        self.unfinished.discard(key)
        if end is End.DIVERGED:
            self.diverged.add(key)
        elif end is not End.FINISHED:
            self.failures[key] = log
        if end is not End.FINISHED:
            self.bar.write(f"{name(job)} {end.value}; log: {self.store.folder(job) / LOG}", file=sys.stderr)
        if end is End.NO_SPACE:  # nor would any other be kept
            self.failures |= {other.key: f"    not started, since {name(job)} {end.value}" for other in self.waiting}
            self.waiting = []

    def _show(self) -> None:
        if training := list(self.progress.values()):
            last, speed = training[-1], sum(progress.images_per_second for progress in training)
            accuracy = "" if math.isnan(last.accuracy) else f" acc {last.accuracy:.0f}%,"  # a detector has none
            self.bar.set_postfix_str(f" loss {last.loss:.3f},{accuracy} {speed:.0f} img/s", refresh=False)
        self.bar.update(min(sum(self.shares.values()), self.bar.total) - self.bar.n)


def _needs(jobs: Collection[Job]) -> dict[str, int]:
    """What a task of any of the jobs needs, in Ray's names: its threads, and a GPU where it trains on one."""
    return {"CPU": max(job.profile.threads for job in jobs),
            "GPU": int(any(job.profile.device_type == "cuda" for job in jobs))}


def _fitted(needs: Mapping[str, int], nodes: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], int]:
    """What a task asks for, no more CPUs than the largest node has, and how many tasks the nodes hold at a time.

    Args:
        needs: of a task.
        nodes: what each has in all, in use or not.
    """
    able = [node for node in nodes if node.get("CPU") and node.get("GPU", 0) >= needs["GPU"]]
    fitted = {**needs, "CPU": min(needs["CPU"], max((node["CPU"] for node in able), default=needs["CPU"]))}
    return fitted, sum(int(min(node[what] // amount for what, amount in fitted.items() if amount)) for node in able)


class _Board:
    """What tasks said last of their jobs, until the command takes it: an actor, which tasks tell without waiting."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def tell(self, key: str, said: Any) -> None:
        self.said[key] = said

    def take(self) -> dict[str, Any]:
        said, self.said = self.said, {}
        return said


def _train(jobs: Sequence[Job], store: Store, folder: Path, settings: Mapping[str, str],
           board: Any) -> dict[str, Ended]:
    """The task: trains jobs of one cohort on a node, in the folder and with the settings of the command.

    Raises:
        StoreError: this node would train another job under that key.
    """
    os.chdir(folder)
    os.environ.update(settings)
    for job in jobs:
        if (ours := replace(job)).key != job.key:  # a copy knows no key and computes its own
            raise StoreError(f"{platform.node()} would train {name(ours)} in place of {name(job)}: its libraries, its "
                             "data or its device are not those of where the command was started")
    said = _Said(board, {job.key: store.folder(job) / LOG for job in jobs})
    streams = sys.stdout, sys.stderr
    try:
        _train_in_child(jobs, store, said, said.logs, gpu=None)
    except SystemExit:
        pass  # why is in the logs
    finally:
        sys.stdout, sys.stderr = streams  # the process trains others after these
    return {job.key: said.ends.get(job.key) or (End.FAILED, said.tail(job.key)) for job in jobs}


class _Said:
    """What the jobs of a task say, in place of a child's pipe: the board is told, and how they ended is kept."""

    def __init__(self, board: Any, logs: dict[str, Path]):
        self.board, self.logs = board, logs
        self.earlier = {key: log.stat().st_size if log.exists() else 0 for key, log in logs.items()}  # bytes
        self.told = dict.fromkeys(logs, -math.inf)  # seconds
        self.ends: dict[str, Ended] = {}

    def send(self, message: tuple[str, Any]) -> None:
        """Takes a job's key with its progress, which is told once in a while, or its end."""
        key, said = message
        if isinstance(said, End):
            failed = said not in (End.FINISHED, End.DIVERGED, End.HELD)
            said = self.ends[key] = said, self.tail(key) if failed else ""
        elif time.monotonic() - self.told[key] < SECONDS:
            return
        if said != (End.HELD, ""):  # what is to be sent again is learned once, when the task returns
            self.told[key] = time.monotonic()
            self.board.tell.remote(key, said)

    def tail(self, key: str) -> str:
        """The last lines that this start wrote into a job's log."""
        return _tail(self.logs[key].read_bytes()[self.earlier[key]:].decode(errors="replace"))


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join("    " + line for line in text.splitlines()[-lines:]) or "    (nothing said)"

"""Many jobs at once: a process for every few that can be trained together, as many processes as cores."""

from __future__ import annotations

import errno
import importlib
import io
import math
import multiprocessing
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from enum import Enum
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TextIO

from ghostlib.machine import world_size
from ghostlib.runs import shared
from ghostlib.runs.cohorts import in_order, next_cohort
from ghostlib.runs.job import Job
from ghostlib.runs.store import Held, Store, name
from ghostlib.training.progress import NonFiniteLoss

LOG = "log.txt"  # what a run says, in its folder


class GridError(RuntimeError):
    """Some jobs failed; the others are finished and stored."""


class End(Enum):
    """How a job ended in a worker."""

    FINISHED = "finished"
    DIVERGED = "diverged"  # a result, which the store keeps
    HELD = "is trained by another command"
    NO_SPACE = "could not be kept: the disk is full or read-only"
    FAILED = "failed"

    @classmethod
    def by(cls, error: Exception | None) -> End:
        """What the store's error says."""
        if error is None:
            return cls.FINISHED
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return cls.NO_SPACE
        return {Held: cls.HELD, NonFiniteLoss: cls.DIVERGED}.get(type(error), cls.FAILED)


def run(jobs: Iterable[Job], engine: str | None = None, workers: int | None = None, store: Store | None = None,
        title: str = "training") -> dict[str, dict[str, Any]]:
    """Trains every job that is not finished yet, and what it requires, and returns the metrics of all.

    Started in several processes, by torchrun or `accelerate launch`, these train one job at a time, all of them; see
    `shared`, where the engine and the workers mean nothing.

    Args:
        jobs: in any order; equal ones train once. The result does not depend on the order.
        engine: "local", processes on this machine, or "ray", a cluster; by default $GHOSTLIB_ENGINE, or the cluster
            at $RAY_ADDRESS if there is one.
        workers: processes at a time; by default one a core or a GPU, each of which has one for itself.
        store: where jobs live.
        title: what the progress bar says.

    Returns:
        The job's key -> its metrics (see `Job.train`), None where it diverged.

    Raises:
        GridError: after all the others have finished, with the log of each job that failed.
    """
    engine = engine or os.environ.get("GHOSTLIB_ENGINE") or ("ray" if os.environ.get("RAY_ADDRESS") else "local")
    if engine not in _ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(_ENGINES)}")
    store, asked = store or Store(), list(jobs)
    wanted = _with_requirements(asked)
    if world_size() > 1:
        failures = shared.train_all(wanted, store, title)
    else:
        todo = {key: job for key, job in wanted.items() if not store.finished(job)}
        failures = _ENGINES[engine](todo, workers or _default_workers(todo.values()), store, title)
    if failures:
        raise GridError(f"{len(failures)} of {len(wanted)} runs failed:\n\n" + "\n\n".join(
            f"{name(wanted[key])}; log: {store.folder(wanted[key]) / LOG}\n{log}"
            for key, log in failures.items()))
    return {job.key: store.metrics(job) for job in asked}


def _with_requirements(jobs: Iterable[Job]) -> dict[str, Job]:
    """The jobs and all that they require, directly or not, by their keys."""
    found, waiting = {}, list(jobs)[::-1]
    while waiting:
        job = waiting.pop()
        if job.key not in found:
            found[job.key] = job
            waiting += job.requires
    return found


def _default_workers(jobs: Collection[Job]) -> int:
    from ghostlib.machine import all_threads

    if _on(jobs) <= {"cpu"}:
        return max(1, all_threads() // max((job.profile.threads for job in jobs), default=1))
    return max(1, len(_gpus())) if _on(jobs) == {"cuda"} else 1


def _on(jobs: Collection[Job]) -> set[str]:
    """The types of the devices that the jobs ask for."""
    return {job.profile.device_type for job in jobs}


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _local(todo: dict[str, Job], workers: int, store: Store, title: str) -> dict[str, str]:
    """Trains them in child processes; key -> what the log of each that failed says."""
    from tqdm import tqdm

    if not todo:
        return {}
    processes, gpus = context(), _gpus() if _on(todo.values()) == {"cuda"} else []
    waiting = in_order(todo.values())
    active: dict[Connection, _Child] = {}
    unfinished, diverged, failures = set(todo), set(), {}
    bar = tqdm(total=len(todo), desc=title, unit="run", file=sys.stderr, smoothing=0, mininterval=0.5,
               bar_format="{desc} {percentage:3.0f}%|{bar:24}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}")
    try:
        while waiting or active:
            for job in _orphans(waiting, diverged, failures):
                waiting.remove(job)
                unfinished.discard(job.key)
                bar.update()
            while len(active) < workers:
                for job in [job for job in waiting if store.finished(job)]:  # by another command
                    waiting.remove(job)
                    unfinished.discard(job.key)
                    bar.update()
                free = [job for job in waiting if not store.held(job)]
                # Another command that is at the same jobs takes its share of them, too.
                shares = workers if len(free) == len(waiting) else 2 * workers
                if not (cohort := next_cohort(free, unfinished, shares)):
                    break
                waiting = [job for job in waiting if job not in cohort]
                busy = [child.gpu for child in active.values()]
                child = _Child(processes, cohort, store, min(gpus, key=busy.count, default=None))
                active[child.connection] = child
            for connection in wait(list(active), timeout=1.0):
                child = active[connection]
                bar.update(min(child.receive(), bar.total - bar.n))  # sums of shares may round above the total
                if training := list(child.progress.values()):
                    p, speed = training[-1], sum(progress.images_per_second for progress in training)
                    accuracy = "" if math.isnan(p.accuracy) else f" acc {p.accuracy:.0f}%,"  # a detector has none
                    bar.set_postfix_str(f" loss {p.loss:.3f},{accuracy} {speed:.0f} img/s", refresh=False)
                while child.ended:
                    job, end = child.ended.pop(0)
                    if end is End.HELD:
                        waiting.append(job)
                        continue
                    unfinished.discard(job.key)
                    if end is End.DIVERGED:
                        diverged.add(job.key)
                    elif end is not End.FINISHED:
                        failures[job.key] = child.failures[job.key]
                    if end is not End.FINISHED:
                        tqdm.write(f"{name(job)} {end.value}; log: {store.folder(job) / LOG}", file=sys.stderr)
                    if end is End.NO_SPACE:  # nor would any other be kept
                        failures |= {other.key: f"    not started, since {name(job)} {end.value}" for other in waiting}
                        waiting = []
                if child.gone:
                    del active[connection]
    finally:
        for child in active.values():  # interrupted: no child trains on, holding a lock, for nobody
            child.stop()
        bar.close()
    return failures


_ENGINES = {"local": _local, "ray": lambda *args: importlib.import_module("ghostlib.runs.cluster").train(*args)}


def _orphans(waiting: list[Job], diverged: set[str], failures: dict[str, str]) -> list[Job]:
    """Those that require what failed or diverged; they fail with it."""
    orphans = []
    for job in waiting:
        if lost := [required for required in job.requires if required.key in failures or required.key in diverged]:
            failures[job.key] = f"    it requires {name(lost[0])}, which failed"
            orphans.append(job)
    return orphans


def context() -> Any:
    """Where children come from: forks of a server that imported the libraries once, before any thread was started."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["ghostlib.training.loop", "ghostlib.runs.classifier", "ghostlib.models.zoo",
                                       "sklearn.datasets", "sklearn.model_selection", "timm", "torchvision.models"])
    return forkserver


class _Child:
    """Jobs of one cohort in a process, heard through a pipe that closes when the process ends, however it ends."""

    def __init__(self, processes: Any, jobs: Sequence[Job], store: Store, gpu: str | None = None):
        self.gpu = gpu  # the one that it gets for itself, as CUDA_VISIBLE_DEVICES names it
        self.jobs = {job.key: job for job in jobs}  # those that have not ended
        self.logs = {job.key: store.folder(job) / LOG for job in jobs}
        self.earlier = {key: log.stat().st_size if log.exists() else 0  # bytes that other starts wrote
                        for key, log in self.logs.items()}
        self.connection, theirs = processes.Pipe(duplex=False)
        self.process = processes.Process(target=_train_in_child, args=(jobs, store, theirs, self.logs, gpu))
        self.process.start()
        theirs.close()
        self.shares = dict.fromkeys(self.jobs, 0.0)  # how much of each went by
        self.progress: dict[str, Any] = {}  # of those that train; the one heard last stands last
        self.ended: list[tuple[Job, End]] = []
        self.failures: dict[str, str] = {}  # what the logs say of those that failed
        self.gone = False  # the process, too

    def receive(self) -> float:
        """Takes in what the child says; returns how much of its jobs went by, a whole job being 1."""
        before = sum(self.shares.values())
        try:
            while self.connection.poll():
                key, said = self.connection.recv()
                self.progress.pop(key, None)
                if isinstance(said, End):
                    self._end(key, said)
                else:
                    self.progress[key], self.shares[key] = said, said.step / said.steps
        except EOFError:
            self.gone, self.progress = True, {}
            self.connection.close()
            self.process.join()
            for key in list(self.jobs):
                self._end(key, End.FAILED)
        return sum(self.shares.values()) - before

    def stop(self) -> None:
        """Ends the process; the states on disk let its jobs go on another time."""
        self.process.terminate()
        self.process.join()
        self.connection.close()

    def _end(self, key: str, end: End) -> None:
        self.shares[key] = float(end is not End.HELD)
        self.ended.append((self.jobs.pop(key), end))
        if end in (End.FAILED, End.NO_SPACE):
            self.failures[key] = self._log_tail(key)

    def _log_tail(self, key: str, lines: int = 15) -> str:
        """The last lines that this start wrote, not those of an earlier one, and how the process ended if it did."""
        log = self.logs[key]
        content = log.read_bytes()[self.earlier[key]:] if log.exists() else b""
        written = content.decode(errors="replace").splitlines()
        code = self.process.exitcode if self.gone else None
        if code is not None and code < 0:
            written.append(f"(killed by signal {-code}; the same command goes on from its last state)")
        return "\n".join("    " + line for line in written[-lines:]) or f"    (exit status {code}, nothing said)"


def _train_in_child(jobs: Sequence[Job], store: Store, connection: Connection, logs: dict[str, Path],
                    gpu: str | None) -> None:
    if gpu is not None:  # PyTorch has not looked for any yet
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with ExitStack() as stack:
        files = {}
        for key, log in logs.items():
            log.parent.mkdir(parents=True, exist_ok=True)
            files[key] = stack.enter_context(open(log, "a", buffering=1, encoding="utf-8"))
        sys.stdout = sys.stderr = _Everywhere(files)
        try:
            for job, error in store.ensure_together(
                    jobs, lambda job, progress: connection.send((job.key, progress)), wait=False):
                file, end = files.pop(job.key), End.by(error)  # what is said from here on does not concern it
                if error is not None and end is not End.HELD:
                    traceback.print_exception(error, file=file)
                connection.send((job.key, end))
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None


class _Everywhere(io.TextIOBase):
    """Writes to all of some files."""

    def __init__(self, files: Mapping[str, TextIO]):
        self.files = files

    def write(self, text: str) -> int:
        for file in self.files.values():
            file.write(text)
        return len(text)

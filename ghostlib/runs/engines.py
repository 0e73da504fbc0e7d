"""Many jobs at once: one process a job, one thread a process, as many processes as cores."""

from __future__ import annotations

import math
import multiprocessing
import sys
import traceback
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ghostlib.runs.job import Job
from ghostlib.runs.store import Store, name


class GridError(RuntimeError):
    """Some jobs failed; the others are finished and stored."""


def run(jobs: Iterable[Job], engine: str = "local", workers: int | None = None, store: Store | None = None,
        title: str = "training") -> dict[str, dict[str, Any]]:
    """Trains every job that is not finished yet, and what it requires, and returns the metrics of all.

    Args:
        jobs: in any order; equal ones train once. The result does not depend on the order.
        engine: "local", processes on this machine.
        workers: processes at a time; by default one a core, or one where the profile's device is an accelerator.
        store: where jobs live.
        title: what the progress bar says.

    Returns:
        The job's key -> its metrics (see `Job.train`).

    Raises:
        GridError: after all the others have finished, with the log of each job that failed.
    """
    if engine not in _ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(_ENGINES)}")
    store, asked = store or Store(), list(jobs)
    wanted = _with_requirements(asked)
    todo = {key: job for key, job in wanted.items() if store.metrics(job) is None}
    failures = _ENGINES[engine](todo, workers or _default_workers(todo.values()), store, title)
    if failures:
        raise GridError(f"{len(failures)} of {len(wanted)} runs failed:\n\n" + "\n\n".join(
            f"{name(wanted[key])}; log: {store.folder(wanted[key]) / 'log.txt'}\n{log}"
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


def _default_workers(jobs: Iterable[Job]) -> int:
    from ghostlib.machine import all_threads

    on_accelerator = any(job.profile.device_type != "cpu" for job in jobs)
    return 1 if on_accelerator else max(1, all_threads() // max((job.profile.threads for job in jobs), default=1))


def _local(todo: dict[str, Job], workers: int, store: Store, title: str) -> dict[str, str]:
    """Trains them in child processes; key -> what the log of each that failed says."""
    from tqdm import tqdm

    if not todo:
        return {}
    processes = context()
    # The largest first, of those whose requirements are met: none starts last and leaves the other cores idle.
    waiting = sorted(todo.values(), key=lambda job: job.work, reverse=True)
    active: dict[Connection, _Child] = {}
    unfinished, failures = set(todo), {}
    bar = tqdm(total=len(todo), desc=title, unit="run", file=sys.stderr, smoothing=0, mininterval=0.5,
               bar_format="{desc} {percentage:3.0f}%|{bar:24}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}")
    try:
        while waiting or active:
            for job in _orphans(waiting, failures):
                waiting.remove(job)
                unfinished.discard(job.key)
                bar.update()
            while len(active) < workers and (job := _next(waiting, unfinished)):
                waiting.remove(job)
                child = _Child(processes, job, store)
                active[child.connection] = child
            for connection in wait(list(active), timeout=1.0):
                child = active[connection]
                bar.update(min(child.receive(), bar.total - bar.n))  # sums of shares may round above the total
                if child.progress:
                    p = child.progress
                    accuracy = "" if math.isnan(p.accuracy) else f" acc {p.accuracy:.0f}%,"  # a detector has none
                    bar.set_postfix_str(f" loss {p.loss:.3f},{accuracy} {p.images_per_second:.0f} img/s",
                                        refresh=False)
                if child.finished:
                    del active[connection]
                    unfinished.discard(child.job.key)
                    if child.exit_code() != 0:
                        failures[child.job.key] = child.log_tail()
                        tqdm.write(f"{name(child.job)} failed; log: {child.log}", file=sys.stderr)
    finally:
        for child in active.values():  # interrupted: no child trains on, holding a lock, for nobody
            child.stop()
        bar.close()
    return failures


_ENGINES = {"local": _local}


def _next(waiting: list[Job], unfinished: set[str]) -> Job | None:
    """The first whose requirements are finished."""
    return next((job for job in waiting if not any(r.key in unfinished for r in job.requires)), None)


def _orphans(waiting: list[Job], failures: dict[str, str]) -> list[Job]:
    """Those that require what failed; they fail with it."""
    orphans = []
    for job in waiting:
        if lost := [required for required in job.requires if required.key in failures]:
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
    """One job in a process of its own, heard through a pipe that closes when the process ends, however it ends."""

    def __init__(self, processes: Any, job: Job, store: Store):
        self.job, self.log = job, store.folder(job) / "log.txt"
        self.earlier = self.log.stat().st_size if self.log.exists() else 0  # bytes that other starts wrote
        self.connection, theirs = processes.Pipe(duplex=False)
        self.process = processes.Process(target=_train_in_child, args=(job, store, theirs, self.log))
        self.process.start()
        theirs.close()
        self.progress, self.share, self.finished = None, 0.0, False

    def receive(self) -> float:
        """Takes in what the child says; returns how much of the job went by, the whole job being 1."""
        before = self.share
        try:
            while self.connection.poll():
                self.progress = self.connection.recv()
                self.share = self.progress.step / self.progress.steps
        except EOFError:
            self.finished, self.share = True, 1.0
            self.connection.close()
        return self.share - before

    def stop(self) -> None:
        """Ends the process; its state on disk lets the job go on another time."""
        self.process.terminate()
        self.process.join()
        self.connection.close()

    def exit_code(self) -> int:
        self.process.join()
        return self.process.exitcode

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that this start wrote, not those of an earlier one, and how it ended."""
        content = self.log.read_bytes()[self.earlier:] if self.log.exists() else b""
        written = content.decode(errors="replace").splitlines()
        code = self.process.exitcode
        end = [f"(killed by signal {-code}; the same command goes on from its last state)"] if code < 0 else []
        return "\n".join("    " + line for line in written[-lines:] + end) or f"    (exit status {code}, nothing said)"


def _train_in_child(job: Job, store: Store, connection: Connection, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", buffering=1, encoding="utf-8") as file:
        sys.stdout = sys.stderr = file
        try:
            store.ensure(job, connection.send)
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None

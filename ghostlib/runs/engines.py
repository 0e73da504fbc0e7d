"""Many runs at once: one process a run, one thread a process, as many processes as cores."""

from __future__ import annotations

import math
import multiprocessing
import sys
import traceback
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ghostlib.runs.store import Run, Store


class GridError(RuntimeError):
    """Some runs failed; the others are finished and stored."""


def run(runs: Iterable[Run], engine: str = "local", workers: int | None = None, store: Store | None = None,
        title: str = "training") -> dict[str, dict[str, Any]]:
    """Trains every run that is not finished yet and returns the metrics of all.

    Args:
        runs: in any order; equal ones train once. The result does not depend on the order.
        engine: "local", processes on this machine.
        workers: processes at a time; by default one a core, or one where the profile's device is an accelerator.
        store: where runs live.
        title: what the progress bar says.

    Returns:
        The run's key -> its metrics (see `loop.train`).

    Raises:
        GridError: after all the others have finished, with each failed run's log.
    """
    if engine not in _ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(_ENGINES)}")
    store = store or Store()
    wanted = {run.key: run for run in runs}
    # A stand-in teacher that two runs wait for would hold two workers; it is trained before them.
    teachers = {teacher.key: teacher for run in wanted.values() if (teacher := run.teacher_run)}

    def train(batch: Iterable[Run]) -> dict[str, str]:
        todo = [run for run in batch if store.metrics(run) is None]
        return _ENGINES[engine](todo, workers or _default_workers(todo), store, title)

    failures = train(teachers.values())
    orphans = {key for key, run in wanted.items() if run.teacher_run and run.teacher_run.key in failures}
    failures |= train(run for key, run in wanted.items() if key not in orphans)
    failures |= {key: f"    its teacher, run {wanted[key].teacher_run.key}, failed" for key in orphans}
    if failures:
        raise GridError(f"{len(failures)} of {len(teachers | wanted)} runs failed:\n\n" + "\n\n".join(
            f"run {key}, log {store.root / key / 'log.txt'}\n{log}" for key, log in failures.items()))
    return {key: store.metrics(run) for key, run in wanted.items()}


def _default_workers(runs: list[Run]) -> int:
    import joblib

    on_accelerator = any(run.profile.device_type != "cpu" for run in runs)
    return 1 if on_accelerator else max(1, joblib.cpu_count() // max((run.profile.threads for run in runs), default=1))


def _local(runs: list[Run], workers: int, store: Store, title: str) -> dict[str, str]:
    """Runs them in child processes; key -> log of those that failed."""
    from tqdm import tqdm

    if not runs:
        return {}
    processes = context()
    # The longest run first: none starts last and leaves the other cores idle until it ends.
    waiting = sorted(runs, key=lambda run: run.steps * (1 + run.recipe.branches))
    active, failures = {}, {}
    bar = tqdm(total=len(runs), desc=title, unit="run", file=sys.stderr, smoothing=0, mininterval=0.5,
               bar_format="{desc} {percentage:3.0f}%|{bar:24}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}")
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                child = _Child(processes, waiting.pop(), store)
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
                    if child.exit_code() != 0:
                        failures[child.run.key] = child.log_tail()
                        tqdm.write(f"run {child.run.key} failed; log: {child.log}", file=sys.stderr)
    finally:
        for child in active.values():  # interrupted: no child trains on, holding a lock, for nobody
            child.stop()
        bar.close()
    return failures


_ENGINES = {"local": _local}


def context() -> Any:
    """Where children come from: forks of a server that imported the libraries once, before any thread was started."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["ghostlib.training.loop", "ghostlib.runs.store", "ghostlib.models.zoo",
                                       "sklearn.datasets", "sklearn.model_selection", "timm", "torchvision.models"])
    return forkserver


class _Child:
    """One run in a process of its own, heard through a pipe that closes when the process ends, however it ends."""

    def __init__(self, processes: Any, run: Run, store: Store):
        self.run, self.log = run, store.folder(run) / "log.txt"
        self.connection, theirs = processes.Pipe(duplex=False)
        self.process = processes.Process(target=_train_in_child, args=(run, store, theirs, self.log))
        self.process.start()
        theirs.close()
        self.progress, self.share, self.finished = None, 0.0, False

    def receive(self) -> float:
        """Takes in what the child says; returns how much of the run went by, the whole run being 1."""
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
        """Ends the process; its state on disk lets the run go on another time."""
        self.process.terminate()
        self.process.join()
        self.connection.close()

    def exit_code(self) -> int:
        self.process.join()
        return self.process.exitcode

    def log_tail(self, lines: int = 15) -> str:
        written = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        code = self.process.exitcode
        end = [f"(ended by signal {-code})"] if code < 0 else []
        return "\n".join("    " + line for line in written[-lines:] + end)


def _train_in_child(run: Run, store: Store, connection: Connection, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", buffering=1, encoding="utf-8") as file:
        sys.stdout = sys.stderr = file
        try:
            store.ensure(run, connection.send)
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None

"""The run store: equal jobs train once, whoever wants them, and an interrupted one goes on."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.files import write_atomic
from ghostlib.machine import device_name, world_size
from ghostlib.runs.job import Job, Report
from ghostlib.training.progress import NonFiniteLoss

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LOCK, _DIVERGED = ".lock", "diverged.txt"
STATES = "states"  # the sub-folder of what a job needs only to go on


class StoreError(RuntimeError):
    """A stored result that cannot be used, or one that must not be made."""


class Held(StoreError):
    """Another process trains the job."""


class Store:
    """A folder with one sub-folder a job; a job is finished when its metrics.json, or its diverged.txt, is there.

    Args:
        root: the folder; by default $GHOSTLIB_RUNS or .runs. No pipeline stage owns it, so nothing deletes it.
        before_training: called with every job that this store is about to train.
    """

    def __init__(self, root: str | Path | None = None, before_training: Callable[[Job], None] | None = None):
        self.root = Path(root or os.environ.get("GHOSTLIB_RUNS") or ".runs")
        self.before_training = before_training

    def folder(self, job: Job) -> Path:
        """Where a job's weights, metrics, log and states lie."""
        return self.root / job.key

    def metrics(self, job: Job) -> dict[str, Any] | None:
        """A finished job's metrics, None where it is not finished.

        Raises:
            StoreError: the file is torn.
        """
        return _read(self.folder(job) / "metrics.json")

    def diverged(self, job: Job) -> str | None:
        """What a job said that diverged, which is a result too: the same job would diverge again; else None."""
        try:
            return (self.folder(job) / _DIVERGED).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def finished(self, job: Job) -> bool:
        """Whether there is nothing left to train.

        Raises:
            StoreError: its metrics are torn.
        """
        return self.metrics(job) is not None or self.diverged(job) is not None

    def cost(self, job: Job) -> dict[str, Any]:
        """What a finished job's last start took: `seconds`, `device` and `date` (ISO, UTC); empty if it is not known.

        Of several processes that trained it together the seconds are the sum.
        Jobs that are trained together divide their seconds among them equally.

        Raises:
            StoreError: the file is torn.
        """
        return _read(self.folder(job) / "cost.json") or {}

    def ensure(self, job: Job, report: Report = lambda progress: None) -> dict[str, Any]:
        """The job's metrics; trains it first if need be, and before it what it requires.

        A second process that wants the same job waits for the first one and reads its result. The lock is the
        operating system's, so a killed process holds none.

        Raises:
            StoreError: the job was made by other code than this process has imported, or a stored file is torn.
            NonFiniteLoss: it diverged, now or when it was trained.
        """
        for _, error in self.ensure_together([job], lambda job, progress: report(progress)):
            if error is not None:
                raise error
        return self.metrics(job)

    def take(self, job: Job, metrics: dict[str, Any] | None, cost: dict[str, Any], source: str) -> bool:
        """Takes a job as finished whose result was kept elsewhere; its weights, if they were, are not here.

        Args:
            job: which.
            metrics: its result; None where it diverged.
            cost: as `cost` returns it.
            source: where the result was kept; run.json says so.

        Returns:
            Whether it was taken: not where it is finished here, or a process trains it.
        """
        from filelock import Timeout

        try:
            lock = self._lock(job, wait=False)
        except Timeout:
            return False
        if lock is None:
            return False
        try:
            self._describe(job, restored_from=source)
            outcome = NonFiniteLoss(f"{name(job)} diverged, says {source}") if metrics is None else metrics
            self._write(job, outcome, cost)
        finally:
            lock.release()
        return True

    def ensure_together(self, jobs: Sequence[Job], report: Callable[[Job, Any], None], wait: bool = True,
                        ) -> Iterator[tuple[Job, Exception | None]]:
        """Does what `ensure` does for jobs of one cohort, all at a time; one that fails does not stop the others.

        Args:
            jobs: of one cohort.
            report: called with a job and its progress.
            wait: for what another process trains, when nothing else is left to do; else that is `Held`.

        Yields:
            Each job at its end, with what stopped it or None.
        """
        theirs = []
        for job, error in self._ensure(jobs, report, wait=False):
            if wait and isinstance(error, Held):
                theirs.append(job)
            else:
                yield job, error
        for job in theirs:
            print(f"{name(job)} is being trained by another process; waiting for it", file=sys.stderr)
            yield from self._ensure([job], report, wait=True)

    def held(self, job: Job) -> bool:
        """Whether a process is training the job."""
        from filelock import FileLock, Timeout

        if not (lock := self.folder(job) / _LOCK).exists():
            return False
        try:
            with FileLock(lock, timeout=0):
                return False
        except Timeout:
            return True

    def _ensure(self, jobs: Sequence[Job], report: Callable[[Job, Any], None],
                wait: bool) -> Iterator[tuple[Job, Exception | None]]:
        from filelock import Timeout

        ready, ours, locks = [], [], {}
        for job in jobs:
            try:
                self._ensure_required(job)
                ready.append(job)
            except Exception as error:
                yield job, error
        try:
            for job in ready:
                try:
                    if lock := self._lock(job, wait):
                        locks[job.key] = lock
                        ours.append(job)
                    else:
                        yield job, self._recorded(job)
                except Timeout:
                    yield job, Held(f"{name(job)} is being trained by another process")
                except Exception as error:
                    yield job, error
            for job, error in self._train(ours, report):
                locks.pop(job.key).release()
                yield job, error
        finally:
            for lock in locks.values():
                lock.release()

    def _ensure_required(self, job: Job) -> None:
        """Trains what an unfinished job requires; while that may mean to wait, no lock is held."""
        if self.finished(job):
            return
        if job.code != job.current_code():
            raise StoreError(f"ghostlib's source changed after {name(job)} was planned; start the command again")
        for required in job.requires:
            self.ensure(required)

    def _lock(self, job: Job, wait: bool) -> BaseFileLock | None:
        """The lock on a job that is to be trained; None where it is finished."""
        from filelock import FileLock

        if self.finished(job):
            return None
        folder = self.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        lock.acquire(blocking=wait)
        if not self.finished(job):
            return lock
        lock.release()
        return None

    def _train(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> Iterator[tuple[Job, Exception | None]]:
        left = {}
        for job in jobs:
            try:
                begun = any((self.folder(job) / STATES).glob("*"))
                self._describe(job, **({"resumed": "its cost is that of the last start"} if begun else {}))
                if self.before_training:
                    self.before_training(job)
                left[job.key] = job
            except Exception as error:
                yield job, error
        seconds, since = dict.fromkeys(left, 0.0), time.perf_counter()
        try:
            for job, outcome in _outcomes(list(left.values()), self, report):
                now = time.perf_counter()
                seconds = {key: seconds[key] + (now - since) / len(left) for key in left}
                since = now
                del left[job.key]
                yield job, self._keep(job, outcome, seconds[job.key])
        except Exception as error:  # it stops all of them: an image cannot be read, say
            for job in left.values():
                yield job, self._keep(job, error, (time.perf_counter() - since) / len(left))

    def _recorded(self, job: Job) -> NonFiniteLoss | None:
        message = self.diverged(job)
        return None if message is None else NonFiniteLoss(message)

    def _describe(self, job: Job, **further: str) -> None:
        description = {"key": job.key, "seed": job.seed, "label": job.label, "code": job.code,
                       "python": platform.python_version(), "processes": world_size(), **job.describe(), **further}
        write_atomic(self.folder(job) / "run.json", json.dumps(description, indent=1, ensure_ascii=False))

    def _keep(self, job: Job, outcome: dict[str, Any] | Exception, seconds: float) -> Exception | None:
        """Writes what a finished job leaves; what hindered it (a full disk) is this job's error, not the cohort's.

        Returns:
            The error that the job ended with, if it did.
        """
        if isinstance(outcome, Exception) and not isinstance(outcome, NonFiniteLoss):
            return outcome
        cost = {"seconds": round(seconds * world_size(), 1), "device": device_name(job.profile.device_type),
                "date": time.strftime("%Y-%m-%d", time.gmtime())}
        try:
            self._write(job, outcome, cost)
        except Exception as hindrance:
            return hindrance
        return outcome if isinstance(outcome, Exception) else None

    def _write(self, job: Job, outcome: dict[str, Any] | NonFiniteLoss, cost: dict[str, Any]) -> None:
        folder = self.folder(job)
        write_atomic(folder / "cost.json", json.dumps(cost))
        if isinstance(outcome, NonFiniteLoss):  # last of all: it says that the rest is there
            write_atomic(folder / _DIVERGED, str(outcome))
        else:
            write_atomic(folder / "metrics.json", json.dumps(outcome, indent=1))
        shutil.rmtree(folder / STATES, ignore_errors=True)
        with contextlib.suppress(OSError):  # what is left over hinders nobody
            for half_written in folder.glob(".*.tmp"):  # by processes that were killed: the lock is ours
                half_written.unlink(missing_ok=True)


def _outcomes(jobs: Sequence[Job], store: Store,
              report: Callable[[Job, Any], None]) -> Iterator[tuple[Job, dict[str, Any] | Exception]]:
    if len(jobs) == 1:
        yield jobs[0], jobs[0].train(store.folder(jobs[0]), store, partial(report, jobs[0]))
    elif jobs:
        yield from type(jobs[0]).train_together(jobs, store, report)


def name(job: Job) -> str:
    """A job as messages call it."""
    return f"run {job.key}" + (f", {job.label}" if job.label else "")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{path} is torn ({error}); remove the folder {path.parent}, and the same command trains that "
                         "run again") from None

"""The run store: equal jobs train once, whoever wants them, and an interrupted one goes on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ghostlib.files import write_atomic
from ghostlib.machine import device_name
from ghostlib.runs.job import Job, Report

STATES = "states"  # the sub-folder of what a job needs only to go on


class StoreError(RuntimeError):
    """A stored result that cannot be used, or one that must not be made."""


class Store:
    """A folder with one sub-folder a job; a job is finished when its metrics.json is there.

    Args:
        root: the folder; by default $GHOSTLIB_RUNS or .runs. No pipeline stage owns it, so nothing deletes it.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root or os.environ.get("GHOSTLIB_RUNS", ".runs"))

    def folder(self, job: Job) -> Path:
        """Where a job's weights, metrics, log and states lie."""
        return self.root / job.key

    def metrics(self, job: Job) -> dict[str, Any] | None:
        """A finished job's metrics, None where it is not finished.

        Raises:
            StoreError: the file is torn.
        """
        return _read(self.folder(job) / "metrics.json")

    def cost(self, job: Job) -> dict[str, Any]:
        """What a finished job's last start took: `seconds`, `device` and `date` (ISO, UTC); empty if it is not known.

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
        """
        from filelock import FileLock, Timeout

        if (metrics := self.metrics(job)) is not None:
            return metrics
        if job.code != job.current_code():
            raise StoreError(f"ghostlib's source changed after {name(job)} was planned; start the command again")
        for required in job.requires:
            self.ensure(required)
        folder = self.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"{name(job)} is being trained by another process; waiting for it", file=sys.stderr)
            lock.acquire()
        try:
            if self.metrics(job) is None:
                self._train(job, folder, report)
            shutil.rmtree(folder / STATES, ignore_errors=True)
            for half_written in folder.glob(".*.tmp"):  # by processes that were killed: the lock is ours
                half_written.unlink(missing_ok=True)
        finally:
            lock.release()
        return self.metrics(job)

    def _train(self, job: Job, folder: Path, report: Report) -> None:
        description = {"key": job.key, "seed": job.seed, "label": job.label, "code": job.code,
                       "python": platform.python_version(), **job.describe()}
        write_atomic(folder / "run.json", json.dumps(description, indent=1, ensure_ascii=False))
        start = time.perf_counter()
        metrics = job.train(folder, self, report)
        cost = {"seconds": round(time.perf_counter() - start, 1), "device": device_name(job.profile.device_type),
                "date": time.strftime("%Y-%m-%d", time.gmtime())}
        write_atomic(folder / "cost.json", json.dumps(cost))
        write_atomic(folder / "metrics.json", json.dumps(metrics, indent=1))  # last: it says that the rest is there


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

"""Processes on this machine: one for every few jobs that can be trained together, as many as cores or GPUs."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Collection, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from ghostlib.machine import all_threads
from ghostlib.runs import worker
from ghostlib.runs.cohorts import MOST
from ghostlib.runs.job import Job
from ghostlib.runs.store import Store
from ghostlib.runs.worker import End, Logs, News

WORKERS = "GHOSTLIB_WORKERS"  # the environment variable that says how many processes train jobs at a time


def default_workers(jobs: Collection[Job]) -> int:
    """How many processes train jobs at a time: one a core, or as many threads as the jobs have, or one a GPU.

    $GHOSTLIB_WORKERS says otherwise: several small networks share a large GPU.

    Raises:
        ValueError: that is no number of processes.
    """
    if asked := os.environ.get(WORKERS):
        if not (asked.isdecimal() and int(asked) >= 1):
            raise ValueError(f"{WORKERS} = {asked!r} is no number of processes; leave it unset for one a core or GPU")
        return int(asked)
    if _device_types(jobs) <= {"cpu"}:
        return max(1, all_threads() // max((job.profile.threads for job in jobs), default=1))
    return max(1, len(_gpus())) if _device_types(jobs) == {"cuda"} else 1


def context() -> Any:
    """Where children come from: forks of a server that imported the libraries once, before any thread was started."""
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload(["ghostlib.training.loop", "ghostlib.runs.classifier", "ghostlib.models.zoo",
                                       "sklearn.datasets", "sklearn.model_selection", "timm", "torchvision.models"])
    return forkserver


class Local:
    """Child processes; see `grid.Engine`.

    Args:
        jobs: all that are to be trained.
        workers: processes at a time; where the jobs train on GPUs, each of them has one, those share that are more.
        store: where jobs live.
    """

    spare, together = 0, MOST
    lack = ""

    def __init__(self, jobs: Collection[Job], workers: int, store: Store):
        self.workers, self.store = workers, store
        self.gpus = _gpus() if _device_types(jobs) == {"cuda"} else []
        self.processes = context()
        self.active: list[_Child] = []

    def places(self) -> int:
        return self.workers

    def start(self, jobs: Sequence[Job]) -> None:
        busy = [child.gpu for child in self.active]
        self.active.append(_Child(self.processes, jobs, self.store, min(self.gpus, key=busy.count, default=None)))

    def hear(self) -> list[News]:
        ready = wait([child.connection for child in self.active], timeout=1.0)
        news = [told for child in self.active if child.connection in ready for told in child.hear()]
        self.active = [child for child in self.active if not child.connection.closed]
        return news

    def stop(self) -> None:
        for child in self.active:
            child.stop()


class _Child:
    """A process that trains jobs, heard through a pipe that closes when the process ends, however it ends."""

    def __init__(self, processes: Any, jobs: Sequence[Job], store: Store, gpu: str | None = None):
        self.gpu = gpu  # the one that it gets, as CUDA_VISIBLE_DEVICES names it
        self.left = [job.key for job in jobs]  # those that have not ended
        self.logs = Logs(jobs, store)
        self.connection, theirs = processes.Pipe(duplex=False)
        self.process = processes.Process(target=_train, args=(jobs, store, self.logs, theirs, gpu))
        self.process.start()
        theirs.close()

    def hear(self) -> list[News]:
        """What it told since the last time; after the last of it the connection is closed."""
        news = []
        try:
            while self.connection.poll():
                news.append(self.connection.recv())
                if isinstance(news[-1][1], End):
                    self.left.remove(news[-1][0])
        except EOFError:
            self.connection.close()
            self.process.join()
            news += [(key, End.FAILED, self.logs.tail(key, self.process.exitcode)) for key in self.left]
        return news

    def stop(self) -> None:
        """Ends the process; the states on disk let its jobs go on another time."""
        self.process.terminate()
        self.process.join()
        self.connection.close()


def _train(jobs: Sequence[Job], store: Store, logs: Logs, connection: Connection, gpu: str | None) -> None:
    if gpu is not None:  # PyTorch has not looked for any yet
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    worker.train(jobs, store, logs, connection.send)


def _device_types(jobs: Collection[Job]) -> set[str]:
    """The types of the devices that the jobs ask for."""
    return {job.profile.device_type for job in jobs}


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]

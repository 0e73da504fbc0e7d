"""Many jobs at once, on this machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ghostlib.machine import world_size
from ghostlib.runs import shared
from ghostlib.runs.grid import Grid
from ghostlib.runs.job import Job, with_requirements
from ghostlib.runs.local import Local, default_workers
from ghostlib.runs.store import Store, name
from ghostlib.runs.worker import LOG

PROCESSES = "GHOSTLIB_PROCESSES"  # the environment variable that says how many of a cluster train a run


class GridError(RuntimeError):
    """Some jobs failed; the others are finished and stored."""


def run(jobs: Iterable[Job], engine: str | None = None, workers: int | None = None, store: Store | None = None,
        title: str = "training", last: bool = True) -> dict[str, dict[str, Any] | None]:
    """Trains every job that is not finished yet, and what it requires, and returns the metrics of all.

    Started in several processes, by torchrun or `accelerate launch`, these train one job at a time, all of them; see
    `shared`, where the engine and the workers mean nothing.

    Args:
        jobs: in any order; equal ones train once. The result does not depend on the order.
        engine: "local", processes on this machine, or "ray", a cluster; by default $GHOSTLIB_ENGINE, or the cluster
            at $RAY_ADDRESS if there is one. There $GHOSTLIB_PROCESSES train a run, each with a GPU.
        workers: processes at a time on this machine; by default as `default_workers` says.
        store: where jobs live.
        title: what the progress bar says.
        last: whether processes that were started together end with these jobs, but for the first; if not, more follow,
            and `dismiss` ends them.

    Returns:
        The job's key -> its metrics (see `Job.train`), None where it diverged.

    Raises:
        GridError: after all the others have finished, with the log of each job that failed.
    """
    engine = engine or os.environ.get("GHOSTLIB_ENGINE") or ("ray" if os.environ.get("RAY_ADDRESS") else "local")
    if engine not in _ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(_ENGINES)}")
    if engine != "ray" and world_size() == 1 and _processes() > 1:
        raise ValueError(f"{PROCESSES} = {_processes()} processes a run are for the engine ray; on one machine start "
                         f"the command by torchrun --nproc_per_node {_processes()}")
    store, asked = store or Store(), list(jobs)
    wanted = with_requirements(asked)
    if world_size() > 1:
        failures = shared.train_all(wanted, store, title, last)
    else:
        todo = {key: job for key, job in wanted.items() if not store.finished(job)}
        failures = _ENGINES[engine](todo, workers, store, title) if todo else {}
    if failures:
        raise GridError(f"{len(failures)} of {len(wanted)} runs failed:\n\n" + "\n\n".join(
            f"{name(wanted[key])}; log: {store.folder(wanted[key]) / LOG}\n{log}"
            for key, log in failures.items()))
    return {job.key: store.metrics(job) for job in asked}


def dismiss() -> None:
    """Ends the processes that wait for the jobs of another `run`, where there are any."""
    if world_size() > 1:
        shared.dismiss()


def _local(todo: Mapping[str, Job], workers: int | None, store: Store, title: str) -> dict[str, str]:
    engine = Local(todo.values(), workers or default_workers(todo.values()), store)
    return Grid(todo, store, title).train(engine)


def _ray(todo: Mapping[str, Job], workers: int | None, store: Store, title: str) -> dict[str, str]:
    """As many runs train as there are CPUs or GPUs for, on nodes that join later, too: `workers` has no meaning."""
    from ghostlib.runs import cluster

    with cluster.connected():
        return Grid(todo, store, title).train(cluster.Cluster(todo.values(), store, _processes()))


def _processes() -> int:
    """How many processes of a cluster train a run.

    Raises:
        ValueError: that is no number of processes.
    """
    asked = os.environ.get(PROCESSES) or "1"
    if not (asked.isdecimal() and int(asked) >= 1):
        raise ValueError(f"{PROCESSES} = {asked!r} is no number of processes; leave it unset for one a run")
    return int(asked)


_ENGINES = {"local": _local, "ray": _ray}

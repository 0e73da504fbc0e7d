"""A Ray cluster: a task for every few jobs that can be trained together, as many as its nodes have room for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ghostlib.machine import all_threads, require
from ghostlib.runs import wide, worker
from ghostlib.runs.cohorts import MOST
from ghostlib.runs.job import Job
from ghostlib.runs.node import SECONDS, Board, Reports, settle
from ghostlib.runs.store import Store
from ghostlib.runs.worker import End, Logs, News

RETRIES = 3  # of a task whose process or node was lost; a job that kills its process every time must come to an end
_OBJECTS = 100 * 2**20  # bytes of shared memory for a cluster that is started here: what tasks are sent is small
_SETTINGS = ("GHOSTLIB_RUNS", "IMAGENET_DIR")  # environment variables that say where data lie


@contextmanager
def connected() -> Iterator[None]:
    """Connects to the cluster at $RAY_ADDRESS, or to one that is started on this machine and ends with the command.

    On every node the project, the store and the data must lie where they lie here, and the libraries must be the same.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no statistics; it reads this when it is imported
    require("cluster", "ray", "pyarrow")  # which ray.train needs, and names only when a run has begun
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
        ray.shutdown()


class Cluster:
    """Tasks of the cluster that is connected; see `grid.Engine`.

    What a lost node or process trained goes on from its states on another one.

    Args:
        jobs: all that are to be trained.
        store: where they live.
        processes: how many train a run, each with the CPUs and the GPU that otherwise a run has.
    """

    def __init__(self, jobs: Collection[Job], store: Store, processes: int = 1):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.store, self.needs, self.lack = Store(store.root.resolve()), _needs(jobs), ""
        self.processes, self.together = processes, MOST if processes == 1 else 1
        self.function = ray.remote(max_retries=RETRIES)(_train if processes == 1 else wide.train)
        self.active: dict[Any, Sequence[Job]] = {}  # Ray's reference to what a task will return -> its jobs
        self.here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.board = ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=self.here).remote()
        self.settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}

    def places(self) -> int:
        import ray

        self.fitted, room = _fitted(self.needs, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        needed = f"{self.fitted['CPU']:g} CPUs and {self.fitted['GPU']} GPUs"
        self.lack = "" if room >= self.processes else (
            f"no node with {needed}" if self.processes == 1 else f"no room for {self.processes} times {needed}")
        # While a spare one waits, an autoscaler adds a node; of a wide run that starts anew it would take the place.
        self.spare = int(self.processes == 1 or room < self.processes)
        return room // self.processes

    def start(self, jobs: Sequence[Job]) -> None:
        where = self.store, Path.cwd(), self.settings, self.board
        if self.processes == 1:
            task = self.function.options(num_cpus=self.fitted["CPU"], num_gpus=self.fitted["GPU"])
            self.active[task.remote(jobs, *where)] = jobs
        else:  # it only starts the processes, which ask for that themselves
            task = self.function.options(num_cpus=0, scheduling_strategy=self.here)
            self.active[task.remote(jobs, *where, self.processes, self.fitted, RETRIES)] = jobs

    def hear(self) -> list[News]:
        import ray
        from ray.exceptions import RayActorError, RayError

        done = ray.wait(list(self.active), timeout=SECONDS)[0] if self.active else time.sleep(SECONDS) or ()
        try:
            news = ray.get(self.board.take.remote())
        except RayActorError:  # it starts again; how jobs ended is what their tasks return, too
            news = []
        for task in done:
            jobs = self.active.pop(task)
            try:
                news += ray.get(task)
            except RayError as error:  # the node lacks something, or one after the other was lost
                news += [(job.key, End.FAILED, worker.tail(str(error))) for job in jobs]
        return news

    def stop(self) -> None:
        """Nothing: the end of the connection ends the tasks that are left, in a cluster that goes on, too."""


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


def _train(jobs: Sequence[Job], store: Store, folder: Path, settings: Mapping[str, str], board: Any) -> list[News]:
    """The task: trains jobs of one cohort on a node, in the folder and with the settings of the command.

    Returns:
        Each job's end. The board is told the same, and how far the jobs are, once in a while.

    Raises:
        StoreError: this node would train another job under that key.
    """
    settle(jobs, folder, settings)
    logs, ends, report = Logs(jobs, store), {}, Reports(board)

    def tell(news: News) -> None:
        key, said, _ = news
        if not isinstance(said, End):
            report(news)
            return
        ends[key] = news
        if said is not End.HELD:  # what is to be sent again is learned once, when the task returns
            board.tell.remote(news)

    try:
        worker.train(jobs, store, logs, tell)
    except SystemExit:
        pass  # why is in the logs
    return [ends.get(job.key) or (job.key, End.FAILED, logs.tail(job.key)) for job in jobs]

"""A run in several processes of a Ray cluster, each with a GPU: a Ray Train job around the loop of `shared`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ghostlib.runs import node, shared, worker
from ghostlib.runs.job import Job
from ghostlib.runs.store import STATES, Store
from ghostlib.runs.worker import End, Logs, News

_DAY = 24 * 3600  # seconds that processes wait for each other, as in `processes.joined`


class Unfinished(RuntimeError):
    """How a job ended, in the first of its processes, that has no result; the message is the end of its log."""

    def __init__(self, end: End, log: str):
        super().__init__(end, log)
        self.end, self.log = end, log


def train(jobs: Sequence[Job], store: Store, folder: Path, settings: Mapping[str, str], board: Any, processes: int,
          needs: Mapping[str, float], retries: int) -> list[News]:
    """The task of a wide run: starts its processes, and all of them anew when one is lost or fails.

    Args:
        jobs: one, which they train.
        store: where it lives, on a path that all nodes see.
        folder: of the command.
        settings: environment variables of the command.
        board: is told how far it is.
        processes: how many train it.
        needs: what each of them needs, in Ray's names.
        retries: how many times they are started anew.

    Returns:
        The job's end.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    (job,) = jobs
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    trainer = TorchTrainer(
        lambda: _process(job, store, folder, settings, board),
        torch_config=TorchConfig(timeout_s=_DAY),
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=bool(needs["GPU"]),
                                     resources_per_worker={what: amount for what, amount in needs.items() if amount}),
        run_config=RunConfig(name="ray", storage_path=str(store.folder(job) / STATES),
                             failure_config=FailureConfig(max_failures=retries)))
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return [(job.key, *_why(error))]
    if store.finished(job):
        return [(job.key, End.FINISHED if store.diverged(job) is None else End.DIVERGED, "")]
    return [(job.key, End.HELD, "")]


def _process(job: Job, store: Store, folder: Path, settings: Mapping[str, str], board: Any) -> None:
    """One of the processes. The first keeps the job, and tells the others when to train."""
    node.settle([job], folder, settings)
    if not shared.joined(job.profile.device_type).is_main_process:
        shared.follow({other.key: other for other in (job, *job.requires)}, store)
        return
    ends, report = [], node.Reports(board)
    worker.train([job], shared.leading(store), Logs([job], store),
                 lambda news: (ends.append if isinstance(news[1], End) else report)(news))
    (_, end, log), = ends
    if end in (End.FAILED, End.NO_SPACE):
        raise Unfinished(end, log)  # the others wait in a training: Ray ends them
    shared.dismiss()


def _why(error: Exception) -> tuple[End, str]:
    """How a job ended whose processes failed once too often, and the end of its log or what Ray says."""
    for failure in getattr(error, "worker_failures", {}).values():
        if isinstance(cause := getattr(failure, "_base_exc", failure), Unfinished):
            return cause.end, cause.log
    return End.FAILED, worker.tail(str(error))

"""A run in several processes of a Ray cluster, each with a GPU: a Ray Train job around the loop of `shared`."""

from __future__ import annotations

import contextlib
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ghostlib.runs import node, shared, worker
from ghostlib.runs.job import Job
from ghostlib.runs.store import Store
from ghostlib.runs.worker import LOG, End, Logs, News

_DAY = 24 * 3600  # seconds that processes wait for each other, as in `processes.joined`


class Unfinished(RuntimeError):
    """How a job that has no result ended in the first of its processes, and the end of its log."""

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
    from ray.exceptions import RayActorError
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    (job,) = jobs
    trainer = TorchTrainer(
        lambda: _process(job, store, folder, settings, board),
        torch_config=TorchConfig(timeout_s=_DAY),
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=bool(needs["GPU"]),
                                     resources_per_worker={what: amount for what, amount in needs.items() if amount}),
        # Ray keeps nothing there that a run needs: its states are in the store.
        run_config=RunConfig(name=job.key, storage_path=str(Path(tempfile.gettempdir()).resolve() / "ghostlib-ray"),
                             failure_config=FailureConfig(max_failures=retries)))
    end, log = End.HELD, ""  # as long as nothing failed, and the store has no result
    try:
        trainer.fit()
    except TrainingFailedError as error:
        end, log = _why(error)
    except RayActorError as error:  # what starts the processes anew was lost itself
        end, log = End.FAILED, worker.tail(str(error))
    if store.finished(job):  # whatever happened when its processes ended
        end, log = End.FINISHED if store.diverged(job) is None else End.DIVERGED, ""
    return [(job.key, end, log)]


def _process(job: Job, store: Store, folder: Path, settings: Mapping[str, str], board: Any) -> None:
    """One of the processes. The first keeps the job, and tells the others when to train."""
    node.settle([job], folder, settings)
    if not shared.joined(job.profile.device_type).is_main_process:
        _follow(job, store)
        return
    logs, ends, report = Logs([job], store), [], node.Reports(board)
    with contextlib.suppress(SystemExit):  # why is in the log
        worker.train([job], shared.leading(store), logs,
                     lambda news: (ends.append if isinstance(news[1], End) else report)(news))
    end, log = ends[0][1:] if ends else (End.FAILED, logs.tail(job.key))
    if end in (End.FAILED, End.NO_SPACE):
        raise Unfinished(end, log)  # the others wait in a training: Ray ends them
    shared.dismiss()


def _follow(job: Job, store: Store) -> None:
    try:
        shared.follow(store)
    except BaseException:
        with contextlib.suppress(OSError), open(store.folder(job) / LOG, "a", encoding="utf-8") as log:
            log.write(traceback.format_exc())
        raise


def _why(error: Exception) -> tuple[End, str]:
    """How a job ended whose processes failed once too often, and the end of its log, or what Ray says.

    Where another process failed, too, what the first one says is what follows from that.
    """
    failures = list(getattr(error, "worker_failures", {}).values())
    if len(failures) == 1 and isinstance(failures[0], Unfinished):
        return failures[0].end, failures[0].log
    return End.FAILED, worker.tail(str(error))

"""Many jobs, one after the other, each trained by all the processes that were started together, by torchrun, say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ghostlib.runs.cohorts import in_order
from ghostlib.runs.grid import progress_bar
from ghostlib.runs.job import Job
from ghostlib.runs.store import Store, name
from ghostlib.training.progress import NonFiniteLoss, Progress

if TYPE_CHECKING:
    from accelerate import PartialState


def train_all(jobs: Mapping[str, Job], store: Store, title: str, last: bool = True) -> dict[str, str]:
    """Trains jobs that are not finished; the first process keeps them, and tells the others which it trains.

    Only in the first process it returns: the others train what it says until it dismisses them, and end.

    Args:
        jobs: key -> job.
        store: where they live, on a path that all processes see.
        title: what the progress bar says.
        last: whether to dismiss the others then; if not, they wait for the first one's next jobs.

    Returns:
        Key -> why, of those that were not trained since what they require diverged. That all processes notice; after
        any other error the others would wait for one that is gone, so it ends everything.
    """
    if not joined(next((job.profile.device_type for job in jobs.values()), "cpu")).is_main_process:
        follow(store)
        raise SystemExit
    todo = [job for job in in_order(jobs.values()) if not store.finished(job)]
    failures = _lead(todo, leading(store), title)
    if last:
        dismiss()
    return failures


def joined(device_type: str) -> PartialState:
    """This process among its companions, as `processes.joined` gives it, on a CPU that states can be loaded onto.

    Accelerate numbers it, "cpu:0", and PyTorch then knows no way to restore a tensor.
    """
    import torch

    from ghostlib.training import processes

    state = processes.joined(device_type)
    if state.device.type == "cpu":
        state.device = torch.device("cpu")  # of all states and accelerators to come, which share what they know
    return state


def _lead(todo: Sequence[Job], store: Store, title: str) -> dict[str, str]:
    failures: dict[str, str] = {}
    with progress_bar(len(todo), title) as bar:
        def report(progress: Progress) -> None:
            bar.set_postfix_str(f" loss {progress.loss:.3f}, {progress.images_per_second:.0f} img/s", refresh=False)
            bar.update(ended + progress.step / progress.steps - bar.n)

        for ended, job in enumerate(todo):
            try:
                store.ensure(job, report)
            except NonFiniteLoss as error:
                if store.diverged(job) is None:
                    failures[job.key] = f"    it requires a run that diverged: {error}"
                else:
                    bar.write(f"{name(job)} diverged: {error}", file=sys.stderr)
            bar.update(ended + 1 - bar.n)
    return failures


def leading(store: Store) -> Store:
    """The store for the first process: it tells the others to train whatever this one is about to."""
    return Store(store.root, before_training=_broadcast)


def dismiss() -> None:
    """Tells the others, from the first process, that there is nothing left to train."""
    _broadcast(None)


def follow(store: Store) -> None:
    """Trains, in any other process, what the first one says until that dismisses it; the store is the first one's."""
    while (job := _broadcast(None)) is not None:
        try:
            job.train(store.folder(job), store, lambda progress: None)
        except NonFiniteLoss:
            pass  # the first process says so


def _broadcast(job: Job | None) -> Job | None:
    """What the first process gives, in all."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([job])[0]

"""What a long piece of work is to the store and the engines, whatever it trains."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ghostlib.training.profile import Profile

Report = Callable[[Any], None]


class Finished(Protocol):
    """What a job may want of the store: where the results of the jobs that it requires lie.

    Attributes:
        root: the store's folder, for what several jobs share.
    """

    root: Path

    def folder(self, job: Job) -> Path:
        """Where a job's weights lie."""


class Job(Protocol):
    """A training whose result is kept under a key: a classifier, a stand-in teacher, a detector.

    Attributes:
        label: what to call it in messages; no part of the key.
        seed: of everything random.
        profile: its threads and its device.
        code: the digest of the code that decides its result, as it was imported where the job was made.
    """

    label: str
    seed: int
    profile: Profile
    code: str

    @property
    def key(self) -> str:
        """16 hexadecimal digits of all that decides the result."""

    @property
    def work(self) -> float:
        """What it costs beside other jobs: the pixels that pass through it, once for each branch they pass."""

    @property
    def requires(self) -> tuple[Job, ...]:
        """The jobs whose results it needs."""

    @classmethod
    def current_code(cls) -> str:
        """The digest of the code that this process has imported."""

    def describe(self) -> dict[str, Any]:
        """What decides its result, for a reader of run.json."""

    def train(self, folder: Path, store: Finished, report: Report) -> dict[str, Any]:
        """Trains, going on from what `folder`/states holds; leaves the weights in `folder` and returns the metrics.

        The store writes the metrics; when they are written it removes the states.
        """


def cohort(job: Job) -> Hashable | None:
    """What the jobs have in common that may be trained together with this one; None where it trains by itself.

    Where jobs of a class have a `cohort`, the class has `train_together`: it does for each job what its `train` would,
    to the bit, and yields it at its end with its metrics or its error.
    """
    return getattr(job, "cohort", None)


def with_requirements(jobs: Iterable[Job]) -> dict[str, Job]:
    """The jobs and all that they require, directly or not, by their keys."""
    found, waiting = {}, list(jobs)[::-1]
    while waiting:
        job = waiting.pop()
        if job.key not in found:
            found[job.key] = job
            waiting += job.requires
    return found

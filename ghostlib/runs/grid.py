"""The jobs of one command: which of them a worker trains next, how far each is, and how each ended."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ghostlib.runs.cohorts import in_order, next_cohort
from ghostlib.runs.job import Job
from ghostlib.runs.store import Store, name
from ghostlib.runs.worker import LOG, End, News

if TYPE_CHECKING:
    from tqdm import tqdm


class Engine(Protocol):
    """Where the jobs of a grid are trained.

    Attributes:
        active: its workers, each of which trains a cohort.
        spare: how many more of these it wants than train at a time.
        together: how many jobs a cohort has at most.
        lack: why none can train at present; else empty.
    """

    active: Collection[Any]
    spare: int
    together: int
    lack: str

    def places(self) -> int:
        """How many workers can train at a time."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Starts a worker that trains a cohort, see `worker.train`."""

    def hear(self) -> Iterable[News]:
        """What workers tell, after a second at most; of each job its end comes, too, however its worker ended."""

    def stop(self) -> None:
        """Ends all workers that are left."""


class Grid:
    """Jobs that are to be trained, with a progress bar.

    Args:
        todo: key -> job; what they require is finished or among them.
        store: where they live.
        title: what the bar says.
    """

    def __init__(self, todo: Mapping[str, Job], store: Store, title: str):
        self.todo, self.store = todo, store
        self.waiting = in_order(todo.values())
        self.unfinished, self.diverged = set(todo), set()
        self.failures: dict[str, str] = {}
        self.shares = dict.fromkeys(todo, 0.0)  # how much of each went by
        self.progress: dict[str, Any] = {}  # of those that train; the one heard last stands last
        self.bar = progress_bar(len(todo), title)

    def train(self, engine: Engine) -> dict[str, str]:
        """Trains all that can be; returns key -> the last lines of the log of each that failed."""
        try:
            while self.waiting or engine.active:
                places = engine.places()
                while len(engine.active) < places + engine.spare:
                    if not (jobs := self._next(max(1, places), engine.together)):
                        break
                    engine.start(jobs)
                for news in engine.hear():
                    self._take(*news)
                self._show(engine.lack)
        finally:
            engine.stop()  # interrupted: no worker trains on, holding a lock, for nobody
            self.bar.close()
        return self.failures

    def _next(self, workers: int, most: int) -> list[Job]:
        """Takes out what a worker is to train next; nothing where nothing can begin."""
        for job in [job for job in self.waiting if self.store.finished(job)]:  # by another command
            self._leave_out(job)
        self._give_up_orphans()
        free = [job for job in self.waiting if not self.store.held(job)]
        # Another command that is at the same jobs takes its share of them, too.
        shares = workers if len(free) == len(self.waiting) else 2 * workers
        jobs = next_cohort(free, self.unfinished, shares, most)
        self.waiting = [job for job in self.waiting if job not in jobs]
        return jobs

    def _give_up_orphans(self) -> None:
        """Those that require what failed, or what diverged, here or in another command; they fail with it."""
        for job in list(self.waiting):
            lost = [other for other in job.requires if other.key in self.failures or other.key in self.diverged
                    or self.store.diverged(other) is not None]
            if lost:
                why = "" if lost[0].key in self.failures else ", as it diverged; give that a smaller lr_scale"
                self.failures[job.key] = f"    it requires {name(lost[0])}, which failed{why}"
                self._leave_out(job)

    def _leave_out(self, job: Job) -> None:
        self.waiting.remove(job)
        self.unfinished.discard(job.key)
        self.shares[job.key] = 1.0

    def _take(self, key: str, said: Any, log: str) -> None:
        if key not in self.unfinished:  # told twice
            return
        self.progress.pop(key, None)
        if not isinstance(said, End):
            self.progress[key], self.shares[key] = said, said.step / said.steps
            return
        job, self.shares[key] = self.todo[key], float(said is not End.HELD)
        if said is End.HELD:
            self.waiting.append(job)
            return
        self.unfinished.discard(key)
        if said is End.FINISHED:
            return
        if said is End.DIVERGED:
            self.diverged.add(key)
        else:
            self.failures[key] = log
        self.bar.write(f"{name(job)} {said.value}; log: {self.store.folder(job) / LOG}", file=sys.stderr)
        if said is End.NO_SPACE:  # nor would any other be kept
            self.failures |= {other.key: f"    not started, since {name(job)} {said.value}" for other in self.waiting}
            self.waiting = []

    def _show(self, lack: str) -> None:
        if training := list(self.progress.values()):
            last, speed = training[-1], sum(progress.images_per_second for progress in training)
            accuracy = "" if math.isnan(last.accuracy) else f" acc {last.accuracy:.0f}%,"  # a detector has none
            self.bar.set_postfix_str(f" loss {last.loss:.3f},{accuracy} {speed:.0f} img/s", refresh=False)
        elif lack:
            self.bar.set_postfix_str(f" {lack}")
        # Sums of shares may round above the total.
        self.bar.update(min(sum(self.shares.values()), self.bar.total) - self.bar.n)


def progress_bar(runs: int, title: str) -> tqdm:
    """A bar on stderr that counts runs, parts of them, too."""
    from tqdm import tqdm

    return tqdm(total=runs, desc=title, unit="run", file=sys.stderr, smoothing=0, mininterval=0.5,
                bar_format="{desc} {percentage:3.0f}%|{bar:24}| {n:.1f}/{total} runs [{elapsed}<{remaining}]{postfix}")

"""How long trainings take: what timed steps, or finished trainings of their kind, come to in the engine's order."""

from __future__ import annotations

import heapq
import importlib.util
import json
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from ghostlib.detection.run import DetectorRun
from ghostlib.machine import all_threads, device_name
from ghostlib.plan import timing
from ghostlib.plan.timing import Took
from ghostlib.plan.wanted import Wanted
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.cohorts import in_order, next_cohort
from ghostlib.runs.job import cohort
from ghostlib.runs.listing import FINISHED, Stored
from ghostlib.training import batches
from ghostlib.training.recipe import scaled_decay

if TYPE_CHECKING:
    from ghostlib.training.images import Images

COCO_VAL = 5_000  # images of instances_val2017.json
# What of a recipe decides how long a step takes.
_OF_A_STEP = {"network", "branches", "scale", "skip", "branch_norm_lr", "optimizer", "batch_size", "ema_decays"}
Kind = tuple[Hashable, ...]


@dataclass(frozen=True)
class Sizes:
    """How many images a profile has."""

    train: int
    val: int
    test: int


@dataclass(frozen=True, eq=False)
class Training:
    """A training that is left, as the engine's order takes it (`runs.job.Job`).

    Attributes:
        key: its `identity`: without its images it has no key.
        wanted: it.
        sizes: of the data; of a detector, its backbone's.
        requires: what must be finished before, of what is left.
    """

    key: str
    wanted: Wanted
    sizes: Sizes
    requires: tuple[Training, ...] = ()

    @property
    def job(self) -> ClassifierRun | DetectorRun:
        return self.wanted.job

    @property
    def steps(self) -> int:
        """Of a classifier."""
        recipe = self.wanted.classifier.recipe
        return recipe.epochs * (self.sizes.train // recipe.batch_size)

    @property
    def work(self) -> float:
        """As its job has it."""
        if isinstance(self.job, DetectorRun):
            return self.job.work
        recipe = self.job.recipe
        return self.steps * recipe.batch_size * self.job.profile.image_size**2 * (1 + recipe.branches)

    @property
    def cohort(self) -> Hashable:
        return cohort(self.job)

    @property
    def teacher(self) -> str | None:
        """Whose answers count."""
        recipe = self.wanted.classifier.recipe
        return recipe.teacher if recipe.alpha else None

    @property
    def kind(self) -> Kind:
        """Trainings of an equal one take as long, a step."""
        return "whole", self.teacher, *self.alone

    @property
    def alone(self) -> Kind:
        """The same of what is its own part: not the views, and not a teacher's answers."""
        job = self.job
        decides = ((job.arch, job.side, json.dumps(job.scale.decides_results, sort_keys=True))
                   if isinstance(job, DetectorRun) else
                   (json.dumps(job.recipe.model_dump(mode="json", include=_OF_A_STEP), sort_keys=True),))
        return *decides, job.profile.width_scale

    @property
    def views(self) -> Kind:
        """Which batches it sees; a detector's are in its steps."""
        return () if isinstance(self.job, DetectorRun) else ("views", *batches.decided_by(self.job.recipe))

    @property
    def answers(self) -> Kind:
        """Who answers; the same."""
        return () if isinstance(self.job, DetectorRun) or not self.teacher else ("teacher", self.teacher)


def workers(trainings: Iterable[Training]) -> int:
    """How many processes the engine starts: one a core or a GPU."""
    profiles = [training.job.profile for training in trainings]
    if {profile.device_type for profile in profiles} <= {"cpu"}:
        return max(1, all_threads() // max((profile.threads for profile in profiles), default=1))
    import torch

    return max(1, torch.cuda.device_count())


@dataclass(frozen=True)
class Costs:
    """Seconds of trainings.

    Attributes:
        took: by kind.
    """

    took: Mapping[Kind, Took]

    def knows(self, training: Training) -> bool:
        """Whether its kind was timed or has finished."""
        return training.kind in self.took or training.alone in self.took

    def of(self, training: Training) -> Took:
        """What is known of its kind."""
        return self.took.get(training.kind) or self.took[training.alone]

    def step(self, training: Training) -> float | None:
        """Seconds of one of its steps, without what it shares where that was timed; None of a finished detector's."""
        return None if training.kind in self.took and isinstance(training.job, DetectorRun) else self.of(training).step

    def memory(self, training: Training) -> int:
        """Bytes of a GPU that its steps and its teacher need; 0 where nothing was measured."""
        answers = self.took.get(training.answers)
        return (self.of(training).memory or 0) + ((answers and answers.memory) or 0)

    def own(self, training: Training) -> float:
        """Of a training's own part; of all, where finished ones say it."""
        took, sizes = self.of(training), training.sizes
        if isinstance(training.job, DetectorRun):
            scenes = training.job.scale.scenes
            return took.begin + took.steps * took.step + 2 * (scenes.val if scenes else COCO_VAL) * took.score
        if training.kind in self.took:
            return training.steps * took.step
        recipe, every = training.job.recipe, training.job.profile.validate_epochs
        scored = 1 + len({scaled_decay(decay, training.steps) for decay in recipe.ema_decays} - {0.0})
        return (took.begin + training.steps * took.step + (recipe.epochs // every * sizes.val * took.validate if every
                else 0) + scored * (sizes.val + sizes.test) * took.score + took.end)

    def together(self, trainings: Sequence[Training]) -> float:
        """Of a cohort: what each has for itself, the views once, and each teacher's answers once."""
        own = sum(map(self.own, trainings))
        timed = [training for training in trainings if training.views and training.kind not in self.took]
        if not timed:
            return own
        profile = timed[0].job.profile
        for answers in {training.answers for training in timed} - {()}:
            own += self.took[answers].step * max(_images(t) for t in timed if t.answers == answers)
        views = self.took[timed[0].views].step * max(_images(t) + _scored(t) for t in timed)
        if profile.device_type == "cpu" or not profile.workers:
            return own + views
        cores = max(1, all_threads() // workers(trainings))
        return max(own, views / min(profile.workers, cores))  # made meanwhile


def _images(training: Training) -> int:
    return training.steps * training.job.recipe.batch_size


def _scored(training: Training) -> int:
    """Images that are read to be scored."""
    every, sizes = training.job.profile.validate_epochs, training.sizes
    return sizes.val + sizes.test + (training.job.recipe.epochs // every * sizes.val if every else 0)


def seconds_of(trainings: Sequence[Training], costs: Costs, processes: int) -> float:
    """From the first training's begin to the last one's end, each process taking a cohort in the engine's order."""
    waiting, unfinished = in_order(trainings), {training.key for training in trainings}
    active: list[tuple[float, int, list[Training]]] = []
    now = 0.0
    for number in count():
        if len(active) < processes and (chosen := next_cohort(waiting, unfinished, processes)):
            waiting = [training for training in waiting if training not in chosen]
            heapq.heappush(active, (now + costs.together(chosen), number, chosen))
        elif active:
            now, _, ended = heapq.heappop(active)
            unfinished -= {training.key for training in ended}
        else:
            return now


def costs_of(left: Sequence[Training], finished: Iterable[tuple[Training, Stored]], images: Images | None) -> Costs:
    """What finished trainings say of those that are left; what they do not say is timed, see `time_kinds`."""
    known = from_finished(finished)
    return Costs(known | time_kinds(left, known, images))


def from_finished(finished: Iterable[tuple[Training, Stored]]) -> dict[Kind, Took]:
    """What finished trainings took on this device, by kind: the median of seconds a step, with all that they share.

    A detector counts as one step.
    """
    seconds: dict[Kind, list[float]] = {}
    values: dict[Kind, int] = {}
    for training, run in finished:
        if run.state != FINISHED or run.cost.get("device") != device_name(training.job.profile.device_type):
            continue
        detector = isinstance(training.job, DetectorRun)
        seconds.setdefault(training.kind, []).append(run.cost["seconds"] / (1 if detector else training.steps))
        weights = run.folder / ("detector.safetensors" if detector else "ema.safetensors")
        values[training.kind] = weights.stat().st_size // 4 if weights.exists() else 0
    return {kind: Took(step=statistics.median(of_kind), steps=1, values=values[kind])
            for kind, of_kind in seconds.items()}


def time_kinds(trainings: Sequence[Training], known: Mapping[Kind, Took], images: Images | None) -> dict[Kind, Took]:
    """Times a few steps of every kind that is not known, as many at a time as there will be trainings on a CPU.

    Args:
        trainings: what is left; detectors are passed over where MMDetection is not installed.
        known: of kinds that need not be timed.
        images: to make views of; None for others in their place.
    """
    from tqdm import tqdm

    from ghostlib.runs import engines

    on_cpu = all(training.job.profile.device_type == "cpu" for training in trainings)
    at_a_time = workers(trainings) if on_cpu else 1  # neighbours slow each other on a CPU; a GPU is one's own
    tasks: dict[Kind, tuple[Callable[..., Took], tuple[Any, ...]]] = {}
    for training in trainings:
        if training.kind in known:
            continue
        if isinstance(training.job, DetectorRun):
            if importlib.util.find_spec("mmdet"):
                tasks.setdefault(training.alone, (timing.detector, (training.job,)))
            continue
        epoch_steps = training.steps // training.job.recipe.epochs
        tasks.setdefault(training.alone, (timing.arm, (training.job, epoch_steps)))
        tasks.setdefault(training.views, (timing.views, (training.job, images)))
        if training.answers:
            tasks.setdefault(training.answers, (timing.teacher, (training.job,)))
    if not tasks:
        return {}
    with ProcessPoolExecutor(at_a_time, engines.context(), max_tasks_per_child=1) as pool:
        waiting = {pool.submit(task, *arguments): kind for kind, (task, arguments) in tasks.items()}
        ended = tqdm(as_completed(waiting), "timing steps", len(waiting), unit="kind", leave=False)
        try:
            return {waiting[done]: done.result() for done in ended}
        finally:
            pool.shutdown(cancel_futures=True)

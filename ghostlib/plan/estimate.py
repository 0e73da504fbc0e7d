"""How long trainings take: what timed steps, or finished trainings of their kind, come to in the engine's order."""

from __future__ import annotations

import heapq
import importlib.util
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from ghostlib.detection.run import DetectorRun
from ghostlib.machine import all_threads, device_name
from ghostlib.plan import timing
from ghostlib.plan.timing import Took
from ghostlib.plan.wanted import Kind, Training
from ghostlib.runs.cohorts import MOST, in_order, next_cohort
from ghostlib.runs.listing import FINISHED, Stored
from ghostlib.runs.local import context, default_workers
from ghostlib.training.recipe import scaled_decay

if TYPE_CHECKING:
    from ghostlib.training.images import Images

COCO_VAL = 5_000  # images of instances_val2017.json


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
        recipe, every = training.job.recipe, training.profile.validate_epochs
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
        cores = max(1, all_threads() // default_workers(trainings))
        return max(own, views / min(profile.workers, cores))  # made meanwhile


def _images(training: Training) -> int:
    return training.steps * training.job.recipe.batch_size


def _scored(training: Training) -> int:
    """Images that are read to be scored."""
    every, sizes = training.profile.validate_epochs, training.sizes
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
        # Another machine's, perhaps, and without weights to size; or with the seconds of its last start alone.
        if {"restored_from", "resumed"} & run.described.keys():
            continue
        if run.state != FINISHED or run.cost.get("device") != device_name(training.profile.device_type):
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

    on_cpu = all(training.profile.device_type == "cpu" for training in trainings)
    at_a_time = default_workers(trainings) if on_cpu else 1  # neighbours slow each other on a CPU; a GPU is one's own
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
    with ProcessPoolExecutor(at_a_time, context(), max_tasks_per_child=1) as pool:
        waiting = {pool.submit(task, *arguments): kind for kind, (task, arguments) in tasks.items()}
        ended = tqdm(as_completed(waiting), "timing steps", len(waiting), unit="kind", leave=False)
        try:
            return {waiting[done]: done.result() for done in ended}
        finally:
            pool.shutdown(cancel_futures=True)


def bytes_left(left: Sequence[Training], costs: Costs) -> tuple[int, int]:
    """What trainings will have on disk: in the end, and more while they run.

    A classifier leaves its weights and their averages, a detector its weights, in float32. A state, of which two are
    kept, has the weights, two values of the optimiser for each, and the averages.
    """
    kept, states = 0, []
    for training in left:
        if costs.knows(training):
            detector, values = isinstance(training.job, DetectorRun), costs.of(training).values
            averages = 0 if detector else len(training.job.recipe.ema_decays)
            kept += 4 * values * (1 if detector else 2)
            states.append(2 * 4 * values * (3 + averages))
    return kept, sum(sorted(states)[-default_workers(left) * MOST:])

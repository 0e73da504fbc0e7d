"""A profile's plan: what it wants, what is finished, what is left, and all that in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ghostlib.detection.run import DetectorRun
from ghostlib.machine import device_name
from ghostlib.plan import estimate, missing
from ghostlib.plan.estimate import Costs
from ghostlib.plan.wanted import PARTS, Sizes, Training, by_identity, identity, wanted
from ghostlib.runs.listing import Stored, stored
from ghostlib.runs.local import default_workers
from ghostlib.runs.store import Store
from ghostlib.training.profile import Profile, load_profile

if TYPE_CHECKING:
    from ghostlib.training.datasets import Splits

_COUNTED = ("What trainings of a cohort share, views and a teacher's answers, counts once. Not counted are latencies "
            "(minutes), counts, pages, and a folder's images, which are read once. On a CPU a step of large images is "
            "scaled up from one of a few. Whatever else the machine does while steps are timed slows them.")


@dataclass(frozen=True)
class Plan:
    """What a profile trains.

    Attributes:
        profile: it.
        trainings: all that it wants, those first that others require.
        stored: the finished ones, by `Training.key`.
        splits: its images; None where they are not read.
        missing: why they are not, with the remedy; empty where nothing is missing.
    """

    profile: Profile
    trainings: tuple[Training, ...]
    stored: dict[str, Stored]
    splits: Splits | None
    missing: str

    @property
    def left(self) -> list[Training]:
        """What is to be trained."""
        return [training for training in self.trainings if training.key not in self.stored]

    @property
    def finished(self) -> list[tuple[Training, Stored]]:
        """What is in the store."""
        return [(training, self.stored[training.key]) for training in self.trainings if training.key in self.stored]


def make(profile_name: str, params: dict[str, Any], store: Store) -> Plan:
    """The plan of a profile.

    Without the images no run has a key; a stored one is known by all else that decides it.

    Raises:
        ConfigError: what params.yaml and experiments.yaml say of the profile cannot be meant.
        DataError: its folder of images cannot be counted.
    """
    profile, found = load_profile(profile_name, params), wanted(profile_name, params)
    splits, lack = missing.images(profile)
    there, trainings = [run for run in stored(store) if run.ended], {}
    if splits:
        of_keys = {run.key: run for run in there}
        finished = {key: of_keys[wanted.job.key] for key, wanted in found.items() if wanted.job.key in of_keys}
    else:
        finished = by_identity(there)
    for key, one in found.items():
        required = tuple(trainings[identity(job)] for job in one.job.requires)
        trainings[key] = Training(key, one, Sizes.of(one.classifier.profile, splits), required)
    return Plan(profile, tuple(trainings.values()), {key: finished[key] for key in found if key in finished}, splits,
                lack)


def text(plan: Plan, costs: Costs | None, lacking: Sequence[str], price: float | None = None) -> str:
    """The whole plan.

    Args:
        plan: as `make` gives it.
        costs: of every kind that is left and can be timed; None for counts alone.
        lacking: what is missing, a sentence each.
        price: EUR an hour of this machine.
    """
    from tabulate import tabulate

    profile, left, processes = plan.profile, plan.left, default_workers(plan.left)
    table = tabulate(_table(plan, costs), headers="keys", disable_numparse=True)
    lines = [f"{profile.name}: {profile.scale}", "", table, "",
             f"{len(plan.trainings)} trainings wanted, {len(plan.stored)} finished, {len(left)} left."]
    if costs and left:
        lines += [*_times(left, costs, processes, price), f"On {device_name(profile.device_type)}, {processes} at a "
                  f"time. {_COUNTED}", _disk(left, costs)]
        if profile.device_type != "cuda":
            lines.append(f"GPU memory is left out: these trainings run on {profile.device_type}.")
    lines += ["", "Missing:", *(f"- {told}" for told in lacking)] if lacking else ["Nothing is missing for it."]
    return "\n".join(lines)


def _table(plan: Plan, costs: Costs | None) -> list[dict[str, Any]]:
    """A row for each network in a part, in the order of `PARTS`."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for part in PARTS:
        for training in plan.trainings:
            if training.wanted.part == part:
                job = training.job
                network = job.arch if isinstance(job, DetectorRun) else job.recipe.network
                groups.setdefault((part, network), []).append(training)
    rows = []
    for (part, network), of_both in groups.items():
        left = [training for training in of_both if training.key not in plan.stored]
        row = {"trainings": part, "network": network, "wanted": len(of_both), "finished": len(of_both) - len(left),
               "left": len(left)}
        rows.append(row | (_timed(left, costs, plan.profile.device_type) if costs else {}))
    return rows


def _timed(left: Sequence[Training], costs: Costs, device_type: str) -> dict[str, str]:
    """How long each one takes by itself, in hours of a process: what they share is not in it, where it was timed."""
    known = [training for training in left if costs.knows(training)]
    names = ("s a step", "process hours", *(["GPU memory (GB)"] if device_type == "cuda" else []), "known from")
    if not known:
        return dict.fromkeys(names, "") | ({"known from": "not timed"} if left else {})
    steps = sorted(step for training in known if (step := costs.step(training)) is not None)
    timed, memory = sum(training.kind not in costs.took for training in known), max(map(costs.memory, known))
    values = {"s a step": " to ".join(dict.fromkeys(_number(step) for step in (*steps[:1], *steps[-1:]))),
              "process hours": _number(sum(map(costs.own, known)) / 3600),
              "GPU memory (GB)": f"{memory / 1e9:.1f}" if memory else "",
              "known from": "timing" if timed == len(known) else "finished ones" if not timed else "both"}
    return {name: values[name] for name in names}


def _times(left: Sequence[Training], costs: Costs, processes: int, price: float | None) -> list[str]:
    known = [training for training in left if costs.knows(training)]
    whole, told = 0.0, []
    for command in dict.fromkeys(PARTS.values()):  # one after the other
        if trainings := [training for training in known if PARTS[training.wanted.part] == command]:
            seconds = estimate.seconds_of(trainings, costs, processes)
            whole += seconds
            told.append(f"{command} {duration(seconds)}")
    cost = "" if price is None else f"; at {price:g} EUR an hour {price * whole / 3600:.2f} EUR"
    lines = [f"Time left: {duration(whole)} ({', '.join(told)}){cost}."]
    return lines if len(known) == len(left) else [*lines, f"{len(left) - len(known)} of them could not be timed."]


def _disk(left: Sequence[Training], costs: Costs) -> str:
    kept, states = estimate.bytes_left(left, costs)
    return f"Disk: {kept / 1e9:.2g} GB of weights and averages in the end, {states / 1e9:.2g} GB of states on the way."


def duration(seconds: float) -> str:
    """In the unit that a reader would choose."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} hours"
    days = seconds / 86400
    return f"{days:.1f} days" if days < 730 else f"{days / 365.25:.0f} years"


def _number(value: float) -> str:
    """Two digits of a small one, all of a large one."""
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"

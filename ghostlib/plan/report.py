"""A plan in words: a table of what is wanted, what that takes, and what is missing for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ghostlib.detection.run import DetectorRun
from ghostlib.machine import device_name
from ghostlib.plan import estimate
from ghostlib.plan.estimate import Costs, Training
from ghostlib.plan.plan import Plan
from ghostlib.plan.wanted import PARTS
from ghostlib.runs.cohorts import MOST

_COUNTED = ("What trainings of a cohort share, views and a teacher's answers, counts once. Not counted are latencies "
            "(minutes), counts, pages, and a folder's images, which are read once. On a CPU a step of large images is "
            "scaled up from one of a few. Whatever else the machine does while steps are timed slows them.")


def text(plan: Plan, costs: Costs | None, missing: Sequence[str], price: float | None = None) -> str:
    """The whole plan.

    Args:
        plan: as `make` gives it.
        costs: of every kind that is left and can be timed; None for counts alone.
        missing: what is, a sentence each.
        price: EUR an hour of this machine.
    """
    from tabulate import tabulate

    profile, left, processes = plan.profile, plan.left, estimate.workers(plan.left)
    table = tabulate(_table(plan, costs), headers="keys", disable_numparse=True)
    lines = [f"{profile.name}: {profile.scale}", "", table, "",
             f"{len(plan.trainings)} trainings wanted, {len(plan.stored)} finished, {len(left)} left."]
    if costs and left:
        lines += [*_times(left, costs, processes, price), f"On {device_name(profile.device_type)}, {processes} at a "
                  f"time. {_COUNTED}", _disk(left, costs)]
        if profile.device_type != "cuda":
            lines.append(f"GPU memory is left out: these trainings run on {profile.device_type}.")
    lines += ["", "Missing:", *(f"- {told}" for told in missing)] if missing else ["Nothing is missing for it."]
    return "\n".join(lines)


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
    return kept, sum(sorted(states)[-estimate.workers(left) * MOST:])


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
    kept, states = bytes_left(left, costs)
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

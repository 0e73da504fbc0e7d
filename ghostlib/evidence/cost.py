"""What a profile's results cost: hours of training, the machines and the dates, from the files beside the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ghostlib.evidence import measured
from ghostlib.evidence.quantities import counted
from ghostlib.measures import places
from ghostlib.paper import claims, exhibits, numbers

_NOT_RECORDED = "The trainings' costs were not recorded."


@dataclass(frozen=True)
class Cost:
    """What the trainings behind a profile's results cost.

    Attributes:
        trainings: how many there are behind the cells and the teachers, and of what they begin with.
        recorded: of how many of them the cost was recorded; the others' is not in `hours`.
        hours: the sum over the recorded trainings.
        others: how many other classifiers are recorded: of results that are here no longer, or not yet.
        other_hours: the sum over these.
        devices: what they were trained on, and which tables' and figures' trainings each did.
        dates: the first and the last day (UTC).
    """

    trainings: int
    recorded: int
    hours: float
    others: int = 0
    other_hours: float = 0.0
    devices: dict[str, list[str]] = field(default_factory=dict)
    dates: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What JSON can hold of it."""
        return asdict(self) | {"hours": round(self.hours, 2), "other_hours": round(self.other_hours, 2)}


def cost(folder: str | Path) -> Cost:
    """The costs of the trainings that runs/*.csv and teachers.csv of results/<profile> name, from its costs/*.csv.

    A detector's costs include those of the classifiers it begins with, which no table names; nor does one name the
    trainings by which learning rates were chosen.
    """
    folder = Path(folder)
    results = measured.read(folder)
    named = measured.runs(results)
    if (teachers := folder / "teachers.csv").exists():
        named |= set(places.read_csv(teachers)["run"])
    files = {path.stem: places.read_csv(path) for path in sorted(folder.glob("costs/*.csv"))}
    kept = [rows[rows["run"].isin(named)] if kind == "classifiers" else rows for kind, rows in files.items()]
    rows = pd.concat(kept).drop_duplicates("run") if kept else pd.DataFrame(columns=["run"])
    classifiers = files.get("classifiers", rows[:0])
    others = classifiers[~classifiers["run"].isin(rows["run"])]
    other_hours = float(others["seconds"].sum() / 3600) if len(others) else 0.0
    if rows.empty:
        return Cost(len(named), 0, 0.0, len(others), other_hours)
    days = sorted(rows["date"].dropna().astype(str))
    return Cost(len(named | set(rows["run"])), len(rows), float(rows["seconds"].sum() / 3600),
                len(others), other_hours,
                _devices(rows, results), tuple(dict.fromkeys((*days[:1], *days[-1:]))))


def _devices(rows: pd.DataFrame, results: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """The labels of the experiments by what their trainings ran on, in the paper's order."""
    of = {device: set(trained["run"]) for device, trained in rows.groupby("device")}
    return {device: [exhibits.label(name) for name in (*numbers.load(), *claims.OWN)
                     if name in results and runs & measured.runs({name: results[name]})]
            for device, runs in of.items()}


def sentences(cost: Cost, machine: Mapping[str, str]) -> Sequence[str]:
    """The costs and the machine of the latencies (as `measured.machine` gives it) for a reader."""
    timed = [f"Latencies measured on: {', '.join(f'{name} {value}' for name, value in machine.items())}."]
    return [*_trainings(cost), *(timed if machine else []), "Energy was not measured."]


def _trainings(cost: Cost) -> list[str]:
    if not cost.trainings:
        return ["Training: none."]
    others = (f" {counted(cost.others, 'other classifier')}, of results that are not here or have been replaced, "
              f"took {cost.other_hours:.1f} hours." if cost.others else "")
    if not cost.recorded:
        return [_NOT_RECORDED + others]
    number = (f"{cost.trainings}" if cost.recorded == cost.trainings else
               f"{cost.recorded} of {cost.trainings}, as the others' costs were not recorded")
    devices = [f"{name} ({', '.join(of)})" if of and len(cost.devices) > 1 else name
               for name, of in cost.devices.items()]
    return [f"Training: {cost.hours:.1f} hours, the sum over the trainings behind these results ({number}), several of "
            f"which run at a time; of an interrupted training, only the time after it was resumed.{others}",
            f"Trained on: {'; '.join(devices)}.",
            f"Dates of the trainings: {' to '.join(cost.dates)} (UTC)."]

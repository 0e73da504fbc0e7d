"""What a profile's files hold, as the evidence needs it: accuracies by seed and cell, and how many trainings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ghostlib.exhibits import latency
from ghostlib.experiments import TOP1_METRIC
from ghostlib.measures import places
from ghostlib.paper import numbers


def read(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Whatever there is of runs/*.csv in results/<profile>, by the name of the experiment."""
    return {path.stem: places.read_csv(path) for path in sorted(Path(folder, "runs").glob("*.csv"))}


def accuracies(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Each experiment's accuracies (%), in Table 10 mAP: a row a seed, a column a (row, column) of the paper's table.

    Args:
        measured: as `read` gives it.

    Raises:
        ValueError: an experiment's file holds one seed of a cell twice.
    """
    values = {}
    for name in measured.keys() & numbers.load().keys():
        metric = numbers.MAP if name == "table_10" else TOP1_METRIC
        rows = measured[name][measured[name]["metric"] == metric]
        if rows.duplicated(["row", "column", "seed"]).any():
            raise ValueError(f"runs/{name}.csv holds one seed of a cell twice; it would count as two measurements")
        values[name] = rows.pivot(index="seed", columns=["row", "column"], values="value")
    return {name: values[name] for name in numbers.load() if name in values}


def runs(measured: Mapping[str, pd.DataFrame]) -> set[str]:
    """The keys of the trainings behind all cells: cells with the same recipe share one."""
    return {run for rows in measured.values() if "run" in rows for run in rows["run"].dropna()}


def machine(measured: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """What the latencies were timed on: cpu, cpus, system, engines and date; empty if none were."""
    return latency.machine(measured["latency"]) if "latency" in measured else {}

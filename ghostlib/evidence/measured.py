"""What a profile's files hold, as the evidence needs it: accuracies by seed and cell, and how many trainings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ghostlib.exhibits import latency
from ghostlib.experiments import LOSS_METRIC, TOP1_METRIC
from ghostlib.measures import places
from ghostlib.paper import claims, numbers
from ghostlib.training.bits import unpacked


def read(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Whatever there is of runs/*.csv in results/<profile>, by the name of the experiment."""
    return {path.stem: places.read_csv(path) for path in sorted(Path(folder, "runs").glob("*.csv"))}


def accuracies(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Each experiment's accuracies (%), in Table 10 mAP: a row a seed, a column a (row, column) of its table.

    Args:
        measured: as `read` gives it.

    Raises:
        ValueError: an experiment's file holds one seed of a cell twice.
    """
    return {name: _by_cell(name, rows, numbers.MAP if name == "table_10" else TOP1_METRIC)
            for name, rows in _experiments(measured).items()}


def losses(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Each experiment's log-losses on the test images (nats), as `accuracies` gives those; older files have none."""
    return {name: _by_cell(name, rows, LOSS_METRIC) for name, rows in _experiments(measured).items()}


def correct(folder: str | Path, accuracies: Mapping[str, pd.DataFrame]
            ) -> dict[tuple[str, str, str], dict[int, np.ndarray]]:
    """Which test images each training gets right, from whatever there is of correct/*.csv in results/<profile>.

    Args:
        folder: results/<profile>.
        accuracies: as `accuracies` gives them: the shares of right images must be these.

    Returns:
        (table, row, column) -> seed -> (images,) booleans in the data's order.

    Raises:
        ValueError: a file is not of the trainings whose accuracies are given.
    """
    found: dict[tuple[str, str, str], dict[int, np.ndarray]] = {}
    for path in sorted(Path(folder, "correct").glob("*.csv")):
        if path.stem not in accuracies:  # whoever removed its results may have left this
            continue
        for row in places.read_csv(path).itertuples():
            right = unpacked(row.correct, row.images)
            measured = accuracies.get(path.stem, pd.DataFrame()).get((row.row, row.column), pd.Series(dtype=float))
            if not abs(100 * right.mean() - measured.get(row.seed, np.nan)) < 1e-3:  # runs/ have four decimals
                raise ValueError(f"correct/{path.stem}.csv is not of the trainings in runs/{path.stem}.csv: "
                                 f"{row.row}, {row.column}, seed {row.seed} differ")
            found.setdefault((path.stem, row.row, row.column), {})[row.seed] = right
    return found


def diverged(measured: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str, str], list[int]]:
    """(table, row, column) -> the seeds of that cell that diverged, where some did."""
    return {(name, *cell): sorted(seeds) for name, rows in _experiments(measured).items()
            for cell, seeds in rows[rows["metric"] == places.DIVERGED].groupby(["row", "column"])["seed"]}


def undiverged(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The experiments of what `read` gives, without the cells of which a seed diverged."""
    return {name: places.undiverged(rows) for name, rows in _experiments(measured).items()}


def teachers(folder: str | Path) -> dict[str, float]:
    """Top-1 (%) on the test images of each stand-in, by the teacher that it stands in for; empty if there are none."""
    path = Path(folder, "teachers.csv")
    return places.read_csv(path).set_index("stands_in_for")["test_top1"].to_dict() if path.exists() else {}


def runs(measured: Mapping[str, pd.DataFrame]) -> set[str]:
    """The keys of the trainings behind all cells: cells with the same recipe share one."""
    return {run for rows in measured.values() if "run" in rows for run in rows["run"].dropna()}


def machine(measured: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """What the latencies were timed on: cpu, cpus, system, engines and date; empty if none were."""
    return latency.machine(measured["latency"]) if "latency" in measured else {}


def _experiments(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """What there is of the paper's tables and figures, in its order, and of experiments of ours."""
    return {name: measured[name] for name in (*numbers.load(), *claims.OWN) if name in measured}


def _by_cell(name: str, rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of an experiment: a row a seed, a column a (row, column)."""
    rows = rows[rows["metric"] == metric]
    if rows.duplicated(["row", "column", "seed"]).any():
        raise ValueError(f"runs/{name}.csv holds one seed of a cell twice; it would count as two measurements")
    return rows.pivot(index="seed", columns=["row", "column"], values="value")

"""What a profile's results cost: hours of training, the machine, dates and, if it could be read, energy."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ghostlib.runs.store import Store


def costs(folder: str | Path, store: Store | None = None) -> list[str]:
    """A sentence each, of the trainings that results/<profile> is made of and of the latencies.

    Args:
        folder: results/<profile>; of its runs/*.csv and teachers.csv whatever is there.
        store: where the trainings' own records lie.
    """
    root = (store or Store()).root
    runs = _runs(Path(folder), root)
    records = [path for run in sorted(runs) if (path := root / run / "cost.json").exists()]
    return [*_trainings(records, len(runs)), *_latencies(Path(folder)), _energy()]


def _trainings(records: list[Path], runs: int) -> list[str]:
    if not records:
        return [f"Training: the run store has no record of the {runs} trainings." if runs else "Training: none."]
    read = [json.loads(path.read_bytes()) for path in records]
    hours = sum(record["seconds"] for record in read) / 3600
    of = f"{runs}" if len(records) == runs else f"{len(records)} of {runs}, as the run store records no others"
    dates = sorted({f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d}" for path in records})
    devices = sorted({record["device"] for record in read if "device" in record})
    return [f"Training: {hours:.1f} hours, the sum over all trainings ({of}), of an interrupted one what "
            "followed; several run at a time.",
            f"Trained on: {', '.join(devices)}.",
            f"Dates of the trainings: {' to '.join(dict.fromkeys((dates[0], dates[-1])))} (UTC)."]


def _latencies(folder: Path) -> list[str]:
    path = folder / "runs" / "latency.csv"
    if not path.exists():
        return []
    timed = pd.read_csv(path, dtype=str)
    machine = (f"{name} {', '.join(timed[name].unique())}" for name in ("cpu", "cpus", "system", "engines", "date"))
    return [f"Latencies measured on: {', '.join(machine)}."]


def _energy() -> str:
    """The counters of Linux' powercap (RAPL) or of NVIDIA's driver: a training would have to read them as it runs."""
    counters = [path for path in Path("/sys/class/powercap").glob("*/energy_uj") if os.access(path, os.R_OK)]
    if counters or shutil.which("nvidia-smi"):
        return "Energy: this machine counts it, but the trainings do not read the counter."
    return "Energy: not readable on this machine."


def _runs(folder: Path, root: Path) -> set[str]:
    """The keys of all trainings: of the cells, of the teachers, and of the classifiers that detectors begin with."""
    tables = (pd.read_csv(path, dtype=str) for path in (*folder.glob("runs/*.csv"), *folder.glob("teachers.csv")))
    runs = {run for table in tables if "run" in table for run in table["run"].dropna()}
    described: list[dict[str, Any]] = [json.loads(path.read_bytes()) for run in runs
                                       if (path := root / run / "run.json").exists()]
    return runs | {description["backbone"] for description in described if "backbone" in description}

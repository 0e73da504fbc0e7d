"""A profile with all parts but detectors, and what a finished training leaves in a store."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ghostlib.machine import cpu_name
from ghostlib.runs.store import Store

GRID = {"rows": {"w/o": {"branches": 0, "teacher": None}, "w/": {}}, "columns": {"0.005": {}}}


@pytest.fixture
def params(tiny):
    """Two profiles of 14 trainings, the second one's on images that are not there."""
    described = tiny.model_dump(exclude={"name", "base"}, mode="json") | {
        "tune": {"seeds": [8], "rates": [1, 2, 3, 4]}, "seeds": [0, 1]}
    return {"profile": "tiny", "recipe": {"weight_decay": 0.05}, "experiments": {"first": GRID, "again": GRID},
            "profiles": {"tiny": described, "large": described | {"data": "imagenet", "num_classes": 1000}}}


@pytest.fixture
def finish(store) -> Callable:
    """Writes what a finished job leaves."""
    def write(job, store: Store = store) -> None:
        store.folder(job).mkdir(parents=True)
        described = {"key": job.key, "seed": job.seed, "code": job.code, **job.describe()}
        for name, content in {"run": described, "metrics": {"test": {}},
                              "cost": {"seconds": 9, "device": cpu_name(), "date": "2026-01-02"}}.items():
            (store.folder(job) / f"{name}.json").write_text(json.dumps(content))
        (store.folder(job) / "ema.safetensors").write_bytes(bytes(4000))
    return write

"""Trains detectors, one after the other, in one process of several: `test_processes` starts it by torchrun."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_rank, is_main_process

from ghostlib.detection import loop, states
from ghostlib.detection.run import DetectorRun
from ghostlib.runs.store import Store


def ended(run: DetectorRun, store: Store, changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What this process has after a training by a changed configuration."""
    config = run.config(store)
    config.merge_from_dict(changes)
    detector, metrics = loop.train(config, folder.name, run.seed, "cpu", folder, lambda progress: None)
    return {"metrics": metrics, "weights": detector.state_dict()}


def resumed(run: DetectorRun, store: Store, other: Path, folder: Path) -> dict[str, Any]:
    """What this process has after a training that goes on from another's first epoch, and the steps that it took."""
    if is_main_process():
        (folder / "states").mkdir(parents=True)
        for state in (other / "states").glob("epoch_1.pth*"):
            shutil.copy(state, folder / "states")
    barrier()
    steps = []
    return {"metrics": run.train(folder, store, lambda progress: steps.append(progress.step)), "steps": steps}


def main(root: Path) -> None:
    torch.set_num_threads(1)
    states.SECONDS = 0
    store = Store(root / "runs")
    run, cases = pickle.loads((root / "cases.pickle").read_bytes())
    found = {name: ended(run, store, changes, root / name) for name, changes in cases.items()}
    found["resumed"] = resumed(run, store, root / "as it is", root / "resumed")
    torch.save(found, root / f"rank-{get_rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

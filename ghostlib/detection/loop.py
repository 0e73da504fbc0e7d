"""MMEngine's training; without processes that load data resumable to the bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.device.utils
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed
from torch import nn

import ghostlib.mmdet  # noqa: F401 (registers what the configurations name)
from ghostlib.files import write_atomic
from ghostlib.mmdet.coco import check_data
from ghostlib.training.loop import Progress
from ghostlib.training.randomness import seed_of

# CocoMetric's names -> ours. Sizes are COCO's: small below 32² px, medium below 96², large above.
METRICS = {"mAP": "mAP", "mAP_50": "AP50", "mAP_75": "AP75", "mAP_s": "AP small", "mAP_m": "AP medium",
           "mAP_l": "AP large"}
_STATE = "epoch_*.pth"


def train(config: Config, seed: int, device: str, folder: Path,
          report: Callable[[Progress], None]) -> tuple[nn.Module, dict]:
    """Trains a detector and evaluates it, folded, before and after.

    Killed at any moment and called again, it goes on after the last whole epoch and ends in the same weights. (On a CPU
    and with `num_workers` 0: processes that load data draw their augmentations as MMEngine seeds them, once a start.)

    Args:
        config: of the detector.
        seed: of everything random.
        device: "cpu", "cuda" or "mps".
        folder: for MMEngine's logs and states, and detections.bbox.json in COCO's format for results.
        report: called after every step.

    Returns:
        The detector in its training form; `untrained` and `trained`, each metric of `METRICS` -> % (None where the
        images hold no object of that size), and `history`, the mean loss of an image in every epoch.

    Raises:
        DetectionError: an annotation, image or category is missing.
    """
    check_data(config)
    states = sorted(folder.glob(_STATE), key=lambda path: int(path.stem.rpartition("_")[2]))
    config.merge_from_dict({
        "work_dir": str(folder), "log_level": "WARNING", "randomness": dict(seed=seed),
        "resume": bool(states), "load_from": str(states[-1]) if states else None,
        "default_hooks.checkpoint": dict(interval=1, max_keep_ckpts=2, save_best=None,
                                         backend_args=dict(backend="AtomicBackend")),
        "val_evaluator.outfile_prefix": str(folder / "detections")})
    config.train_cfg.val_begin = config.train_cfg.max_epochs + 1  # the last state is reported and none is chosen
    config.setdefault("custom_hooks", []).append(dict(type="CheckInvalidLossHook", interval=1))
    mmengine.device.utils.DEVICE = device  # else it takes the best there is, whatever the profile says
    runner = Runner.from_cfg(config)
    runner.model.to(memory_format=torch.channels_last)  # faster for depth-wise convolutions, on CPU and GPU
    runner.register_hook(_Randomness(seed))
    runner.register_hook(watch := _Watch(folder / "history.json", report))
    untrained = folder / "untrained.json"
    if not states:
        set_random_seed(seed)
        runner.model.init_weights()  # once: `train` finds it done
        if not untrained.exists():
            write_atomic(untrained, json.dumps(_scores(runner.val())).encode())
    runner.train()
    return runner.model, {"trained": _scores(runner.val()), "untrained": json.loads(untrained.read_bytes()),
                          "history": watch.history}


def clear(folder: Path) -> None:
    """Removes the states; a finished training needs none."""
    for path in (*folder.glob(_STATE), *folder.glob(".*.tmp"), folder / "last_checkpoint"):
        path.unlink(missing_ok=True)


class _Randomness(Hook):
    """What is random in an epoch is a function of (seed, epoch), so that a resumed training draws the same."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int):
        self.seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        set_random_seed(seed_of("detection", self.seed, runner.epoch) % 2**32)


class _Watch(Hook):
    """Tells every step, and keeps the mean loss of every epoch."""

    priority = "LOW"  # before the state of the epoch is written: what a state has seen, the history has, too

    def __init__(self, file: Path, report: Callable[[Progress], None]):
        self.file, self.report = file, report
        self.history: list[dict[str, float]] = []

    def before_train(self, runner: Runner) -> None:
        if runner.epoch:
            self.history = json.loads(self.file.read_bytes())[:runner.epoch]

    def before_train_epoch(self, runner: Runner) -> None:
        self.losses, self.images, self.start = [], 0, time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses.append(outputs["loss"].item())
        self.images += len(data_batch["inputs"])
        # The grid's bar is of classifiers: a detector's steps have no accuracy.
        self.report(Progress(runner.iter + 1, runner.max_iters, self.losses[-1], math.nan,
                             self.images / (time.perf_counter() - self.start)))

    def after_train_epoch(self, runner: Runner) -> None:
        self.history.append({"epoch": runner.epoch + 1, "loss": sum(self.losses) / self.images})
        write_atomic(self.file, json.dumps(self.history).encode())


def _scores(found: dict[str, float]) -> dict[str, float | None]:
    """CocoMetric's result as `METRICS`, in %; None where there is no object of that size.

    Where nothing at all was detected it is empty, and then which sizes there are is not known.
    """
    if not found:
        return {name: None if "AP " in name else 0.0 for name in METRICS.values()}
    of = {name: found[f"coco/bbox_{theirs}"] for theirs, name in METRICS.items()}
    return {name: None if value < 0 else 100 * value for name, value in of.items()}

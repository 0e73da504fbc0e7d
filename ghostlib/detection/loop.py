"""The training of a detector by MMEngine, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.device.utils
import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, set_random_seed
from torch import nn

import ghostlib.detection.optimizer
import ghostlib.mmdet  # noqa: F401 (both register classes that the configurations name)
from ghostlib.detection.metrics import scores
from ghostlib.detection.processes import join, share
from ghostlib.detection.states import epoch_of, newest_whole
from ghostlib.files import write_atomic
from ghostlib.mmdet.coco import check_data
from ghostlib.training.processes import check_alike
from ghostlib.training.progress import NonFiniteLoss, Progress
from ghostlib.training.randomness import seed_of

DETECTIONS = "detections.bbox.json"  # MMDetection writes PREFIX.bbox.json


def train(config: Config, name: str, seed: int, device: str, folder: Path,
          report: Callable[[Progress], None]) -> tuple[nn.Module, dict[str, Any]]:
    """Trains a detector and evaluates it, folded, before and after.

    Killed at any moment and called again, it goes on after the last epoch that left a state (see `states`) and ends in
    the same weights: on a CPU, with images that are loaded in this process (`num_workers` 0). Worker processes draw
    their augmentations from seeds that MMEngine sets once a start.

    Started in several processes, by torchrun or `accelerate launch`, these share every batch, see `processes.share`.
    They have the same weights after every step and the same running statistics after every epoch, report the loss and
    the speed of all, and evaluate a part of the images each; the first one writes.

    Args:
        config: the detector's. Its batch is that of all processes together.
        name: what an error calls the training.
        seed: of everything random.
        device: "cpu", "cuda" or "mps".
        folder: gets states/, MMEngine's folder, while training, then detections.bbox.json, in COCO's format of results.
        report: called after every step.

    Returns:
        The detector in its training form, and its metrics: `untrained` and `trained`, as `metrics.scores` gives them,
        and `history`, the mean loss of an image in every epoch.

    Raises:
        DetectionError: an annotation, image or category is missing.
        NonFiniteLoss: the training diverged; no state holds what diverged.
        ValueError: the batch cannot be split evenly over the processes.
        CheckpointError: the processes do not find the same state in the folder.
    """
    check_data(config)
    states = folder / "states"
    state = newest_whole(states)
    if join(device):
        share(config)
        check_alike(epoch_of(state) if state else 0, f"{states}: epochs done")
    config.merge_from_dict({
        "work_dir": str(states), "log_level": "WARNING", "randomness": dict(seed=seed),
        "resume": state is not None, "load_from": state and str(state),
        "optim_wrapper.constructor": "FewGroups",
        "default_hooks.checkpoint": dict(type="StateHook", interval=1, max_keep_ckpts=2, save_best=None,
                                         backend_args=dict(backend="StateBackend")),
        "val_evaluator.outfile_prefix": str(states / DETECTIONS.partition(".")[0])})
    config.train_cfg.val_begin = config.train_cfg.max_epochs + 1  # the last state is reported and none is chosen
    # A visualizer that writes nothing: MMEngine would keep one for the whole process, in the first detector's folder.
    config.visualizer = dict(type="Visualizer", name=folder.name)
    mmengine.device.utils.DEVICE = device  # else MMEngine takes the best device there is, whatever the profile says
    runner = Runner.from_cfg(config)
    runner.model.to(memory_format=torch.channels_last)  # faster for depth-wise convolutions, on CPU and GPU
    runner.register_hook(_Randomness(seed))
    runner.register_hook(record := _Record(name, report))
    detector = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if state is None:
        set_random_seed(seed)
        detector.init_weights()  # once: `runner.train` finds it done
        record.untrained = scores(runner.val())
    runner.train()
    trained = scores(runner.val())
    if is_main_process():
        write_atomic(folder / DETECTIONS, (states / DETECTIONS).read_bytes())
    return detector, {"trained": trained, "untrained": record.untrained, "history": record.history}


class _Randomness(Hook):
    """Makes what is random in an epoch a function of (seed, epoch, rank), so that a resumed training draws the same."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int):
        self.seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        rank = [get_rank()] if get_rank() else []  # the first process draws what one that trains alone does
        set_random_seed(seed_of("detection", self.seed, runner.epoch, *rank) % 2**32)


class _Record(Hook):
    """Reports every step, records every epoch's mean loss in the states, and stops a training that diverged."""

    priority = "LOW"  # before the state of the epoch is written, so that no state holds what diverged

    def __init__(self, name: str, report: Callable[[Progress], None]):
        self.name, self.report = name, report
        self.untrained: dict[str, float | None] = {}
        self.history: list[dict[str, float]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        self.losses, self.images, self.start = [], 0, time.perf_counter()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        loss = outputs["loss"].detach().float()
        all_reduce(sums := torch.stack([loss, loss.new_tensor(len(data_batch["inputs"]))]))  # so all stop, or none
        loss, images = sums.tolist()
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss} at step {runner.iter + 1} of {runner.max_iters}", runner)
        self.losses.append(loss)
        self.images += int(images)
        # Steps of a detector have no accuracy.
        self.report(Progress(runner.iter + 1, runner.max_iters, loss, math.nan,
                             self.images / (time.perf_counter() - self.start)))

    def after_train_epoch(self, runner: Runner) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in runner.model.state_dict().values()):
            raise self._diverged(f"weights are not finite after epoch {runner.epoch + 1}", runner)
        self.history.append({"epoch": runner.epoch + 1, "loss": sum(self.losses) / self.images})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["record"] = {"untrained": self.untrained, "history": self.history}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.untrained, self.history = checkpoint["record"]["untrained"], checkpoint["record"]["history"]

    def _diverged(self, what: str, runner: Runner) -> NonFiniteLoss:
        optimizer = ", ".join(f"{key} = {value}" for key, value in runner.cfg.optim_wrapper.optimizer.items())
        return NonFiniteLoss(f"{self.name}, diverged: {what}. Its optimiser has {optimizer}; a lower lr or a longer "
                             "warmup may help (experiments.yaml: detection.scales.<profile>.options)")

"""The training loop: networks and their recipes, one or several on the same batches, resumable to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from timm.data import Mixup
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ghostlib.machine import refuse_several_processes
from ghostlib.training import batches
from ghostlib.training.arm import Arm, Run, step_seed
from ghostlib.training.build import build_mixup
from ghostlib.training.distill import Teacher
from ghostlib.training.evaluate import on_device
from ghostlib.training.progress import Progress
from ghostlib.training.views import eval_loader, train_loader


def train(network: nn.Module, run: Run, folder: Path, teacher: Teacher | None = None,
          report: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
    """Trains one network by itself; see `Arm` for the arguments and `train_together` for what is promised.

    Returns:
        `test` and `val`, each metric -> weights ("raw" or an EMA decay) -> value (see `evaluate.Hits.scores`),
        `correct`, weights -> which test images they get right (`evaluate.packed`), `steps`, and `history`, one record
        an epoch.

    Raises:
        NonFiniteLoss: names the run, the step and what may help.
        CheckpointError: the folder holds another run's state.
        SeveralProcesses: it was started by torchrun or the like.
    """
    [(_, outcome)] = train_together([Arm(network, run, folder, teacher, report)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def train_together(arms: Sequence[Arm]) -> Iterator[tuple[Arm, dict[str, Any] | Exception]]:
    """Trains arms that see the same batches: views are made and mixed once, and a teacher that they share answers once.

    Killed at any moment and called again, with whatever companions, an arm goes on from its newest state and ends in
    the same weights, averages and metrics, to the bit on a CPU with as many threads: all randomness is addressed by
    (seed, epoch, sample) or (seed, step), and model, averages, optimiser and the epoch's number are saved. The arms'
    epochs may differ, those behind them and those before them: one that is ahead waits until the others are there.

    Yields:
        Each arm when it is finished, with its metrics (see `train`), or with what stopped it. One that stops does not
        stop the others.

    Raises:
        ValueError: the arms differ in their data, seed, profile or batches.
        SeveralProcesses: it was started by torchrun or the like.
        DataError: there are fewer images than a batch holds, or one cannot be read.
    """
    refuse_several_processes()
    run = arms[0].run
    if any(arm.run.splits.digest != run.splits.digest or arm.run.profile != run.profile or arm.run.seed != run.seed
           or batches.decided_by(arm.run.recipe) != batches.decided_by(run.recipe) for arm in arms):
        raise ValueError("arms that differ in their data, profile, seed or batches cannot be trained together")
    accelerator = Accelerator(cpu=run.profile.device == "cpu", mixed_precision=run.profile.precision)
    _check_device(accelerator, run.profile.device)
    loader, order = train_loader(run.splits.train, run.recipe, run.profile, run.seed)
    loader, mixup = accelerator.prepare(loader), build_mixup(run.recipe, run.profile.num_classes)
    for arm in arms:
        arm.attempt(arm.begin, accelerator, len(loader))
    training = list(arms)
    while training:
        if ended := [arm for arm in training if arm.ended]:
            _score(ended, accelerator)
            yield from ((arm, arm.error or arm.metrics()) for arm in ended)
            training = [arm for arm in training if arm not in ended]
        else:
            order.epoch = min(arm.epoch for arm in training)
            _train_epoch([arm for arm in training if arm.epoch == order.epoch], loader, order.epoch, mixup)


def _train_epoch(arms: list[Arm], loader: DataLoader, epoch: int, mixup: Mixup | None) -> None:
    for arm in arms:
        arm.begin_epoch()
    for step, (views, labels) in enumerate(loader, start=epoch * len(loader)):
        views, targets = views.contiguous(memory_format=torch.channels_last), labels
        if mixup is not None:
            set_seed(step_seed(arms[0].run, step))  # Mixup draws from the global generators
            views, targets = mixup(views, labels)
        answers: dict[Teacher, Tensor] = {}
        for arm in arms:
            arm.attempt(arm.step, step, views, targets, labels, answers)
        if all(arm.error for arm in arms):
            break
    for arm in arms:
        arm.attempt(arm.end_epoch)


def _score(arms: list[Arm], accelerator: Accelerator) -> None:
    """Scores those of the arms that no error ended, in one pass over the images."""
    if all(arm.error for arm in arms):
        return
    run = arms[0].run
    for arm in arms:
        arm.attempt(arm.deploy)
    for part in ("val", "test"):
        for views, labels in eval_loader(getattr(run.splits, part), run.profile):
            views, labels = on_device(views, labels, accelerator.device)
            for arm in arms:
                arm.attempt(arm.score, part, views, labels)


def _check_device(accelerator: Accelerator, wanted: str) -> None:
    if wanted not in ("auto", accelerator.device.type):
        raise RuntimeError(f"the profile asks for device {wanted!r}, but the one at hand is "
                           f"{accelerator.device.type!r}; set profiles.<name>.device to 'auto'")

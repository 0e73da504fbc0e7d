"""The training loop: any network, one recipe, resumable to the bit."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from ghostlib.files import save_weights
from ghostlib.machine import refuse_several_processes
from ghostlib.training import checkpoint
from ghostlib.training.build import build_mixup, build_optimizer, build_scheduler
from ghostlib.training.datasets import Splits
from ghostlib.training.distill import Teacher, total_loss
from ghostlib.training.ema import WeightAverages
from ghostlib.training.evaluate import deployed, evaluate
from ghostlib.training.profile import Profile
from ghostlib.training.progress import NonFiniteLoss, Progress
from ghostlib.training.randomness import seed_of
from ghostlib.training.recipe import Recipe, scaled_decay
from ghostlib.training.views import eval_loader, train_loader

RAW = "raw"  # the name of the weights themselves among the averages


class Run(Protocol):
    """What is trained: a recipe at a profile's scale with a seed.

    Attributes:
        recipe: what to train with.
        profile: image size, device and precision.
        seed: of the order, the views and dropout. (The initial weights are the network's.)
        splits: what to train, choose and report on.
        key: names all of it; a state of another run is refused.
    """

    recipe: Recipe
    profile: Profile
    seed: int
    splits: Splits
    key: str


def train(network: nn.Module, run: Run, folder: Path, teacher: Teacher | None = None,
          report: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
    """Trains the network in place and leaves its weights in the folder.

    Killed at any moment and called again, it goes on from the last whole epoch and ends in the same weights, averages
    and metrics, to the bit on a CPU with as many threads: all randomness is addressed by (seed, epoch, sample) or
    (seed, step), and model, averages, optimiser and the epoch's number are saved.

    Args:
        network: in its training form, freshly initialised.
        run: what to train it with.
        folder: gets states/ while training, then weights.safetensors (training form) and ema.safetensors (the same,
            averaged with the recipe's `ema_decay`).
        teacher: answers for `alpha` of the loss.
        report: called after every step on a CPU, every few steps on an accelerator.

    Returns:
        `test` and `val`, each metric -> weights ("raw" or an EMA decay) -> value in %, `steps`, and `history`, one
        record an epoch.

    Raises:
        NonFiniteLoss: names the run, the step and what may help.
        CheckpointError: the folder holds another run's state.
        SeveralProcesses: it was started by torchrun or the like.
    """
    refuse_several_processes()
    recipe, profile, states = run.recipe, run.profile, folder / "states"
    accelerator = Accelerator(cpu=profile.device == "cpu", mixed_precision=profile.precision)
    _check_device(accelerator, profile.device)
    loader, order = train_loader(run.splits.train, recipe, profile, run.seed)
    network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(recipe, network)
    mixup = build_mixup(recipe, profile.num_classes)
    if teacher is not None:
        teacher.to(accelerator.device, memory_format=torch.channels_last)
    model, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    steps = recipe.epochs * len(loader)
    scheduler = build_scheduler(recipe, optimizer.optimizer, steps)
    averages = WeightAverages(network, [scaled_decay(decay, steps) for decay in recipe.ema_decays])

    finished, history = 0, []
    if state := checkpoint.load_newest(states, run.key, accelerator.device):
        finished, history = state["epoch"], state["history"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        averages.averages.copy_(state["averages"])

    for epoch in range(finished, recipe.epochs):
        order.epoch = epoch
        model.train()
        meter = _Meter(run, steps, report, every=1 if accelerator.device.type == "cpu" else 50)
        for step, (views, labels) in enumerate(loader, start=epoch * len(loader)):
            set_seed(seed_of("step", run.seed, step) % 2**32)  # Mixup and dropout draw from the global generators
            views = views.contiguous(memory_format=torch.channels_last)
            scheduler.step_update(step)
            targets = labels
            if mixup is not None:
                views, targets = mixup(views, labels)
            with accelerator.autocast():
                answers = None if teacher is None else teacher(views)
                logits = model(views)
                loss = total_loss(logits, targets, answers, recipe.alpha, recipe.tau, recipe.label_smoothing)
            optimizer.zero_grad()
            accelerator.backward(loss)
            if recipe.max_grad_norm is not None and recipe.optimizer != "lamb":  # LAMB clips by itself
                accelerator.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
            optimizer.step()
            averages.update(network)
            meter.add(step, loss.detach(), logits.detach(), labels)
        history.append({"epoch": epoch + 1, **meter.close()})
        if not all(bool(tensor.isfinite().all()) for tensor in network.parameters()):
            raise NonFiniteLoss(_diverged(run, f"weights are not finite after epoch {epoch + 1}"))
        checkpoint.save(states, run.key, epoch + 1, {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "averages": averages.averages,
            "history": history})

    return {**_finish(network, averages, run, folder, accelerator), "steps": steps, "history": history}


def _finish(network: nn.Module, averages: WeightAverages, run: Run, folder: Path,
            accelerator: Accelerator) -> dict[str, Any]:
    """Saves the final weights and scores them and every average of them, folded."""
    recipe = run.recipe
    save_weights(network, folder / "weights.safetensors")
    distinct = {0.0: (RAW, deployed(network))}  # a decay of 0 averages nothing: it is the weights themselves
    name_of = {RAW: RAW}
    averaged = copy.deepcopy(network)
    for i, decay in enumerate(recipe.ema_decays):
        scaled = averages.decays[i]
        if scaled not in distinct:
            distinct[scaled] = str(decay), deployed(averages.copy_to(averaged, i))
        name_of[str(decay)] = distinct[scaled][0]
        if decay == recipe.ema_decay:
            save_weights(averages.copy_to(averaged, i), folder / "ema.safetensors")
    networks = dict(distinct.values())
    scores = {part: evaluate(networks, eval_loader(getattr(run.splits, part), run.profile), accelerator.device)
              for part in ("val", "test")}
    return {part: {metric: {name: of[scored] for name, scored in name_of.items()} for metric, of in metrics.items()}
            for part, metrics in scores.items()}


def _check_device(accelerator: Accelerator, wanted: str) -> None:
    if wanted not in ("auto", accelerator.device.type):
        raise RuntimeError(f"the profile asks for device {wanted!r}, but the one at hand is "
                           f"{accelerator.device.type!r}; set profiles.<name>.device to 'auto'")


def _diverged(run: Run, what: str) -> str:
    recipe = run.recipe
    return (f"run {run.key} diverged: {what}. It trains {recipe.network} with {recipe.optimizer}, lr = {recipe.lr:g}, "
            f"lr_scale = {recipe.lr_scale:g} and seed {run.seed}; a lower lr or a longer warmup may help")


class _Meter:
    """Loss, accuracy and speed of an epoch; it reads values only now and then, since that waits for the device."""

    def __init__(self, run: Run, steps: int, report: Callable[[Progress], None], every: int):
        self.run, self.steps, self.report, self.every = run, steps, report, every
        self.pending: list[tuple[int, Tensor, Tensor]] = []
        self.losses: list[float] = []
        self.right, self.images, self.start = 0.0, 0, time.perf_counter()

    def add(self, step: int, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Takes in one step's loss (), logits (N, K) and labels (N,)."""
        self.pending.append((step, loss, (logits.argmax(-1) == labels).sum()))
        self.images += len(labels)
        if len(self.pending) >= self.every:
            self._look()

    def close(self) -> dict[str, float]:
        """Mean loss and accuracy (%) of the whole epoch."""
        self._look()
        return {"loss": sum(self.losses) / len(self.losses), "accuracy": 100 * self.right / self.images}

    def _look(self) -> None:
        if not self.pending:
            return
        values = torch.stack([torch.stack([loss.float(), right.float()]) for _, loss, right in self.pending]).tolist()
        for (step, _, _), (loss, right) in zip(self.pending, values, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLoss(_diverged(self.run, f"the loss is {loss} at step {step + 1} of {self.steps}"))
            self.losses.append(loss)
            self.right += right
        last = self.pending[-1][0]
        self.pending = []
        speed = self.images / (time.perf_counter() - self.start)
        self.report(Progress(last + 1, self.steps, self.losses[-1], 100 * self.right / self.images, speed))

"""The training loop: any network, one recipe, resumable to the bit."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ghostlib.files import write_atomic
from ghostlib.models import weights
from ghostlib.models.reparam import reparameterize
from ghostlib.training import checkpoint
from ghostlib.training.datasets import Splits, eval_loader, train_loader
from ghostlib.training.distill import Teacher, total_loss
from ghostlib.training.ema import WeightAverages
from ghostlib.training.profile import Profile
from ghostlib.training.randomness import seed_of
from ghostlib.training.recipe import Recipe, build_mixup, build_optimizer, build_scheduler, scaled_decay

RAW = "raw"  # the name of the weights themselves among the averages


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; nothing was saved after the last whole epoch."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    step: int
    steps: int
    loss: float
    accuracy: float  # share of the views of this epoch that the network got right, %
    images_per_second: float


def train(network: nn.Module, recipe: Recipe, splits: Splits, profile: Profile, seed: int, folder: Path, key: str,
          teacher: Teacher | None = None, report: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
    """Trains the network in place and leaves its weights and metrics in the folder.

    Killed at any moment and called again, it goes on from the last whole epoch and ends in the same weights, averages
    and metrics, to the bit on a CPU with as many threads: all randomness is addressed by (seed, epoch, sample) or
    (seed, step), and model, averages, optimiser and the epoch's number are saved.

    Args:
        network: in its training form, freshly initialised.
        recipe: what to train with.
        splits: what to train, choose and report on.
        profile: image size, device and precision.
        seed: of order, views and dropout. (The initial weights are the network's.)
        folder: gets state-*.pt while training, then weights.safetensors (training form), ema.safetensors (the same,
            averaged with `recipe.ema_decay`) and metrics.json.
        key: names the configuration; a state of another one is refused.
        teacher: answers for `alpha` of the loss.
        report: called after every step on a CPU, every few steps on an accelerator.

    Returns:
        What metrics.json holds: `test` and `val`, each metric -> weights ("raw" or an EMA decay) -> value in %,
        `steps`, and `history`, one record an epoch.

    Raises:
        NonFiniteLoss: names the step and the recipe.
        CheckpointError: the folder holds another configuration's state.
    """
    accelerator = Accelerator(cpu=profile.device == "cpu", mixed_precision=profile.precision)
    _check_device(accelerator, profile.device)
    loader, order = train_loader(splits.train, recipe, profile, seed)
    network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(recipe, network)
    mixup = build_mixup(recipe, splits.num_classes)
    if teacher is not None:
        teacher.to(accelerator.device, memory_format=torch.channels_last)
    model, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    steps = recipe.epochs * len(loader)  # of this process, so after `prepare` has dealt the batches out
    scheduler = build_scheduler(recipe, optimizer.optimizer, steps)
    averages = WeightAverages(network, [scaled_decay(decay, steps) for decay in recipe.ema_decays])

    finished, history = 0, []
    if state := checkpoint.load_newest(folder, key, accelerator.device):
        finished, history = state["epoch"], state["history"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        averages.averages.copy_(state["averages"])

    for epoch in range(finished, recipe.epochs):
        order.epoch = epoch
        model.train()
        meter = _Meter(recipe, steps, report, every=1 if accelerator.device.type == "cpu" else 50)
        for step, (views, labels) in enumerate(loader, start=epoch * len(loader)):
            set_seed(seed_of("step", seed, step) % 2**32)  # Mixup and dropout draw from the global generators
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
            raise NonFiniteLoss(f"weights are not finite after epoch {epoch + 1}; a lower lr may help. Recipe: "
                                f"{recipe.model_dump_json()}")
        if accelerator.is_main_process:
            checkpoint.save(folder, key, epoch + 1, {
                "network": network.state_dict(), "optimizer": optimizer.state_dict(), "averages": averages.averages,
                "history": history})

    metrics = _finish(network, averages, recipe, splits, profile, folder, accelerator)
    metrics |= {"steps": steps, "history": history}
    if accelerator.is_main_process:
        write_atomic(folder / "metrics.json", json.dumps(metrics, indent=1).encode())
        checkpoint.clear(folder)
    return metrics


@torch.no_grad()
def evaluate(networks: Mapping[str, nn.Module], loader: DataLoader,
             device: torch.device) -> dict[str, dict[str, float]]:
    """Scores several networks in one pass over the data.

    Returns:
        metric ("top1", "top5" in %) -> name of the network -> value. With five classes or fewer top5 is 100.
    """
    hits = {name: torch.zeros(2, dtype=torch.long, device=device) for name in networks}
    images = 0
    for network in networks.values():
        network.eval()
    for views, labels in loader:
        views = views.to(device).contiguous(memory_format=torch.channels_last)
        labels = labels.to(device)
        images += len(labels)
        for name, network in networks.items():
            hits[name] += _hits(network(views), labels)
    scores = {name: (100 * hit / images).tolist() for name, hit in hits.items()}
    return {metric: {name: score[i] for name, score in scores.items()} for i, metric in enumerate(("top1", "top5"))}


def deployed(network: nn.Module) -> nn.Module:
    """A folded copy: what is measured is what would be shipped."""
    return reparameterize(copy.deepcopy(network)).eval()


def _finish(network: nn.Module, averages: WeightAverages, recipe: Recipe, splits: Splits, profile: Profile,
            folder: Path, accelerator: Accelerator) -> dict[str, Any]:
    """Saves the final weights and scores them and every average of them, folded."""
    weights.save(network, folder / "weights.safetensors")
    distinct = {0.0: (RAW, deployed(network))}  # a decay of 0 averages nothing: it is the weights themselves
    name_of = {RAW: RAW}
    averaged = copy.deepcopy(network)
    for i, decay in enumerate(recipe.ema_decays):
        scaled = averages.decays[i]
        if scaled not in distinct:
            distinct[scaled] = str(decay), deployed(averages.copy_to(averaged, i))
        name_of[str(decay)] = distinct[scaled][0]
        if decay == recipe.ema_decay:
            weights.save(averages.copy_to(averaged, i), folder / "ema.safetensors")
    networks = dict(distinct.values())
    scores = {part: evaluate(networks, eval_loader(getattr(splits, part), profile), accelerator.device)
              for part in ("val", "test")}
    return {part: {metric: {name: of[scored] for name, scored in name_of.items()} for metric, of in metrics.items()}
            for part, metrics in scores.items()}


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of the labels (N,) are the first, and among the first five, of the logits (N, K); (2,)."""
    ranked = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels[:, None]
    return torch.stack([ranked[:, 0].sum(), ranked.sum()])


def _check_device(accelerator: Accelerator, wanted: str) -> None:
    if wanted not in ("auto", accelerator.device.type):
        raise RuntimeError(f"the profile asks for device {wanted!r}, but the one at hand is "
                           f"{accelerator.device.type!r}; set profiles.<name>.device to 'auto'")


class _Meter:
    """Loss, accuracy and speed of an epoch; it reads values only now and then, since that waits for the device."""

    def __init__(self, recipe: Recipe, steps: int, report: Callable[[Progress], None], every: int):
        self.recipe, self.steps, self.report, self.every = recipe, steps, report, every
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
                raise NonFiniteLoss(f"the loss is {loss} at step {step + 1} of {self.steps}; a lower lr may help. "
                                    f"Recipe: {self.recipe.model_dump_json()}")
            self.losses.append(loss)
            self.right += right
        last = self.pending[-1][0]
        self.pending = []
        speed = self.images / (time.perf_counter() - self.start)
        self.report(Progress(last + 1, self.steps, self.losses[-1], 100 * self.right / self.images, speed))

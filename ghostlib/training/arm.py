"""One network in training: its optimiser, schedule and averages, its states, and its part of each step."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from ghostlib.files import save_weights
from ghostlib.machine import world_size
from ghostlib.training import checkpoint, processes
from ghostlib.training.build import build_optimizer, build_scheduler
from ghostlib.training.datasets import Splits
from ghostlib.training.distill import Teacher, total_loss
from ghostlib.training.ema import WeightAverages
from ghostlib.training.evaluate import Hits, deployed
from ghostlib.training.meter import Meter
from ghostlib.training.profile import Profile
from ghostlib.training.progress import NonFiniteLoss, Progress
from ghostlib.training.randomness import seed_of
from ghostlib.training.recipe import Recipe, scaled_decay
from ghostlib.training.split import Split

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


class Arm:
    """A run in training, alone or beside others on the same batches; the loop calls it in the order of its methods.

    Args:
        network: in its training form, freshly initialised. It is trained in place, and the weights to keep are those in
            the folder: in the end the network holds one of the averages.
        run: what to train it with.
        folder: gets states/ while training, then weights.safetensors (training form) and ema.safetensors (the same,
            averaged with the recipe's `ema_decay`).
        teacher: answers for `alpha` of the loss; arms with the same one share its answers.
        report: called after every step on a CPU, every few steps on an accelerator.
    """

    def __init__(self, network: nn.Module, run: Run, folder: Path, teacher: Teacher | None = None,
                 report: Callable[[Progress], None] = lambda progress: None):
        self.network, self.run, self.folder, self.teacher, self.report = network, run, folder, teacher, report
        self.error: Exception | None = None  # what stopped it
        self.done, self.history = 0, []  # steps that are behind it, and a record of each whole epoch
        self.split = Split(run.recipe.batch_size)  # how a batch is split, where the loop does not say otherwise
        self.resumed: dict[str, float] | None = None  # the meter of an epoch that a state was saved within
        self.hits: dict[str, Hits] = {}  # by the part of the images, while they are scored

    def attempt(self, act: Callable[..., None], *arguments: Any) -> None:
        """Calls one of its methods; where that raises, the arm has stopped: the others go on, it does nothing more."""
        try:
            if self.error is None:
                act(*arguments)
        except Exception as error:
            if world_size() > 1 and not isinstance(error, NonFiniteLoss):
                raise  # the other processes do not know of it, and wait
            self.error = error
            traceback.clear_frames(error.__traceback__)  # they hold the step's activations, and other arms go on

    @property
    def ended(self) -> bool:
        """Whether all its epochs are behind it, or an error."""
        return self.error is not None or self.done == self.steps

    def begin(self, accelerator: Accelerator, epoch_steps: int) -> None:
        """Builds what trains the network, and goes on from the newest state.

        Raises:
            CheckpointError: the folder holds another run's state, or other processes find another one there.
        """
        recipe, self.accelerator = self.run.recipe, accelerator
        self.epoch_steps, self.steps = epoch_steps, recipe.epochs * epoch_steps
        self.network = processes.with_shared_statistics(self.network, self.run.profile)
        self.network.to(memory_format=torch.channels_last)
        model = torch.compile(self.network) if self.run.profile.compile else self.network
        # Of a kernel of 1 × 1 the two layouts are one, but for the strides that are written down.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
        with warnings.catch_warnings():  # the name that PyTorch gives it from now on, Accelerate does not know yet
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            self.model, self.optimizer = accelerator.prepare(model, build_optimizer(recipe, self.network))
        if self.teacher is not None:
            self.teacher.to(accelerator.device, memory_format=torch.channels_last)
        self.scheduler = build_scheduler(recipe, self.optimizer.optimizer, self.steps)
        self.scaled = {decay: scaled_decay(decay, self.steps) for decay in recipe.ema_decays}
        # A decay of 0 averages nothing: it is the weights themselves.
        self.averages = WeightAverages(self.network, sorted(set(self.scaled.values()) - {0.0}))
        if state := checkpoint.load_newest(self.folder / "states", self.run.key, accelerator.device):
            self.done, self.history, self.resumed = state["step"], state["history"], state["meter"]
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.averages.averages.copy_(state["averages"])
            if accelerator.scaler is not None:
                accelerator.scaler.load_state_dict(state["scaler"])
        processes.check_alike(self.done, f"{self.folder / 'states'}: steps done")
        self.saved = time.monotonic()

    def try_pass(self, images: int) -> None:
        """Takes the memory of a pass of so many images, and leaves everything as it was."""
        run, device = self.run, self.accelerator.device
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        views = torch.zeros(images, 3, run.profile.image_size, run.profile.image_size, device=device)
        views = views.contiguous(memory_format=torch.channels_last)
        try:
            self.network.train()
            with self.accelerator.autocast():
                answers = None if self.teacher is None else self.teacher(views)
                loss = total_loss(self.network(views), torch.zeros(images, dtype=torch.long, device=device), answers,
                                  run.recipe.alpha, run.recipe.tau, run.recipe.label_smoothing)
            loss.backward()
        finally:
            self.network.zero_grad()
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    buffer.copy_(before[name])

    def begin_steps(self) -> None:
        """Makes ready for steps, the first of an epoch or those after a state within one."""
        self.model.train()
        if self.done % self.epoch_steps == 0 or self.resumed:
            passes = 1 if self.accelerator.device.type == "cpu" else 50 * self.split.passes
            self.meter = Meter(self.steps, self.report, passes, processes.mean(self.accelerator), self.split.processes)
        if self.resumed:
            self.meter.resume(self.resumed)
            self.resumed = None

    def step(self, number: int, slot: int, views: Tensor, targets: Tensor, labels: Tensor,
             answers: dict[Teacher, Tensor]) -> None:
        """One pass of an update, with its last pass the update.

        Args:
            number: of the step, from 0, over the whole training.
            slot: of the batch, that the views are; see `split.Split`.
            views: (N, 3, H, W), mixed where the recipe mixes.
            targets: classes (N,) or, of mixed views, probabilities (N, K).
            labels: classes (N,).
            answers: what teachers have said of these views; the first arm that wants one asks it.

        Raises:
            NonFiniteLoss: names the run, the step and what may help.
        """
        recipe, accelerator = self.run.recipe, self.accelerator
        last = slot == self.split.slots[-1]
        set_seed(step_seed(self.run, number, slot))  # dropout draws from the global generators
        self.scheduler.step_update(number)
        # The forward pass is within, too: it is there that DDP decides whether to share gradients.
        with nullcontext() if last else accelerator.no_sync(self.model):
            with accelerator.autocast():
                if self.teacher is not None and self.teacher not in answers:
                    answers[self.teacher] = self.teacher(views)
                logits = self.model(views)
                loss = total_loss(logits, targets, answers.get(self.teacher), recipe.alpha, recipe.tau,
                                  recipe.label_smoothing)
            accelerator.backward(loss / self.split.passes)
        if last:
            self._update()
        with _named(self.run):
            self.meter.add(number, loss.detach(), logits.detach(), labels)
        if last:
            self.done = number + 1
            within = self.done % self.epoch_steps and not self.meter.pending
            old = time.monotonic() - self.saved >= checkpoint.SECONDS_WITHIN
            if within and old and self.averages.finite():  # else the end of the epoch says so
                self._save(self.meter.state())

    def _update(self) -> None:
        recipe, accelerator = self.run.recipe, self.accelerator
        if recipe.max_grad_norm is not None and recipe.optimizer != "lamb":  # LAMB clips by itself
            accelerator.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()  # not before the next step: meanwhile other arms need the memory
        processes.share_statistics(self.network, accelerator)
        self.averages.update()

    def close_epoch(self) -> None:
        """Records how the epoch's training went.

        Raises:
            NonFiniteLoss: a loss, a weight or a statistic is NaN or infinite.
        """
        with _named(self.run):
            self.record = {"epoch": self.done // self.epoch_steps, **self.meter.close()}
            if not self.averages.finite():
                raise NonFiniteLoss(f"weights are not finite after epoch {self.record['epoch']}")

    def begin_validation(self) -> None:
        """Makes ready for the weights as they are to be scored on the validation images."""
        self.hits = {"val": Hits({RAW: self.network.eval()}, self.accelerator.device)}

    def end_epoch(self) -> None:
        """Keeps the record, with how the validation went if there was one, and saves a state if the last one is old."""
        if self.hits:
            scores = self.hits.pop("val").scores()
            self.record |= {"val_top1": scores["top1"][RAW], "val_loss": scores["loss"][RAW]}
            self.report(replace(self.meter.progress, val_top1=self.record["val_top1"]))
        self.history.append(self.record)
        if time.monotonic() - self.saved >= checkpoint.SECONDS_BETWEEN:
            self._save(meter=None)

    def _save(self, meter: dict[str, float] | None) -> None:
        """A state; with the meter of the epoch that is under way, if one is."""
        self.saved = time.monotonic()
        if self.accelerator.is_main_process:  # the others have the same
            scaler = self.accelerator.scaler
            checkpoint.save(self.folder / "states", self.run.key, self.done, {
                "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "averages": self.averages.averages, "history": self.history, "meter": meter,
                "scaler": scaler and scaler.state_dict()})

    def deploy(self) -> None:
        """Saves the final weights; folds them, and every average of them that is another, to be scored."""
        self._write("weights.safetensors")
        self.networks = {0.0: deployed(self.network)}  # by the decay
        reported = self.scaled[self.run.recipe.ema_decay]
        if reported == 0:
            self._write("ema.safetensors")
        for index, decay in enumerate(self.averages.decays):
            self.networks[decay] = deployed(self.averages.copy_to(self.network, index))
            if decay == reported:
                self._write("ema.safetensors")
        self.hits = {part: Hits(self.networks, self.accelerator.device) for part in ("val", "test")}

    def _write(self, name: str) -> None:
        if self.accelerator.is_main_process:
            save_weights(self.network, self.folder / name)

    def score(self, part: str, views: Tensor, labels: Tensor) -> None:
        """Takes in a batch of the images of "val" or "test"."""
        with self.accelerator.autocast():
            self.hits[part].add(views, labels)

    def gather(self) -> None:
        """Adds up what the processes have scored, each of its part of the images."""
        for hits in self.hits.values():
            hits.gather(self.accelerator)

    def metrics(self) -> dict[str, Any]:
        """What `loop.train` returns, once all is scored."""
        names = {RAW: 0.0} | {str(decay): scaled for decay, scaled in self.scaled.items()}
        scores = {part: {metric: {name: of[decay] for name, decay in names.items()}
                         for metric, of in hits.scores().items()} for part, hits in self.hits.items()}
        correct = self.hits["test"].correct()
        return {**scores, "correct": {name: correct[decay] for name, decay in names.items()},
                "steps": self.steps, "history": self.history}


def step_seed(run: Run, number: int, slot: int = 0) -> int:
    """The seed of all that is drawn in a step for a slot of its batch, but the views."""
    return seed_of("step", run.seed, number, *([slot] if slot else [])) % 2**32


@contextmanager
def _named(run: Run) -> Iterator[None]:
    """Adds to a loss or a weight that is not finite which run it was, and what may help."""
    try:
        yield
    except NonFiniteLoss as error:
        recipe = run.recipe
        raise NonFiniteLoss(
            f"run {run.key} diverged: {error}. It trains {recipe.network} with {recipe.optimizer}, lr = {recipe.lr:g}, "
            f"lr_scale = {recipe.lr_scale:g} and seed {run.seed}; a lower lr or a longer warmup may help") from None

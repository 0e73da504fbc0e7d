"""The training loop: networks and their recipes, one or several on the same batches, resumable to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed
from timm.data import Mixup
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ghostlib.training import batches
from ghostlib.training.arm import Arm, Run, step_seed
from ghostlib.training.build import build_mixup
from ghostlib.training.distill import Teacher
from ghostlib.training.progress import Progress
from ghostlib.training.split import Split, largest_pass
from ghostlib.training.views import Batches, eval_loader, on_device, train_loader

# A CPU that runs out of memory is told by being killed; so many images of 224 px take a few GiB.
CPU_PASS = 64


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
        ValueError: the batch cannot be split evenly over the processes.
    """
    [(_, outcome)] = train_together([Arm(network, run, folder, teacher, report)])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def train_together(arms: Sequence[Arm]) -> Iterator[tuple[Arm, dict[str, Any] | Exception]]:
    """Trains arms that see the same batches: views are made and mixed once, and a teacher that they share answers once.

    Killed at any moment and called again, with whatever companions, an arm goes on from its newest state and ends in
    the same weights, averages and metrics, to the bit on a CPU with as many threads: all randomness is addressed by
    (seed, epoch, sample) or (seed, step), and model, averages, optimiser and the step's number are saved. The arms'
    steps may differ, those behind them and those before them: one that is ahead waits until the others are there.

    Started in several processes, by torchrun or `accelerate launch`, these share every batch: each takes its part, in
    as many passes as its device's memory wants. They have the same weights, averages and running statistics after every
    step, report the mean over all, and score a part of the images each; the first one writes.

    Yields:
        Each arm when it is finished, with its metrics (see `train`), or with what stopped it. One that stops does not
        stop the others.

    Raises:
        ValueError: the arms differ in their data, seed, profile or batches, or a batch cannot be split evenly.
        DataError: there are fewer images than a batch holds, or one cannot be read.
    """
    run = arms[0].run
    if run.profile.precision == "fp16" and len(arms) > 1:
        raise ValueError("fp16 scales the gradients of one arm; train arms together in bf16 or float32")
    if any(arm.run.splits.digest != run.splits.digest or arm.run.profile != run.profile or arm.run.seed != run.seed
           or batches.decided_by(arm.run.recipe) != batches.decided_by(run.recipe) for arm in arms):
        raise ValueError("arms that differ in their data, profile, seed or batches cannot be trained together")
    accelerator = Accelerator(  # running statistics are averaged by hand, see `processes`
        cpu=run.profile.device == "cpu", mixed_precision=run.profile.precision,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    _check_device(accelerator, run.profile.device)
    split = Split(run.recipe.batch_size, 1, accelerator.process_index, accelerator.num_processes)
    for arm in arms:
        arm.attempt(arm.begin, accelerator, len(run.splits.train) // split.batch)
    split = _in_passes(split, [arm for arm in arms if arm.error is None], accelerator)
    loader, order = train_loader(run.splits.train, run.recipe, run.profile, run.seed, split)
    mixup = build_mixup(run.recipe, run.profile.num_classes)
    for arm in arms:
        arm.split = split
    training = list(arms)
    while training:
        if ended := [arm for arm in training if arm.ended]:
            for arm in ended:
                arm.attempt(arm.deploy)
            _score(ended, ["val", "test"])
            yield from ((arm, arm.error or arm.metrics()) for arm in ended)
            training = [arm for arm in training if arm not in ended]
        else:
            first = min(arm.done for arm in training)
            order.epoch, order.begin = divmod(first, order.steps)
            behind, ahead = ([arm for arm in training if (arm.done == first) == there] for there in (True, False))
            order.end = min([order.steps, *(arm.done - order.epoch * order.steps for arm in ahead)])
            _train_steps(behind, loader, order, mixup)


def _in_passes(split: Split, arms: list[Arm], accelerator: Accelerator) -> Split:
    """The split with as few passes as the profile allows and, on a GPU, every process's memory."""
    def attempt(images: int) -> None:
        for arm in arms if accelerator.device.type == "cuda" else ():
            arm.try_pass(images)

    most = arms[0].run.profile.pass_images if arms else None
    if most is None and accelerator.device.type == "cpu":
        most = CPU_PASS
    recipe, profile = (arms[0].run.recipe, arms[0].run.profile) if arms else (None, None)
    if most is None and split.processes > 1 and profile and profile.sync_batchnorm:
        raise ValueError("with sync_batchnorm no process can try by itself how many images its memory holds: set "
                         f"pass_images, a divisor of a process's {split.size} images of a batch")
    if split.processes > 1 and profile and profile.sync_batchnorm:
        arms = []  # as many as are said, untried: a process that alone had no memory would leave the others waiting
    size = largest_pass(split.size, most, attempt, bool(recipe and (recipe.mixup or recipe.cutmix)))
    return replace(split, passes=split.size // min(gather_object([size])))


def _train_steps(arms: list[Arm], loader: DataLoader, order: Batches, mixup: Mixup | None) -> None:
    """The steps of an epoch that the order says; these arms are all at the first of them."""
    passes, first = order.split.passes, order.epoch * order.steps + order.begin
    for arm in arms:
        arm.attempt(arm.begin_steps)
    for number, batch in enumerate(loader):
        step, slot = first + number // passes, order.split.slots[number % passes]
        views, labels = on_device(batch, arms[0].accelerator.device)
        targets = labels
        if mixup is not None:
            set_seed(step_seed(arms[0].run, step, slot))  # Mixup draws from the global generators
            views, targets = mixup(views, labels)
        answers: dict[Teacher, Tensor] = {}
        for arm in arms:
            arm.attempt(arm.step, step, slot, views, targets, labels, answers)
        if all(arm.error for arm in arms):
            break
    if order.end == order.steps:
        for arm in arms:
            arm.attempt(arm.close_epoch)
        every = arms[0].run.profile.validate_epochs
        if every and (order.epoch + 1) % every == 0:
            for arm in arms:
                arm.attempt(arm.begin_validation)
            _score(arms, ["val"])
        for arm in arms:
            arm.attempt(arm.end_epoch)


def _score(arms: list[Arm], parts: Sequence[str]) -> None:
    """Scores what the arms want scored, those that no error ended, in one pass over the images of each part."""
    if all(arm.error for arm in arms):
        return
    run, accelerator = arms[0].run, arms[0].accelerator
    for part in parts:
        # Without gradients a pass takes less memory than in training; how much less, depends on the network.
        for batch in eval_loader(getattr(run.splits, part), run.profile, min(256, 8 * arms[0].split.size),
                                 accelerator.process_index, accelerator.num_processes):
            views, labels = on_device(batch, accelerator.device)
            for arm in arms:
                arm.attempt(arm.score, part, views, labels)
    for arm in arms:
        arm.attempt(arm.gather)


def _check_device(accelerator: Accelerator, wanted: str) -> None:
    if wanted not in ("auto", accelerator.device.type):
        raise RuntimeError(f"the profile asks for device {wanted!r}, but the one at hand is "
                           f"{accelerator.device.type!r}; set profiles.<name>.device to 'auto'")

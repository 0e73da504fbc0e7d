"""A few steps of each kind of training, timed on this device as the loop does them, on noise where images are absent.

Each function is a task for a child process: it sets the number of threads and says nothing.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.detection.run import COCO_IMAGES, COCO_REPEATS, DetectorRun
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor

    from ghostlib.runs.classifier import ClassifierRun
    from ghostlib.training.images import Images

CALLS = 15  # timed after one that is not; their median counts. With three it was off by half, early in a process
ENOUGH = 4.0  # seconds: after that no more calls are timed
# On a CPU a pass of more pixels than four images of ImageNet's takes seconds: fewer are timed, and scaled up.
CPU_PIXELS = 4 * 224**2
CPU_PASS = 64  # images; the loop's own limit where a profile names none
# Steps of a detector: with worker processes the first come from their queue, so more go by, and the mean counts.
DETECTOR_STEPS = {"cpu": (1, 3), "other": (10, 20)}
# What detectors are timed on where they train on COCO; its images are of about this size.
COCO_LIKE = {"train": 48, "val": 8, "side": 480, "sizes": (48, 320)}


@dataclass(frozen=True)
class Took:
    """What was timed of a training, or of a part that several share.

    Attributes:
        begin: seconds before the first step.
        step: seconds of a step of the whole batch; of views and of a teacher's answers, of an image.
        validate: seconds of an image of validation, with the branches.
        score: seconds of an image at the end, folded, for each average that is scored; of a detector, which is not
            timed at that, a third of an image's share of a step.
        end: seconds after the last step, without scoring.
        steps: of the whole training; known here of a detector alone.
        values: weights and statistics.
        memory: the most bytes that were in use on a GPU; None on other devices.
    """

    begin: float = 0.0
    step: float = 0.0
    validate: float = 0.0
    score: float = 0.0
    end: float = 0.0
    steps: int = 0
    values: int = 0
    memory: int | None = None


@dataclass(frozen=True)
class _Run:
    """What `Arm` wants to know of a run, without its images."""

    recipe: Recipe
    profile: Profile
    seed: int = 0
    splits: Any = None
    key: str = "timed"


def arm(run: ClassifierRun, epoch_steps: int) -> Took:
    """A network's part of a training: forward, loss, backward, update and averages; scoring; folding and writing."""
    import torch

    from ghostlib.training.replay import arm_of
    from ghostlib.training.split import Split

    profile, recipe = run.profile, run.recipe
    with _quiet(profile), tempfile.TemporaryDirectory() as folder:
        began, accelerator = time.perf_counter(), _accelerator(profile)
        arm = arm_of(profile)(run.network(), _Run(recipe, profile), Path(folder))
        arm.begin(accelerator, epoch_steps)
        began = time.perf_counter() - began
        values = sum(tensor.numel() for tensor in arm.network.state_dict().values())
        images = _images_of_a_pass(recipe.batch_size, profile, arm.try_pass)
        arm.split = Split(images)
        arm.begin_steps()
        views, labels = _noise(images, profile, accelerator.device)
        steps = iter(range(CALLS + 1))
        with _measured_memory(accelerator.device) as memory:
            step = _median(lambda: arm.step(next(steps), 0, views, labels, labels, {}), accelerator.device)
        arm.begin_validation()
        with torch.no_grad():
            validate = _median(lambda: arm.score("val", views, labels), accelerator.device)
            end = _median(arm.deploy, accelerator.device, calls=1, warm=False)
            score = _median(lambda: arm.score("val", views, labels), accelerator.device, calls=1)
        return Took(began, step * recipe.batch_size / images, validate / images,
                    score / images / len(arm.networks), end, values=values, memory=memory())


def teacher(run: ClassifierRun) -> Took:
    """A teacher's answers, an image; its weights are random."""
    import timm
    import torch

    from ghostlib.models.reparam import reparameterize
    from ghostlib.training.distill import stand_in

    with _quiet(run.profile):
        accelerator = _accelerator(run.profile)
        device = accelerator.device
        network = (reparameterize(run.teacher_run.network()).eval() if run.teacher_run
                   else timm.create_model(run.profile.teachers[run.recipe.teacher].timm))
        with _measured_memory(device) as memory, accelerator.autocast():
            answers = stand_in(network).to(device, memory_format=torch.channels_last)
            images = _images_of_a_pass(run.recipe.batch_size, run.profile,
                                       lambda images: answers(_noise(images, run.profile, device)[0]))
            seen, _ = _noise(images, run.profile, device)
            taken = _median(lambda: answers(seen), device)
        return Took(step=taken / images, memory=memory())


def views(run: ClassifierRun, images: Images | None) -> Took:
    """An image's augmented view, made by one process.

    Args:
        run: whose augmentation.
        images: of the profile; None for two photographs, or noise where the profile's are small.
    """
    from ghostlib.training.views import on_device, train_loader

    with _quiet(run.profile):
        number = min(run.recipe.batch_size, CPU_PASS)
        images = images or _some_images(run.profile.data, number)
        recipe = run.recipe.model_copy(update={"batch_size": min(number, len(images))})
        loader, _ = train_loader(images, recipe, run.profile.model_copy(update={"workers": 0}), run.seed)
        device = _accelerator(run.profile).device
        taken = _median(lambda: on_device(next(iter(loader)), device), device)
        return Took(step=taken / recipe.batch_size)


def detector(job: DetectorRun) -> Took:
    """A detector's training by its own loop, ended after a few steps; on scenes of digits, whatever it trains on."""
    from ghostlib.detection import scenes
    from ghostlib.detection.layout import Layout

    kept, profile = [], job.profile
    skipped, steps = DETECTOR_STEPS["cpu" if profile.device_type == "cpu" else "other"]

    def report(progress: Any) -> None:
        kept.append(time.perf_counter())
        if len(kept) > skipped + steps:
            raise _Enough

    with _quiet(profile), tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        from mmdet.registry import MODELS

        from ghostlib.detection import configure, loop

        imported, layout = time.perf_counter() - began, job.scale.scenes or Layout(**COCO_LIKE)
        drawn = scenes.write(_digits(profile), layout.model_copy(update={"val": 1}), Path(folder, "scenes"))
        config = configure.configure(job.file, job.scale, job.arch, profile.width_scale, drawn)
        values = sum(tensor.numel() for tensor in MODELS.build(config.model).state_dict().values())
        batch, began = config.train_dataloader.batch_size, time.perf_counter()
        with _measured_memory(_accelerator(profile).device) as memory:
            try:
                loop.train(config, "timed", job.seed, profile.device_type, Path(folder, "run"), report)
            except _Enough:
                pass
        times = [later - earlier for earlier, later in zip(kept[skipped:], kept[skipped + 1:], strict=False)]
        times = times or [(kept[-1] - began) / len(kept)]  # a training of fewer steps
        step = statistics.median(times) if profile.device_type == "cpu" else statistics.fmean(times)
        images = job.scale.scenes.train if job.scale.scenes else COCO_IMAGES * COCO_REPEATS
        steps = config.train_cfg.max_epochs * math.ceil(images / batch)
        return Took(imported + kept[0] - began, step, score=step / batch / 3, steps=steps, values=values,
                    memory=memory())


class _Enough(Exception):
    """Ends a training that is timed."""


@contextmanager
def _quiet(profile: Profile) -> Iterator[None]:
    import torch

    torch.set_num_threads(profile.threads)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


@contextmanager
def _measured_memory(device: torch.device) -> Iterator[Callable[[], int | None]]:
    """Gives what tells the most bytes in use since its beginning, on a GPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield lambda: torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _median(act: Callable[[], Any], device: torch.device, calls: int = CALLS, warm: bool = True) -> float:
    """Seconds of a call."""
    import torch

    taken = []
    for _ in range(calls + warm):
        start = time.perf_counter()
        act()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        taken.append(time.perf_counter() - start)
        if len(taken) > warm and sum(taken) > ENOUGH:
            break
    return statistics.median(taken[warm:])


def _accelerator(profile: Profile) -> Accelerator:
    """As the loop has it."""
    from accelerate import Accelerator

    return Accelerator(cpu=profile.device == "cpu", mixed_precision=profile.precision)


def _images_of_a_pass(batch: int, profile: Profile, attempt: Callable[[int], None]) -> int:
    """How many are timed at a time: on a GPU what the loop would find to fit, on a CPU few where they are large."""
    from ghostlib.training.split import largest_pass

    if profile.device_type == "cuda":
        return largest_pass(batch, profile.pass_images, attempt)
    if profile.device_type != "cpu":
        return largest_pass(batch, profile.pass_images)
    return min(batch, profile.pass_images or CPU_PASS, max(2, CPU_PIXELS // profile.image_size**2))


def _noise(images: int, profile: Profile, device: torch.device) -> tuple[Tensor, Tensor]:
    """Views (N, 3, H, W), channels last, and labels (N,)."""
    import torch

    views = torch.randn(images, 3, profile.image_size, profile.image_size, device=device)
    return (views.contiguous(memory_format=torch.channels_last),
            torch.randint(profile.num_classes, (images,), device=device))


def _some_images(data: str, number: int) -> Images:
    """In place of a data set that is not read: two photographs for ImageNet's, noise of 32 px for a small one's."""
    import numpy as np

    from ghostlib.training.images import Images, array_images, read_image

    labels = np.zeros(number, np.int64)
    if data != "imagenet":
        return array_images(np.random.default_rng(0).integers(0, 256, (number, 32, 32, 3), np.uint8), labels)
    folder = resources.files("sklearn.datasets") / "images"  # 640 × 427 px, JPEG
    return Images(labels, lambda i: read_image(folder / ("china.jpg", "flower.jpg")[i % 2]), "photographs")


def _digits(profile: Profile) -> Profile:
    """A profile of the digits, which are always there, to draw scenes of."""
    return Profile.parse(dict(name="digits", scale="timed", data="digits", num_classes=10, image_size=33,
                              val_images=140, device=profile.device))

"""What is going to be trained: made and shown before anything starts, and compared with what a folder holds already."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from timm.scheduler.scheduler import Scheduler
from torch import nn

import ghostlib
from ghostlib.config import ConfigError
from ghostlib.files import write_atomic
from ghostlib.machine import device_name, world_size
from ghostlib.own.data import Data
from ghostlib.own.network import Source, millions, sites
from ghostlib.own.normalisation import IMAGENET, Normalisation, of_weights
from ghostlib.own.settings import Settings
from ghostlib.training import loop
from ghostlib.training.build import build_scheduler
from ghostlib.training.datasets import Splits
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import PAPER_BATCH, scaled_decay
from ghostlib.training.split import largest_pass

FILE = "plan.json"
_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Plan:
    """One training; it is a `training.arm.Run`.

    Attributes:
        source: of the network.
        recipe: the settings, a recipe with more keys.
        data: what it trains and is scored on.
        place: where that lies.
        device: "cpu", "cuda" or "mps".
        teacher: what identifies the teacher's weights; None without one.
        folder: gets what is made.
    """

    source: Source
    recipe: Settings
    data: Data
    place: Path
    device: str
    teacher: str | None
    folder: Path

    @property
    def splits(self) -> Splits:
        return self.data.splits

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @cached_property
    def profile(self) -> Profile:
        """The scale as the loop takes it. (Its least image size is GhostNetV2's, which other networks go below.)"""
        recipe, workers = self.recipe, self.recipe.workers
        if workers is None:
            workers = 0 if self.device == "cpu" else min(8, os.cpu_count() or 1)
        return Profile.parse(dict(
            name="own", scale=str(self.place), data="folder", data_dir=str(self.place), num_classes=len(self.classes),
            image_size=224, val_images=len(self.splits.val), crop_pct=recipe.crop_pct, workers=workers,
            threads=torch.get_num_threads(), device=self.device, precision=recipe.precision,
            validate_epochs=recipe.validate_epochs, pass_images=recipe.pass_images,
            sync_batchnorm=recipe.sync_batchnorm, compile=recipe.compile,
        )).model_copy(update={"image_size": recipe.image_size})

    @property
    def classes(self) -> list[str]:
        return self.data.classes

    @cached_property
    def normalisation(self) -> Normalisation:
        """Of the images that the network takes; its views have ImageNet's, see `normalisation.convert`."""
        return of_weights(self.source, self.recipe.pretrained)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.recipe.epochs * (len(self.splits.train) // self.recipe.batch_size)

    @cached_property
    def decides(self) -> dict[str, Any]:
        """All that decides the result, but the code, the libraries and the device; of one's own network its module."""
        of_function = {"the network's module": self.source.code} if self.source.kind == "function" else {}
        other = {} if self.normalisation == IMAGENET else {"images normalised with": self.normalisation}
        return {**of_function, **other, "ghostlib": ghostlib.__version__, "data": self.splits.digest,
                "classes": self.classes, "teacher's weights": self.teacher,
                # Of a teacher its weights count, and not where they lie.
                **self.recipe.model_dump(mode="json", exclude={"workers", "teacher"})}

    @property
    def key(self) -> str:
        """16 hexadecimal digits of what decides the result."""
        return hashlib.sha256(json.dumps(self.decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def averaged_share(self) -> float:
        """What is left of an average after each step; 0 where the last weights are all that counts."""
        return scaled_decay(self.recipe.ema_decay, self.steps)

    def scheduler(self) -> Scheduler:
        """The training's schedule of an optimiser by itself, to ask it for rates."""
        nothing = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=self.recipe.effective_lr)
        return build_scheduler(self.recipe, nothing, self.steps)

    def check_folder(self) -> None:
        """Sees that nothing else is trained in the folder.

        Raises:
            ConfigError: something is; the message says in what it differs.
        """
        file = self.folder / FILE
        if file.exists():
            other, own = json.loads(file.read_text(encoding="utf-8")), json.loads(json.dumps(self.decides))
            other.pop("teacher", None)  # where it lies, which older files have
            if lines := [f"  {key}: {_short(other.get(key))} there, {_short(own.get(key))} here"
                         for key in sorted(other.keys() | own.keys()) if other.get(key) != own.get(key)]:
                raise ConfigError("\n".join([f"{self.folder} holds another training:", *lines, "Name another folder "
                                             "with --out, or begin here again with --fresh"]))

    def claim(self) -> None:
        """Writes into the folder what is trained there."""
        write_atomic(self.folder / FILE, json.dumps(self.decides, indent=1))
        # One average is tracked where no others are asked for; named here, it would bind whoever changes the decay.
        tracked = {"ema_decays"} if self.recipe.ema_decays == (self.recipe.ema_decay,) else set()
        settings = yaml.safe_dump(self.recipe.model_dump(mode="json", exclude={"network", *tracked}), sort_keys=False)
        write_atomic(self.folder / "recipe.yaml", f"# What --recipe takes.\n{settings}")

    def rows(self, network: nn.Module, deployed: float, teacher: str | None) -> list[tuple[str, str]]:
        """The plan as a table.

        Args:
            network: in training form.
            deployed: parameters of the network as it is deployed (M).
            teacher: what to call it.
        """
        recipe, splits = self.recipe, self.splits
        options = f", options {recipe.options}" if recipe.options else ""
        branches = (f"; while training {millions(network):.2f} M, {recipe.branches} branches at {sites(network)} "
                    "convolutions" if recipe.branches else "; no branches")
        held = " held out" if self.data.held_out else ""
        tested = f", {len(splits.test)} for the result" if self.data.tested else ""
        others = ", ".join(f"{number} {ending}" for ending, number in sorted(self.data.passed_over.items()))
        passed_over = f"; not read: {others}" * bool(others)
        known = ", ".join(self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
        share = self.averaged_share
        return [
            ("network", f"{self.source}{options}: {deployed:.2f} M parameters{branches}"
                        f"{self._begins_with()}"),
            ("images", f"{self.place}: {len(splits.train)} to train on, {len(splits.val)}{held} for validation"
                       f"{tested}{passed_over}"),
            ("classes", f"{len(self.classes)}: {known}"),
            *([("processes", f"{number}, each with {recipe.batch_size // number} images of a step")]
              if (number := world_size()) > 1 else []),
            ("length", f"{recipe.epochs} epochs of {self.steps // recipe.epochs} steps = {self.steps} steps of "
                       f"{recipe.batch_size} images of {recipe.image_size} px{self._passes()}"),
            ("rate", f"{recipe.optimizer}, {recipe.effective_lr:.2g} = {recipe.lr:g} × √({recipe.batch_size}/"
                     f"{PAPER_BATCH}) × lr_scale {recipe.lr_scale:g}; {recipe.schedule}, warm-up "
                     f"{round(recipe.warmup * self.steps)} steps"),
            ("average", f"EMA {recipe.ema_decay:g} of the paper's length is {share:.4g} of this one"
                        if share else "none: so few steps leave nothing to average; the last weights count"),
            ("teacher", f"{teacher}, α = {recipe.alpha:g}" if teacher else
             "none. The paper's strategy has one: --teacher FOLDER of an earlier `ghostlib train`, or timm's name"),
            ("device", f"{self.device} ({device_name(self.device)}), "
                       f"{_PRECISIONS[recipe.precision]}"),
            ("out", str(self.folder))]

    def _passes(self) -> str:
        """Of how many images batch normalisation sees at once, where they are not all of a process's."""
        size, share = images_of_a_pass(self.recipe, self.device), self.recipe.batch_size // world_size()
        return f", {size} at a time" if size and size < share else ""

    def _begins_with(self) -> str:
        """What is to be known of the function that the training begins with."""
        if not self.recipe.pretrained:
            return "; it begins with the function of the network that was built" * bool(self.recipe.preserve)
        mean, std = self.normalisation
        other = f" on images normalised with mean {mean} and deviation {std}, which it gets"
        return "; pretrained" + other * (self.normalisation != IMAGENET)


def images_of_a_pass(recipe: Settings, device: str) -> int | None:
    """How many images a forward pass of a process takes; None where a GPU's memory decides.

    Raises:
        ValueError: Mixup or CutMix pair images, and no even number divides the batch.
    """
    most = recipe.pass_images or (loop.CPU_PASS if device == "cpu" else None)
    return most and largest_pass(recipe.batch_size // world_size(), most, pairs=bool(recipe.mixup or recipe.cutmix))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."

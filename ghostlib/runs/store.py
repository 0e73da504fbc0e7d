"""The run store: equal runs train once, whoever asks, and an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ghostlib.machine import cpu_name
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe

_LIBRARIES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")
# A stand-in teacher is trained once for a profile, whatever the seed of its student.
TEACHER_SEED = 0
# Which layouts of weight files are read and how many runs go at a time changes nothing that a run computes, so a change
# of it should not train everything again.
_NO_MATTER = ("models/weights.py", "training/grid.py")


def code_digest(package: Path = Path(__file__).parents[1]) -> str:
    """Changes with any source file of the networks or the training that can change a result."""
    digest = hashlib.sha256()
    sources = {path for room in ("models", "training") for path in (package / room).rglob("*.py")}
    for path in sorted(sources - {package / file for file in _NO_MATTER}):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


# Taken when the code is imported: a file saved during a training is not the code that trains.
CODE = code_digest()


@dataclass(frozen=True)
class Run:
    """One training: a resolved recipe at a profile's scale with a seed."""

    recipe: Recipe
    profile: Profile
    seed: int
    code: str = CODE

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of all that decides the result: recipe, profile, seed, data, teacher, code, libraries.

        `ema_decay` is not among them: it only picks one of the averages that every run tracks (Figure 4).
        """
        pretrained = self.recipe.teacher and self.profile.teachers[self.recipe.teacher].timm
        teacher = self.teacher_run.key if self.teacher_run else pretrained
        decides = {
            "recipe": self.recipe.model_dump(mode="json", exclude={"ema_decay"}), "seed": self.seed,
            "profile": self.profile.decides_results, "data": self.data, "teacher": teacher,
            "code": self.code, "libraries": {name: version(name) for name in _LIBRARIES},
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def data(self) -> str:
        """The digest of the data it trains and is tested on."""
        return _splits(self.profile).digest

    @property
    def canonical(self) -> Run:
        """The run that stands for all of its key: the paper's `ema_decay` where it is tracked."""
        default = Recipe.model_fields["ema_decay"].default
        decay = default if default in self.recipe.ema_decays else self.recipe.ema_decays[-1]
        return replace(self, recipe=self.recipe.model_copy(update={"ema_decay": decay}))

    @property
    def teacher_run(self) -> Run | None:
        """The run that trains the teacher, where that is a stand-in."""
        stand_in = self.recipe.teacher and self.profile.teachers[self.recipe.teacher].stand_in
        return replace(stand_in_run(self.profile, self.recipe.teacher), code=self.code) if stand_in else None

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training, in one process."""
        return self.recipe.epochs * (len(_splits(self.profile).train) // self.recipe.batch_size)


def stand_in_run(profile: Profile, teacher: str) -> Run:
    """The training of a profile's stand-in teacher; it answers with the average that `canonical` reports."""
    recipe = profile.resolve(profile.teachers[teacher].stand_in, where=f"teachers.{teacher}.stand_in")
    return Run(recipe, profile, TEACHER_SEED).canonical


class Store:
    """A folder with one sub-folder a run; a run is finished when its metrics.json is there.

    Args:
        root: the folder; by default $GHOSTLIB_RUNS or .runs. No pipeline stage owns it, so nothing deletes it.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = Path(root or os.environ.get("GHOSTLIB_RUNS", ".runs"))

    def folder(self, run: Run) -> Path:
        """Where a run's weights, metrics, log and state lie."""
        return self.root / run.key

    def metrics(self, run: Run) -> dict[str, Any] | None:
        """A finished run's metrics (see `loop.train`), else None."""
        try:
            return json.loads((self.folder(run) / "metrics.json").read_bytes())
        except FileNotFoundError:
            return None

    def ensure(self, run: Run, report: Callable[[Any], None] = lambda progress: None) -> dict[str, Any]:
        """The run's metrics; trains it first if need be, and its teacher before it.

        A second process that wants the same run waits for the first one and reads its result. The lock is the
        operating system's, so a killed process holds none.

        Raises:
            RuntimeError: the run was asked for by other code than this process has imported.
        """
        from filelock import FileLock, Timeout

        from ghostlib.training import checkpoint

        folder = self.folder(run)
        if self.metrics(run) is None:
            if run.code != CODE:
                raise RuntimeError(f"ghostlib's source changed since run {run.key} was asked for; run again")
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                print(f"run {run.key} is being trained by another process; waiting for it", file=sys.stderr)
                lock.acquire()
            try:
                if self.metrics(run) is None:
                    self._train(run, folder, report)
                checkpoint.clear(folder)
            finally:
                lock.release()
        return self.metrics(run)

    def _train(self, asked: Run, folder: Path, report: Callable[[Any], None]) -> None:
        import torch

        from ghostlib.files import write_atomic
        from ghostlib.training import loop

        run = asked.canonical
        torch.set_num_threads(run.profile.threads)
        description = {"key": run.key, "seed": run.seed, "recipe": run.recipe.model_dump(mode="json"),
                       "profile": run.profile.model_dump(mode="json"), "data": run.data,
                       "code": run.code, "libraries": {name: version(name) for name in _LIBRARIES},
                       "python": platform.python_version()}
        write_atomic(folder / "run.json", json.dumps(description, indent=1, ensure_ascii=False).encode())
        teacher = self.teacher(run)
        torch.manual_seed(run.seed)  # the initial weights; every draw of the training itself is addressed
        network = self._network(run)
        start = time.perf_counter()
        loop.train(network, run.recipe, _splits(run.profile), run.profile, run.seed, folder, asked.key,
                   teacher, report)
        cost = {"seconds": round(time.perf_counter() - start, 1), "device": _device_name(run.profile)}
        write_atomic(folder / "cost.json", json.dumps(cost).encode())

    def teacher(self, run: Run) -> Any:
        """The run's teacher, ready to answer; None where the recipe has none."""
        from ghostlib.training.datasets import MEAN, STD
        from ghostlib.training.distill import Teacher

        if run.recipe.teacher is None or run.recipe.alpha == 0:
            return None
        if teacher_run := run.teacher_run:
            self.ensure(teacher_run)
            network = self.load(teacher_run, "ema.safetensors")
            return Teacher(network, MEAN, STD, MEAN, STD)
        from timm import create_model

        name = run.profile.teachers[run.recipe.teacher].timm
        network = create_model(name, pretrained=True)
        if network.num_classes != run.profile.num_classes:
            raise ValueError(f"teacher {name} knows {network.num_classes} classes, profile {run.profile.name!r} has "
                             f"{run.profile.num_classes}; choose a teacher trained on the same classes")
        config = network.pretrained_cfg
        return Teacher(network, config["mean"], config["std"], MEAN, STD)

    def load(self, run: Run, weights: str) -> Any:
        """A finished run's network with the weights of one of its files, folded and in evaluation mode."""
        from safetensors.torch import load_file

        from ghostlib.models.reparam import reparameterize

        network = self._network(run)
        network.load_state_dict(load_file(self.folder(run) / weights))
        return reparameterize(network).eval()

    @staticmethod
    def _network(run: Run) -> Any:
        from ghostlib.training.recipe import build_network

        profile = run.profile
        return build_network(run.recipe, profile.num_classes, profile.width_scale, profile.image_size,
                             profile.patch_size)


def _device_name(profile: Profile) -> str:
    """What a run was computed on, for the record of costs."""
    import torch

    return torch.cuda.get_device_name() if profile.device_type == "cuda" else cpu_name()


def _splits(profile: Profile) -> Any:
    """The profile's data, loaded once in a process."""
    from ghostlib.training import datasets

    cache_key = (profile.data_dir, json.dumps(profile.decides_results, sort_keys=True))
    if cache_key not in _loaded:
        _loaded[cache_key] = datasets.load(profile)
    return _loaded[cache_key]


_loaded: dict[Any, Any] = {}

"""The run store: equal runs train once, whoever asks, and an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe

_CODE = Path(__file__).parents[1]
_ROOMS = ("models", "training")
_LIBRARIES = ("torch", "torchvision", "timm")
# A stand-in teacher is trained once for a profile, whatever the seed of its student.
TEACHER_SEED = 0


@dataclass(frozen=True)
class Run:
    """One training: a resolved recipe at a profile's scale with a seed."""

    recipe: Recipe
    profile: Profile
    seed: int

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of all that decides the result: recipe, profile, seed, data, teacher, code, libraries.

        `ema_decay` is not among them: it only picks one of the averages that every run tracks (Figure 4).
        """
        teacher = self.recipe.teacher and self.profile.teachers[self.recipe.teacher].model_dump()
        decides = {
            "recipe": self.recipe.model_dump(mode="json", exclude={"ema_decay"}), "seed": self.seed,
            "profile": self.profile.decides_results, "data": self.data, "teacher": teacher,
            "code": code_digest(), "libraries": {name: version(name) for name in _LIBRARIES},
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
        return stand_in_run(self.profile, self.recipe.teacher) if stand_in else None


def stand_in_run(profile: Profile, teacher: str) -> Run:
    """The training of a profile's stand-in teacher."""
    recipe = profile.resolve(profile.teachers[teacher].stand_in, where=f"teachers.{teacher}.stand_in")
    return Run(recipe, profile, TEACHER_SEED)


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
        """
        from filelock import FileLock

        if (metrics := self.metrics(run)) is not None:
            return metrics
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if (metrics := self.metrics(run)) is not None:
                return metrics
            return self._train(run.canonical, folder, report)

    def _train(self, run: Run, folder: Path, report: Callable[[Any], None]) -> dict[str, Any]:
        import torch

        from ghostlib.training import loop
        from ghostlib.training.checkpoint import write_atomic

        description = {"key": run.key, "seed": run.seed, "recipe": run.recipe.model_dump(mode="json"),
                       "profile": run.profile.model_dump(mode="json"), "data": run.data,
                       "code": code_digest(), "libraries": {name: version(name) for name in _LIBRARIES},
                       "python": platform.python_version(), "threads": torch.get_num_threads()}
        write_atomic(folder / "run.json", json.dumps(description, indent=1, ensure_ascii=False).encode())
        teacher = self.teacher(run)
        torch.manual_seed(run.seed)  # the initial weights; every draw of the training itself is addressed
        network = self._network(run)
        start = time.perf_counter()
        metrics = loop.train(network, run.recipe, _splits(run.profile), run.profile, run.seed, folder, run.key,
                             teacher, report)
        cost = {"seconds": round(time.perf_counter() - start, 1), "machine": platform.processor() or platform.machine()}
        write_atomic(folder / "cost.json", json.dumps(cost).encode())
        return metrics

    def teacher(self, run: Run) -> Any:
        """The run's teacher, ready to answer; None where the recipe has none."""
        from ghostlib.training.data import MEAN, STD
        from ghostlib.training.distill import Teacher

        if run.recipe.teacher is None or run.recipe.alpha == 0:
            return None
        if teacher_run := run.teacher_run:
            self.ensure(teacher_run)
            network = self.load(teacher_run, "ema.safetensors")
            return Teacher(network, MEAN, STD, MEAN, STD)
        from timm import create_model

        network = create_model(run.profile.teachers[run.recipe.teacher].timm, pretrained=True)
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


@cache
def code_digest() -> str:
    """Changes with any source file of the networks or the training."""
    digest = hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (_CODE / room).rglob("*.py")):
        digest.update(path.relative_to(_CODE).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _splits(profile: Profile) -> Any:
    """The profile's data, loaded once in a process."""
    from ghostlib.training import data

    cache_key = (profile.data_dir, json.dumps(profile.decides_results, sort_keys=True))
    if cache_key not in _loaded:
        _loaded[cache_key] = data.load(profile)
    return _loaded[cache_key]


_loaded: dict[Any, Any] = {}

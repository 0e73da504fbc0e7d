"""The training of a classifier as a job: a recipe at a profile's scale with a seed. A stand-in teacher is one, too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError
from ghostlib.machine import world_size
from ghostlib.runs.digest import code_of, code_of_device, library_versions
from ghostlib.runs.job import Finished, Report
from ghostlib.runs.store import StoreError
from ghostlib.training import batches
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ghostlib.training.arm import Arm
    from ghostlib.training.datasets import Splits
    from ghostlib.training.distill import Teacher

CODE = code_of("ghostlib.training.loop")
_LIBRARIES = (("torch",), ("torchvision",), ("timm",), ("accelerate",), ("numpy",), ("pillow",))
# A stand-in teacher is trained once for a profile, whatever the seed of its student.
TEACHER_SEED = 0


@dataclass(frozen=True)
class ClassifierRun:
    """One training: a resolved recipe at a profile's scale with a seed; see `job.Job`."""

    recipe: Recipe
    profile: Profile
    seed: int
    label: str = field(default="", compare=False)
    code: str = CODE

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of all that decides the result: recipe, profile, seed, data, teacher, code, libraries.

        `ema_decay` is not among them: it only picks one of the averages that every run tracks (Figure 4).
        """
        teacher = self.teacher_run.key if self.teacher_run else self._pretrained_teacher
        decides = {
            "recipe": self.recipe.model_dump(mode="json", exclude={"ema_decay"}), "seed": self.seed,
            "profile": self.profile.decides_results, "data": self.data, "teacher": teacher,
            "code": self.code, "libraries": _libraries(), **code_of_device(self.profile.device_type),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def work(self) -> float:
        """Pixels that pass, once for each branch they pass."""
        images = self.steps * self.recipe.batch_size
        return images * self.profile.image_size**2 * (1 + self.recipe.branches)

    @property
    def requires(self) -> tuple[ClassifierRun, ...]:
        """The training of its teacher, where that is a stand-in."""
        return (self.teacher_run,) if self.teacher_run else ()

    @classmethod
    def current_code(cls) -> str:
        """The digest of the code that this process has imported."""
        return CODE

    @property
    def splits(self) -> Splits:
        """The data it trains and is tested on, read once in a process."""
        decides = json.dumps([self.profile.data_dir, self.profile.decides_results], sort_keys=True)
        if decides not in _loaded:
            from ghostlib.training import datasets

            _loaded[decides] = datasets.load(self.profile)
        return _loaded[decides]

    @property
    def data(self) -> str:
        """The digest of the data."""
        return self.splits.digest

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.recipe.epochs * (len(self.splits.train) // self.recipe.batch_size)

    @property
    def canonical(self) -> ClassifierRun:
        """The run that stands for all of its key: the paper's `ema_decay` where it is tracked."""
        default = Recipe.model_fields["ema_decay"].default
        decay = default if default in self.recipe.ema_decays else self.recipe.ema_decays[-1]
        return replace(self, recipe=self.recipe.model_copy(update={"ema_decay": decay}))

    @cached_property
    def teacher_run(self) -> ClassifierRun | None:
        """The run that trains the teacher, where that is a stand-in."""
        stand_in = self.recipe.teacher and self.profile.teachers[self.recipe.teacher].stand_in
        return replace(stand_in_run(self.profile, self.recipe.teacher), code=self.code) if stand_in else None

    def describe(self) -> dict[str, Any]:
        """The recipe and the profile, the data's digest and the libraries' versions."""
        return {"recipe": self.recipe.model_dump(mode="json"), "profile": self.profile.model_dump(mode="json"),
                "data": self.data, "libraries": _libraries()}

    @cached_property
    def cohort(self) -> Hashable:
        """Runs with an equal one see the same batches: it is their profile, seed and augmentation.

        None where a run trains by itself: in float16 gradients are scaled, by a factor that is one arm's.
        """
        if self.profile.precision == "fp16":
            return None
        return self.profile.model_dump_json(), self.seed, self.code, batches.decided_by(self.recipe)

    def train(self, folder: Path, store: Finished, report: Report = lambda progress: None) -> dict[str, Any]:
        """Trains, or goes on; leaves weights.safetensors and ema.safetensors in the folder. See `loop.train`."""
        import torch

        from ghostlib.training import loop

        torch.set_num_threads(self.profile.threads)
        [(_, outcome)] = loop.train_together([self._arm(folder, self._teacher(store), report)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @classmethod
    def train_together(cls, jobs: Sequence[ClassifierRun], store: Finished,
                       report: Callable[[ClassifierRun, Any], None],
                       ) -> Iterator[tuple[ClassifierRun, dict[str, Any] | Exception]]:
        """The same for several of one cohort; see `loop.train_together`."""
        import torch

        from ghostlib.training import loop

        torch.set_num_threads(jobs[0].profile.threads)
        arms: dict[Arm, ClassifierRun] = {}
        teachers: dict[str | None, Teacher | None] = {}
        for job in jobs:
            try:
                if job._asked not in teachers:
                    teachers[job._asked] = job._teacher(store)
                arm = job._arm(store.folder(job), teachers[job._asked], partial(report, job))
            except Exception as error:
                yield job, error
            else:
                arms[arm] = job
        if arms:
            yield from ((arms[arm], outcome) for arm, outcome in loop.train_together(list(arms)))

    def network(self) -> nn.Module:
        """Its network in training form, with the initial weights of its seed.

        Raises:
            ValueError: its normalisations are to be over several GPUs' batches and could not be.
        """
        import torch

        from ghostlib.training.build import build_network

        torch.manual_seed(self.seed)  # every draw of the training itself is addressed
        profile = self.profile
        network = build_network(self.recipe, profile.num_classes, profile.width_scale, profile.image_size,
                                profile.patch_size)
        if profile.sync_batchnorm:
            from ghostlib.runs import synchronised

            synchronised.check(network, profile.image_size)
        return network

    def _arm(self, folder: Path, teacher: Teacher | None, report: Report) -> Arm:
        """It in training.

        Raises:
            ConfigError: several processes would normalise over fewer images each, of which the key would not tell.
        """
        from ghostlib.training.replay import arm_of

        share, most = self.recipe.batch_size // world_size(), self.profile.pass_images
        if world_size() > 1 and not self.profile.sync_batchnorm and (most is None or most > share):
            raise ConfigError(f"experiments.yaml: profiles.{self.profile.name}.pass_images = {most}: {world_size()} "
                              "processes share a batch, and batch normalisation sees what one of them takes at a time; "
                              f"set it to {share} or less for all runs of the profile, so that they are comparable")
        return arm_of(self.profile)(self.network(), self.canonical, folder, teacher, report)

    def _teacher(self, store: Finished) -> Teacher | None:
        from ghostlib.training import distill

        if self._asked is None:
            return None
        if self.teacher_run:
            return distill.stand_in(load_network(store, self.teacher_run, "ema.safetensors"))
        return distill.pretrained(self._pretrained_teacher, self.profile.num_classes)

    @property
    def _asked(self) -> str | None:
        """The teacher whose answers count."""
        return self.recipe.teacher if self.recipe.alpha else None

    @property
    def _pretrained_teacher(self) -> str | None:
        return self.recipe.teacher and self.profile.teachers[self.recipe.teacher].timm


@cache
def _libraries() -> dict[str, str]:
    return library_versions(*_LIBRARIES)


def stand_in_run(profile: Profile, teacher: str) -> ClassifierRun:
    """The training of a profile's stand-in teacher; it answers with the average that `canonical` reports."""
    scaled = profile.of_stand_in(teacher)
    recipe = scaled.resolve(profile.teachers[teacher].stand_in, where=f"teachers.{teacher}.stand_in")
    return ClassifierRun(recipe, scaled, TEACHER_SEED, f"stand-in for {teacher}").canonical


def load_weights(store: Finished, run: ClassifierRun, name: str) -> dict[str, Tensor]:
    """What one of a finished run's files of weights holds.

    Raises:
        StoreError: the file is not there, or torn.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = store.folder(run) / name
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} is missing or torn ({error}); remove the folder {path.parent}, and the same command "
                         "trains that run again") from None


def load_network(store: Finished, run: ClassifierRun, weights: str) -> nn.Module:
    """A finished run's network with the weights of one of its files, folded and in evaluation mode.

    Raises:
        StoreError: as `load_weights` does.
    """
    from ghostlib.models.reparam import reparameterize

    network = run.network()
    network.load_state_dict(load_weights(store, run, weights))
    return reparameterize(network).eval()


_loaded: dict[str, Splits] = {}

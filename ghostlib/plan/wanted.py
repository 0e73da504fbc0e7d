"""Every training that a profile wants, and which of the stored ones these are, without reading any data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError, hint
from ghostlib.detection import run as detection
from ghostlib.detection.run import DetectorRun
from ghostlib.detection.scale import Scale, read_scales
from ghostlib.experiments import Experiment
from ghostlib.measures import places, rates
from ghostlib.models import catalog
from ghostlib.runs.classifier import ClassifierRun, stand_in_run
from ghostlib.runs.digest import library_versions
from ghostlib.runs.job import cohort
from ghostlib.runs.listing import TRAINING, UNFINISHED, Stored
from ghostlib.training import batches
from ghostlib.training.profile import Profile, load_profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    from ghostlib.training.datasets import Splits

# Each part of a profile's trainings, and which `ghostlib measure` trains it.
PARTS = {"teachers": "classifiers", "tables and figures": "classifiers", "rates": "rates",
         "detectors' rates": "detector_rates", "backbones": "detectors", "detectors": "detectors"}
# Images to train on, held-out ones included, and to test on: of a data set that is not read.
_WHOLE = {"digits": (1_437, 360), "fashion": (60_000, 10_000), "cifar100": (50_000, 10_000),
          "imagenet": (1_281_167, 50_000)}
# What of a recipe decides how long a step takes.
_OF_A_STEP = {"network", "branches", "scale", "skip", "branch_norm_lr", "optimizer", "batch_size", "ema_decays"}
STALE = "stale"  # what no present profile asks for
Kind = tuple[Hashable, ...]


@dataclass(frozen=True)
class Wanted:
    """A training and what wants it; the first part of several that want the same one."""

    part: str
    job: ClassifierRun | DetectorRun

    @property
    def classifier(self) -> ClassifierRun:
        """Its classifier; a detector's is its backbone."""
        return self.job.backbone if isinstance(self.job, DetectorRun) else self.job


@dataclass(frozen=True)
class Sizes:
    """How many images a profile has."""

    train: int
    val: int
    test: int

    @classmethod
    def of(cls, profile: Profile, splits: Splits | None) -> Sizes:
        """A profile's; of images that are not read, as many as the data set has."""
        if splits:
            return cls(profile.train_images or len(splits.train), len(splits.val), len(splits.test))
        train, test = _WHOLE[profile.data]
        return cls(profile.train_images or train - profile.val_images, profile.val_images, profile.test_images or test)


@dataclass(frozen=True, eq=False)
class Training:
    """A training that is left, as the engine's order takes it (`runs.job.Job`).

    Attributes:
        key: its `identity`: without its images it has no key.
        wanted: it.
        sizes: of the data; of a detector, its backbone's.
        requires: what must be finished before, of what is left.
    """

    key: str
    wanted: Wanted
    sizes: Sizes
    requires: tuple[Training, ...] = ()

    @property
    def job(self) -> ClassifierRun | DetectorRun:
        return self.wanted.job

    @property
    def profile(self) -> Profile:
        return self.job.profile

    @property
    def steps(self) -> int:
        """Of a classifier."""
        recipe = self.wanted.classifier.recipe
        return recipe.epochs * (self.sizes.train // recipe.batch_size)

    @property
    def work(self) -> float:
        """As its job has it."""
        if isinstance(self.job, DetectorRun):
            return self.job.work
        recipe = self.job.recipe
        return self.steps * recipe.batch_size * self.job.profile.image_size**2 * (1 + recipe.branches)

    @property
    def cohort(self) -> Hashable:
        return cohort(self.job)

    @property
    def teacher(self) -> str | None:
        """Whose answers count."""
        recipe = self.wanted.classifier.recipe
        return recipe.teacher if recipe.alpha else None

    @property
    def kind(self) -> Kind:
        """Trainings of an equal one take as long, a step."""
        return "whole", self.teacher, *self.alone

    @property
    def alone(self) -> Kind:
        """The same of what is its own part: not the views, and not a teacher's answers."""
        job = self.job
        decides = ((job.arch, job.side, json.dumps(job.scale.decides_time, sort_keys=True))
                   if isinstance(job, DetectorRun) else
                   (json.dumps(job.recipe.model_dump(mode="json", include=_OF_A_STEP), sort_keys=True),))
        return *decides, job.profile.width_scale

    @property
    def views(self) -> Kind:
        """Which batches it sees; a detector's are in its steps."""
        return () if isinstance(self.job, DetectorRun) else ("views", *batches.decided_by(self.job.recipe))

    @property
    def answers(self) -> Kind:
        """Who answers; the same."""
        return () if isinstance(self.job, DetectorRun) or not self.teacher else ("teacher", self.teacher)


def wanted(profile_name: str, params: dict[str, Any]) -> dict[str, Wanted]:
    """Every training of a profile by its `identity`; what another one requires is among them. No data is read.

    Raises:
        ConfigError: what params.yaml and experiments.yaml say of the profile cannot be meant.
    """
    found: dict[str, Wanted] = {}
    for part, job in _jobs(load_profile(profile_name, params), params):
        found.setdefault(identity(job), Wanted(part, job))
    return found


def _jobs(profile: Profile, params: dict[str, Any]) -> Iterator[tuple[str, ClassifierRun | DetectorRun]]:
    yield from (("teachers", stand_in_run(profile, name)) for name, how in profile.teachers.items() if how.stand_in)
    for name in params["experiments"]:
        yield from (("tables and figures", run) for _, run in Experiment.load(name, profile.name, params).runs())
    yield from (("rates", run) for _, run in rates.trials(profile, params, rates.known(profile)))
    if profile.name in read_scales(params):
        trials, detectors = detection.trials(profile.name, params), detection.runs(profile.name, params)
        yield from (("detectors' rates", job) for run in trials for job in (run.backbone, run))
        yield from (("backbones", run.backbone) for run in detectors)
        yield from (("detectors", run) for run in detectors)


def identity(job: ClassifierRun | DetectorRun) -> str:
    """16 hexadecimal digits of what decides a result, but the data and the libraries; equal keys have equal ones."""
    if isinstance(job, DetectorRun):
        decides = [job.row, job.scale.decides_results, identity(job.backbone)]
    else:
        teacher = job.recipe.teacher and job.profile.teachers[job.recipe.teacher]
        decides = [job.recipe.model_dump(mode="json", exclude={"ema_decay"}), places.scale_of(job.profile), job.seed,
                   teacher and (teacher.timm or identity(stand_in_run(job.profile, job.recipe.teacher)))]
    return hashlib.sha256(json.dumps([job.code, *decides], sort_keys=True).encode()).hexdigest()[:16]


def stored_identity(described: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The `identity` of a stored training, from what its run.json says; None where none of now's can be equal.

    Args:
        described: the content of run.json.
        others: the same of all stored trainings, by their keys.
    """
    libraries = described.get("libraries", {})
    if library_versions(*((name,) for name in libraries)) != libraries:
        return None
    try:
        return identity(_described(described, others))
    except (ConfigError, KeyError, TypeError):  # other code wrote it, which had other settings
        return None


def by_identity(runs: list[Stored]) -> dict[str, Stored]:
    """Stored runs by what decides their results, but the data; those that no code of now could make are left out."""
    described = {run.key: run.described for run in runs}
    found = {stored_identity(run.described, described): run for run in runs}
    return {key: run for key, run in found.items() if key is not None}


def _described(described: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> ClassifierRun | DetectorRun:
    if "backbone" in described:
        arch, side = catalog.backbones()[described["row"]]
        backbone = _described(others[described["backbone"]], others)
        return DetectorRun(described["row"], arch, side, Scale.parse(described["scale"]), backbone,
                           code=described["code"])
    return ClassifierRun(Recipe.parse(described["recipe"]), Profile.parse(described["profile"]), described["seed"],
                         code=described["code"])


# -- stored runs beside what the present profiles ask for


def askers(runs: Sequence[Stored], params: dict[str, Any]) -> dict[str, list[str]]:
    """For each run, by its key, the profiles that ask for it; none for a stale one.

    No data is read for it, so that a run on other images than today's counts as asked for.

    Raises:
        ConfigError: a profile cannot be meant as written.
    """
    described = {run.key: run.described for run in runs}
    of_identity: dict[str | None, list[str]] = {}
    for profile in params["profiles"]:
        for identity in wanted(profile, params):
            of_identity.setdefault(identity, []).append(profile)
    return {run.key: of_identity.get(stored_identity(run.described, described), []) for run in runs}


def of_profile(profile: str, runs: Sequence[Stored], asked: Mapping[str, list[str]]) -> list[Stored]:
    """Those that a profile asks for, and those that were trained for one of its name."""
    described = {run.key: run.described for run in runs}
    return [run for run in runs if profile in asked[run.key] or _profile(run.described, described) == profile]


def chosen(words: Sequence[str], runs: Sequence[Stored], asked: Mapping[str, list[str]]) -> list[Stored]:
    """The runs that are to be removed; none that is being trained, unless it is named.

    Args:
        words: "stale", "unfinished" or keys.
        runs: of which.
        asked: as `askers` gives it.

    Raises:
        ConfigError: a word is none of them.
    """
    keys = [run.key for run in runs]
    if unknown := [word for word in words if word not in (STALE, UNFINISHED, *keys)]:
        raise ConfigError(f"no such run: {unknown[0]!r}; {hint(unknown[0], [STALE, UNFINISHED, *keys])}"
                          if keys else f"no such run: {unknown[0]!r}; there are none")
    return [run for run in runs if run.key in words or run.state != TRAINING and (
        STALE in words and not asked[run.key] or UNFINISHED in words and run.state == UNFINISHED)]


def table(runs: Sequence[Stored], asked: Mapping[str, list[str]]) -> str:
    """A row a run, and their sum."""
    from tabulate import tabulate

    rows = [{"run": run.key, "label": run.label, "state": ", ".join(filter(None, [run.state, run.done])),
             "asked for by": ", ".join(asked[run.key]) or STALE, "seconds": run.cost.get("seconds", ""),
             "device": run.cost.get("device", ""), "date": run.date, "MB": f"{run.size / 1e6:.1f}"} for run in runs]
    ended, stale = sum(run.ended for run in runs), sum(not asked[run.key] for run in runs)
    told = f"{len(runs)} runs, {sum(run.size for run in runs) / 1e6:.1f} MB: {ended} ended, {stale} stale."
    return "\n".join([*([tabulate(rows, headers="keys", disable_numparse=True), ""] if rows else []), told])


def _profile(described: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The name of the profile that a run was trained for: of a detector, its backbone was."""
    if "backbone" in described:
        described = others.get(described["backbone"], {})
    return described.get("profile", {}).get("name")

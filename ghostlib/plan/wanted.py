"""Every training that a profile wants, and which of the stored ones these are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ghostlib.config import ConfigError
from ghostlib.detection import run as detection
from ghostlib.detection.run import DetectorRun
from ghostlib.detection.scale import Scale, read_scales
from ghostlib.experiments import Experiment
from ghostlib.measures import places, rates
from ghostlib.models import catalog
from ghostlib.runs.classifier import ClassifierRun, stand_in_run
from ghostlib.runs.digest import library_versions
from ghostlib.training.profile import Profile, load_profile
from ghostlib.training.recipe import Recipe

# Each part of a profile's trainings, and which `ghostlib measure` trains it.
PARTS = {"teachers": "classifiers", "tables and figures": "classifiers", "rates": "rates", "backbones": "detectors",
         "detectors": "detectors"}


@dataclass(frozen=True)
class Wanted:
    """A training and what wants it; the first part of several that want the same one."""

    part: str
    job: ClassifierRun | DetectorRun

    @property
    def classifier(self) -> ClassifierRun:
        """Its classifier; a detector's is its backbone."""
        return self.job.backbone if isinstance(self.job, DetectorRun) else self.job


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
    if tune := profile.tune:
        yield from (("rates", ClassifierRun(recipe.model_copy(update={"lr_scale": rate}), profile, seed,
                                            f"rates ({kind}), x {rate:g}, seed {seed}"))
                    for kind, recipe in rates.representatives(profile, params).items()
                    for rate in tune.rates for seed in tune.seeds)
    if profile.name in read_scales(params):
        detectors = detection.runs(profile.name, params)
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


def _described(described: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> ClassifierRun | DetectorRun:
    if "backbone" in described:
        arch, side = catalog.backbones()[described["row"]]
        backbone = _described(others[described["backbone"]], others)
        return DetectorRun(described["row"], arch, side, Scale.parse(described["scale"]), backbone,
                           code=described["code"])
    return ClassifierRun(Recipe.parse(described["recipe"]), Profile.parse(described["profile"]), described["seed"],
                         code=described["code"])

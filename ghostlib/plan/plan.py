"""A profile's plan: what it wants, what is finished and what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ghostlib.plan import needs
from ghostlib.plan.estimate import Training
from ghostlib.plan.wanted import identity, stored_identity, wanted
from ghostlib.runs.listing import Stored, stored
from ghostlib.runs.store import Store
from ghostlib.training.profile import Profile, load_profile

if TYPE_CHECKING:
    from ghostlib.training.datasets import Splits


@dataclass(frozen=True)
class Plan:
    """What a profile trains.

    Attributes:
        profile: it.
        trainings: all that it wants, those first that others require.
        stored: the finished ones, by `Training.key`.
        splits: its images; None where they are not read.
        missing: why they are not, with the remedy; empty where nothing is missing.
    """

    profile: Profile
    trainings: tuple[Training, ...]
    stored: dict[str, Stored]
    splits: Splits | None
    missing: str

    @property
    def left(self) -> list[Training]:
        """What is to be trained."""
        return [training for training in self.trainings if training.key not in self.stored]

    @property
    def finished(self) -> list[tuple[Training, Stored]]:
        """What is in the store."""
        return [(training, self.stored[training.key]) for training in self.trainings if training.key in self.stored]


def make(profile_name: str, params: dict[str, Any], store: Store) -> Plan:
    """The plan of a profile.

    Without the images no run has a key; a stored one is known by all else that decides it.

    Raises:
        ConfigError: what params.yaml and experiments.yaml say of the profile cannot be meant.
    """
    profile, found = load_profile(profile_name, params), wanted(profile_name, params)
    splits, missing = needs.images(profile)
    there, trainings = [run for run in stored(store) if run.ended], {}
    if splits:
        of_keys = {run.key: run for run in there}
        finished = {key: of_keys[wanted.job.key] for key, wanted in found.items() if wanted.job.key in of_keys}
    else:
        finished = by_identity(there)
    for key, one in found.items():
        required = tuple(trainings[identity(job)] for job in one.job.requires)
        trainings[key] = Training(key, one, needs.sizes(one.classifier.profile, splits), required)
    return Plan(profile, tuple(trainings.values()), {key: finished[key] for key in found if key in finished}, splits,
                missing)


def by_identity(runs: list[Stored]) -> dict[str, Stored]:
    """Stored runs by what decides their results, but the data; those that no code of now could make are left out."""
    described = {run.key: run.described for run in runs}
    found = {stored_identity(run.described, described): run for run in runs}
    return {key: run for key, run in found.items() if key is not None}

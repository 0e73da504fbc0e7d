"""What a notebook says around an experiment: the scale, the stand-ins, how it learned, where the files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ghostlib.experiments import run_name
from ghostlib.measures import classifiers, places
from ghostlib.paper import exhibits, numbers
from ghostlib.training.profile import Profile, load_params, load_profile

if TYPE_CHECKING:
    import pandas as pd

# What learning curves end in, the first of these that is recorded -> its name and unit.
_ENDS = {"val_top1": ("validation top-1", " %"), "accuracy": ("accuracy on training views", " %"),
         "loss": ("training loss", "")}


@dataclass(frozen=True)
class Story:
    """The words and places of one experiment at one profile's scale."""

    experiment: str
    title: str
    scale: str
    x_label: str
    notes: tuple[str, ...]
    stand_ins: dict[str, str]  # a teacher of the paper -> what a table calls what stands in for it
    folder: Path

    @classmethod
    def load(cls, experiment: str, profile_name: str, remarks: Sequence[str] = ()) -> Story:
        """That of an exhibit of the paper; `remarks` stand between the scale and the notes on the paper's numbers."""
        profile, entry = load_profile(profile_name, load_params()), numbers.entry(experiment)
        stand_ins = _stand_ins(profile)
        names = [f"The teachers are stand-ins trained on the profile's own data: {', '.join(stand_ins.values())}."]
        notes = (f"Measured at: {profile.scale}.", *(names if stand_ins else []), *remarks,
                 *(f"On the paper: {note}" for note in entry.get("notes", ())))
        return cls(experiment, exhibits.find(experiment).heading, profile.scale, entry.get("x_label", ""), notes,
                   stand_ins, places.folder(profile.name))

    @property
    def context(self) -> str:
        """Markdown: the scale, the stand-ins and what is known to be wrong with the published numbers."""
        return "\n".join(f"- {note}" for note in self.notes)

    @property
    def closing(self) -> str:
        """Markdown: what was read and what was written."""
        read, written = (", ".join(f"`{self.folder}/{place}`" for place in places) for places in (
            (*(f"{kind}/{self.experiment}.csv" for kind in ("runs", "curves", "correct")), "report.json"),
            (f"tables/{self.experiment}.{{csv,md,tex,json}}", f"figures/{self.experiment}.{{png,svg}}")))
        return f"Read: {read}. Written: {written}."


def learning(history: pd.DataFrame) -> str:
    """Learning curves in words, for a reader who does not see them: how many, and between what they end.

    Args:
        history: as `measures.classifiers.read_curves` or `measures.detectors.read_curves` gives it.
    """
    recorded = [name for name in _ENDS if name in history and history[name].notna().any()]
    if not recorded:
        return "No learning curves: nothing was trained."
    name, unit = _ENDS[recorded[0]]
    ends = history.groupby(["row", "column", "seed"], sort=False)[recorded[0]].last()  # the last that is not missing
    means = ends.groupby(["row", "column"], sort=False).mean()
    labels = 1 if history["column"].nunique() == 1 else 2
    least, most = (f"{means[cell]:.1f}{unit} ({run_name(*cell[:labels])})" for cell in (means.idxmin(), means.idxmax()))
    return (f"Learning curves of {len(means)} cells over {history['epoch'].max()} epochs. "
            f"Their last {name} lies between {least} and {most}.")


def _stand_ins(profile: Profile) -> dict[str, str]:
    """Names every stand-in teacher, with its own accuracy: none passes for the teacher itself."""
    return {teacher.stands_in_for: f"{teacher.stands_in_for} (stand-in: {teacher.network}, {teacher.epochs} epochs, "
                                   f"{teacher.test_top1:.1f} %)"
            for teacher in classifiers.read_teachers(profile.name).itertuples()}

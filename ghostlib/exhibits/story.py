"""What a notebook says around an experiment: the paper's question, the scale, the stand-ins, where the files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ghostlib.measures import classifiers
from ghostlib.measures.places import RESULTS
from ghostlib.paper import exhibits, numbers
from ghostlib.training.profile import Profile, load_params, load_profile


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
                   stand_ins, RESULTS / profile.name)

    @property
    def introduction(self) -> str:
        """Markdown: the title and the context."""
        return f"# {self.title}\n\n{self.context}"

    @property
    def context(self) -> str:
        """Markdown: the scale, the stand-ins and what is known to be wrong with the published numbers."""
        return "\n".join(f"- {note}" for note in self.notes)

    @property
    def closing(self) -> str:
        """Markdown: what was read and what was written."""
        read, written = (", ".join(f"`{self.folder}/{place}`" for place in places) for places in (
            (f"runs/{self.experiment}.csv", f"curves/{self.experiment}.csv"),
            (f"tables/{self.experiment}.{{csv,md,tex,json}}", f"figures/{self.experiment}.{{png,svg}}")))
        return f"Read: {read}. Written: {written}."


def _stand_ins(profile: Profile) -> dict[str, str]:
    """Names every stand-in teacher, with its own accuracy: none passes for the teacher itself."""
    return {teacher.stands_in_for: f"{teacher.stands_in_for} (stand-in: {teacher.network}, {teacher.epochs} epochs, "
                                   f"{teacher.test_top1:.1f} %)"
            for teacher in classifiers.read_teachers(profile.name).itertuples()}

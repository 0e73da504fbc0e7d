"""What a notebook says around an experiment: the paper's question, the scale, the stand-ins, where the files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ghostlib.paper import numbers
from ghostlib.runs.store import Store, stand_in_run
from ghostlib.training.profile import Profile, load_params, load_profile

RESULTS = Path("results")


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

    @property
    def introduction(self) -> str:
        """Markdown: the title, the scale and what is known to be wrong with the published numbers."""
        return f"# {self.title}\n\n" + "\n".join(f"- {note}" for note in self.notes)

    @property
    def closing(self) -> str:
        """Markdown: what was written."""
        return "Written: " + ", ".join(f"`{self.folder}/{place}`" for place in (
            f"runs/{self.experiment}.csv", f"tables/{self.experiment}.{{csv,md,tex}}",
            f"figures/{self.experiment}.{{png,svg}}"))


def tell(experiment: str, profile_name: str, remarks: Sequence[str] = ()) -> Story:
    """The story of an experiment of params.yaml and numbers.yaml; `remarks` stand between the scale and the paper's."""
    profile = load_profile(profile_name, load_params())
    entry = numbers.entry(experiment)
    stand_ins = _stand_ins(profile)
    names = [f"The teachers are stand-ins trained on the profile's own data: {', '.join(stand_ins.values())}."]
    notes = [f"Measured at: {profile.scale}.", *(names if stand_ins else []), *remarks,
             *(f"On the paper: {note}" for note in entry.get("notes", ()))]
    title = f"{numbers.label(experiment)}: {entry['title']}"
    return Story(experiment, title, profile.scale, entry.get("x_label", ""), tuple(notes), stand_ins,
                 RESULTS / profile.name)


def _stand_ins(profile: Profile) -> dict[str, str]:
    """Names every stand-in teacher, with its own accuracy once it is trained: none passes for the teacher itself."""
    names, store = {}, Store()
    for teacher, how in profile.teachers.items():
        if how.stand_in is None:
            continue
        run = stand_in_run(profile, teacher)
        metrics = store.metrics(run)
        score = f", {metrics['test']['top1'][str(run.recipe.ema_decay)]:.1f} %" if metrics else ""
        names[teacher] = f"{teacher} (stand-in: {run.recipe.network}, {run.recipe.epochs} epochs{score})"
    return names

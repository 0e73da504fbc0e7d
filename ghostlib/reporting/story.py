"""What a notebook says around an experiment: the paper's question, the scale, the stand-ins, where the files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ghostlib.reporting import paper
from ghostlib.training.profile import load_params, load_profile

RESULTS = Path("results")


@dataclass(frozen=True)
class Story:
    """The words and places of one experiment at one profile's scale."""

    experiment: str
    title: str
    scale: str
    x_label: str
    notes: tuple[str, ...]
    stand_ins: dict[str, str]
    folder: Path

    def name_stand_ins(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with every row that is a stand-in teacher labelled as one, with its own accuracy."""
        return frame.assign(row=frame["row"].replace(self.stand_ins))

    @property
    def introduction(self) -> str:
        """Markdown: the title, the scale and what is known to be wrong with the published numbers."""
        return f"# {self.title}\n\n" + "\n".join(f"- {note}" for note in self.notes)

    @property
    def closing(self) -> str:
        """Markdown: what was written."""
        return "Written: " + ", ".join(f"`{path}`" for path in (
            self.path("runs", ".csv"), self.path("tables", ".{csv,md,tex}"), self.path("figures", ".{png,svg}")))

    def path(self, kind: str, ending: str) -> Path:
        """Where a kind of result lies, e.g. results/digits/runs/table_1.csv; its folder exists afterwards."""
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{self.experiment}{ending}"


def tell(experiment: str, profile_name: str) -> Story:
    """The story of an experiment of params.yaml and paper.yaml."""
    profile = load_profile(profile_name, load_params())
    entry = paper.entry(experiment)
    number = experiment.replace("_", " ").capitalize()
    folder = RESULTS / profile.name
    teachers = _stand_ins(folder)
    named = [f"The teachers are stand-ins trained on the profile's own data: {', '.join(_described(teachers))}."]
    notes = [f"Measured at: {profile.scale}", *(named if len(teachers) else []),
             *(f"On the paper: {note}" for note in entry.get("notes", ()))]
    labels = {t.stands_in_for: f"{t.stands_in_for} (stand-in, {t.test_top1:.1f} %)" for t in teachers.itertuples()}
    return Story(experiment, f"{number}: {entry['title']}", profile.scale, entry.get("x_label", ""), tuple(notes),
                 labels, folder)


def _stand_ins(folder: Path) -> pd.DataFrame:
    """The profile's stand-in teachers with their own accuracy, so that none passes for the teacher it stands for."""
    path = folder / "teachers.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def _described(teachers: pd.DataFrame) -> list[str]:
    return [f"{t.stands_in_for} is a {t.network} trained for {t.epochs} epochs here, {t.test_top1:.1f} %"
            for t in teachers.itertuples()]

"""The paper's tables and figures: what each is called, where it stands, and which stage and notebook render it here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

from ghostlib.config import read_yaml


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper.

    Attributes:
        name: its id, e.g. `table_1`.
        title: a sentence.
        section: of the paper, e.g. 5.1.
        stage: of dvc.yaml, which renders it; it executes notebooks/<stage>.ipynb.
        notebook: the stem of the executed notebook that shows it, in results/<profile>/notebooks/.
    """

    name: str
    title: str
    section: str
    stage: str
    notebook: str

    @property
    def label(self) -> str:
        """As the paper calls it, e.g. Table 1."""
        return label(self.name)

    @property
    def heading(self) -> str:
        """The label and the title."""
        return f"{self.label}: {self.title}"


def label(name: str) -> str:
    """What the paper calls a table or figure: `table_1` is Table 1."""
    return name.replace("_", " ").capitalize()


@functools.cache
def load() -> dict[str, Exhibit]:
    """Every exhibit by its name: Tables 1 to 10, then Figures 1 to 5. Shared by all callers: do not change it."""
    stages = read_yaml(resources.files(__package__).joinpath("exhibits.yaml"))["exhibits"]
    found = [Exhibit(name, stage=stage, notebook=name if stage == "ablation" else stage, **entry)
             for stage, entries in stages.items() for name, entry in entries.items()]
    return {exhibit.name: exhibit for exhibit in sorted(found, key=_place)}


def find(name: str) -> Exhibit:
    """The exhibit of that name.

    Raises:
        ValueError: the paper has none.
    """
    if name not in load():
        raise ValueError(f"unknown exhibit {name!r}; known: {', '.join(load())}")
    return load()[name]


def _place(exhibit: Exhibit) -> tuple[bool, int]:
    kind, number = exhibit.name.split("_")
    return kind == "figure", int(number)

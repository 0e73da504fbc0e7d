"""The paper's exhibits in the order of its sections, and which files of a profile's results show each."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ghostlib.evidence import claim_tables
from ghostlib.exhibits import complexity
from ghostlib.paper import exhibits, numbers

_SECTIONS = {
    "1": "Introduction",
    "4.1": "What the strategy adds while training",
    "5.1": "Re-parameterization",
    "5.2": "Knowledge distillation",
    "5.3": "Learning schedule",
    "5.4": "Data augmentation",
    "5.5": "Comparison with other compact networks",
    "5.6": "Object detection",
}
_TIMED = "table_9"  # whose networks are timed; which tables' are counted, complexity.py says
_DRAWN_FROM = {"figure_1": "table_9", "figure_5": "table_9"}
_REPORT = "What became of the paper's claims"
_OURS = {"rates": "Learning rates chosen on validation images", "causes": claim_tables.CAUSES}


@dataclass(frozen=True)
class Article:
    """A table or figure of the paper as the pages show it. Files are named by their stems.

    Attributes:
        name: its id, e.g. `table_1`.
        label: as the paper calls it, e.g. Table 1.
        heading: the label and the title.
        notebooks: the executed notebooks that show it.
        tables: its own, and those of what is counted and timed for it.
        drawn_from: the exhibit whose numbers a figure draws, and whose claims are its own.
    """

    name: str
    label: str
    heading: str
    notebooks: tuple[str, ...]
    tables: tuple[str, ...]
    drawn_from: str

    @property
    def description(self) -> str:
        """What its picture shows, for one who does not see it."""
        return self.heading if self.name.startswith("figure") else f"Chart of {self.heading}"


@dataclass(frozen=True)
class Chapter:
    """A section of the paper."""

    number: str
    title: str
    articles: tuple[Article, ...]


@functools.cache
def in_order() -> tuple[Chapter, ...]:
    """Tables 1 to 10 and Figures 1 to 5, by section."""
    return tuple(Chapter(number, title, tuple(_article(exhibit) for exhibit in exhibits.load().values()
                                              if exhibit.section == number))
                 for number, title in _SECTIONS.items())


@functools.cache
def articles() -> dict[str, Article]:
    """Every exhibit by its name."""
    return {article.name: article for chapter in in_order() for article in chapter.articles}


def notebook_title(name: str) -> str:
    """The title of an executed notebook: of the first exhibit that it shows, or of what it counts, times or reports."""
    titles = {"report": _REPORT, **_OURS, **claim_tables.TITLES}
    for exhibit in reversed(exhibits.load().values()):
        titles[exhibit.notebook] = articles()[exhibit.name].heading
    return titles.get(name, name)


@functools.cache
def notebook_labels() -> dict[str, str]:
    """The notebooks of the exhibits in the paper's order -> what the exhibit that they are named for is called.

    A notebook that shows a table and the figures that draw it is the table's.
    """
    return {article.notebooks[0]: article.label for article in articles().values() if not article.drawn_from}


def _article(exhibit: exhibits.Exhibit) -> Article:
    counted = [file for file, table in complexity.TABLES.items() if table == exhibit.name]
    timed = ["latency"] if exhibit.name == _TIMED else []
    own = [exhibit.name] if exhibit.name in numbers.load() else []
    return Article(exhibit.name, exhibit.label, exhibit.heading.rstrip("."),
                   (exhibit.notebook, *(["complexity"] if counted else []), *timed), (*own, *counted, *timed),
                   _DRAWN_FROM.get(exhibit.name, ""))

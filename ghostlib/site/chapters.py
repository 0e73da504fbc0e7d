"""The paper's exhibits in the order of its sections, and which files of a profile's results show each."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from ghostlib.paper import numbers


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper. Files are named by their stems."""

    name: str
    title: str
    notebooks: tuple[str, ...]
    tables: tuple[str, ...] = ()
    drawn_from: str = ""  # the exhibit whose numbers a figure draws, and whose claims are its own

    @property
    def label(self) -> str:
        """As the paper calls it, e.g. Table 1."""
        return numbers.label(self.name)

    @property
    def heading(self) -> str:
        """The label and the title."""
        return f"{self.label}: {self.title.rstrip('.')}"

    @property
    def description(self) -> str:
        """What its picture shows, for one who does not see it."""
        return self.heading if self.name.startswith("figure") else f"Chart of {self.heading}"


@dataclass(frozen=True)
class Chapter:
    """A section of the paper."""

    number: str
    title: str
    exhibits: tuple[Exhibit, ...]


@functools.cache
def in_order() -> tuple[Chapter, ...]:
    """Tables 1–10 and Figures 1–5. Titles that numbers.yaml has come from there."""
    return (
        Chapter("1", "Introduction", (
            Exhibit("figure_1", "Top-1 accuracy and CPU latency of compact networks", ("comparison",),
                    drawn_from="table_9"),)),
        Chapter("4.1", "What the strategy adds while training", (
            Exhibit("figure_2", "The bottlenecks of GhostNetV2 and GhostNetV3", ("architecture",)),)),
        Chapter("5.1", "Re-parameterization", _ablations("table_1", "table_2")),
        Chapter("5.2", "Knowledge distillation", _ablations("table_3", "table_4", "table_5")),
        Chapter("5.3", "Learning schedule", _ablations("table_6", "table_7", "figure_3", "figure_4")),
        Chapter("5.4", "Data augmentation", _ablations("table_8")),
        Chapter("5.5", "Comparison with other compact networks", (
            Exhibit("table_9", numbers.entry("table_9")["title"], ("comparison", "complexity", "latency"),
                    ("table_9", "complexity_9", "latency")),
            Exhibit("figure_5", "Top-1 accuracy, multiply-accumulates and phone latency of compact networks",
                    ("comparison",), drawn_from="table_9"))),
        Chapter("5.6", "Object detection", (
            Exhibit("table_10", numbers.entry("table_10")["title"], ("detection", "complexity"),
                    ("table_10", "complexity_10")),)),
    )


@functools.cache
def exhibits() -> dict[str, Exhibit]:
    """Every exhibit by its name."""
    return {exhibit.name: exhibit for chapter in in_order() for exhibit in chapter.exhibits}


def tested_at(experiment: str, place: str) -> str:
    """The name of the exhibit that a claim belongs to.

    Args:
        experiment: what tests it: an exhibit, `complexity` or `latency`.
        place: where the paper makes it. Counts and times belong to the first table that is named here, else to Table 9.
    """
    if experiment in exhibits():
        return experiment
    named = re.search(r"Table (\d+)", place)
    return f"table_{named[1]}" if named else "table_9"


def _ablations(*names: str) -> tuple[Exhibit, ...]:
    return tuple(Exhibit(name, numbers.entry(name)["title"], (name,), (name,)) for name in names)

"""What a profile's results say of themselves: claims and verdicts, scale, trainings, machine. Whatever is there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ghostlib.evidence.verdicts import ABOUT, ACCURACY, SIGNS
from ghostlib.site.chapters import tested_at


@dataclass(frozen=True)
class Results:
    """The folder results/<profile>.

    Raises:
        FileNotFoundError: it holds nothing to show.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not any(self.files(kind) for kind in ("tables", "figures", "notebooks")):
            raise FileNotFoundError(f"{self.folder} has no tables, figures or notebooks; run the profile first: "
                                    f"make repro PROFILE={self.folder.name}")

    def files(self, kind: str, suffix: str = "") -> list[Path]:
        """The files of `tables`, `figures`, `notebooks` or `runs`, in a fixed order."""
        return sorted((path for path in self.folder.glob(f"{kind}/*{suffix}") if path.is_file()), key=_natural)

    @cached_property
    def claims(self) -> list[dict]:
        """The rows of tables/claims.csv, each with the exhibit it is tested at; a number that is not there is None."""
        path = self.folder / "tables" / "claims.csv"
        if not path.exists():
            return []
        rows = pd.read_csv(path).astype(object)
        return [{**row, "exhibit": tested_at(row["experiment"], row["place"])}
                for row in rows.where(rows.notna(), None).to_dict("records")]

    @cached_property
    def verdicts(self) -> dict[str, list[dict]]:
        """The claims of each verdict, also where there are none."""
        return {verdict: [claim for claim in self.claims if claim["verdict"] == verdict] for verdict in SIGNS}

    @property
    def about(self) -> dict[str, Counter]:
        """What claims are about -> how many of them got each verdict that some got."""
        counts: dict[str, Counter] = {}
        for verdict, claims in self.verdicts.items():
            for claim in claims:
                counts.setdefault(ABOUT.get(claim["experiment"], ACCURACY), Counter())[verdict] += 1
        return counts

    @property
    def scale(self) -> str:
        """What the tables say that they were measured at; empty if none does."""
        return self._note("Measured at: (.+)")

    @property
    def teachers(self) -> str:
        """What the tables say of the teachers, if they are not the paper's."""
        return self._note("(The teachers are stand-ins.+)")

    def _note(self, pattern: str) -> str:
        for path in self.files("tables", ".md"):
            if found := re.search(f"^- {pattern}$", path.read_text(encoding="utf-8"), re.MULTILINE):
                return found[1]
        return ""

    @cached_property
    def trainings(self) -> int:
        """How many: cells with the same run share one."""
        return len({run for path in self.files("runs", ".csv") for run in _column(path, "run")})

    @cached_property
    def machine(self) -> dict[str, str]:
        """What the latencies were timed on: cpu, cpus, system, engines and date; empty if none were."""
        path = self.folder / "runs" / "latency.csv"
        if not path.exists():
            return {}
        rows = pd.read_csv(path, dtype=str)
        return {name: ", ".join(rows[name].unique()) for name in ("cpu", "cpus", "system", "engines", "date")}

    @cached_property
    def seeds(self) -> list[int]:
        """How many seeds the claims on accuracies were compared over: the fewest and the most."""
        seeds = [int(claim["seeds"]) for claim in self.claims if claim["seeds"]]
        return [min(seeds), max(seeds)] if seeds else []

    @cached_property
    def detectable(self) -> list[float]:
        """The smallest detectable differences (points) of the claims on accuracies: the smallest and the largest."""
        found = [claim["detectable"] for claim in self.claims
                 if claim["detectable"] is not None and claim["unit"] == "points"]
        return [round(min(found), 1), round(max(found), 1)] if found else []


def _column(path: Path, name: str) -> set[str]:
    rows = pd.read_csv(path, dtype=str)
    return set(rows[name].dropna()) if name in rows else set()


def _natural(path: Path) -> list:
    """table_2 before table_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]

"""What a profile's results say of themselves: which files there are, and what report.json says of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ghostlib.evidence.verdict import Verdict
from ghostlib.files import read_json
from ghostlib.paper import claims


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
        """The files of `tables`, `figures`, `notebooks` or `runs`, in a fixed order; none that is half written."""
        found = (path for path in self.folder.glob(f"{kind}/[!.]*{suffix}") if path.is_file())
        return sorted(found, key=_natural)

    @cached_property
    def report(self) -> Mapping[str, Any]:
        """report.json, as `evidence.record` writes it; empty if there is none."""
        path = self.folder / "report.json"
        return read_json(path) if path.exists() else {}

    @cached_property
    def claims(self) -> list[dict[str, Any]]:
        """The claims of the report, each with its `Verdict`, and with it `in_short`; a number not there is None."""
        rule = claims.load()[0]
        return [{**claim, "verdict": (verdict := Verdict(claim["verdict"])),
                 "in_short": verdict.with_seeds(claim["seeds"], rule)} for claim in self.report.get("claims", ())]

    @cached_property
    def by_verdict(self) -> dict[Verdict, list[dict[str, Any]]]:
        """The claims of each verdict, also where there are none."""
        return {verdict: [claim for claim in self.claims if claim["verdict"] == verdict] for verdict in Verdict}

    def judged(self, verdicts: Collection[str]) -> list[dict[str, Any]]:
        """The claims with one of these verdicts."""
        return [claim for claim in self.claims if claim["verdict"] in verdicts]

    @staticmethod
    def subjects(judged: list[dict[str, Any]]) -> str:
        """How many of these claims are about what, in words: `5 about sizes and operations, 1 about CPU time`."""
        return ", ".join(f"{count} about {subject}" for subject, count in
                         Counter(claim["subject"] for claim in judged).most_common())

    @staticmethod
    def rank(verdict: Verdict) -> int:
        """The verdict's place in the order in which verdicts are shown."""
        return list(Verdict).index(verdict)

    @property
    def detectable(self) -> list[float]:
        """The differences of accuracy (points) that comparisons detect: in the least noisy and in the noisiest."""
        found = self.report.get("detectable")
        return [round(found["least"], 1), round(found["most"], 1)] if found else []


def _natural(path: Path) -> list[int | str]:
    """table_2 before table_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]

"""What is known of the paper's claims at one profile's scale, before it is put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd

from ghostlib.evidence import cost, evidence, measured, proxy, times, verdicts
from ghostlib.evidence.verdict import Verdict
from ghostlib.paper import claims, errata
from ghostlib.training.profile import Profile


@dataclass(frozen=True)
class Findings:
    """Frames as their makers give them, and what follows from them.

    Attributes:
        folder: results/<profile>.
        profile: as experiments.yaml has it.
        measured: what the profile's files hold.
    """

    folder: Path
    profile: Profile
    measured: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    evidence: pd.DataFrame
    proxy: pd.DataFrame
    errata: pd.DataFrame
    cost: cost.Cost

    @classmethod
    def gather(cls, folder: Path, profile: Profile) -> Self:
        """Judges whatever is in `folder`; an experiment that is not there was not attempted."""
        rows = evidence.evidence(folder)
        return cls(folder, profile, measured.read(folder), verdicts.judge(rows), rows, proxy.proxy(folder),
                   errata.errata(), cost.cost(folder))

    @cached_property
    def counts(self) -> pd.DataFrame:
        """How many of the claims about something have which verdict."""
        counts = pd.crosstab(self.claims["subject"], self.claims["verdict"], margins=True, margins_name="all")
        return counts.rename_axis(None).reindex(index=[*claims.SUBJECTS, "all"], columns=[*Verdict, "all"],
                                                fill_value=0)

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most seeds that an accuracy was compared over; 0 and 0 if none was."""
        seeds = self.evidence.loc[self.evidence["decides"] & (self.evidence["seeds"] > 0), "seeds"]
        return (0, 0) if seeds.empty else (int(seeds.min()), int(seeds.max()))

    @property
    def detectable(self) -> dict[str, float]:
        """The differences (points) that comparisons detect: in the least noisy one, the median one and the noisiest."""
        rows = self.evidence[self.evidence["unit"] == "points"]
        found = rows.loc[rows["detectable"] > 0, "detectable"]
        return {"least": found.min(), "median": found.median(), "most": found.max()} if len(found) else {}

    @property
    def machine(self) -> dict[str, str]:
        """What the profile's own session of latencies was timed on; empty if there is none."""
        return measured.machine(self.measured)

    @property
    def sessions(self) -> dict[str, str]:
        """The sessions that times are judged over: name -> processor."""
        return times.Sessions.load(self.folder).cpus.to_dict()

    @property
    def scale(self) -> str:
        """What matters most of the profile's scale, which is what it says up to the semicolon."""
        return self.profile.scale.split(";")[0]

    @property
    def trainings(self) -> int:
        """How many there are behind the tables and figures."""
        return len(measured.runs(self.measured))

    @property
    def teachers(self) -> str:
        """A sentence that names the stand-in teachers; empty if the profile has none."""
        stand_ins = {name: teacher.stand_in for name, teacher in self.profile.teachers.items() if teacher.stand_in}
        accuracies, names = measured.teachers(self.folder), []
        for name, overrides in stand_ins.items():
            recipe = self.profile.resolve(overrides)
            score = f", {accuracies[name]:.1f} %" if name in accuracies else ""
            names.append(f"{name} (stand-in: {recipe.network}, {recipe.epochs} epochs{score})")
        return f"The teachers are stand-ins trained on the profile's own data: {', '.join(names)}." if names else ""

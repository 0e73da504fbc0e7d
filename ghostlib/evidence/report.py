"""The report of a profile: every claim judged, the scale judged, the errata and the costs, as Markdown and CSV.

    python -m ghostlib.evidence.report README.md results/digits     puts the summary into the README
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ghostlib.evidence import cost, evidence, verdicts
from ghostlib.evidence.claim_tables import chapter, markdown, proxy_table, quantities
from ghostlib.exhibits import story
from ghostlib.paper import claims, errata
from ghostlib.training.profile import Profile, load_params, load_profile

BEGIN, END = "<!-- summary of the digits results: begin -->", "<!-- summary of the digits results: end -->"
_READING = """\
The numbers of a claim are those of its weakest comparison, which decides. Differences of accuracy are points in the
claim's favour, with Student's {confidence:g} % interval over paired seeds, which covers what differs between trainings
of the network compared: not its teachers, which are trained once, nor the test images. The interval of a ratio of times
runs from the 10th percentile of the one network over the 90th of the other to the reverse, that of a rank correlation
is Bonett and Wright's. *Confirmed* needs every comparison, *contradicted* one; *exact* is within {tolerance:g} % of the
printed number. Below {significant} seeds nothing is called significant. The rule and its reasons are at the top of
`ghostlib/reporting/claims.yaml`; it was fixed before a profile with more than one seed was run in full. Counts and the
times of a session were known by then: verdicts on these are not blind."""


@dataclass(frozen=True)
class Report:
    """What is known of the paper's claims at one profile's scale: frames as their makers give them."""

    folder: Path
    profile: Profile
    claims: pd.DataFrame
    evidence: pd.DataFrame
    proxy: pd.DataFrame
    errata: pd.DataFrame
    costs: Sequence[str]

    @property
    def introduction(self) -> str:
        """Markdown: the scale, the seeds, how many claims have which verdict, and what that scale can show."""
        title = f"# The paper's claims at the scale of `{self.profile.name}`"
        counts = markdown(self.counts.rename_axis("claims about").reset_index())
        return "\n\n".join((title, f"Scale: {self.profile.scale}.", counts, self.reach))

    @property
    def counts(self) -> pd.DataFrame:
        """How many of the claims about something have which verdict."""
        about = self.claims["experiment"].map(verdicts.ABOUT).fillna(verdicts.ACCURACY)
        counts = pd.crosstab(about, self.claims["verdict"], margins=True, margins_name="all").rename_axis(None)
        return counts.reindex(index=[verdicts.ACCURACY, *verdicts.ABOUT.values(), "all"],
                              columns=[*verdicts.COLORS, "all"], fill_value=0)

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most seeds that an accuracy was compared over; 0 and 0 if none was."""
        seeds = self.evidence.loc[self.evidence["seeds"] > 0, "seeds"]
        return (0, 0) if seeds.empty else (int(seeds.min()), int(seeds.max()))

    @property
    def reach(self) -> str:
        """What the scale can show and what it cannot."""
        rule, (fewest, most) = claims.load()[0], self.seeds
        sentences = []
        if most == 0:
            sentences.append("No accuracy was measured.")
        elif most == 1:
            sentences.append("One seed a training: no difference of accuracies can be told from chance, so no claim "
                             "about accuracy is confirmed or contradicted, whatever the numbers. What they show is "
                             "that everything runs and is compared as described.")
        else:
            paired = f"{fewest} to {most}" if fewest < most else f"{most}"
            found = self.evidence.loc[self.evidence["detectable"] > 0, "detectable"]
            detects = (f" With {100 * rule.power:g} % power they detect {found.median():.1f} points in the median "
                       f"comparison and {found.max():.1f} in the noisiest.") if len(found) else ""
            small = most < rule.significant_seeds
            sentences.append(f"{paired} paired seeds give an interval for each difference.{detects}" + (
                f" Below {rule.significant_seeds} seeds nothing is called significant." if small else ""))
        if most:
            ranked = self.proxy["ranks"].str.startswith("It ranks").sum()
            sentences.append(f"Experiments whose cells can be ranked at all: {ranked} of {len(self.proxy)} (below).")
        if most and self.profile.data != "imagenet":
            sentences.append("Points here are not points on ImageNet: only signs and orders stand beside the paper's, "
                             "and what holds on these images, widths and steps need not hold there.")
        sentences.append("Parameters, operations and CPU times are of the networks at their full size, whatever the "
                         "profile; times are of one machine.")
        return " ".join(sentences)

    @property
    def markdown(self) -> str:
        """report.md."""
        rule = claims.load()[0]
        reading = _READING.format(confidence=100 * rule.confidence, tolerance=100 * rule.tolerance,
                                  significant=rule.significant_seeds)
        experiments = (chapter(of, self.folder) for _, of in self.claims.groupby("experiment", sort=False))
        return "\n\n".join((
            self.introduction, "## Every claim", reading, *experiments,
            "## The scale itself", "Whether the trainings can rank the cells of an experiment at all, and how their "
            "order agrees with the paper's.", markdown(proxy_table(self.proxy)), self.closing)) + "\n"

    @property
    def closing(self) -> str:
        """Markdown: the errata and the costs."""
        found = "\n".join(f"- {row.place}: {row.sentence}" for row in self.errata.itertuples())
        return "\n\n".join(("## Where the paper disagrees with itself, or cannot be followed", found,
                            "## What it cost", "\n".join(f"- {line}" for line in self.costs)))

    @property
    def summary(self) -> str:
        """summary.md, which README.md shows: the verdicts' counts, the headline claims and what else was decided."""
        total = self.counts.loc["all"]
        told = ", ".join(f"{total[verdict]} {verdict}" for verdict in verdicts.COLORS)
        headline = {claim.id for claim in claims.load()[1] if claim.headline}
        shown = self.claims["id"].isin(headline) | self.claims["verdict"].isin(["confirmed", "contradicted"])
        chosen = self.claims[shown]
        table = quantities(chosen)[["Claim", "What decides", "Paper", "Ours"]].assign(Verdict=chosen["verdict"])
        return f"{total['all']} claims of the paper at this scale: {told}.\n\n{markdown(table)}\n"

    def write(self) -> None:
        """Writes report.md, summary.md and tables/claims.csv, evidence.csv and proxy.csv."""
        tables = self.folder / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        for name in ("claims", "evidence", "proxy"):
            getattr(self, name).to_csv(tables / f"{name}.csv", index=False, float_format="%.6g")
        (self.folder / "report.md").write_text(self.markdown, encoding="utf-8")
        (self.folder / "summary.md").write_text(self.summary, encoding="utf-8")


def load(profile_name: str) -> Report:
    """Judges whatever is in results/<profile>; an experiment that is not there was not attempted."""
    profile = load_profile(profile_name, load_params())
    folder = story.RESULTS / profile.name
    rows = evidence.evidence(folder)
    return Report(folder, profile, verdicts.judge(rows), rows, evidence.proxy(folder), errata.errata(),
                  cost.costs(folder))


def insert(readme: str, summary: str) -> str:
    """The README's text with `summary` between its two markers.

    Raises:
        ValueError: it does not have the markers, once each and in order.
    """
    block = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    text, found = block.subn(lambda _: f"{BEGIN}\n{summary}{END}", readme)
    if found != 1:
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}, once each; put them where the summary goes")
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ghostlib.evidence.report", description=__doc__.splitlines()[0])
    parser.add_argument("readme", type=Path, help="the file with the two markers")
    parser.add_argument("results", type=Path, help="results/<profile>, with its summary.md")
    chosen = parser.parse_args(arguments)
    summary = (chosen.results / "summary.md").read_text(encoding="utf-8")
    chosen.readme.write_text(insert(chosen.readme.read_text(encoding="utf-8"), summary), encoding="utf-8")


if __name__ == "__main__":
    main()

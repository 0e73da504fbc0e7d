"""The report of a profile: every claim and the scale judged, the errata and the costs, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from functools import cached_property

from ghostlib.evidence import cost, record, summary
from ghostlib.evidence.claim_tables import chapter, markdown, proxy_table
from ghostlib.evidence.findings import Findings
from ghostlib.files import write_atomic
from ghostlib.measures import classifiers, detectors, places
from ghostlib.paper import claims, labels
from ghostlib.training.profile import load_params, load_profile

_READING = """\
The numbers of a claim are those of its weakest comparison, which decides; the mean of all stands in the reason.
Differences of accuracy are points in the claim's favour, with a {confidence:g} % interval where there are two seeds or
more. [How the verdicts are made](#how-the-verdicts-are-made) stands below the claims."""

_RULE = """\
| verdict | what it takes |
| --- | --- |
| exact | every count within {tolerance:g} % of the printed number, or on the claimed side of another; every accuracy \
of public weights within {points:g} points of the printed one |
| confirmed | the interval of every comparison on the claimed side |
| bounded | every difference of top-1 confirmed or, by at least {bounded} seeds, smaller than {margin:g} points, of \
whichever sign |
| contradicted | one count off; or the interval of one comparison on the other side, even when it is widened for the \
number of the claim's comparisons |
| inconclusive | none of these: the measurements leave it open |
| not attempted | nothing here can tell, and the reason says why |

The interval of a difference of accuracies is over paired seeds and, where it is recorded which test images each
training gets right, over these, too. It covers what differs between trainings of the network compared: not its
teachers, which are trained once. A ratio of times is the geometric mean over sessions, runs of the latency stage, of
the ratios of medians; its interval is Student's of the logarithms between sessions, and fewer than {sessions} decide
nothing. The interval of a rank correlation is Bonett and Wright's. Below {significant} seeds nothing is called
significant, and no p-value is shown. The protocol and the rule are in `ghostlib/paper/claims.yaml`, which marks what
is our claim and not the paper's.

What changed in the rule, when, and what was known then:

{history}"""


class Report(Findings):
    """The findings as documents."""

    @property
    def introduction(self) -> str:
        """Markdown: the scale, the seeds, how many claims have which verdict, and what that scale can show."""
        title = f"# The paper's claims at the scale of `{self.profile.name}`"
        given = self.counts.loc[:, self.counts.loc["all"] > 0]
        counts = markdown(given.rename_axis("claims about").reset_index())
        return "\n\n".join((title, f"Scale: {self.profile.scale}. {self.teachers}".strip(), counts, self.reach))

    @property
    def reach(self) -> str:
        """What the scale can show and what it cannot."""
        rule, (fewest, most) = claims.load()[0], self.seeds
        sentences = []
        if most == 0:
            sentences.append("No accuracy was measured.")
        elif most == 1:
            sentences.append("One seed a training: how much seeds differ is unknown, so no claim about accuracy is "
                             "confirmed or contradicted, whatever the numbers. What they show is that everything runs "
                             "and is compared as described.")
        else:
            paired = f"{fewest} to {most}" if fewest < most else f"{most}"
            found = self.detectable
            detects = (f" With {100 * rule.power:g} % power they detect {found['median']:.1f} points in the median "
                       f"comparison and {found['most']:.1f} in the noisiest.") if found else ""
            small = most < rule.significant_seeds
            alone = " where there are two or more; of one seed there is none, and it decides nothing" * (fewest == 1)
            sentences.append(f"{paired} paired seeds give an interval for each difference{alone}.{detects}" + (
                f" Below {rule.significant_seeds} seeds nothing is called significant." if small else ""))
        if most:
            sentences.append("Experiments whose cells can be ranked at all: "
                             f"{self.proxy['rankable'].sum()} of {(self.proxy['cells'] > 0).sum()} (below).")
        if most and self.profile.data != "imagenet":
            sentences.append("Points here are not points on ImageNet: only signs and orders stand beside the paper's, "
                             "and what holds on these images, widths and steps need not hold there.")
        sentences.append("Parameters, operations and CPU times are of the networks at their full size, whatever the "
                         "profile; times are of the machines that they were taken on.")
        return " ".join(sentences)

    @cached_property
    def markdown(self) -> str:
        """report.md."""
        rule = claims.load()[0]
        made = _RULE.format(tolerance=100 * rule.tolerance, significant=rule.significant_seeds,
                            bounded=rule.bounded_seeds, margin=rule.margin, sessions=rule.latency_sessions,
                            points=rule.weights_tolerance, history=claims.history())
        experiments = (chapter(judged, self.folder) for _, judged in self.claims.groupby("experiment", sort=False))
        return "\n\n".join((
            self.introduction, "## Every claim", _READING.format(confidence=100 * rule.confidence), *experiments,
            "## How the verdicts are made", made,
            "## The scale itself", "Whether the trainings can rank the cells of an experiment at all, and how their "
            "order agrees with the paper's. They can where one half of the seeds orders the cells as the other half "
            f"does, by a mean ρ of {rule.reliability:g} or more over all halves. Cells that can be "
            "ranked on the whole may still be neighbours whose difference is open. A cell of "
            f"{rule.ceiling:g} % or more is at the ceiling.",
            markdown(proxy_table(self.proxy)), self.closing)) + "\n"

    @property
    def closing(self) -> str:
        """Markdown: the errata and the costs."""
        found = "\n".join(f"- {row.place}: {row.sentence}" for row in self.errata.itertuples())
        costs = "\n".join(f"- {sentence}" for sentence in cost.sentences(self.cost, self.machine))
        return "\n\n".join(("## Where the paper disagrees with itself, or cannot be followed", found,
                            "## What it cost", costs))

    def write(self) -> None:
        """Writes report, answer and summary as .md, report and metrics as .json; tables/{claims,evidence,proxy}.csv.

        Where no comparison has seeds enough for a p, the tables have no column for it.
        """
        untested = [] if self.evidence["p"].notna().any() else ["p", "p_holm"]
        for name in ("claims", "evidence", "proxy"):
            table = getattr(self, name).drop(columns=untested, errors="ignore")
            write_atomic(self.folder / "tables" / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
        write_atomic(self.folder / "report.md", self.markdown)
        write_atomic(self.folder / "answer.md", summary.answer(self))
        write_atomic(self.folder / "summary.md", summary.table(self))
        for name, content in (("report", record.full(self)), ("metrics", record.metrics(self))):
            write_atomic(self.folder / f"{name}.json",
                         json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n")


def load(profile_name: str) -> Report:
    """The report of results/<profile>.

    Raises:
        ConfigError: experiments.yaml has no such profile, or results are of other settings than those of now.
    """
    params = load_params()
    profile = load_profile(profile_name, params)
    labels.check(params["experiments"])
    classifiers.check(profile_name)
    detectors.check(profile_name)
    return Report.gather(places.folder(profile.name), profile)

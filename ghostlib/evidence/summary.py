"""The findings in brief: the first screen of README.md, and its table of the claims that matter."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pandas as pd

from ghostlib.evidence.claim_tables import in_short, markdown, quantities, statements
from ghostlib.evidence.contrast import LOST
from ghostlib.evidence.findings import Findings
from ghostlib.evidence.quantities import counted, number, with_interval
from ghostlib.evidence.times import ENGINE
from ghostlib.evidence.verdict import Verdict
from ghostlib.paper import claims

FEW = 6  # claims of a kind that the answer lists whole; of more it lists the headlines
# The verdicts as a reader first meets them, in the order of the answer.
_WORDS = {Verdict.EXACT: "held", Verdict.CONFIRMED: "held", Verdict.CONTRADICTED: "failed",
          Verdict.BOUNDED: "within the margin", Verdict.INCONCLUSIVE: "open", Verdict.NOT_ATTEMPTED: "not attempted"}


def answer(found: Findings) -> str:
    """answer.md: how many claims held, failed and are open, at which scale and how sure that is, and the main ones.

    Of the open claims it names those that were measured with as many seeds or sessions as can decide one. Of those that
    were not attempted it says how many could be.
    """
    own = (found.claims["claimed_by"] == "us").sum()
    words = found.claims["verdict"].map(_WORDS)
    columns = [word for word in dict.fromkeys(_WORDS.values()) if (words == word).any()]
    counts = pd.crosstab(found.claims["subject"], words, margins=True, margins_name="all").reindex(
        index=[subject for subject in (*claims.SUBJECTS, "all") if subject in {*found.claims["subject"], "all"}],
        columns=[*columns, "all"])
    named = {word: found.claims[words == word] for word in columns if word != "not attempted"}
    # Of the open ones the first to be named are those that could have been decided.
    shown = {word: of[[*map(_left_open, of.itertuples())]] if word == "open" else of for word, of in named.items()}
    return "\n".join((
        f"{len(found.claims)} claims, {len(found.claims) - own} of the paper and {own} of ours. Accuracies are "
        f"measured at the scale of `{found.profile.name}`: {found.scale}. Sizes, operations and CPU times are of "
        "the whole networks.", "",
        markdown(counts.rename_axis("claims about").reset_index()), "", " ".join(["How sure:", *certainty(found)]), "",
        *(line for word in named for line in _listed(word, shown[word], len(named[word]))), *_untried(found))) + "\n"


def _listed(word: str, judged: pd.DataFrame, count: int) -> list[str]:
    """A line for each of the main claims that came out in one way, and how many of these, `count`, are others."""
    shown, word = _main(judged), f"- **{word.capitalize()}**"
    lines = [f"{word}{_few(row)}: {sentence}"
             for row, sentence in zip(shown.itertuples(), _sentences(shown), strict=True)]
    others = count - len(lines) if lines else 0
    return lines + [f"{word}: {others} more, which the report names."] * bool(others)


def _untried(found: Findings) -> list[str]:
    """How many claims wait for an experiment, and of how many nothing here can tell; no line where all were tried."""
    of = found.claims[found.claims["verdict"] == Verdict.NOT_ATTEMPTED]
    untried, lost = set(of["id"]), int(of["reason"].str.endswith(LOST).sum())
    absent = sum(claim.id in untried for claim in claims.load()[1] if claim.not_attempted or claim.weights)
    told = [f"{why} ({count})" for why, count in (
        ("for want of an experiment that is left out or not yet run at this scale", len(untried) - absent - lost),
        ("as a training diverged that they compare", lost),
        ("where nothing here can tell, without ImageNet, COCO, a phone, others' trainings or an experiment that the "
         "paper does not have", absent)) if count]
    return [f"- **Not attempted**: {', and '.join(told)}; the report says of each why."] if told else []


def certainty(found: Findings) -> list[str]:
    """What decides, of which sort of number, in sentences."""
    rule, (fewest, most) = claims.load()[0], found.seeds
    paired = f"{most}" if fewest == most else f"{fewest} to {most}"
    alone = " One seed has none and decides nothing." * (fewest == 1)
    accuracies = {0: "No accuracy was measured.",
                  1: "One seed decides no claim about accuracy, however large the difference."}.get(
        most, f"A difference of accuracies has a {100 * rule.confidence:g} % interval, over {paired} paired seeds and, "
              f"except for detectors, the test images.{alone} A claim held if all of its intervals lie on its side. "
              "It failed if one lies on the other side, even when widened for their number. It is within the margin if "
              f"every interval that does not lie on its side lies within ±{rule.margin:g} points, of "
              f"{rule.bounded_seeds} seeds or more.")
    counts = f"A count holds within {100 * rule.tolerance:g} % of the printed number."
    cpus = ", ".join(f"{number} on {cpu}" for cpu, number in Counter(found.sessions.values()).items())
    times = f"CPU times are of {ENGINE} on one thread, in {counted(len(found.sessions), 'session')} ({cpus})."
    return [accuracies, counts, *([times] if cpus else [])]


def table(found: Findings) -> str:
    """summary.md: the headline claims and whatever else was decided, with the numbers that decide.

    Below the table stands what a reader must know of the claims that are confirmed.
    """
    decided = found.claims["verdict"].isin([Verdict.EXACT, Verdict.CONFIRMED, Verdict.BOUNDED, Verdict.CONTRADICTED])
    chosen = found.claims[found.claims["id"].isin(_headlines()) | decided]
    shown = quantities(chosen)[["Claim", "Weakest comparison", "Paper", "Here", "Runs"]].assign(
        Claim=statements(chosen), Verdict=in_short(chosen))
    weak = found.claims[(found.claims["verdict"] == Verdict.CONFIRMED) & (found.claims["but"] != "")]
    notes = "".join(f"- {claim.statement} *{short[0].upper()}{short[1:]}.* {claim.caveat}\n"
                    for claim, short in zip(weak.itertuples(), in_short(weak), strict=True))
    return f"{markdown(shown)}\n" + (f"\n{notes}" if notes else "")


def insert(readme: str, name: str, text: str) -> str:
    """The README's text with `text` between the markers of this name.

    Raises:
        ValueError: it does not have the markers, once each and in order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    block = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    replaced, count = block.subn(lambda _: f"{begin}\n{text}{end}", readme)
    if count != 1:
        raise ValueError(f"README.md needs the lines {begin} and {end}, once each; put them where the text goes")
    return replaced


def _few(row: Any) -> str:
    """How many seeds a verdict rests on, where they are few."""
    return Verdict(row.verdict).with_seeds(row.seeds, claims.load()[0]).removeprefix(row.verdict)


def _left_open(row: Any) -> bool:
    """Whether a claim is open although it was measured with as many seeds or sessions as can decide it."""
    rule = claims.load()[0]
    return row.verdict == Verdict.INCONCLUSIVE and (row.seeds >= rule.significant_seeds
                                                    or row.sessions >= rule.latency_sessions)


def _main(judged: pd.DataFrame) -> pd.DataFrame:
    headline = judged["id"].isin(_headlines())
    return judged if len(judged) <= FEW or not headline.any() else judged[headline]


def _headlines() -> set[str]:
    return {claim.id for claim in claims.load()[1] if claim.headline}


def _sentences(judged: pd.DataFrame) -> list[str]:
    """Claims in words: with whose they are, what was measured, and what must be known of them."""
    said = []
    for row in judged.itertuples():
        told = "; ".join(filter(None, ["our claim" * (row.claimed_by == "us"), beside(row)]))
        said.append(f"{row.statement.rstrip('.')} ({told})." if told else row.statement)
    return said


def beside(row: Any) -> str:
    """What stands beside a claim: the paper's number and ours and, where it held, what must be known of it.

    Beside an open claim stands, too, how many of several comparisons hold, or nothing if it was measured with too few
    seeds or sessions to decide it.

    Args:
        row: of `Findings.claims`.
    """
    undecided = _left_open(row)
    if row.verdict in (Verdict.INCONCLUSIVE, Verdict.NOT_ATTEMPTED) and not undecided:
        return ""
    numbers = ""
    if row.verdict != Verdict.EXACT:
        paper = f"paper {number(row.paper, row.unit)}, " if pd.notna(row.paper) else ""
        unit = f" {row.unit}" * row.unit.startswith("points")
        of = "order by" if row.unit == "ρ" else "time of"
        what = f"{of} {row.comparison.partition(' (')[0]}" if row.sessions else row.comparison
        ours = with_interval(row.ours, row.low, row.high, row.unit)
        numbers = f"{what}: {paper}here {ours}{unit}"
    return "; ".join(filter(None, [", but ".join(filter(None, [numbers, row.but])), row.part * undecided]))

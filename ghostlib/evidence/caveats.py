"""What a reader must know to weigh a verdict: fairer rivals, other sessions, and what claims.yaml says of the claim."""

from __future__ import annotations

import pandas as pd

from ghostlib.evidence import times
from ghostlib.evidence.quantities import with_interval
from ghostlib.paper.claims import Aside, Claim, Rule, ratios


def caveat(claim: Claim, asides: pd.DataFrame, ours: pd.DataFrame, rule: Rule) -> str:
    """The sentences that end a claim's reason.

    Args:
        claim: what they are about.
        asides: the claim's rows of the evidence that decide nothing.
        ours: those that decide, in the order of the claim.
        rule: claims.yaml's.
    """
    measured = [(aside, asides[asides["note"] == aside.says]) for aside in claim.asides]
    beside = [_beside(aside, rows) for aside, rows in measured if len(rows)]
    return " ".join(filter(None, [*beside, claim.caveat, *_sessions(claim, ours, rule)]))


def but(claim: Claim, rule: Rule) -> str:
    """The same in a few words, to stand beside a verdict that the claim holds; empty if there is nothing to know."""
    counts = [(_holding(name, rule), len(times.sessions()[name])) for name in _timed_again(claim)]
    rarely = [f"in {holding} of {sessions} sessions only" for holding, sessions in counts if holding < sessions]
    return ", ".join(filter(None, [claim.but, *rarely]))


def _beside(aside: Aside, rows: pd.DataFrame) -> str:
    """Of what was measured of an aside: the differences, and how many of their intervals lie above zero."""
    values = [with_interval(row.ours, row.low, row.high, row.unit) for row in rows.itertuples()]
    labels = [f" ({label})" if label else "" for label in rows["comparison"]]
    if len(rows) == 1:
        sentence = f"{aside.says} {values[0]} points{labels[0]}"
    else:
        sentence = f"{aside.says} {', '.join(map(''.join, zip(values, labels, strict=True)))} points"
    if rows["low"].isna().any():
        return f"{sentence}, without an interval: one seed."
    above = int((rows["low"] > 0).sum())
    if len(rows) == 1:
        where = "lies above" if above else "lies below" if rows["high"].item() < 0 else "holds"
        return f"{sentence}: the interval {where} zero."
    return f"{sentence}: {above} of the {len(rows)} intervals lie above zero."


def _sessions(claim: Claim, ours: pd.DataFrame, rule: Rule) -> list[str]:
    """How often a ratio's claim held in the sessions that timed it, by the rule that judges this profile's own."""
    sentences = []
    for name in _timed_again(claim):
        sessions, ratio = times.sessions()[name], ratios()[name]
        listed = ", ".join(with_interval(*session, "×") for session in sessions.itertuples(index=False))
        sentences.append(f"{times.label(ratio)} was confirmed in {_holding(name, rule)} of {len(sessions)} sessions: "
                         f"{listed}.")
        own = ours.iloc[claim.latencies.index(name)][["ours", "low", "high"]].astype(float).round(2)
        if own.notna().all() and not (sessions.to_numpy() == own.to_numpy()).all(axis=1).any():
            sentences.append("The session in the tables is not among them.")
    return sentences


def _timed_again(claim: Claim) -> list[str]:
    return [name for name in claim.latencies if name in times.sessions()]


def _holding(name: str, rule: Rule) -> int:
    """In how many sessions the interval of a ratio lies on the claimed side of its bound."""
    ratio, sessions = ratios()[name], times.sessions()[name]
    limit = times.bound(ratio, rule)
    return int(((sessions["high"] < limit) if ratio.direction == "at most" else (sessions["low"] > limit)).sum())

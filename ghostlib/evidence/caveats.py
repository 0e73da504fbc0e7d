"""What a reader must know to weigh a verdict: fairer rivals, and what claims.yaml says of the claim."""

from __future__ import annotations

import pandas as pd

from ghostlib.evidence.quantities import with_interval
from ghostlib.paper.claims import Aside, Claim


def caveat(claim: Claim, asides: pd.DataFrame) -> str:
    """The sentences that end a claim's reason.

    Args:
        claim: what they are about.
        asides: the claim's rows of the evidence that decide nothing.
    """
    measured = [(aside, asides[asides["note"] == aside.says]) for aside in claim.asides]
    beside = [_beside(aside, rows) for aside, rows in measured if len(rows)]
    return " ".join(filter(None, [*beside, claim.caveat]))


def _beside(aside: Aside, rows: pd.DataFrame) -> str:
    """Of what was measured of an aside: the differences, and how many of their intervals lie above or below zero."""
    values = [with_interval(row.ours, row.low, row.high, row.unit) for row in rows.itertuples()]
    labels = [f" ({label})" if label else "" for label in rows["comparison"]]
    if len(rows) == 1:
        sentence = f"{aside.says} {values[0]} points{labels[0]}"
    else:
        sentence = f"{aside.says} {', '.join(map(''.join, zip(values, labels, strict=True)))} points"
    if rows["low"].isna().any():
        return f"{sentence}, without an interval: one seed."
    above, below = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
    if len(rows) == 1:
        where = "lies above" if above else "lies below" if below else "holds"
        return f"{sentence}: the interval {where} zero."
    also = f", {below} below it" if below else ""
    return f"{sentence}: {above} of the {len(rows)} intervals {'lies' if above == 1 else 'lie'} above zero{also}."

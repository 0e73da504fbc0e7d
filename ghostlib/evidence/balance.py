"""Whether a network is undominated: whether none that is at least as accurate costs less."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ghostlib.evidence import times
from ghostlib.exhibits.panels import family
from ghostlib.paper import numbers
from ghostlib.paper.claims import Rule, Undominated, as_accurate


def pairs(claimed: Undominated) -> list[tuple[str, str]]:
    """The claimed rows of Table 9, each with every row of another network of at least its published accuracy."""
    return [(row, rival) for row in claimed.rows for rival in as_accurate(row) if family(rival)[0] != family(row)[0]]


def compare(claimed: Undominated, counts: Mapping[tuple[str, str], float], timed: times.Sessions,
            rule: Rule) -> Iterator[dict[str, Any]]:
    """The cost of one over that of the other, which is below 1 where it is not dominated: records, in that order.

    Args:
        claimed: the rows and what their cost is.
        counts: (row, quantity) -> what was counted here.
        timed: by which sessions.
        rule: claims.yaml's.
    """
    printed, compared = numbers.table("table_9")[claimed.cost], pairs(claimed)
    for row, rival in compared:
        if claimed.cost == numbers.CPU:
            yield {**times.over_sessions(row, rival, "at most", timed, rule, len(compared)), "bound": 1.0}
            continue
        ours = counts.get((row, claimed.cost), math.nan) / counts.get((rival, claimed.cost), math.nan)
        yield {"comparison": f"{row} / {rival}", "paper": printed[row] / printed[rival], "ours": ours, "unit": "×",
               "test": "fewer", "bound": 1.0,
               "note": "runs/complexity.csv does not tell them." if math.isnan(ours) else ""}


def dominating(claimed: Undominated, contradicted: Sequence[bool], held: Sequence[bool]) -> str:
    """Sentences that name the networks that dominate, and those of which it is open.

    Args:
        claimed: as in `compare`.
        contradicted: which of its records were.
        held: which of them were found to be so.
    """
    dominated, left = _named(claimed, contradicted), _named(claimed, [
        not (a or b) for a, b in zip(contradicted, held, strict=True)])
    return " ".join([f"Dominated: {dominated}." if dominated else "No network is shown to dominate any of them.",
                     *([f"Not decided is whether these are dominated: {left}."] if left else [])])


def _named(claimed: Undominated, chosen: Sequence[bool]) -> str:
    found: dict[str, list[str]] = {}
    for row, rival in itertools.compress(pairs(claimed), chosen):
        found.setdefault(row, []).append(rival)
    return "; ".join(f"{row} by {', '.join(others)}" for row, others in found.items())

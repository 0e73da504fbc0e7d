"""From one comparison to its verdict, by the rule that claims.yaml fixes.

What is claimed of a comparison's `ours`, its `test`:

    equal         the paper's number, but for the rule's tolerance
    within        the paper's number, but for `bound` points
    fewer         below `bound`: a count, which has no interval
    at least      its interval lies above `bound`
    at most       its interval lies below `bound`
"""

from __future__ import annotations

import math

import pandas as pd

from ghostlib.evidence.verdict import Verdict
from ghostlib.paper.claims import Rule

_SIDE = {"at least": 1, "at most": -1}


def decide(comparison: pd.Series, rule: Rule) -> Verdict:
    """The verdict on one comparison.

    Args:
        comparison: a row of the evidence. `seeds` is 0 for what has none, a count or a time.
        rule: claims.yaml's.
    """
    if math.isnan(comparison["ours"]):
        return Verdict.NOT_ATTEMPTED
    if is_exact(comparison):
        inside = margin(comparison, rule)
        holds = inside > 0 or (inside == 0 and comparison["test"] != "fewer")
        return Verdict.EXACT if holds else Verdict.CONTRADICTED
    if comparison["seeds"] == 1 or all_alike(comparison) or 0 < comparison["sessions"] < rule.latency_sessions:
        return Verdict.INCONCLUSIVE
    if _beyond(comparison, _near(comparison)) > 0:
        return Verdict.CONFIRMED
    if _beyond(comparison, comparison["most"]) < 0:
        return Verdict.CONTRADICTED
    return Verdict.BOUNDED if is_small(comparison, rule) else Verdict.INCONCLUSIVE


def margin(comparison: pd.Series, rule: Rule) -> float:
    """How far the comparison, the near end of its interval if it has one, is on the claimed side; NaN if not measured.

    Of a ratio, which may have to be small or large, in logarithms.
    """
    if math.isnan(comparison["ours"]):
        return math.nan
    match comparison["test"]:
        case "equal":
            return rule.tolerance - abs(deviation(comparison))
        case "within":
            return comparison["bound"] - abs(points(comparison))
        case "fewer":
            return comparison["bound"] - comparison["ours"]
    near = _near(comparison)
    near = comparison["ours"] if math.isnan(near) else near
    if comparison["unit"] == "×":
        return float(_SIDE[comparison["test"]] * math.log(near / comparison["bound"]))
    return _beyond(comparison, near)


def is_exact(comparison: pd.Series) -> bool:
    """Whether what is claimed of it has no noise."""
    return comparison["test"] not in _SIDE


def is_saved(comparison: pd.Series) -> bool:
    """Whether all of the interval is on the wrong side, but not once widened for the claim's comparisons."""
    far = comparison["high" if _SIDE[comparison["test"]] > 0 else "low"]
    return _beyond(comparison, far) < 0 <= _beyond(comparison, comparison["most"])


def is_small(comparison: pd.Series, rule: Rule) -> bool:
    """Whether the interval, of enough seeds, lies within the margin, if there is one."""
    farthest = max(abs(comparison["low"]), abs(comparison["high"]))
    return comparison["seeds"] >= rule.bounded_seeds and farthest < comparison["margin"]


def all_alike(comparison: pd.Series) -> bool:
    """Whether all seeds gave the same difference."""
    return comparison["seeds"] > 1 and comparison["half_seeds"] == 0


def deviation(comparison: pd.Series) -> float:
    """From the printed number, as a share of it."""
    return comparison["ours"] / comparison["paper"] - 1


def points(comparison: pd.Series) -> float:
    """Between two accuracies; rounded, so that 77.2 is not more than 0.1 from 77.1."""
    return round(comparison["ours"] - comparison["paper"], 6)


def _near(comparison: pd.Series) -> float:
    """The end of the interval that must be on the claimed side."""
    return comparison["low" if _SIDE[comparison["test"]] > 0 else "high"]


def _beyond(comparison: pd.Series, value: float) -> float:
    return float(_SIDE[comparison["test"]] * (value - comparison["bound"]))

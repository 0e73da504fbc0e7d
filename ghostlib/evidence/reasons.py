"""What a verdict follows from, in sentences."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ghostlib.evidence.decide import all_alike, deviation, is_exact, is_small, points
from ghostlib.evidence.quantities import counted, nats, number, with_interval
from ghostlib.evidence.verdict import Verdict
from ghostlib.paper.claims import Rule


def reason(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    """Why a claim has its verdict.

    Args:
        decided: rows of the evidence, the claim's comparisons, with the verdict on each.
        deciding: the one of them whose verdict is the claim's.
        rule: claims.yaml's.
    """
    if deciding["verdict"] == Verdict.NOT_ATTEMPTED:
        return deciding["note"]
    sentences, holds = [], Verdict.EXACT if is_exact(deciding) else Verdict.CONFIRMED
    if len(decided) > 1 and not (decided["seeds"] == 1).all():
        bounded = (decided["verdict"] == Verdict.BOUNDED).sum()
        sentences.append(f"{(decided['verdict'] == holds).sum()} of {len(decided)} comparisons are {holds}"
                         f"{f', {bounded} {Verdict.BOUNDED}' if bounded else ''}.")
    if deciding["test"] == "equal":
        expected = "ratio of the printed numbers" if deciding["unit"] == "×" else "printed number"
        why = f": {deciding['note']}" if deciding["note"] else "."
        off = f"{100 * deviation(deciding):+.1f} %".replace("-", "−")
        sentences.append(f"{off} from the {expected}{why}")
    elif deciding["test"] == "within":
        sentences.append(f"{number(points(deciding), 'points')} points from the printed number. {deciding['note']}")
    elif deciding["test"] == "fewer":
        share = f"{100 * (deciding['ours'] - 1):+.1f} %".replace("-", "−")
        sentences.append(f"{share}, and counts have no noise. {deciding['note']}".strip())
    elif not deciding["seeds"]:
        sentences += [_timed(decided, deciding, rule), deciding["note"]]
    else:
        sentences += [_interval(decided, deciding, rule), _significance(decided, deciding, rule), _losses(decided)]
        sentences.append(deciding["note"])
        if opposed := list(decided.loc[decided["paper"] < decided["bound"], "comparison"]):
            sentences.append(f"The paper's own numbers say the opposite of {', and of '.join(opposed)}.")
    return " ".join(filter(None, sentences))


def _timed(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    """Where the interval over sessions, or over networks, lies."""
    if deciding["sessions"] < rule.latency_sessions:
        return f"Of {deciding['sessions']} sessions, and {rule.latency_sessions} are the least for a verdict."
    side, other = ("above", "below") if deciding["test"] == "at least" else ("below", "above")
    if deciding["verdict"] == Verdict.CONFIRMED:
        where = f"lies {side} it"
    elif deciding["low"] <= deciding["bound"] <= deciding["high"]:
        where = "reaches across it"
    else:
        widened = f", {'also' if deciding['verdict'] == Verdict.CONTRADICTED else 'but not'} {_widened(decided)}"
        where = f"lies {other} it{widened if len(decided) > 1 else ''}"
    over = "networks" if deciding["unit"] == "ρ" else f"{deciding['sessions']} sessions"
    return f"The interval over {over} must lie {side} {deciding['bound']:.2f} and {where}."


def _interval(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    seeds = deciding["seeds"]
    if seeds == 1:
        ahead = (decided["ours"] > decided["bound"]).sum()
        return f"Not decided by one seed ({ahead} of {len(decided)} have the claimed sign)."
    if all_alike(deciding):
        return f"All {seeds} seeds gave the same difference: the interval has no width and says nothing."
    bound = f"{number(deciding['bound'], 'points')} points" if deciding["bound"] else "zero"
    over = "seeds alone" if math.isnan(deciding["half_images"]) else "seeds and test images"
    interval = f"The {100 * rule.confidence:g} % interval of {seeds} seeds, over {over},"
    small = f" All of it lies within ±{rule.margin:g} points, the margin." if is_small(deciding, rule) else ""
    if deciding["verdict"] == Verdict.CONFIRMED:
        return f"{interval} lies above {bound}.{small}"
    if deciding["verdict"] == Verdict.CONTRADICTED:
        return f"{interval} lies below {bound}" + (f", also {_widened(decided)}." if len(decided) > 1 else ".") + small
    if deciding["verdict"] == Verdict.BOUNDED:
        return f"{interval} lies within ±{rule.margin:g} points: any effect at this scale is smaller than that."
    certain = deciding["high"] < deciding["bound"]
    where = f"lies below {bound}, but not {_widened(decided)}" if certain else f"holds {bound}"
    return (f"{interval} {where}; the smallest difference that they detect with {100 * rule.power:g} % power is "
            f"{deciding['detectable']:.2f} {deciding['unit']}.")


def _widened(decided: pd.DataFrame) -> str:
    return f"when widened for the claim's {len(decided)} comparisons"


def _significance(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    if deciding["seeds"] < rule.significant_seeds:
        return ""  # nothing is called significant
    # All comparisons confirm a claim, one contradicts it.
    backing = decided if deciding["verdict"] == Verdict.CONFIRMED else decided.loc[[deciding.name]]
    p, alone = backing["p_holm"].max(), backing["p"].max()
    backed = p < rule.alpha and backing["seeds"].min() >= rule.significant_seeds
    decided_by_it = deciding["verdict"] in (Verdict.CONFIRMED, Verdict.CONTRADICTED)
    word, decides = "Significant, sign" if backed and decided_by_it else "Sign", decided_by_it and not backed
    return (f"{word}-flip p = {alone:.2g}, {p:.2g} after Holm's correction"
            f"{', not significant; the intervals, which decide, are not corrected over all claims' * decides}.")


def _losses(decided: pd.DataFrame) -> str:
    """The comparisons whose log-losses differ the other way, with an interval off zero; empty if there are none."""
    worse = (decided["ours"] > 0) & (decided["loss_low"] > 0)
    better = (decided["ours"] < 0) & (decided["loss_high"] < 0)
    opposed = decided[(worse | better) & (decided["bound"] == 0)]  # a claim of no gain has no side to oppose
    if opposed.empty:
        return ""
    if len(opposed) > 2:
        return f"Test log-loss says the opposite of {len(opposed)} of the {len(decided)} comparisons."
    named = [f"{row.comparison} ({nats(row.loss, row.loss_low, row.loss_high)})" for row in opposed.itertuples()]
    return f"Test log-loss says the opposite of {', and of '.join(named)}."


def averaged(mean: dict[str, Any], decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    """The mean over the comparisons, as `verdicts.judge` gives it, and whether it hides what differs from zero."""
    if not mean or len(decided) == 1 or deciding["verdict"] == Verdict.NOT_ATTEMPTED:
        return ""
    value = with_interval(mean["mean"], mean["mean_low"], mean["mean_high"], "points")
    where = {"": "without an interval", "holds zero": "which holds zero"}.get(mean["mean_word"], mean["mean_word"])
    gains, losses = int((decided["ours"] > rule.margin).sum()), int((decided["ours"] < -rule.margin).sum())
    cancel = f"; {counted(gains, 'gain')} and {counted(losses, 'loss')} beyond it cancel" if gains and losses else ""
    return (f"Averaged over the {len(decided)} comparisons within a seed: {value} points, {where}"
            f"{cancel * (mean['mean_word'] == 'within the margin')}.")

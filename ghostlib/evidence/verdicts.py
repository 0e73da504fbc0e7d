"""From evidence to verdicts, by the rule that claims.yaml fixes."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ghostlib.evidence import balance, caveats
from ghostlib.evidence.contrast import MEAN
from ghostlib.evidence.quantities import counted, nats, number, with_interval
from ghostlib.evidence.verdict import Verdict
from ghostlib.paper import claims
from ghostlib.paper.claims import Claim, Rule

COLUMNS = ["id", "statement", "place", "claimed_by", "subject", "exhibit", "experiment", "comparison", "paper", "ours",
           "low", "high", "unit", "seeds", "sessions", "p", "p_holm", "detectable", "mean", "mean_low", "mean_high",
           "mean_word", "loss", "loss_low", "loss_high", "verdict", "part", "but", "reason", "caveat"]


def judge(evidence: pd.DataFrame) -> pd.DataFrame:
    """The verdict on each claim: one row each in the order of claims.yaml, with the columns `COLUMNS`.

    A claim is confirmed if all its comparisons hold. `claimed_by` is "the paper" or "us". The numbers are of the
    comparison that decides, but for `mean`, the mean over all comparisons within a seed, and `mean_word`, where its
    interval lies. `caveat` is the end of `reason`, and `but` the same in a few words, where the claim holds. `part`
    says of an open claim how many of several comparisons hold. `verdict` is the word of a `Verdict`: pandas keeps no
    other strings in a column where PyArrow is installed.

    Args:
        evidence: as `evidence.evidence` gives it, or a part of it: claims that are not in it have no row.
    """
    rule, known = claims.load()
    records = []
    for claim in known:
        rows = evidence[evidence["claim"] == claim.id]
        comparisons, asides = rows[rows["decides"]], rows[~rows["decides"]]
        if not comparisons.empty:
            decided = comparisons.assign(verdict=comparisons.apply(decide, axis=1, rule=rule))
            deciding = _weakest(decided)
            tried = deciding["verdict"] != Verdict.NOT_ATTEMPTED
            caveat = caveats.caveat(claim, asides) if tried else ""
            mean = _mean(asides[asides["note"] == MEAN], rule)
            named = ""
            if claim.undominated and tried:
                named = balance.dominating(claim.undominated, decided["verdict"] == Verdict.CONTRADICTED,
                                           decided["verdict"].map(lambda verdict: Verdict(verdict).holds))
            averaged = _averaged(mean, decided, deciding, rule)
            reason = filter(None, [_reason(decided, deciding, rule), named, averaged, caveat])
            records.append({**claim.model_dump(include={"id", "statement", "place", "experiment"}),
                            "claimed_by": claim.claimed_by, "subject": claim.subject, "exhibit": claim.shown_at,
                            **deciding, **mean, "caveat": caveat, "part": _part(decided, deciding),
                            "but": _but(claim, decided) if Verdict(deciding["verdict"]).holds else "",
                            "reason": " ".join(reason)})
    return pd.DataFrame(records, columns=COLUMNS)


def _but(claim: Claim, decided: pd.DataFrame) -> str:
    """A weakness of what holds, in a few words."""
    against = dict.fromkeys(engine for engines in decided["against"] for engine in engines.split(", ") if engine)
    return ", and ".join(filter(None, [claim.but, f"not with {' or '.join(against)}" if against else ""]))


def _part(decided: pd.DataFrame, deciding: pd.Series) -> str:
    """How many of several comparisons hold, of an open claim; and why an interval beyond zero decides nothing."""
    if deciding["verdict"] != Verdict.INCONCLUSIVE or len(decided) == 1 or deciding["seeds"] == 1:
        return ""
    held = sum(Verdict(verdict).holds for verdict in decided["verdict"])
    low, high, most, bound = deciding[["low", "high", "most", "bound"]]
    saved = high < bound <= most if deciding["test"] == "at least" else most <= bound < low
    return f"{held} of {len(decided)} comparisons hold{', and none fails once widened for their number' * bool(saved)}"


def decide(comparison: pd.Series, rule: Rule) -> Verdict:
    """The verdict on one comparison.

    Args:
        comparison: a row of the evidence. `seeds` is 0 for what has none, a count or a time.
        rule: claims.yaml's.
    """
    if math.isnan(comparison["ours"]):
        return Verdict.NOT_ATTEMPTED
    if comparison["test"] == "equal":
        return Verdict.EXACT if abs(_deviation(comparison)) <= rule.tolerance else Verdict.CONTRADICTED
    if comparison["test"] == "within":
        return Verdict.EXACT if abs(_points(comparison)) <= comparison["bound"] else Verdict.CONTRADICTED
    if comparison["test"] == "fewer":
        return Verdict.EXACT if comparison["ours"] < comparison["bound"] else Verdict.CONTRADICTED
    if comparison["seeds"] == 1 or _all_alike(comparison) or 0 < comparison["sessions"] < rule.latency_sessions:
        return Verdict.INCONCLUSIVE
    low, high, most, bound = comparison[["low", "high", "most", "bound"]]
    holds, fails = (low > bound, most < bound) if comparison["test"] == "at least" else (high < bound, most > bound)
    if holds or fails:
        return Verdict.CONFIRMED if holds else Verdict.CONTRADICTED
    return Verdict.BOUNDED if _small(comparison, rule) else Verdict.INCONCLUSIVE


def _weakest(decided: pd.DataFrame) -> pd.Series:
    """Of the comparisons with the worst verdict the one that is furthest from holding."""
    worst = decided[decided["verdict"] == min(decided["verdict"], key=lambda verdict: Verdict(verdict).precedence)]
    return worst.loc[worst.apply(_margin, axis=1).sort_values(kind="stable").index[0]]


def _margin(comparison: pd.Series) -> float:
    """How far the interval, or where there is none the estimate, is on the claimed side."""
    if comparison["test"] == "equal":
        return -abs(_deviation(comparison))
    if comparison["test"] == "within":
        return -abs(_points(comparison))
    low, high = comparison[["low", "high"]].fillna(comparison["ours"])
    return low - comparison["bound"] if comparison["test"] == "at least" else comparison["bound"] - high


def _deviation(comparison: pd.Series) -> float:
    return comparison["ours"] / comparison["paper"] - 1


def _points(comparison: pd.Series) -> float:
    """Between two accuracies; rounded, so that 77.2 is not more than 0.1 from 77.1."""
    return round(comparison["ours"] - comparison["paper"], 6)


def _all_alike(comparison: pd.Series) -> bool:
    return comparison["seeds"] > 1 and comparison["half_seeds"] == 0


def _small(comparison: pd.Series, rule: Rule) -> bool:
    """The interval, of enough seeds, lies within the margin, if there is one."""
    farthest = max(abs(comparison["low"]), abs(comparison["high"]))
    return comparison["seeds"] >= rule.bounded_seeds and farthest < comparison["margin"]


def _mean(rows: pd.DataFrame, rule: Rule) -> dict[str, Any]:
    """The mean over a claim's comparisons, from the row that holds it, if there is one."""
    if rows.empty:
        return {}
    mean = rows.iloc[0]
    if mean["seeds"] == 1 or _all_alike(mean):
        word = ""
    elif mean["low"] > 0 or mean["high"] < 0:
        word = "above zero" if mean["low"] > 0 else "below zero"
    else:
        word = "within the margin" if _small(mean, rule) else "holds zero"
    return {"mean": mean["ours"], "mean_low": mean["low"], "mean_high": mean["high"], "mean_word": word}


def _averaged(mean: dict[str, Any], decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    if not mean or len(decided) == 1 or deciding["verdict"] == Verdict.NOT_ATTEMPTED:
        return ""
    value = with_interval(mean["mean"], mean["mean_low"], mean["mean_high"], "points")
    where = {"": "without an interval", "holds zero": "which holds zero"}.get(mean["mean_word"], mean["mean_word"])
    gains, losses = int((decided["ours"] > rule.margin).sum()), int((decided["ours"] < -rule.margin).sum())
    cancel = f"; {counted(gains, 'gain')} and {counted(losses, 'loss')} beyond it cancel" if gains and losses else ""
    return (f"Averaged over the {len(decided)} comparisons within a seed: {value} points, {where}"
            f"{cancel * (mean['mean_word'] == 'within the margin')}.")


def _reason(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    if deciding["verdict"] == Verdict.NOT_ATTEMPTED:
        return deciding["note"]
    sentences, holds = [], Verdict.EXACT if deciding["test"] in ("equal", "fewer", "within") else Verdict.CONFIRMED
    if len(decided) > 1 and not (decided["seeds"] == 1).all():
        bounded = (decided["verdict"] == Verdict.BOUNDED).sum()
        sentences.append(f"{(decided['verdict'] == holds).sum()} of {len(decided)} comparisons are {holds}"
                         f"{f', {bounded} {Verdict.BOUNDED}' if bounded else ''}.")
    if deciding["test"] == "equal":
        expected = "ratio of the printed numbers" if deciding["unit"] == "×" else "printed number"
        why = f": {deciding['note']}" if deciding["note"] else "."
        sentences.append(f"{100 * _deviation(deciding):+.1f} % from the {expected}{why}")
    elif deciding["test"] == "within":
        sentences.append(f"{number(_points(deciding), 'points')} points from the printed number. {deciding['note']}")
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


def _widened(decided: pd.DataFrame) -> str:
    return f"when widened for the claim's {len(decided)} comparisons"


def _interval(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    seeds = deciding["seeds"]
    if seeds == 1:
        ahead = (decided["ours"] > decided["bound"]).sum()
        return f"Not decided by one seed ({ahead} of {len(decided)} have the claimed sign)."
    if _all_alike(deciding):
        return f"All {seeds} seeds gave the same difference: the interval has no width and says nothing."
    bound = f"{number(deciding['bound'], 'points')} points" if deciding["bound"] else "zero"
    over = "seeds alone" if math.isnan(deciding["half_images"]) else "seeds and test images"
    interval = f"The {100 * rule.confidence:g} % interval of {seeds} seeds, over {over},"
    small = f" All of it lies within ±{rule.margin:g} points, the margin." if _small(deciding, rule) else ""
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


def _significance(decided: pd.DataFrame, deciding: pd.Series, rule: Rule) -> str:
    if deciding["seeds"] < rule.significant_seeds:
        return ""  # nothing is called significant
    # All comparisons confirm a claim, one contradicts it.
    backing = decided if deciding["verdict"] == Verdict.CONFIRMED else decided.loc[[deciding.name]]
    p = backing["p_holm"].max()
    backed = p < rule.alpha and backing["seeds"].min() >= rule.significant_seeds
    word = "Significant, p" if backed and deciding["verdict"] in (Verdict.CONFIRMED, Verdict.CONTRADICTED) else "p"
    decides = not backed and deciding["verdict"] in (Verdict.CONFIRMED, Verdict.CONTRADICTED)
    return (f"{word} = {p:.2g} after Holm's correction"
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

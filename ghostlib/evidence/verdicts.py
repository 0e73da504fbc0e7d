"""From evidence to verdicts, by the rule that claims.yaml fixes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ghostlib.evidence import balance, caveats, reasons
from ghostlib.evidence.contrast import MEAN
from ghostlib.evidence.decide import all_alike, decide, is_saved, is_small, margin
from ghostlib.evidence.verdict import Verdict
from ghostlib.paper import claims
from ghostlib.paper.claims import Claim, Rule

COLUMNS = ["id", "statement", "place", "claimed_by", "subject", "exhibit", "experiment", "comparison", "paper", "ours",
           "low", "high", "unit", "seeds", "sessions", "p", "p_holm", "detectable", "mean", "mean_low", "mean_high",
           "mean_word", "loss", "loss_low", "loss_high", "verdict", "part", "but", "reason", "caveat"]


def judge(evidence: pd.DataFrame) -> pd.DataFrame:
    """The verdict on each claim: one row each in the order of claims.yaml, with the columns `COLUMNS`.

    A claim is confirmed if all its comparisons hold. `claimed_by` is "the paper" or "us". The numbers are of the
    comparison that decides, but for `seeds`, of a claim that holds the fewest of any of its comparisons, `mean`, the
    mean over all comparisons within a seed, and `mean_word`, where its interval lies. `caveat` is the end of `reason`,
    and `but` the same in a few words, where the claim holds. `part` says of an open claim how many of several
    comparisons hold. `verdict` is the word of a `Verdict`: pandas keeps no other strings in a column where PyArrow is
    installed.

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
            deciding = _weakest(decided, rule)
            tried = deciding["verdict"] != Verdict.NOT_ATTEMPTED
            caveat = caveats.caveat(claim, asides) if tried else ""
            mean = _mean(asides[asides["note"] == MEAN], rule)
            named = ""
            if claim.undominated and tried:
                named = balance.dominating(claim.undominated, decided["verdict"] == Verdict.CONTRADICTED,
                                           decided["verdict"].map(lambda verdict: Verdict(verdict).holds))
            averaged = reasons.averaged(mean, decided, deciding, rule)
            reason = filter(None, [reasons.reason(decided, deciding, rule), named, averaged, caveat])
            records.append({**claim.model_dump(include={"id", "statement", "place", "experiment"}),
                            "claimed_by": claim.claimed_by, "subject": claim.subject, "exhibit": claim.shown_at,
                            **deciding, **_least(decided, deciding), **mean, "caveat": caveat,
                            "part": _part(decided, deciding),
                            "but": _but(claim, decided) if Verdict(deciding["verdict"]).holds else "",
                            "reason": " ".join(reason)})
    return pd.DataFrame(records, columns=COLUMNS)


def _least(decided: pd.DataFrame, deciding: pd.Series) -> dict[str, Any]:
    """The fewest seeds of any comparison of a claim that holds: it rests on all of them."""
    return {"seeds": int(decided["seeds"].min())} if Verdict(deciding["verdict"]).holds else {}


def _but(claim: Claim, decided: pd.DataFrame) -> str:
    """A weakness of what holds, in a few words."""
    against = dict.fromkeys(engine for engines in decided["against"] for engine in engines.split(", ") if engine)
    return ", and ".join(filter(None, [claim.but, f"not with {' or '.join(against)}" if against else ""]))


def _part(decided: pd.DataFrame, deciding: pd.Series) -> str:
    """How many of several comparisons hold, of an open claim; and why an interval beyond zero decides nothing."""
    if deciding["verdict"] != Verdict.INCONCLUSIVE or len(decided) == 1 or deciding["seeds"] == 1:
        return ""
    held = sum(Verdict(verdict).holds for verdict in decided["verdict"])
    saved = ", and none fails once widened for their number" * is_saved(deciding)
    return f"{held} of {len(decided)} comparisons hold{saved}"


def _weakest(decided: pd.DataFrame, rule: Rule) -> pd.Series:
    """Of the comparisons with the worst verdict the one that is furthest from holding."""
    worst = decided[decided["verdict"] == min(decided["verdict"], key=lambda verdict: Verdict(verdict).precedence)]
    return worst.loc[worst.apply(margin, axis=1, rule=rule).sort_values(kind="stable").index[0]]


def _mean(rows: pd.DataFrame, rule: Rule) -> dict[str, Any]:
    """The mean over a claim's comparisons, from the row that holds it, if there is one."""
    if rows.empty:
        return {}
    mean = rows.iloc[0]
    if mean["seeds"] == 1 or all_alike(mean):
        word = ""
    elif mean["low"] > 0 or mean["high"] < 0:
        word = "above zero" if mean["low"] > 0 else "below zero"
    else:
        word = "within the margin" if is_small(mean, rule) else "holds zero"
    return {"mean": mean["ours"], "mean_low": mean["low"], "mean_high": mean["high"], "mean_word": word}

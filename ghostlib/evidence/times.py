"""Times of networks as evidence, over sessions: ratios of two, and the order of all.

A session is one run of the latency stage: results/sessions/*.csv, and the profile's own runs/latency.csv where it is
none of these. Calls within a session share a machine, its clock and its neighbours, so that ratios differ more from
session to session than any percentiles of calls tell: the interval is over sessions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from ghostlib.evidence import stats
from ghostlib.exhibits.comparison import ENGINE, THREADS
from ghostlib.measures import places
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.claims import Claim, Ratio, Rule, ratios

OWN = "of this profile"  # the name of its session where results/sessions/ does not hold it


def sessions(folder: str | Path) -> dict[str, pd.DataFrame]:
    """A session's name -> what it timed, with the columns of runs/latency.csv; empty if nothing was.

    Args:
        folder: results/<profile>; results/sessions lies beside it.
    """
    found = {path.stem: places.read_csv(path) for path in sorted(Path(folder).parent.glob("sessions/*.csv"))}
    own = Path(folder, "runs", "latency.csv")
    if own.exists():
        timed = places.read_csv(own)
        if not any(_logs(session).equals(_logs(timed)) for session in found.values()):
            found[OWN] = timed
    return found


def compare(claim: Claim, timed: Mapping[str, pd.DataFrame], rule: Rule) -> Iterator[dict[str, Any]]:
    """A claim's ratios of times, or how the times' order agrees with the paper's: records of the evidence.

    Args:
        claim: one with `latencies` or `ranks`.
        timed: as `sessions` gives it.
        rule: claims.yaml's.
    """
    if claim.ranks:
        yield _order(claim.ranks, timed, rule)
    for ratio in (ratios()[name] for name in claim.latencies):
        yield {**over_sessions(ratio.row, ratio.to, timed, rule), "comparison": f"{label(ratio)} ({ratio.claim})",
               "test": ratio.direction, "bound": bound(ratio, rule)}


def over_sessions(row: str, to: str, timed: Mapping[str, pd.DataFrame], rule: Rule) -> dict[str, Any]:
    """How many times one row of Table 9 takes the time of another.

    It is the geometric mean over sessions of the ratios of medians. Its interval is Student's of the logarithms between
    sessions, each of which counts once; with one there is none.
    """
    logs = _log_ratios(row, to, timed, ENGINE, THREADS)
    low, high = np.exp(stats.t_interval(logs, rule.confidence))
    printed = numbers.table("table_9")[numbers.CPU]
    return {"comparison": f"{row} / {to}", "paper": printed[row] / printed[to], "unit": "×", "sessions": len(logs),
            "ours": math.exp(logs.mean()), "low": low, "high": high,
            "note": f"{_by_cpu(logs, timed)} {_elsewhere(row, to, timed)}".strip() if len(logs) else _absent(timed)}


def label(ratio: Ratio) -> str:
    """What a ratio is called."""
    return f"{ratio.row} / {ratio.to}"


def bound(ratio: Ratio, rule: Rule) -> float:
    """What the ratio is claimed to be at most or at least."""
    return 1 + rule.latency_tolerance if ratio.bound == "same" else ratio.bound


def _order(column: str, timed: Mapping[str, pd.DataFrame], rule: Rule) -> dict[str, Any]:
    """Spearman's ρ of a column of Table 9 and the geometric means over sessions, of the networks that all timed.

    The interval is over networks (Bonett and Wright), since it is these that a reader's choice is drawn from.
    """
    rows = {network: row for row, network in catalog.deployed().items()}  # a network deployed in two rows counts once
    logs = pd.DataFrame([_logs(session) for session in timed.values()]).reindex(columns=rows).dropna(axis=1)
    theirs = numbers.table("table_9")[column][[rows[network] for network in logs.columns]]
    rho, _ = stats.rank_correlation(theirs, logs.mean())
    low, high = _rho_interval(rho, logs.shape[1], rule.confidence)
    told = f"{logs.shape[1]} networks, over {_counted(len(logs))}, {ENGINE}, {THREADS} thread."
    return {"comparison": column, "ours": rho, "low": low, "high": high, "unit": "ρ", "sessions": len(logs),
            "test": "at least", "bound": rule.rank_agreement, "note": _absent(timed) if math.isnan(rho) else told}


def _logs(timed: pd.DataFrame, engine: str = ENGINE, threads: int = THREADS) -> pd.Series:
    """The logarithm of each network's median (ms) with an engine in one session.

    Folded, GhostNetV3 is GhostNetV2's graph; where a session timed both, it is the mean of the two.
    """
    chosen = timed[(timed["engine"] == engine) & (timed["threads"] == threads)]
    return np.log(chosen["median_ms"]).groupby(chosen["network"].str.replace("ghostnetv3", "ghostnetv2")).mean()


def _log_ratios(row: str, to: str, timed: Mapping[str, pd.DataFrame], engine: str, threads: int) -> pd.Series:
    """Session -> the logarithm of the ratio, of those that timed both."""
    a, b = (catalog.deployed()[name] for name in (row, to))
    logs = {name: _logs(session, engine, threads) for name, session in timed.items()}
    return pd.Series({name: of.get(a, math.nan) - of.get(b, math.nan) for name, of in logs.items()},
                     dtype=float).dropna()


def _by_cpu(logs: pd.Series, timed: Mapping[str, pd.DataFrame]) -> str:
    """The mean ratio on each kind of processor."""
    cpus = pd.Series({name: timed[name]["cpu"].iloc[0] for name in logs.index})
    told = [f"{math.exp(of.mean()):.2f}× in {_counted(len(of))} on {cpu}" for cpu, of in logs.groupby(cpus)]
    return f"{ENGINE}, {THREADS} thread: {', '.join(told)}."


def _elsewhere(row: str, to: str, timed: Mapping[str, pd.DataFrame]) -> str:
    """The mean ratio with every other engine and number of threads: no part of the verdict."""
    settings = dict.fromkeys(pair for session in timed.values() for pair in zip(session["engine"], session["threads"],
                                                                               strict=True))
    ours = {(engine, threads): _log_ratios(row, to, timed, engine, threads) for engine, threads in settings
            if (engine, threads) != (ENGINE, THREADS)}
    told = [f"{engine} ({threads}) {math.exp(logs.mean()):.2f}×" for (engine, threads), logs in ours.items()
            if len(logs)]
    return f"With other engines (threads): {', '.join(told)}." if told else ""


def _absent(timed: Mapping[str, pd.DataFrame]) -> str:
    return (f"No session lists it with {ENGINE}, {THREADS} thread." if timed else
            "runs/latency.csv does not exist: that stage was not run.")


def _counted(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


def _rho_interval(rho: float, rows: int, confidence: float) -> tuple[float, float]:
    """Of Spearman's ρ: Bonett and Wright (2000), "Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations"."""
    if math.isnan(rho) or abs(rho) == 1:
        return rho, rho
    half = norm.isf((1 - confidence) / 2) * math.sqrt((1 + rho**2 / 2) / (rows - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)

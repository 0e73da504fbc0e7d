"""Times of networks as evidence: ratios of two, the order of all, and what other sessions gave."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pandas as pd
import yaml
from scipy.stats import norm

from ghostlib.evidence import stats
from ghostlib.exhibits.comparison import ENGINE, THREADS
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.claims import Claim, Ratio, Rule, ratios

_TIMES = ["median_ms", "p10_ms", "p90_ms"]


def compare(claim: Claim, timed: pd.DataFrame | None, rule: Rule) -> Iterator[dict[str, Any]]:
    """A claim's ratios of times, or how the times' order agrees with the paper's: records of the evidence.

    Args:
        claim: one with `latencies` or `ranks`.
        timed: runs/latency.csv, if there is one.
        rule: claims.yaml's.
    """
    published, deployed = numbers.table("table_9"), catalog.deployed()
    if timed is None:
        timed = pd.DataFrame(columns=["network", "engine", "threads", "cpu", *_TIMES])
    chosen = timed.query("engine == @ENGINE and threads == @THREADS").set_index("network")
    times = chosen[_TIMES].astype(float).reindex(deployed.values()).set_axis(list(deployed))
    setting = f"{ENGINE}, {THREADS} thread, {', '.join(chosen['cpu'].unique())}."
    absent = ("runs/latency.csv does not exist: that stage was not run." if timed.empty else
              f"runs/latency.csv lacks it with {ENGINE}, {THREADS} thread.")
    if claim.ranks:
        once = list({network: row for row, network in deployed.items()}.values())
        theirs, ours = published.loc[once, claim.ranks], times.loc[once, "median_ms"]
        rho, _ = stats.rank_correlation(theirs, ours)
        low, high = _rho_interval(rho, ours.count(), rule.confidence)
        yield {"comparison": claim.ranks, "ours": rho, "low": low, "high": high, "unit": "ρ", "test": "at least",
               "bound": rule.rank_agreement,
               "note": absent if math.isnan(rho) else f"{ours.count()} networks; {setting}"}
    for ratio in (ratios()[name] for name in claim.latencies):
        a, b = times.loc[ratio.row], times.loc[ratio.to]
        ours = a["median_ms"] / b["median_ms"]
        note = f"{setting} {_elsewhere(timed, deployed[ratio.row], deployed[ratio.to])}".strip()
        yield {"comparison": f"{label(ratio)} ({ratio.claim})", "paper": _printed(ratio), "ours": ours,
               "low": a["p10_ms"] / b["p90_ms"], "high": a["p90_ms"] / b["p10_ms"], "unit": "×",
               "test": ratio.direction, "bound": bound(ratio, rule), "note": absent if math.isnan(ours) else note}


def label(ratio: Ratio) -> str:
    """What a ratio is called."""
    return f"{ratio.row} / {ratio.to}"


def bound(ratio: Ratio, rule: Rule) -> float:
    """What the ratio is claimed to be at most or at least."""
    to_spare = rule.latency_tolerance * {"at most": 1, "at least": -1}[ratio.direction]
    return {"printed": _printed(ratio) * (1 + to_spare), "same": 1 + to_spare, "shorter": 1.0}[ratio.bound]


@functools.cache
def sessions() -> dict[str, pd.DataFrame]:
    """sessions.yaml: a ratio's id -> a row a session that timed it: ours, low, high."""
    text = resources.files(__package__).joinpath("sessions.yaml").read_text(encoding="utf-8")
    return {ratio: pd.DataFrame(rows, columns=["ours", "low", "high"])
            for ratio, rows in yaml.safe_load(text).items()}


def _printed(ratio: Ratio) -> float:
    times = numbers.table("table_9")[numbers.CPU]
    return times[ratio.row] / times[ratio.to]


def _elsewhere(timed: pd.DataFrame, a: str, b: str) -> str:
    """The ratio of two networks' times with every other engine and number of threads: no part of the verdict."""
    found = []
    for (engine, threads), rows in timed.groupby(["engine", "threads"], sort=False):
        times = rows.set_index("network")["median_ms"]
        if (engine, threads) != (ENGINE, THREADS) and {a, b} <= set(times.index):
            found.append(f"{engine} ({threads}) {times[a] / times[b]:.2f}×")
    return f"With other engines (threads): {', '.join(found)}." if found else ""


def _rho_interval(rho: float, rows: int, confidence: float) -> tuple[float, float]:
    """Of Spearman's ρ: Bonett and Wright (2000), "Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations"."""
    if math.isnan(rho) or abs(rho) == 1:
        return rho, rho
    half = norm.isf((1 - confidence) / 2) * math.sqrt((1 + rho**2 / 2) / (rows - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)

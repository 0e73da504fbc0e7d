"""Times of networks as evidence, over sessions: ratios of two, and the order of all.

A session is one run of the latency stage: results/sessions/*.csv, and the profile's own runs/latency.csv where it is
none of these. Calls within a session share a machine, its clock and its neighbours, so that ratios differ more from
session to session than any percentiles of calls tell: the interval is over sessions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from ghostlib.evidence import stats
from ghostlib.evidence.quantities import counted, with_interval
from ghostlib.exhibits.comparison import ENGINE, THREADS
from ghostlib.measures import places
from ghostlib.measures.beside import AT_224
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.claims import Claim, Ratio, Rule, ratios

OWN = "of this profile"  # the name of its session where results/sessions/ does not hold it


@dataclass(frozen=True)
class Sessions:
    """What the sessions timed.

    Attributes:
        cpus: session -> processor.
        logs: (engine, threads, session) -> the logarithm of the median (ms) of each network that is deployed behind a
            row of Table 9 or timed beside one, NaN where it was not timed. Folded, GhostNetV3 is GhostNetV2's graph;
            where a session timed both, it is the mean of the two.
    """

    cpus: pd.Series
    logs: pd.DataFrame

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Of results/<profile> and results/sessions, which lies beside it: whatever is there."""
        timed = {path.stem: places.read_csv(path) for path in sorted(Path(folder).parent.glob("sessions/*.csv"))}
        own = Path(folder, "runs", "latency.csv")
        if own.exists():
            timed[OWN] = places.read_csv(own)
        networks = list(dict.fromkeys([*catalog.deployed().values(), *AT_224.values()]))
        if not timed:
            return cls(pd.Series(dtype=str), pd.DataFrame(columns=networks, dtype=float))
        rows = pd.concat(timed, names=["session", None]).reset_index("session")
        if OWN in timed and OWN not in set(rows["session"]):
            raise ValueError(f"{own} holds no times: it was cut; time them again (`ghostlib measure latencies`)")
        rows = rows.assign(network=rows["network"].str.replace("ghostnetv3", "ghostnetv2"),
                           log=np.log(rows["median_ms"]))
        logs = rows.pivot_table("log", ["engine", "threads", "session"], "network").reindex(columns=networks)
        found = cls(rows.groupby("session")["cpu"].first(), logs)
        listed = found.used.drop(OWN, errors="ignore")
        if OWN in found.used.index and any(found.used.loc[OWN].equals(row) for _, row in listed.iterrows()):
            return cls(found.cpus.drop(OWN), logs.drop(OWN, level="session"))
        return found

    @property
    def used(self) -> pd.DataFrame:
        """Of `logs` the sessions with the engine and number of threads that decide."""
        return self._of(self.logs)

    def ratios(self, row: str, to: str) -> tuple[pd.Series, pd.Series]:
        """The logarithms of one row's time over another's: of each session that decides, and other engines' means."""
        return self.over(row, catalog.deployed()[to])

    def over(self, row: str, network: str) -> tuple[pd.Series, pd.Series]:
        """As `ratios`, over a network that was timed."""
        a, b = catalog.deployed()[row], network
        logs = (self.logs[a] - self.logs[b]).dropna()
        if logs.empty:
            return logs, logs
        return self._of(logs), logs.groupby(level=["engine", "threads"]).mean().drop((ENGINE, THREADS), errors="ignore")

    @staticmethod
    def _of(logs: Any) -> Any:
        """The rows with that engine and number of threads, by session."""
        if logs.empty:
            return logs
        chosen = logs[(logs.index.get_level_values("engine") == ENGINE)
                      & (logs.index.get_level_values("threads") == THREADS)]
        return chosen.droplevel(["engine", "threads"])


def compare(claim: Claim, timed: Sessions, rule: Rule) -> Iterator[dict[str, Any]]:
    """A claim's ratios of times, or how the times' order agrees with the paper's: records of the evidence.

    Args:
        claim: one with `latencies` or `ranks`.
        timed: by which sessions.
        rule: claims.yaml's.
    """
    if claim.ranks:
        yield _order(claim.ranks, timed, rule)
    for ratio in (ratios()[name] for name in claim.latencies):
        limit = bound(ratio, rule)
        found = over_sessions(ratio.row, ratio.to, ratio.direction, timed, rule, len(claim.latencies))
        yield {**found, "note": f"{found['note']} {_at_224(ratio, timed, rule)}".strip(),
               "comparison": f"{label(ratio)} ({ratio.claim})", "bound": limit,
               "against": _against(timed.ratios(ratio.row, ratio.to)[1], ratio.direction, math.log(limit))}


def over_sessions(row: str, to: str, direction: Literal["at most", "at least"], timed: Sessions, rule: Rule,
                  comparisons: int) -> dict[str, Any]:
    """How many times one row of Table 9 takes the time of another, as one of so many comparisons.

    It is the geometric mean over sessions of the ratios of medians. Its interval is Student's of the logarithms between
    sessions, each of which counts once; with one there is none. `most` is the end in the claim's favour of the interval
    that is widened for the number of comparisons.
    """
    logs, elsewhere = timed.ratios(row, to)
    low, high = np.exp(stats.t_interval(logs, rule.confidence))
    least, most = np.exp(stats.t_interval(logs, 1 - rule.alpha / comparisons))  # Bonferroni's
    printed = numbers.table("table_9")[numbers.CPU]
    return {"comparison": f"{row} / {to}", "paper": printed[row] / printed[to], "unit": "×", "sessions": len(logs),
            "ours": math.exp(logs.mean()), "low": low, "high": high, "test": direction,
            "most": most if direction == "at least" else least,
            "note": f"{_by_cpu(logs, timed.cpus, rule)} {_told(elsewhere)}".strip() if len(logs) else _absent(timed)}


def label(ratio: Ratio) -> str:
    """What a ratio is called."""
    return f"{ratio.row} / {ratio.to}"


def bound(ratio: Ratio, rule: Rule) -> float:
    """What the ratio is claimed to be at most or at least."""
    return 1 + rule.latency_tolerance if ratio.bound == "same" else ratio.bound


def _order(column: str, timed: Sessions, rule: Rule) -> dict[str, Any]:
    """Spearman's ρ of a column of Table 9 and the geometric means over sessions, of the networks that all timed.

    The interval is over networks (Bonett and Wright), since it is these that a reader's choice is drawn from.
    """
    rows = {network: row for row, network in catalog.deployed().items()}  # a network deployed in two rows counts once
    logs = timed.used[list(rows)].dropna(axis=1)
    theirs = numbers.table("table_9")[column][[rows[network] for network in logs.columns]]
    rho, _ = stats.rank_correlation(theirs, logs.mean())
    low, high = _rho_interval(rho, logs.shape[1], rule.confidence)
    told = f"{logs.shape[1]} networks, over {counted(len(logs), 'session')}, {ENGINE}, {THREADS} thread."
    return {"comparison": column, "ours": rho, "low": low, "high": high, "most": high, "unit": "ρ",
            "sessions": len(logs), "test": "at least", "bound": rule.rank_agreement,
            "note": _absent(timed) if math.isnan(rho) else told}


def _by_cpu(logs: pd.Series, cpus: pd.Series, rule: Rule) -> str:
    """The mean ratio on each kind of processor, with the interval that its sessions alone give."""
    told = [f"{with_interval(*np.exp([of.mean(), *stats.t_interval(of, rule.confidence)]), '×')} in "
            f"{counted(len(of), 'session')} on {cpu}" for cpu, of in logs.groupby(cpus)]
    return f"{ENGINE}, {THREADS} thread: {', '.join(told)}."


def _at_224(ratio: Ratio, timed: Sessions, rule: Rule) -> str:
    """The ratio over the other network at the paper's size, if it is made for another: no part of the verdict."""
    if ratio.to not in AT_224:
        return ""
    logs, elsewhere = timed.over(ratio.row, AT_224[ratio.to])
    return f"{label(ratio)} at 224 px: {_by_cpu(logs, timed.cpus, rule)} {_told(elsewhere)}" if len(logs) else ""


def _told(elsewhere: pd.Series) -> str:
    """The mean ratio with every other engine and number of threads: no part of the verdict."""
    told = [f"{engine} ({threads}) {math.exp(log):.2f}×" for (engine, threads), log in elsewhere.items()]
    return f"With other engines (threads): {', '.join(told)}." if told else ""


def _against(elsewhere: pd.Series, direction: Literal["at most", "at least"], limit: float) -> str:
    """The other engines whose mean ratio is on the wrong side of the limit, with any number of threads."""
    wrong = elsewhere[elsewhere > limit if direction == "at most" else elsewhere < limit]
    return ", ".join(wrong.index.unique("engine")) if len(wrong) else ""


def _absent(timed: Sessions) -> str:
    return (f"No session lists it with {ENGINE}, {THREADS} thread." if len(timed.cpus) else
            "runs/latency.csv does not exist: that stage was not run.")


def _rho_interval(rho: float, rows: int, confidence: float) -> tuple[float, float]:
    """Of Spearman's ρ: Bonett and Wright (2000), "Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations"."""
    if math.isnan(rho) or abs(rho) == 1:
        return rho, rho
    if rows <= 3:
        return math.nan, math.nan
    half = stats.quantile(confidence) * math.sqrt((1 + rho**2 / 2) / (rows - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)

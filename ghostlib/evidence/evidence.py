"""What the runs of a profile say about each claim's comparisons, and whether they can rank anything at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import norm

from ghostlib.evidence import stats
from ghostlib.exhibits import latency
from ghostlib.exhibits.comparison import ENGINE, THREADS, TOP1
from ghostlib.exhibits.complexity import MACS, PARAMS
from ghostlib.exhibits.tables import METRIC
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.claims import Claim, Counts, Rule, load, ratios

COLUMNS = ["claim", "comparison", "paper", "ours", "low", "high", "most", "bca_low", "bca_high", "seeds", "p", "p_holm",
           "detectable", "unit", "test", "bound", "note"]
PROXY = ["experiment", "cells", "seeds", "spearman", "kendall", "noise_ceiling", "at_ceiling", "ranks"]


def evidence(folder: str | Path) -> pd.DataFrame:
    """What was measured for every comparison of every claim: one row each, with the columns `COLUMNS`.

    `paper` and `ours` are a difference of accuracies in points, a count in millions (M), a ratio of counts or of times
    (×) or a rank correlation (ρ); `low` and `high` are the interval of ours: of a difference Student's, of a ratio of
    times that of the percentiles, which is no confidence interval. `most` is the upper end of a difference's interval
    widened for the number of the claim's comparisons. `test` and `bound` are what is claimed of ours, and `note` is
    what else a reader must know, e.g. why there is nothing. `p` is the sign-flip test's, corrected for all rows in
    `p_holm`.

    Args:
        folder: results/<profile>; of its runs/*.csv whatever is there.

    Raises:
        ValueError: an experiment's file holds one seed of a cell twice.
    """
    rule, claims = load()
    measured = _read(folder)
    values, records = _accuracies(measured), []
    for claim in claims:
        if claim.not_attempted:
            found = [{"comparison": "", "note": claim.not_attempted}]
        elif claim.better:
            found = [_difference(claim.locate(pair.cell), claim.locate(pair.than), values, rule, len(claim.better))
                     for pair in claim.better]
        elif claim.counts:
            found = _counts(claim.counts, measured.get("complexity"))
        else:
            found = _times(claim, measured.get("latency"), rule)
        records += [{"claim": claim.id, **record} for record in found]
    rows = pd.DataFrame(records, columns=COLUMNS).fillna({"seeds": 0, "unit": "", "test": "", "note": ""})
    return rows.assign(p_holm=stats.holm(rows["p"])).astype({"seeds": int})


def proxy(folder: str | Path) -> pd.DataFrame:
    """Whether a profile's scale can rank the cells of each experiment: one row each, with the columns `PROXY`.

    `spearman` and `kendall` are with the paper's values, where it prints any; `noise_ceiling` is how well seeds agree
    with other seeds; `at_ceiling` is the share of cells whose mean accuracy is the data's own ceiling (`ceiling` of the
    rule); `ranks` is a sentence, what follows from these.

    Args:
        folder: as for `evidence`.
    """
    rule, _ = load()
    records = []
    for name, values in _accuracies(_read(folder)).items():
        means, published = values.mean(), numbers.table(name).stack(future_stack=True).reindex(values.columns)
        seeds = values.dropna()  # those that have all cells
        rho, tau = stats.rank_correlation(published, means)
        agreement, full = stats.noise_ceiling(seeds), (means >= rule.ceiling).mean()
        records.append((name, len(means), len(seeds), rho, tau, agreement, full,
                        _ranks(len(seeds), rho, agreement, full, rule)))
    return pd.DataFrame(records, columns=PROXY)


def _ranks(seeds: int, rho: float, agreement: float, full: float, rule: Rule) -> str:
    obstacles = []
    if seeds < 2:
        obstacles.append("one seed does not tell an order from chance")
    elif math.isnan(agreement):
        obstacles.append("the seeds give no order to compare with that of other seeds")
    elif agreement < rule.reliability:
        obstacles.append(f"seeds agree with other seeds by ρ = {agreement:.2f} only")
    if full >= 0.5:
        obstacles.append(f"{full:.0%} of the cells reach {rule.ceiling:g} %")
    if obstacles:
        return f"It cannot rank the cells: {', and '.join(obstacles)}."
    theirs = "the paper prints no values to compare with" if math.isnan(rho) else f"the paper's order by ρ = {rho:.2f}"
    return f"It ranks the cells: seeds agree with other seeds by ρ = {agreement:.2f}, {theirs}."


def _read(folder: str | Path) -> dict[str, pd.DataFrame]:
    labels = {"row": str, "column": str}  # 0.05 is a label
    return {path.stem: pd.read_csv(path, dtype=labels) for path in sorted(Path(folder, "runs").glob("*.csv"))}


def _accuracies(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Each experiment's accuracies (%): a row a seed, a column a (row, column) of the paper's table."""
    values = {}
    for name in measured.keys() & numbers.load().keys():
        of = measured[name][measured[name]["metric"] == ("mAP" if name == "table_10" else METRIC)]
        if of.duplicated(["row", "column", "seed"]).any():
            raise ValueError(f"runs/{name}.csv holds one seed of a cell twice; it would count as two measurements")
        values[name] = of.pivot(index="seed", columns=["row", "column"], values="value")
    return {name: values[name] for name in numbers.load() if name in values}


def _difference(cell: tuple[str, ...], than: tuple[str, ...], values: Mapping[str, pd.DataFrame],
                rule: Rule, comparisons: int) -> dict[str, Any]:
    """`cell` minus `than`, both (table, row, column), paired over the seeds that both have; one of so many."""
    a, b = (values.get(table, pd.DataFrame()).get((row, column), pd.Series(dtype=float))
            for table, row, column in (cell, than))
    differences = (a - b).dropna()
    record = {"comparison": _label(cell, than), "paper": numbers.value(*cell) - numbers.value(*than), "unit": "points",
              "seeds": len(differences), "test": "at least", "bound": 0.0}
    if differences.empty:
        absent = [table for table in dict.fromkeys((cell[0], than[0])) if table not in values]
        return record | {"note": _no_file(*absent) if absent else f"runs/{cell[0]}.csv: no seed has both cells."}
    low, high = stats.t_interval(differences, rule.confidence)
    _, most = stats.t_interval(differences, 1 - rule.alpha / comparisons)  # Bonferroni's
    bca_low, bca_high = stats.bca_interval(differences, rule.confidence)
    return record | {"ours": differences.mean(), "low": low, "high": high, "most": most,
                     "bca_low": bca_low, "bca_high": bca_high,
                     "p": stats.sign_flip_p(differences),
                     "detectable": stats.smallest_detectable(differences, rule.alpha, rule.power)}


def _label(cell: tuple[str, ...], than: tuple[str, ...]) -> str:
    """What differs between two cells, and in parentheses what does not and is no matter of course."""
    winner, rival = (", ".join(_named(part) for part in of if part not in other)
                     for of, other in ((cell, than), (than, cell)))
    shared = ", ".join(part for part in cell[1:] if part in than and part != TOP1)
    return f"{winner} over {rival}" + (f" ({shared})" if shared else "")


def _named(part: str) -> str:
    """A table as the paper calls it; a row or column as it is."""
    return numbers.label(part) if part in numbers.load() else part


def _counts(counts: Counts, counted: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    published, ours, reasons = numbers.table(counts.table), {}, {}
    if counted is not None:
        of = counted[counted["table"] == counts.table].set_index(["row", "quantity"])
        ours, reasons = of["measured"].to_dict(), of["reason"].fillna("").to_dict()
    absent = _no_file("complexity") if counted is None else "runs/complexity.csv lacks it."
    rows = counts.rows or tuple(published.index)
    for row, like in zip(rows, counts.like or (None,) * len(rows), strict=True):
        for quantity in published.columns.intersection([PARAMS, MACS]):
            count, printed = ours.get((row, quantity), math.nan), published.loc[row, quantity]
            record = {"comparison": f"{row}, {quantity}", "unit": "M", "test": "equal",
                      "note": absent if math.isnan(count) else reasons[row, quantity]}
            if like is not None:
                record |= {"comparison": f"{row} over {like}, {quantity}", "unit": "×"}
                count, printed = count / ours.get((like, quantity), math.nan), printed / published.loc[like, quantity]
            yield record | {"paper": printed, "ours": count}


def _times(claim: Claim, timed: pd.DataFrame | None, rule: Rule) -> Iterator[dict[str, Any]]:
    """A claim's ratios of times, or how the times' order agrees with the paper's."""
    published, deployed = numbers.table("table_9"), catalog.deployed()
    if timed is None:
        timed = pd.DataFrame(columns=["network", "engine", "threads", "cpu", "median_ms", "p10_ms", "p90_ms"])
    of = timed.query("engine == @ENGINE and threads == @THREADS").set_index("network")
    times = of[["median_ms", "p10_ms", "p90_ms"]].astype(float).reindex(deployed.values()).set_axis(list(deployed))
    on = f"{ENGINE}, {THREADS} thread, {', '.join(of['cpu'].unique())}."
    absent = _no_file("latency") if timed.empty else f"runs/latency.csv lacks it with {ENGINE}, {THREADS} thread."
    if claim.ranks:
        once = list({network: row for row, network in deployed.items()}.values())
        theirs, ours = published.loc[once, claim.ranks], times.loc[once, "median_ms"]
        rho, _ = stats.rank_correlation(theirs, ours)
        low, high = _rho_interval(rho, ours.count(), rule.confidence)
        yield {"comparison": claim.ranks, "ours": rho, "low": low, "high": high, "unit": "ρ", "test": "at least",
               "bound": rule.rank_agreement, "note": absent if math.isnan(rho) else f"{ours.count()} networks; {on}"}
    for ratio in (ratios()[name] for name in claim.latencies):
        printed = published.loc[ratio.row, latency.CPU] / published.loc[ratio.to, latency.CPU]
        to_spare = rule.latency_tolerance * {"at most": 1, "at least": -1}[ratio.direction]
        bound = {"printed": printed * (1 + to_spare), "same": 1 + to_spare, "shorter": 1.0}[ratio.bound]
        a, b = times.loc[ratio.row], times.loc[ratio.to]
        ours = a["median_ms"] / b["median_ms"]
        note = f"{on} {_elsewhere(timed, deployed[ratio.row], deployed[ratio.to])}".strip()
        yield {"comparison": f"{ratio.row} / {ratio.to} ({ratio.claim})", "paper": printed, "ours": ours,
               "low": a["p10_ms"] / b["p90_ms"], "high": a["p90_ms"] / b["p10_ms"], "unit": "×",
               "test": ratio.direction, "bound": bound, "note": absent if math.isnan(ours) else note}


def _elsewhere(timed: pd.DataFrame, a: str, b: str) -> str:
    """The ratio of two networks' times with every other engine and number of threads: no part of the verdict."""
    found = []
    for (engine, threads), of in timed.groupby(["engine", "threads"], sort=False):
        times = of.set_index("network")["median_ms"]
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


def _no_file(*experiments: str) -> str:
    return " ".join(f"runs/{name}.csv does not exist: that stage was not run." for name in experiments)

"""What the runs of a profile say about each claim's comparisons.

    claims.load()  +  results/<profile>/runs/*.csv
      -> evidence()             a row a comparison
      -> verdicts.judge()       a row a claim
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ghostlib.evidence import measured, stats, times
from ghostlib.exhibits import complexity
from ghostlib.paper import exhibits, numbers
from ghostlib.paper.claims import Aside, Claim, Counts, Rule, load

COLUMNS = ["claim", "decides", "comparison", "paper", "ours", "low", "high", "most", "bca_low", "bca_high", "seeds",
           "p", "p_holm", "detectable", "unit", "test", "bound", "note"]
_UNTESTED = ["p", "detectable"]  # what a comparison that decides nothing has not: it is not tested


def evidence(folder: str | Path) -> pd.DataFrame:
    """What was measured for every comparison of every claim: one row each, with the columns `COLUMNS`.

    `decides` is true for the comparisons that a verdict follows from, and false for a claim's asides, of which there
    are rows only where they were measured. `paper` and `ours` are a difference of accuracies in points, a count in
    millions (M), a ratio of counts or of times (×) or a rank correlation (ρ); `low` and `high` are the interval of
    ours: of a difference Student's, of a ratio of times that of the percentiles, which is no confidence interval.
    `most` is the upper end of a difference's interval widened for the number of the claim's comparisons. `test` and
    `bound` are what is claimed of ours, and `note` is what else a reader must know, e.g. why there is nothing; of an
    aside, what it says. `p` is the sign-flip test's, corrected for all rows in `p_holm`.

    Args:
        folder: results/<profile>; of its runs/*.csv whatever is there.

    Raises:
        ValueError: an experiment's file holds one seed of a cell twice.
    """
    rule, claims = load()
    files = measured.read(folder)
    values, records = measured.accuracies(files), []
    for claim in claims:
        if claim.not_attempted:
            found = [{"comparison": "", "note": claim.not_attempted}]
        elif claim.better:
            found = [_difference(claim.locate(pair.cell), claim.locate(pair.than), values, rule, len(claim.better))
                     for pair in claim.better]
        elif claim.counts:
            found = _counts(claim.counts, files.get("complexity"))
        else:
            found = times.compare(claim, files.get("latency"), rule)
        records += [{"claim": claim.id, "decides": True, **record} for record in found]
        records += [{"claim": claim.id, "decides": False, **record}
                    for aside in claim.asides for record in _aside(aside, claim, values, rule)]
    rows = pd.DataFrame(records, columns=COLUMNS).fillna({"seeds": 0, "unit": "", "test": "", "note": ""})
    return rows.assign(p_holm=stats.holm(rows["p"])).astype({"seeds": int})


def _difference(cell: tuple[str, ...], than: tuple[str, ...], values: Mapping[str, pd.DataFrame],
                rule: Rule, comparisons: int) -> dict[str, Any]:
    """`cell` minus `than`, both (table, row, column), paired over the seeds that both have; one of so many."""
    differences = _paired(cell, than, values)
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


def _aside(aside: Aside, claim: Claim, values: Mapping[str, pd.DataFrame], rule: Rule) -> Iterator[dict[str, Any]]:
    """What was measured of an aside: a record a pair, or one of the mean of all pairs within a seed."""
    cells = [(claim.locate(pair.cell), claim.locate(pair.than)) for pair in aside.pairs]
    if not aside.average:
        for pair, (cell, than) in zip(aside.pairs, cells, strict=True):
            record = _difference(cell, than, values, rule, 1)
            if record["seeds"]:
                yield {key: value for key, value in record.items() if key not in _UNTESTED} | {
                    "comparison": pair.label, "note": aside.says}
        return
    differences = pd.concat([_paired(cell, than, values) for cell, than in cells], axis=1).dropna()
    if len(differences):
        within = differences.mean(axis=1)
        low, high = stats.t_interval(within, rule.confidence)
        ahead = int((differences > 0).to_numpy().sum())
        yield {"comparison": f"{ahead} of {differences.size} pairs are ahead", "unit": "points", "seeds": len(within),
               "ours": within.mean(), "low": low, "high": high, "test": "at least", "bound": 0.0, "note": aside.says}


def _paired(cell: tuple[str, ...], than: tuple[str, ...], values: Mapping[str, pd.DataFrame]) -> pd.Series:
    """`cell` minus `than` for each seed that both have."""
    a, b = (values.get(table, pd.DataFrame()).get((row, column), pd.Series(dtype=float))
            for table, row, column in (cell, than))
    return (a - b).dropna()


def _label(cell: tuple[str, ...], than: tuple[str, ...]) -> str:
    """What differs between two cells, and in parentheses what does not and is no matter of course."""
    winner, rival = (", ".join(_named(part) for part in place if part not in other)
                     for place, other in ((cell, than), (than, cell)))
    shared = ", ".join(part for part in cell[1:] if part in than and part != numbers.TOP1)
    return f"{winner} over {rival}" + (f" ({shared})" if shared else "")


def _named(part: str) -> str:
    """A table as the paper calls it; a row or column as it is."""
    return exhibits.label(part) if part in numbers.load() else part


def _counts(counts: Counts, counted: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """The counts of the claim's rows: a record a row and quantity, with the reason for a difference if one is known."""
    published, ours, reasons = numbers.table(counts.table), {}, {}
    if counted is not None:
        cells = complexity.compare(counted[counted["table"] == counts.table]).set_index(["row", "quantity"])
        ours, reasons = cells["measured"].to_dict(), cells["reason"].to_dict()
    absent = _no_file("complexity") if counted is None else "runs/complexity.csv lacks it."
    rows = counts.rows or tuple(published.index)
    for row, like in zip(rows, counts.like or (None,) * len(rows), strict=True):
        for quantity in published.columns.intersection([numbers.PARAMS, numbers.MACS]):
            count, printed = ours.get((row, quantity), math.nan), published.loc[row, quantity]
            record = {"comparison": f"{row}, {quantity}", "unit": "M", "test": "equal",
                      "note": absent if math.isnan(count) else reasons[row, quantity]}
            if like is not None:
                record |= {"comparison": f"{row} over {like}, {quantity}", "unit": "×"}
                count, printed = count / ours.get((like, quantity), math.nan), printed / published.loc[like, quantity]
            yield record | {"paper": printed, "ours": count}


def _no_file(*experiments: str) -> str:
    return " ".join(f"runs/{name}.csv does not exist: that stage was not run." for name in experiments)

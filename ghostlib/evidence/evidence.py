"""What the runs of a profile say about each claim's comparisons.

    claims.load()  +  results/<profile>/runs/*.csv, correct/*.csv, teachers.csv  +  results/sessions/*.csv
      -> evidence()             a row a comparison
      -> verdicts.judge()       a row a claim
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ghostlib.evidence import balance, measured, stats, times
from ghostlib.evidence.contrast import LOST, MEAN, Cell, Contrast, Measured
from ghostlib.evidence.quantities import number
from ghostlib.exhibits import complexity
from ghostlib.measures import pretrained
from ghostlib.measures.published import COMMAND
from ghostlib.paper import exhibits, numbers
from ghostlib.paper.claims import OWN, Aside, Claim, Counts, Rule, load, published

COLUMNS = ["claim", "decides", "comparison", "paper", "ours", "low", "high", "most", "half_seeds", "half_images",
           "crossed_low", "crossed_high", "seeds", "sessions", "p", "p_holm", "detectable",
           "loss", "loss_low", "loss_high", "unit", "margin", "test", "bound", "against", "note"]
_UNTESTED = ["p", "detectable", "most"]  # what a comparison that decides nothing has not: it is not tested


def evidence(folder: str | Path) -> pd.DataFrame:
    """What was measured for every comparison of every claim: one row each, with the columns `COLUMNS`.

    `decides` is true for the comparisons that a verdict follows from. It is false for the mean over a claim's
    comparisons within a seed (`note` is "mean contrast") and for a claim's asides; of these there are rows only
    where they were measured. `paper` and `ours` are a difference of accuracies in points, a slope of them in points
    a point, a count in millions (M), the accuracy of public weights (%), a ratio of counts or of times (×) or a
    rank correlation (ρ); `low` and `high` are the interval of ours, which decides: of a difference over seeds and
    test images where correct/*.csv tells these, else Student's over the seeds; of a ratio of times Student's over
    the `sessions` that timed both. `half_seeds` and `half_images` are the two parts of a difference's half-width,
    the second NaN where `low` and `high` are over seeds alone; the two-way bootstrap's interval is `crossed_low`
    and `crossed_high`. `most` is the end in the claim's favour of the interval that is widened for the number of the
    claim's comparisons: the upper one, or the lower one of what must be at most the bound. `margin` is within which a
    difference is bounded; only top-1 has one. `test` and `bound` are what is claimed of ours; `against` are the engines
    by whose times it is not so, and `note` is what else a reader must know, e.g. why there is nothing; of an aside,
    what it says. `p` is the sign-flip test's of a mean at
    `bound`, of at least `significant_seeds`, corrected for all rows in `p_holm`. `loss` is the difference of log-losses
    on the test images (nats, below zero in the claim's favour), with Student's interval over the seeds.

    Args:
        folder: results/<profile>; of its runs/*.csv and correct/*.csv, and of results/sessions, whatever is there.

    Raises:
        ValueError: an experiment's file holds one seed of a cell twice, or correct/ is of other trainings than runs/.
    """
    rule, claims = load()
    files = measured.read(folder)
    values, timed, records = Measured.load(folder, files), times.Sessions.load(folder), []
    for claim in claims:
        if claim.not_attempted:
            found = [{"comparison": "", "note": claim.not_attempted}]
        elif claim.better or claim.not_better:
            found = _differences(claim, values, rule)
        elif claim.correlates:
            found = [_slope(claim, values, rule)]
        elif claim.counts:
            found = _counts(claim.counts, files.get("complexity"))
        elif claim.weights:
            found = _weights(claim.weights, files.get("published"), rule)
        elif claim.undominated:
            found = balance.compare(claim.undominated, _counted(files.get("complexity")), timed, rule)
        else:
            found = times.compare(claim, timed, rule)
        records += [{"claim": claim.id, "decides": record.get("note") != MEAN, **record} for record in found]
        records += [{"claim": claim.id, "decides": False, **record}
                    for aside in claim.asides for record in _aside(aside, claim, values, rule)]
    rows = pd.DataFrame(records, columns=COLUMNS).fillna({"seeds": 0, "sessions": 0, "unit": "", "test": "",
                                                              "against": "", "note": ""})
    return rows.assign(p_holm=stats.holm(rows["p"])).astype({"seeds": int, "sessions": int})


def _differences(claim: Claim, values: Measured, rule: Rule) -> Iterator[dict[str, Any]]:
    """A record a comparison of the claim and, if any seed has all their cells, one of their mean within a seed."""
    cells = [(claim.locate(pair.cell), claim.locate(pair.than)) for pair in claim.better]
    # That a cell is not better than another by the margin is that the other is behind by less: in the claim's favour.
    cells += [(claim.locate(pair.than), claim.locate(pair.cell)) for pair in claim.not_better]
    bound = -rule.margin if claim.not_better else 0.0
    contrasts = [Contrast.between(cell, than, values) for cell, than in cells]
    for (cell, than), contrast in zip(cells, contrasts, strict=True):
        above = f", above {number(bound, 'points')}" if bound else ""
        record = {"comparison": f"{_label(cell, than)}{above}", "paper": _paper([(cell, than)]),
                  **_kind(cell[0], rule, bound)}
        yield record | _measured(contrast, (cell, than), values, rule, len(cells), bound)
    mean = Contrast.mean(contrasts)
    if len(mean.seeds):
        yield {"comparison": f"mean of {len(cells)}", "note": MEAN, "paper": _paper(cells),
               **_kind(cells[0][0], rule, bound), **_untested(mean, rule)}


def _measured(contrast: Contrast, cells: Sequence[Cell], values: Measured, rule: Rule, comparisons: int = 1,
              bound: float = 0.0) -> dict[str, Any]:
    """A contrast of the cells, one of so many comparisons, or why there is none."""
    if len(contrast.seeds):
        return contrast.record(rule, comparisons, bound)
    if lost := [cell for cell in cells if cell in values.diverged]:
        return {"note": f"{', '.join(_named(cell) for cell in lost)}: {LOST}"}
    tables = list(dict.fromkeys(cell[0] for cell in cells))
    if absent := [table for table in tables if table not in values.accuracies]:
        return {"note": _no_file(*absent)}
    if left_out := [table for table in tables if values.accuracies[table].empty]:
        return {"note": f"This profile leaves out the experiment {' and '.join(left_out)}."}
    return {"note": f"runs/{cells[0][0]}.csv: no seed has {'both' if len(cells) == 2 else 'all'} cells."}


def _slope(claim: Claim, values: Measured, rule: Rule) -> dict[str, Any]:
    """By how many points the students' mean accuracy rises a point of their teachers': a least-squares line a seed."""
    printed, columns = pd.Series(claim.correlates.teachers), claim.correlates.columns

    def weights(teachers: pd.Series) -> dict[Cell, float]:
        of_teachers = (teachers - teachers.mean()) / ((teachers - teachers.mean()) ** 2).sum()
        return {claim.locate((row, column)): of_teachers[row] / len(columns) for row in printed.index
                for column in columns}

    paper = sum(weight * published(cell) for cell, weight in weights(printed).items())
    record = {"comparison": f"students' points for each of their teachers', of {len(printed)} teachers", "paper": paper,
              "unit": "points a point", "test": "at least", "bound": 0.0}
    teachers = pd.Series(values.teachers, dtype=float).reindex(printed.index)
    if teachers.isna().any():
        return record | {"note": "teachers.csv does not tell every teacher's accuracy."}
    if teachers.nunique() == 1:
        return record | {"note": "All teachers are equally accurate."}
    weighted = weights(teachers)
    found = _measured(Contrast.of(weighted, values), list(weighted), values, rule)
    told = ", ".join(f"{teacher} {accuracy:.1f} %" for teacher, accuracy in teachers.items())
    return record | {"note": f"Teachers: {told}."} | found


def _aside(aside: Aside, claim: Claim, values: Measured, rule: Rule) -> Iterator[dict[str, Any]]:
    """What was measured of an aside: a record a pair, or one of the mean of all pairs within a seed."""
    cells = [(claim.locate(pair.cell), claim.locate(pair.than)) for pair in aside.pairs]
    contrasts = [Contrast.between(cell, than, values) for cell, than in cells]
    if aside.average:
        mean = Contrast.mean(contrasts)
        ahead = sum(int((part.seeds.loc[mean.seeds.index] > 0).sum()) for part in contrasts)
        labels, contrasts = [f"{ahead} of {len(cells) * len(mean.seeds)} pairs are ahead"], [mean]
    else:
        labels = [pair.label for pair in aside.pairs]
    for label, (cell, than), contrast in zip(labels, cells, contrasts, strict=False):
        if len(contrast.seeds):
            paper = _paper(cells if aside.average else [(cell, than)])
            yield {"comparison": label, "note": aside.says, "paper": paper, **_kind(cell[0], rule),
                   **_untested(contrast, rule)}


def _kind(table: str, rule: Rule, bound: float = 0.0) -> dict[str, Any]:
    """What the rule asks of a difference; detectors' mAP has no margin."""
    return {"unit": "points", "margin": math.nan if table == "table_10" else rule.margin, "test": "at least",
            "bound": bound}


def _untested(contrast: Contrast, rule: Rule) -> dict[str, Any]:
    return {key: value for key, value in contrast.record(rule).items() if key not in _UNTESTED}


def _paper(cells: Sequence[tuple[Cell, Cell]]) -> float:
    """The mean of the paper's own differences; NaN where one is of an experiment of ours."""
    return statistics.fmean(published(cell) - published(than) for cell, than in cells)


def _label(cell: tuple[str, ...], than: tuple[str, ...]) -> str:
    """What differs between two cells, and in parentheses what does not and is no matter of course."""
    winner, rival = (_named([part for part in place if part not in other]) for place, other in ((cell, than),
                                                                                              (than, cell)))
    shared = ", ".join(part for part in cell[1:] if part in than and part != numbers.TOP1)
    return f"{winner} over {rival}" + (f" ({shared})" if shared else "")


def _named(parts: Sequence[str]) -> str:
    """A table as the paper calls it, rows and columns as they are, and last an experiment of ours by its name there."""
    paper = ", ".join(exhibits.label(part) if part in numbers.load() else part for part in parts if part not in OWN)
    return " ".join([paper, *(OWN[part] for part in parts if part in OWN)])


def _counts(counts: Counts, counted: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """The counts of the claim's rows: a record a row and quantity, with the reason for a difference if one is known."""
    table, ours, reasons = numbers.table(counts.table), {}, {}
    if counted is not None:
        cells = complexity.compare(counted[counted["table"] == counts.table]).set_index(["row", "quantity"])
        ours, reasons = cells["measured"].to_dict(), cells["reason"].to_dict()
    absent = _no_file("complexity") if counted is None else "runs/complexity.csv lacks it."
    rows, quantities = counts.rows or tuple(table.index), table.columns.intersection([numbers.PARAMS, numbers.MACS])
    if counts.fewer_than:
        quantities = [numbers.MACS]
    others = counts.like or counts.fewer_than or (None,) * len(rows)
    for row, other in zip(rows, others, strict=True):
        for quantity in quantities:
            count, printed = ours.get((row, quantity), math.nan), table.loc[row, quantity]
            record = {"comparison": f"{row}, {quantity}", "unit": "M", "test": "equal",
                      "note": absent if math.isnan(count) else reasons[row, quantity]}
            if other is not None:
                record |= {"comparison": f"{row} over {other}, {quantity}", "unit": "×"}
                count, printed = count / ours.get((other, quantity), math.nan), printed / table.loc[other, quantity]
            if counts.fewer_than:
                record |= {"test": "fewer", "bound": 1.0}
            yield record | {"paper": printed, "ours": count}


def _weights(rows: Sequence[str], scored: pd.DataFrame | None, rule: Rule) -> Iterator[dict[str, Any]]:
    """A record a row: the top-1 accuracy that is printed and the one that its public weights gave."""
    ours = {} if scored is None else scored.set_index("row")["top1"].to_dict()
    for row in rows:
        source = pretrained.sources()[row]
        absent = f"The row's public weights were not scored. With ImageNet's validation images: `{COMMAND}`."
        yield {"comparison": f"{row} by {source.name}", "paper": numbers.value("table_9", row, numbers.TOP1),
               "ours": ours.get(row, math.nan), "unit": "%", "test": "within", "bound": rule.weights_tolerance,
               "note": f"Their training: {source.training}." if row in ours else absent}


def _counted(counted: pd.DataFrame | None) -> dict[tuple[str, str], float]:
    """(row of Table 9, quantity) -> what was counted."""
    if counted is None:
        return {}
    return counted[counted["table"] == "table_9"].set_index(["row", "quantity"])["measured"].to_dict()


def _no_file(*experiments: str) -> str:
    return " ".join(f"runs/{name}.csv does not exist: that stage was not run." for name in experiments)

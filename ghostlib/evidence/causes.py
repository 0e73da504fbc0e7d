"""Branches in short trainings: what each remedy makes of their difference in accuracy to the plain network."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghostlib.evidence import stats
from ghostlib.evidence.claim_tables import CAUSES
from ghostlib.evidence.quantities import counted, with_interval
from ghostlib.exhibits.figures import sentence
from ghostlib.exhibits.style import STYLE, abridged, marks
from ghostlib.experiments import TOP1_METRIC
from ghostlib.measures.places import DIVERGED, undiverged
from ghostlib.paper import claims
from ghostlib.training.profile import Profile

EXPERIMENT, PLAIN = "causes", "w/o ReP"
_LOST = "a seed diverged"
_GAINS = ["row", "column", "ours", "low", "high", "low_alone", "high_alone", "seeds"]


def gains(results: pd.DataFrame) -> pd.DataFrame:
    """What branches bring over the plain network of the same column and seed: a row a cell, with the columns `_GAINS`.

    `ours` is the mean in points of top-1, low and high Student's interval over the seeds, widened for the number of
    rows and columns (Bonferroni): of a dozen, one would often be off zero by chance. low_alone and high_alone are it
    as if of this cell alone. Where a seed diverged, of either, the cell is left out, and counts.

    Args:
        results: of the experiment `causes`, with the columns `experiments.COLUMNS`; here and below.
    """
    rule, _ = claims.load()
    top1 = undiverged(results[results["metric"].isin([TOP1_METRIC, DIVERGED])])
    values = top1.pivot(index="seed", columns=["row", "column"], values="value")
    cells = results[["row", "column"]].drop_duplicates()
    count = (cells["row"] != PLAIN).sum()
    records = []
    for row, column in cells.itertuples(index=False):
        if row != PLAIN and {(row, column), (PLAIN, column)} <= set(values.columns):
            differences = (values[row, column] - values[PLAIN, column]).dropna()
            low, high = stats.t_interval(differences, 1 - rule.alpha / count)
            alone = stats.t_interval(differences, rule.confidence)
            records.append((row, column, differences.mean(), low, high, *alone, len(differences)))
    return pd.DataFrame(records, columns=_GAINS)


def conclusion(results: pd.DataFrame) -> str:
    """What turns a loss into a gain, in sentences that hold no more than the intervals do."""
    found = gains(results)
    if found.empty:
        return "Nothing can be said: of every cell or its plain network a seed diverged."
    certain = found[found["low"] < found["high"]]  # seeds that all differ alike say nothing
    gained, lost = certain[certain["low"] > 0], certain[certain["high"] < 0]
    shown = f"In no cell do {int(found['seeds'].min())} seeds show branches"
    sentences = [f"{_listed(lost)}: branches are behind the plain network." if len(lost) else
                 f"{shown} behind the plain network.",
                 f"{_listed(gained)}: branches are ahead of it." if len(gained) else f"{shown} ahead of it."]
    left, cells = len(found) - len(gained) - len(lost), results[["row", "column"]].drop_duplicates()
    if absent := int((cells["row"] != PLAIN).sum()) - len(found):
        sentences.append(f"Of {absent} more, or of their plain network, a seed diverged.")
    return " ".join([*sentences, f"In the other {left} of {len(found)} cells neither is shown."]
                    if 0 < left < len(found) else sentences)


def document(results: pd.DataFrame, profile: Profile) -> str:
    """The accuracies, the gains and the conclusion in Markdown; one sentence where the profile runs none of it."""
    if results.empty:
        return f"**{CAUSES}**\n\n{not_run(profile)}\n"
    found = gains(results)
    cells = [with_interval(row.ours, row.low, row.high, "points") for row in found.itertuples()]
    shown = found.assign(cell=cells).pivot(index="row", columns="column", values="cell")
    rows, columns = results["row"].unique(), results["column"].unique()
    shown = shown.reindex(index=rows[rows != PLAIN], columns=columns).astype(object).fillna(_LOST)
    top1 = undiverged(results).query("metric == @TOP1_METRIC")
    means = top1.pivot_table(index="row", columns="column", values="value").reindex(columns=shown.columns)
    plain = means.reindex([PLAIN]).map("{:.2f} %".format).replace("nan %", _LOST).set_axis([f"{PLAIN}, top-1"])
    seeds = results["seed"].nunique()
    notes = [f"Measured at: {profile.scale}; here {_part(seeds)}.",
             f"First row: mean top-1 of the plain network. Below: what the row has over it in the same column, in "
             f"points, with Student's interval over {seeds} seeds, widened for the {shown.size} cells.",
             "All are trained at one lr_scale.",
             "γ = 1/√B: the γ of B parallel normalisations begin at 1/√B, so that the sum begins with the variance of "
             "one. BN rates ÷ B: their γ and β learn at 1/B of the rate. Neither is the paper's."]
    table = pd.concat([plain, shown]).to_markdown(disable_numparse=True)
    return "\n".join([f"**{CAUSES}**", "", conclusion(results), "", table, "", *(f"- {note}" for note in notes)]) + "\n"


def figure(results: pd.DataFrame, profile: Profile) -> Figure:
    """What every arm reaches, the plain network's too, and beside it what each has over that, with its interval."""
    if results.empty:
        return sentence(not_run(profile))
    rule, _ = claims.load()
    found, top1 = gains(results), undiverged(results).query("metric == @TOP1_METRIC")
    reached = top1.groupby(["row", "column"], sort=False)["value"].agg(ours="mean", sd="std").reset_index()
    reached = reached.assign(low=reached["ours"] - reached["sd"], high=reached["ours"] + reached["sd"])
    with plt.rc_context({**sns.axes_style("whitegrid"), **STYLE}):
        drawn, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4.2), layout="constrained")
        _panel(left, reached)
        seeds = results["seed"].nunique()
        left.set_title(f"what each reaches (± standard deviation of {seeds} seeds)", loc="left", fontsize=9)
        left.set_ylabel("top-1 accuracy (%)")
        _panel(right, found, width=0.8)
        _panel(right, found.assign(low=found["low_alone"], high=found["high_alone"]), width=2.5, label=False)
        right.axhline(0, color=marks([PLAIN])[PLAIN].color, lw=1)
        right.set_title(f"over {PLAIN}, {100 * rule.confidence:g} % intervals; thin: for all {len(found)} cells",
                        loc="left", fontsize=9)
        right.set_ylabel("points of top-1")
        handles, names = left.get_legend_handles_labels()
        drawn.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
        drawn.suptitle(f"{CAUSES}\nMeasured at: {abridged(profile.scale, 110)};\nhere {_part(seeds)}.",
                       x=0.01, ha="left", fontsize=9)
    plt.close(drawn)
    return drawn


def not_run(profile: Profile) -> str:
    """Why there is nothing to show."""
    return f"Profile {profile.name!r} does not run this experiment; experiments.yaml says which profiles do."


def _part(seeds: int) -> str:
    """What of a profile's scale this experiment is trained at."""
    return f"{counted(seeds, 'seed')}, and a quarter of the steps but in the last column"


def _panel(axis: Axes, cells: pd.DataFrame, width: float = 1.5, label: bool = True) -> None:
    """A mark a cell with its whisker, the rows beside one another in each column."""
    columns, rows = list(cells["column"].unique()), list(cells["row"].unique())
    for i, (row, mark) in enumerate(marks(rows).items()):
        own = cells[cells["row"] == row]
        places = own["column"].map(columns.index) + 0.14 * (i - (len(rows) - 1) / 2)
        below, above = np.abs(own["ours"] - own["low"]), np.abs(own["high"] - own["ours"])
        axis.errorbar(places, own["ours"], (below, above), color=mark.color, marker=mark.marker, ms=6, ls="",
                      elinewidth=width, label=row if label else None)
    axis.set_xticks(range(len(columns)), columns)
    axis.grid(axis="x", visible=False)


def _listed(cells: pd.DataFrame) -> str:
    return "; ".join(f"{row} at {', '.join(of_row['column'])}" for row, of_row in cells.groupby("row", sort=False))

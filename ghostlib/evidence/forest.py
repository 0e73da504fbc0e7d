"""Every claim about accuracy as a row: the paper's differences, and ours with the interval of the one that decides."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ghostlib.evidence.verdict import Verdict
from ghostlib.exhibits.figures import sentence
from ghostlib.exhibits.style import NOISE, STYLE, abridged
from ghostlib.paper import claims as paper
from ghostlib.paper.claims import Rule

# The shape of each verdict, beside its colour.
_MARKERS = {Verdict.EXACT: "o", Verdict.CONFIRMED: "o", Verdict.BOUNDED: "s", Verdict.CONTRADICTED: "X",
            Verdict.INCONCLUSIVE: "D", Verdict.NOT_ATTEMPTED: "."}
_OTHERS = "0.6"  # of the comparisons that do not decide
_USUAL = 0.9  # of what was measured here lies within an axis, to which two thirds are added


class _Form(NamedTuple):
    """Lengths in inches; a phone's has the statements above their rows instead of beside them."""

    width: float
    row: float  # its height
    foot: float  # for the legend
    columns: int  # of the legend
    letters: int  # of a line of a statement
    title: int  # letters of a line of the title


_PAGE, _PHONE = _Form(10, 0.42, 0.5, 4, 62, 140), _Form(3.9, 0.72, 1.0, 1, 64, 58)


def draw(claims: pd.DataFrame, evidence: pd.DataFrame, scale: str, narrow: bool = False) -> Figure:
    """A row a claim. Small dots are its comparisons, the large mark decides; its colour and shape are the verdict.

    A verdict by few seeds is written out with their number. The grey band is the rule's margin. What lies far beyond
    all else is an arrow at the edge with its number. Claims that were not attempted are counted below, and have no row.

    Args:
        claims: as `verdicts.judge` gives it.
        evidence: as `evidence.evidence` gives it.
        scale: at which scale ours was measured; in the title.
        narrow: as a phone shows it.
    """
    form = _PHONE if narrow else _PAGE
    claims = claims[claims["unit"] == "points"]
    attempted = claims["verdict"] != Verdict.NOT_ATTEMPTED
    left_out = (f"Not attempted at this scale: {(~attempted).sum()} of the {len(claims)} claims about differences of "
                "accuracy.")
    if not attempted.any():
        return sentence(left_out, form.width if narrow else 8.0)
    claims = claims[attempted].reset_index(drop=True)
    claims = claims.assign(y=claims.index)
    rule, _ = paper.load()
    rows = evidence[evidence["decides"]].merge(claims[["id", "y"]], left_on="claim", right_on="id")
    with plt.rc_context({**sns.axes_style("whitegrid"), **STYLE, "font.size": 8}):
        figure, axes = plt.subplots(1, 2, figsize=(form.width, 1.5 + form.foot + form.row * len(claims)), sharey=True,
                                    layout="constrained")
        for axis, source, title in zip(axes, ("paper", "ours"), ("the paper, on ImageNet", "measured here"),
                                       strict=True):
            ends = claims[["low", "high"]].to_numpy().ravel() if source == "ours" else np.array([])
            _panel(axis, claims, rows, source, ends)
            axis.set_title(title if claims[source].notna().any() else f"{title}: nothing", loc="left")
        intervals = claims.dropna(subset=["low", "high"])
        axes[1].hlines(intervals["y"], intervals["low"], intervals["high"], _colors(intervals), lw=2)
        for end, edge, arrow in (("low", axes[1].get_xlim()[0], "<"), ("high", axes[1].get_xlim()[1], ">")):
            cut = intervals[(intervals[end] < edge) if end == "low" else (intervals[end] > edge)]
            axes[1].scatter(np.full(len(cut), edge), cut["y"], s=22, color=_colors(cut), marker=arrow, clip_on=False)
        of_top1 = claims[claims["experiment"] != "table_10"]  # mAP has no margin
        axes[1].barh(of_top1["y"], 2 * rule.margin, 1, -rule.margin, color=NOISE, alpha=0.35, lw=0, zorder=0)
        labels = [textwrap.fill(_label(claim, rule), form.letters) for claim in claims.itertuples()]
        axes[0].set_ylim(len(claims) - 0.4, -0.9 if narrow else -0.6)
        axes[0].set_yticks(claims["y"], [""] * len(labels) if narrow else labels)
        for y, label in enumerate(labels if narrow else []):
            axes[0].text(0, y - 0.36, label, transform=axes[0].get_yaxis_transform(), va="bottom", fontsize=7,
                         in_layout=False, bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.5})
        axes[0].set_zorder(2)  # its texts run across both panels
        axes[0].patch.set_visible(False)
        inch = 1 / figure.get_figheight()  # of the figure; the legend stands in a strip above the line of the left out
        foot = form.foot + 0.25
        figure.get_layout_engine().set(rect=(0.01, foot * inch, 0.98, 1 - foot * inch))  # markers stand on the edges
        figure.legend(handles=_legend(claims, rule), loc="lower center", bbox_to_anchor=(0.5, 0.25 * inch),
                      ncols=form.columns, frameon=False)
        if not attempted.all():
            figure.supxlabel(textwrap.fill(left_out, form.title), x=0.01, ha="left", fontsize=8)
        title = ["Differences of accuracy that the paper claims, or we do.", f"Measured at: {abridged(scale, 120)}"]
        figure.suptitle("\n".join(textwrap.fill(line, form.title) for line in title), x=0.01, ha="left", fontsize=9)
    plt.close(figure)
    return figure


def _label(claim: Any, rule: Rule) -> str:
    """The statement, that it is ours, and the verdict where few seeds gave it."""
    verdict = Verdict(claim.verdict).with_seeds(claim.seeds, rule)
    statement = claim.statement + (" (our claim)" if claim.claimed_by == "us" else "")
    return statement if verdict == claim.verdict else f"{statement} – {verdict}"


def _panel(axis: Axes, claims: pd.DataFrame, rows: pd.DataFrame, source: str, ends: np.ndarray) -> None:
    values = np.concatenate([rows[source], claims[source], ends])
    low, high = _limits(values, _USUAL if source == "ours" else 1.0)
    axis.axvline(0, color="0.4", lw=1)
    axis.scatter(rows[source], rows["y"], s=9, color=_OTHERS, zorder=2)
    for verdict, of_verdict in claims.groupby("verdict"):
        axis.scatter(of_verdict[source].clip(low, high), of_verdict["y"], s=30, color=Verdict(verdict).color,
                     marker=_MARKERS[verdict], zorder=3, clip_on=False)  # what decides is there, if only at the edge
    for beyond, edge, side, arrow in ((rows[source] > high, high, "right", "{} ▸"),
                                      (rows[source] < low, low, "left", "◂ {}")):
        for y, of_row in rows[beyond].groupby("y"):
            written = ", ".join(f"{value:+.2g}".replace("-", "−") for value in sorted(of_row[source]))
            axis.text(edge, y - 0.18, arrow.format(written), ha=side, va="bottom", fontsize=7, color="0.3")
    axis.set(xlabel="points in the claim's favour", xlim=(low, high))
    axis.grid(axis="y", visible=False)


def _limits(values: np.ndarray, share: float) -> tuple[float, float]:
    """Where an axis ends that holds this share of the values at least, and of the others those that are near."""
    values = values[~np.isnan(values)]
    if not len(values):
        return -1.0, 1.0
    usual = max(1.0, np.quantile(np.abs(values), share) / 0.6)
    inner = values[np.abs(values) <= usual]
    room = 0.05 * (np.ptp([*inner, 0.0]) or 1.0)
    return min(inner.min(initial=0.0), 0.0) - room, max(inner.max(initial=0.0), 0.0) + room


def _legend(claims: pd.DataFrame, rule: Rule) -> list[Any]:
    """Every symbol that is drawn."""
    handles = [Line2D([], [], color=verdict.color, marker=_MARKERS[verdict], ls="", label=f"decides: {verdict}")
               for verdict in Verdict if verdict in set(claims["verdict"])]
    handles.append(Line2D([], [], color=_OTHERS, marker=".", ls="", label="another comparison of the claim"))
    if claims["low"].notna().any():
        handles.append(Line2D([], [], color="0.3", lw=2, label=f"its {100 * rule.confidence:g} % interval"))
    handles += [Patch(color=NOISE, alpha=0.5, label=f"less than {rule.margin:g} points of top-1"),
                Line2D([], [], color="0.3", marker="$▸$", ls="", label="beyond the axis, with its value if it has one")]
    return handles


def _colors(claims: pd.DataFrame) -> list[str]:
    return [Verdict(verdict).color for verdict in claims["verdict"]]

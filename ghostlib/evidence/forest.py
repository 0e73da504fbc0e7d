"""Every claim about accuracy as a row: the paper's differences, and ours with the interval of the one that decides."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghostlib.evidence.verdicts import Verdict
from ghostlib.exhibits.figures import STYLE, sentence
from ghostlib.paper import claims as paper
from ghostlib.paper.claims import Rule


def draw(claims: pd.DataFrame, evidence: pd.DataFrame, scale: str) -> Figure:
    """A row a claim. Small dots are its comparisons, the large one decides; in colour the verdict.

    A verdict by few seeds is written out with their number. The grey band is the rule's margin. Claims that were not
    attempted are counted below, and have no row.

    Args:
        claims: as `verdicts.judge` gives it.
        evidence: as `evidence.evidence` gives it.
        scale: at which scale ours was measured; in the title.
    """
    claims = claims[claims["unit"] == "points"]
    attempted = claims["verdict"] != Verdict.NOT_ATTEMPTED
    left_out = (f"Not attempted at this scale: {(~attempted).sum()} of the {len(claims)} claims about differences of "
                "accuracy.")
    if not attempted.any():
        return sentence(left_out)
    claims = claims[attempted].reset_index(drop=True)
    claims = claims.assign(y=claims.index)
    rule, _ = paper.load()
    rows = evidence[evidence["decides"]].merge(claims[["id", "y"]], left_on="claim", right_on="id")
    with plt.rc_context({**sns.axes_style("whitegrid"), **STYLE, "font.size": 8}):
        figure, axes = plt.subplots(1, 2, figsize=(10, 1.6 + 0.42 * len(claims)), sharey=True, layout="constrained")
        for axis, source, title in zip(axes, ("paper", "ours"), ("the paper, on ImageNet", "measured here"),
                                       strict=True):
            _panel(axis, claims, rows, source)
            axis.set_title(title if claims[source].notna().any() else f"{title}: nothing", loc="left")
        intervals = claims.dropna(subset=["low", "high"])
        axes[1].hlines(intervals["y"], intervals["low"], intervals["high"], _colors(intervals), lw=2)
        axes[1].axvspan(-rule.margin, rule.margin, color="0.93", zorder=0)
        axes[0].set_yticks(claims["y"], [_label(claim, rule) for claim in claims.itertuples()])
        axes[0].set_ylim(len(claims) - 0.4, -0.6)
        handles = [Line2D([], [], color=verdict.color, marker="o", ls="", label=str(verdict))
                   for verdict in Verdict if verdict in set(claims["verdict"])]
        figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), frameon=False)
        if not attempted.all():
            figure.supxlabel(left_out, x=0.01, ha="left", fontsize=8)
        title = ("Differences of accuracy that the paper claims, the one that decides large, and in grey the margin of "
                 f"±{rule.margin:g} points of top-1. Measured at: {scale}")
        figure.suptitle(textwrap.fill(title, 130), x=0.01, ha="left", fontsize=9)
    plt.close(figure)
    return figure


def _label(claim: Any, rule: Rule) -> str:
    """The statement, that it is ours, and the verdict where few seeds gave it."""
    verdict = claim.verdict.with_seeds(claim.seeds, rule)
    statement = claim.statement + (" (ours)" if claim.claimed_by == "us" else "")
    return textwrap.fill(statement if verdict == claim.verdict else f"{statement} – {verdict}", 62)


def _panel(axis: Axes, claims: pd.DataFrame, rows: pd.DataFrame, source: str) -> None:
    axis.axvline(0, color="0.4", lw=1)
    axis.scatter(rows[source], rows["y"], s=7, color="0.7", zorder=2)
    axis.scatter(claims[source], claims["y"], s=26, color=_colors(claims), zorder=3)
    axis.set_xlabel("points in the claim's favour")
    axis.grid(axis="y", visible=False)


def _colors(claims: pd.DataFrame) -> list[str]:
    return [verdict.color for verdict in claims["verdict"]]

"""Every claim about accuracy as a row: the paper's differences, and ours with the interval of the one that decides."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghostlib.evidence.verdicts import COLORS
from ghostlib.exhibits.figures import STYLE


def draw(claims: pd.DataFrame, evidence: pd.DataFrame, scale: str) -> Figure:
    """A row a claim. Small dots are its comparisons, the large one decides; in colour the verdict.

    Args:
        claims: as `verdicts.judge` gives it.
        evidence: as `evidence.evidence` gives it.
        scale: at which scale ours was measured; in the title.
    """
    claims = claims[claims["unit"] == "points"].reset_index(drop=True)
    claims = claims.assign(y=claims.index)
    rows = evidence.merge(claims[["id", "y"]], left_on="claim", right_on="id")
    with plt.rc_context({**sns.axes_style("whitegrid"), **STYLE, "font.size": 8}):
        figure, axes = plt.subplots(1, 2, figsize=(10, 1.6 + 0.36 * len(claims)), sharey=True, layout="constrained")
        for axis, of, title in zip(axes, ("paper", "ours"), ("the paper, on ImageNet", "measured here"), strict=True):
            _panel(axis, claims, rows, of)
            axis.set_title(title if claims[of].notna().any() else f"{title}: nothing", loc="left")
        intervals = claims.dropna(subset=["low", "high"])
        axes[1].hlines(intervals["y"], intervals["low"], intervals["high"], intervals["verdict"].map(COLORS), lw=2)
        axes[0].set_yticks(claims["y"], [textwrap.fill(statement, 62) for statement in claims["statement"]])
        axes[0].set_ylim(len(claims) - 0.4, -0.6)
        verdicts = [verdict for verdict in COLORS if verdict in set(claims["verdict"])]
        handles = [Line2D([], [], color=COLORS[verdict], marker="o", ls="", label=verdict) for verdict in verdicts]
        figure.legend(handles=handles, loc="outside lower right", ncols=5, frameon=False)
        figure.suptitle(textwrap.fill("Differences of accuracy that the paper claims, the one that decides large. "
                                      f"Measured at: {scale}", 130), x=0.01, ha="left", fontsize=9)
    plt.close(figure)
    return figure


def _panel(axis: Axes, claims: pd.DataFrame, rows: pd.DataFrame, of: str) -> None:
    axis.axvline(0, color="0.4", lw=1)
    axis.scatter(rows[of], rows["y"], s=7, color="0.7", zorder=2)
    axis.scatter(claims[of], claims["y"], s=26, color=claims["verdict"].map(COLORS), zorder=3)
    axis.set_xlabel("points in the claim's favour")
    axis.grid(axis="y", visible=False)

"""Figures: the paper's numbers and ours in panels side by side, never on one axis."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghostlib.experiments import TOP1_METRIC
from ghostlib.files import write_atomic

# Fixed so that the same numbers give the same file.
STYLE = {"svg.hashsalt": "ghostlib", "svg.fonttype": "none", "figure.dpi": 100, "savefig.dpi": 150,
         "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
# seaborn's "whitegrid" and "colorblind", without the second that importing seaborn takes.
GRID_STYLE = {"axes.grid": True, "axes.axisbelow": True, "axes.edgecolor": ".8", "axes.labelcolor": ".15",
              "grid.color": ".8", "lines.solid_capstyle": "round", "patch.edgecolor": "w",
              "patch.force_edgecolor": True, "text.color": ".15", "xtick.bottom": False, "xtick.color": ".15",
              "ytick.color": ".15", "ytick.left": False}
_COLORS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9")

ACCURACIES = {"accuracy": "accuracy on training views (%)", "val_top1": "top-1 on validation images (%)"}


def colors(count: int) -> list[str]:
    """So many colours that colour-blind readers tell apart; beyond ten they repeat."""
    return [_COLORS[i % len(_COLORS)] for i in range(count)]


def compare(comparison: pd.DataFrame, results: pd.DataFrame, title: str, scale: str, x_label: str = "",
            labels: Mapping[str, str] | None = None, metric: str = TOP1_METRIC,
            y_label: str = "top-1 accuracy (%)", data: str = "ImageNet") -> Figure:
    """A metric over a table's columns, a line a row: the paper's panel (where it prints numbers) beside ours.

    Args:
        comparison: as `tables.compare` gives it.
        results: the same results in long format; every seed is drawn as a point.
        title: above all.
        scale: at which scale ours was measured; under the title.
        x_label: what the horizontal axis shows.
        labels: what to call a row other than the paper does, e.g. a stand-in teacher.
        metric: which of the results' metrics.
        y_label: what the vertical axis shows.
        data: what the paper's numbers were measured on.
    """
    comparison, results = (frame.replace({"row": dict(labels or {})}) for frame in (comparison, results))
    measured = results[results["metric"] == metric]
    rows, columns = comparison["row"].unique(), comparison["column"].unique()
    x, line = ("row", "column") if len(rows) > len(columns) else ("column", "row")  # the longer axis is drawn along
    published = comparison.dropna(subset="paper").rename(columns={"paper": "value"})
    order, lines = list(comparison[x].unique()), list(comparison[line].unique())
    panels = 1 if published.empty else 2
    with plt.rc_context({**GRID_STYLE, **STYLE}):
        figure, axes = plt.subplots(1, panels, figsize=(1 + 3.9 * panels, 4.4), squeeze=False, layout="constrained")
        if panels == 2:
            _panel(axes[0, 0], published, x, order, line, lines)
            axes[0, 0].set_title(f"the paper, on {data}", loc="left")
        _panel(axes[0, -1], measured, x, order, line, lines)
        axes[0, -1].set_title("measured here" if panels == 2 else "measured here (the paper prints no numbers)",
                              loc="left")
        for axis in axes[0]:
            axis.set(xlabel=x_label, ylabel=y_label)
        if len(lines) > 1:
            handles, names = axes[0, -1].get_legend_handles_labels()
            fitting = max(1, 60 * panels // (max(map(len, names)) + 6))
            figure.legend(handles, names, loc="outside lower center", ncols=min(fitting, len(lines)), frameon=False)
        heading = "\n".join(_wrapped(text, 12 + 50 * panels) for text in (title, f"Measured at: {scale}"))
        figure.suptitle(heading, x=0.01, ha="left", fontsize=9)
    plt.close(figure)
    return figure


def curves(history: pd.DataFrame, title: str, quantities: Mapping[str, str] = ACCURACIES) -> Figure:
    """Quantities over the epochs, a panel each, their means over the seeds, a line a cell.

    Args:
        history: as `measures.classifiers.read_curves` gives it.
        title: above it.
        quantities: columns of `history` -> what the vertical axes show; those without values are left out.
    """
    cells = list(history.groupby(["row", "column"], sort=False))
    drawn = [name for name in quantities if name in history and history[name].notna().any()]
    with plt.rc_context({**GRID_STYLE, **STYLE}):
        figure, axes = plt.subplots(1, len(drawn), figsize=(4.6 + 3.9 * len(drawn), 3.9), squeeze=False,
                                    layout="constrained")
        for axis, name in zip(axes[0], drawn, strict=True):
            for ((row, column), of_cell), color in zip(cells, _rainbow(len(cells)), strict=True):
                means = of_cell.groupby("epoch")[name].mean().dropna()
                axis.plot(means.index, means, marker="o", color=color, label=f"{row}, {column}")
            axis.set(xlabel="epoch", ylabel=quantities[name])
            axis.xaxis.get_major_locator().set_params(integer=True)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=7)
    plt.close(figure)
    return figure


def sentence(said: str) -> Figure:
    """A picture of a sentence, where there is nothing to draw."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(8.0, 0.6))
        figure.text(0.01, 0.5, said, va="center")
    plt.close(figure)
    return figure


def write(figure: Figure, folder: str | Path, name: str) -> None:
    """Writes <name>.png and <name>.svg, without a date in them."""
    write_atomic(Path(folder) / f"{name}.png", _bytes(figure, "png"))
    write_atomic(Path(folder) / f"{name}.svg", _bytes(figure, "svg"))


def show(figure: Figure, folder: str | Path, name: str) -> None:
    """Writes <name>.png and <name>.svg, and displays the former with its name in the output's metadata."""
    write(figure, folder, name)
    _display(figure, (Path(folder) / f"{name}.png").read_bytes(), {"figure": name})


def display(figure: Figure) -> None:
    """Displays a figure that is written nowhere else."""
    _display(figure, _bytes(figure, "png"), {})


def _display(figure: Figure, png: bytes, metadata: dict[str, str]) -> None:
    from IPython.display import Image
    from IPython.display import display as display_object

    width = round(figure.get_figwidth() * STYLE["figure.dpi"])  # a CSS pixel is a dot of the screen, not of the file
    display_object(Image(png, width=width), metadata=metadata)


def _bytes(figure: Figure, form: str) -> bytes:
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[form]
    content = io.BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(content, format=form, metadata=metadata)
    return content.getvalue()


def _panel(axis: Axes, values: pd.DataFrame, x: str, order: list[str], line: str, lines: list[str]) -> None:
    """A line a label of `line` through the means over the seeds, and a dot a seed."""
    for label, color in zip(lines, colors(len(lines)), strict=True):
        points = values[values[line] == label]
        means = points.groupby(x)["value"].mean().reindex(order)
        axis.plot(range(len(order)), means, marker="o", color=color, label=label)
        axis.scatter(points[x].map(order.index), points["value"], color=color, s=14, alpha=0.5)
    long = max(map(len, order)) > 12
    axis.set_xticks(range(len(order)), order, rotation=25 if long else 0, ha="right" if long else "center")
    axis.set_xlim(-0.3, len(order) - 0.7)
    axis.grid(axis="x", visible=False)


def _rainbow(count: int) -> np.ndarray:
    """More colours than tell apart by themselves; neighbours in the legend are neighbours in colour. (count, 4)"""
    return plt.colormaps["turbo"](np.linspace(0.05, 0.95, count))


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))

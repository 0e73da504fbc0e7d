"""Figures: the paper's numbers and ours in panels side by side, at one scale, never on one axis."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ghostlib.exhibits import noise
from ghostlib.exhibits.style import NARROW, NOISE, STYLE, Mark, abridged, grid, marks, meaning, shades
from ghostlib.experiments import TOP1_METRIC
from ghostlib.files import write_atomic

SPAN = 5.0  # points that a vertical axis shows at least: what fills it is then no single image
_PANEL = (3.9, 3.1)  # inches, without what stands around it
_NARROW = 3.9  # inches across a phone
# Columns of learning curves -> what the vertical axis shows; those with the same words share a panel.
LEARNED = {"accuracy": "top-1 accuracy (%)", "val_top1": "top-1 accuracy (%)", "loss": "loss (nats)",
           "val_loss": "loss (nats)"}


def compare(comparison: pd.DataFrame, results: pd.DataFrame, title: str, scale: str, x_label: str = "",
            labels: Mapping[str, str] | None = None, metric: str = TOP1_METRIC,
            y_label: str = "top-1 accuracy (%)", data: str = "ImageNet",
            correct: pd.DataFrame | None = None, narrow: bool = False) -> Figure:
    """A metric over a table's columns, a series a row: the paper's panel (where it prints numbers) beside ours.

    Both panels show as many points, so that an effect is as high in one as in the other, and a grey bar shows which
    differences may be chance in the median pair of cells; the legend tells those of the other pairs. Lines run along
    numbers alone; kinds are dots. Where the paper prints nothing and ours spread far, a second panel shows the
    uppermost points.

    Args:
        comparison: as `tables.compare` gives it.
        results: the same results in long format; every seed is drawn as a point.
        title: above all.
        scale: at which scale ours was measured; under the title, abridged.
        x_label: what the horizontal axis shows.
        labels: what to call a row, e.g. a stand-in teacher, or in our panel a column other than the paper does.
        metric: which of the results' metrics.
        y_label: what the vertical axis shows.
        data: what the paper's numbers were measured on.
        correct: which test images each training gets right, so that the bar covers these, too.
        narrow: as a phone shows it, one panel a row.
    """
    x, line = _axes_of(list(comparison["row"].unique()), list(comparison["column"].unique()))
    order, lines = list(comparison[x].unique()), list(comparison[line].unique())
    measured, published = results[results["metric"] == metric], comparison.dropna(subset="paper")
    chance = noise.detectable(results, correct, metric)
    low, high = _reach(comparison, measured)
    span = max(SPAN, 1.15 * (high - low), 1.5 * np.nan_to_num(chance.median))
    panels = [("measured here", "measured", _limits(low, high, span))]
    if len(published):
        span = max(span, 1.15 * np.ptp(published["paper"]))
        around = _limits(published["paper"].min(), published["paper"].max(), span)
        panels = [(f"the paper, on {data}", "paper", around), ("measured here", "measured", _limits(low, high, span))]
    elif span > (near := max(SPAN, 1.5 * np.nan_to_num(chance.median))):
        panels.append((f"the same, the uppermost {near:.2g} points", "measured",
                       (high - 0.92 * near, high + 0.08 * near)))
    called = {label: (labels or {}).get(label, label) for label in (*order, *lines)}
    with plt.rc_context(grid()):
        beside, below = (1, len(panels)) if narrow else (len(panels), 1)
        width = _NARROW if narrow else 1 + _PANEL[0] * beside
        slanted = 0.02 * max(map(len, order)) if narrow else 0  # labels, which one panel a row leaves little room
        height = 1.3 + 0.3 * narrow + (_PANEL[1] + slanted) * below
        figure, axes = plt.subplots(below, beside, figsize=(width, height),
                                    squeeze=False, layout="constrained")
        for axis, (heading, source, limits) in zip(axes.flat, panels, strict=True):
            _panel(axis, comparison, measured, source, (x, order), (line, lines))
            axis.set(xlabel=x_label, ylabel=y_label, ylim=limits)
            if source == "measured":
                axis.set_xticks(axis.get_xticks(), [called[label] for label in order])
            axis.set_title(heading, loc="left")
            if source == "measured" and chance.median > 0:
                bottom = limits[0] + 0.03 * (limits[1] - limits[0])
                axis.vlines(0.975, bottom, bottom + chance.median, color=NOISE, lw=7,
                            transform=axis.get_yaxis_transform())
        if not len(published):
            axes[0, 0].set_title("measured here (the paper prints none)", loc="left")
        _legend(figure, {called[label]: mark for label, mark in marks(lines).items()}, comparison, chance,
                65 * beside)
        letters = 45 if narrow else 12 + 50 * beside
        told = abridged(scale, letters - 14)
        figure.suptitle("\n".join(_wrapped(text, letters) for text in (title, f"Measured at: {told}")), x=0.01,
                        ha="left", fontsize=9)
    plt.close(figure)
    return figure


def curves(history: pd.DataFrame, title: str, quantities: Mapping[str, str] = LEARNED) -> Figure:
    """Quantities over the epochs, their means over the seeds: solid in training, dashed on validation images.

    Args:
        history: as `measures.classifiers.read_curves` gives it.
        title: above it.
        quantities: columns of `history` -> what the vertical axes show; those without values are left out. The names
            of what was measured on validation images begin with `val_`.
    """
    drawn = [name for name in quantities if name in history and history[name].notna().any()]
    if not drawn:
        return sentence(f"{title} No training reached the end of an epoch.")
    panels = list(dict.fromkeys(quantities[name] for name in drawn))
    with plt.rc_context(grid()):
        figure, axes = plt.subplots(1, len(panels), figsize=(2.4 + 3.9 * len(panels), 3.9), squeeze=False,
                                    layout="constrained")
        for name in drawn:
            axis, validated = axes[0, panels.index(quantities[name])], name.startswith("val_")
            for (label, color), (_, of_cell) in zip(_runs(history), history.groupby(["row", "column"], sort=False),
                                                    strict=True):
                means = of_cell.groupby("epoch")[name].mean().dropna()
                axis.plot(means.index, means, color=color, label=None if validated else label, lw=1.3,
                          ls=(0, (3, 1.5)) if validated else "-", marker="o" if len(means) == 1 else "")
            axis.set(xlabel="epoch", ylabel=quantities[name])
            axis.xaxis.get_major_locator().set_params(integer=True)
            if "loss" in name:  # one that leaps early, as branched networks' does, must not press the others flat
                axis.set_yscale("log")
                short_numbers(axis.yaxis)
        handles, names = axes[0, -1].get_legend_handles_labels()
        if any(name.startswith("val_") for name in drawn):
            handles += [Line2D([], [], color="0.3"), Line2D([], [], color="0.3", ls=(0, (3, 1.5)))]
            names += ["in training", "on validation images"]
        figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=7, title=_seeds(history),
                      title_fontsize=7, alignment="left")
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    plt.close(figure)
    return figure


def short_numbers(axis: Axis) -> None:
    """Labels an axis of logarithms at 1, 2 and 5 times each power of ten, a short one at 3, 4 and 7, too, in full."""
    def label(value: float, _: int) -> str:
        low, high = axis.get_view_interval()
        return f"{value:g}" if f"{value:e}"[0] in ("23457" if high < 10 * low else "25") else ""

    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(label)
    axis.set_tick_params("both", length=0, pad=4)


def sentence(said: str, width: float = 8.0) -> Figure:
    """A picture of a sentence, so many inches wide, where there is nothing to draw."""
    lines = textwrap.wrap(said, int(13 * width))
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, 0.43 + 0.17 * len(lines)))
        figure.text(0.01, 0.5, "\n".join(lines), va="center")
    plt.close(figure)
    return figure


def write(figure: Figure, folder: str | Path, name: str, narrow: Figure | None = None) -> None:
    """Writes <name>.png and <name>.svg, without a date in them, and the narrow form as <name>_narrow.svg."""
    write_atomic(Path(folder) / f"{name}.png", _bytes(figure, "png"))
    write_atomic(Path(folder) / f"{name}.svg", _bytes(figure, "svg"))
    if narrow is not None:
        write_atomic(Path(folder) / f"{name}{NARROW}.svg", _bytes(narrow, "svg"))


def show(figure: Figure, folder: str | Path, name: str, alt: str = "", narrow: Figure | None = None) -> None:
    """Writes a figure as `write` does, and displays <name>.png with its name in the output's metadata.

    Args:
        figure: what to show.
        folder: where to write it.
        name: of the files.
        alt: what is to be seen in it, for a reader who does not see it.
        narrow: the same for a phone.
    """
    write(figure, folder, name, narrow)
    _display(figure, (Path(folder) / f"{name}.png").read_bytes(), alt, {"figure": name})


def display(figure: Figure, alt: str = "") -> None:
    """Displays a figure that is written nowhere else; `alt` as for `show`."""
    _display(figure, _bytes(figure, "png"), alt, {})


def _display(figure: Figure, png: bytes, alt: str, metadata: dict[str, str]) -> None:
    from IPython.display import Image
    from IPython.display import display as display_object

    width = round(figure.get_figwidth() * STYLE["figure.dpi"])  # a CSS pixel is a dot of the screen, not of the file
    display_object(Image(png, width=width, alt=alt or None), metadata=metadata)


def _bytes(figure: Figure, form: str) -> bytes:
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[form]
    content = io.BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(content, format=form, metadata=metadata)
    return content.getvalue()


def _axes_of(rows: Sequence[str], columns: Sequence[str]) -> tuple[str, str]:
    """Which of "row" and "column" runs along the horizontal axis, and which one is series: numbers, else the longer."""
    numeric = [_places(labels) is not None for labels in (rows, columns)]
    along_rows = numeric[0] if numeric[0] != numeric[1] else len(rows) > len(columns)
    return ("row", "column") if along_rows else ("column", "row")


def _places(labels: Sequence[str]) -> np.ndarray | None:
    """Where labels that are numbers, as τ=2 or 1.0×, lie on an axis; None for kinds. (labels,)"""
    found = [re.fullmatch(r"(?:\w=)?([\d.]+)(?:×| px)?", label) for label in labels]
    if not all(found) or len(found) < 2:
        return None
    values = np.array([float(match.group(1)) for match in found])
    if 0.9 <= min(values) and max(values) < 1:  # decays: what counts is how far they are from one
        return -np.log10(1 - values)
    return np.log10(values) if max(values) > 12 * min(values) else values


def _reach(comparison: pd.DataFrame, measured: pd.DataFrame) -> tuple[float, float]:
    """The lowest and the highest that is drawn of ours: means with their standard deviations, and seeds."""
    sd = comparison["sd"].fillna(0)
    drawn = pd.concat([comparison["measured"] - sd, comparison["measured"] + sd, measured["value"]]).dropna()
    return (drawn.min(), drawn.max()) if len(drawn) else (0.0, 0.0)


def _limits(low: float, high: float, span: float) -> tuple[float, float]:
    """So many points around the middle, and hardly more than 100 %."""
    top = min((low + high + span) / 2, max(100 + span / 20, high))
    return top - span, top


def _panel(axis: Axes, comparison: pd.DataFrame, measured: pd.DataFrame, source: str, along: tuple[str, list[str]],
           series: tuple[str, list[str]]) -> None:
    """A mark a cell, beside one another where they share a place; a line through them where the axis has numbers."""
    (x, order), (line, lines) = along, series
    places = _places(order)
    at, style = (np.arange(len(order)), "none") if places is None else (places, "-")
    step = np.diff(at).min(initial=1.0) if len(at) < 2 else np.diff(np.sort(at)).min()
    ours = source == "measured"
    spread = ours and comparison["sd"].notna().any()  # whiskers must not hide one another, nor kinds' dots
    apart = min(0.12, 0.5 / len(lines)) * step if spread or places is None else 0.0
    for i, (label, mark) in enumerate(marks(lines).items()):
        cells = comparison[comparison[line] == label].set_index(x).reindex(order)
        beside = at + apart * (i - (len(lines) - 1) / 2)
        axis.errorbar(beside, cells[source], cells["sd"] if ours else None, color=mark.color, marker=mark.marker,
                      ls=style, lw=1.2, elinewidth=1, ms=6, mfc=mark.color if ours else "white", mew=1.2, zorder=3)
        if spread:
            seeds = measured[measured[line] == label]
            axis.scatter(beside[seeds[x].map(order.index)], seeds["value"], color=mark.color, s=5, alpha=0.5, lw=0)
    # A letter is some 0.07 inches wide, and labels stand a little apart; half an inch is the vertical axis's.
    width = axis.figure.get_figwidth() / axis.get_gridspec().ncols - 0.5
    long = 0.07 * (max(map(len, order)) + 1) > width * step / (np.ptp(at) + step)
    axis.set_xticks(at, order, rotation=25 if long else 0, ha="right" if long else "center")
    axis.set_xlim(at[0] - 0.5 * step, at[-1] + (0.5 if places is None else 0.75) * step)
    axis.grid(axis="x", visible=False)


def _legend(figure: Figure, named: Mapping[str, Mark], comparison: pd.DataFrame, chance: noise.Detectable,
            letters: int) -> None:
    """What the marks, the whiskers and the grey bar mean, below the panels."""
    handles = {name: Line2D([], [], color=mark.color, marker=mark.marker, ls="", label=name)
               for name, mark in named.items()} if len(named) > 1 else {}
    drawn, lost = comparison["seeds"].where(comparison["measured"].notna(), 0), comparison["diverged"].any()
    seeds = int(drawn.max())
    said = (f"± standard deviation, and each, of {seeds} seeds" if seeds > 1 else "one seed: no spread is known"
            if seeds else "of every cell a training diverged" if lost else "not measured at this profile")
    handles[said] = Line2D([], [], color="0.3", marker="|" if seeds > 1 else "", ls="", ms=11)
    if chance.median > 0:
        pairs = (f" in the median pair, {chance.least:.1f} to {chance.most:.1f} in all" if chance.least < chance.most
                 else "")
        of = "" if seeds > 1 else ", of the test images alone"
        told = f"smallest detectable difference: {chance.median:.1f} points{pairs}{of}"
        handles[told] = Line2D([], [], color=NOISE, lw=7, solid_capstyle="butt")
    fitting = max(1, letters // (max(map(len, handles)) + 6))
    names = [_wrapped(name, letters - 10) for name in handles]
    figure.legend(list(handles.values()), names, loc="outside lower center", frameon=False,
                  ncols=min(fitting, len(handles)), fontsize=8)


def _runs(history: pd.DataFrame) -> list[tuple[str, str]]:
    """The name and the colour of each cell's curve: a meaning has its colour, and its cells deepen around it."""
    cells = history[["row", "column"]].drop_duplicates()
    x, line = _axes_of(list(cells["row"].unique()), list(cells["column"].unique()))
    of_line = marks(list(cells[line].unique()))
    colors = [(meaning(cell[x]) or of_line[cell[line]]).color for _, cell in cells.iterrows()]
    deepening = {color: iter(shades(color, colors.count(color))) for color in colors}
    told = [name for name in ("row", "column") if cells[name].nunique() > 1] or ["row"]
    return [(" · ".join(cell[told]), next(deepening[color]))
            for (_, cell), color in zip(cells.iterrows(), colors, strict=True)]


def _seeds(history: pd.DataFrame) -> str:
    seeds = sorted(history["seed"].unique())
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))

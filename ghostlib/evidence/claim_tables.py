"""Claims and what they rest on as tables for a reader: in Markdown, and in colour for a notebook."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from ghostlib.evidence.verdicts import COLORS
from ghostlib.paper import numbers

# Experiments of claims that are no table or figure of the paper, and where the others' notebooks are not their own.
_TITLES = {"complexity": "Parameters and multiply-accumulates", "latency": "CPU latency"}
_NOTEBOOKS = {"table_9": "comparison", "table_10": "detection"}


def chapter(of: pd.DataFrame, folder: Path) -> str:
    """An experiment's heading, links to what is there, and its claims."""
    name = of["experiment"].iloc[0]
    title = f"{numbers.label(name)}: {numbers.entry(name)['title']}" if name in numbers.load() else _TITLES[name]
    tables = ["complexity_9", "complexity_10"] if name == "complexity" else [name]
    linked = [(f"tables/{table}.md", numbers.label(table)) for table in tables]
    linked += [(f"notebooks/{_NOTEBOOKS.get(name, name)}.ipynb", "executed notebook")]
    there = " · ".join(f"[{label}]({place})" for place, label in linked if (folder / place).exists())
    why = "**" + of["verdict"] + "** — " + of["reason"]
    return "\n\n".join((f"### {title.rstrip('.')}", there or "Not run at this scale.",
                        markdown(quantities(of).assign(Verdict=why))))


def quantities(judged: pd.DataFrame) -> pd.DataFrame:
    """Claims with the numbers of the comparison that decides, as texts."""
    ours = [_number(row.ours, row.unit) + ("" if math.isnan(row.low) else
            f" [{_number(row.low, row.unit)}, {_number(row.high, row.unit)}]") for row in judged.itertuples()]
    return pd.DataFrame({
        "Claim": judged["statement"], "Where": judged["place"], "What decides": judged["comparison"].replace("", "—"),
        "Paper": [_number(row.paper, row.unit) for row in judged.itertuples()], "Ours": ours,
        "Seeds": judged["seeds"].map(lambda seeds: str(seeds) if seeds else "—")}, index=judged.index)


def proxy_table(proxy: pd.DataFrame) -> pd.DataFrame:
    """The scale's own verdicts as texts."""
    return pd.DataFrame({
        "Experiment": proxy["experiment"].map(numbers.label), "Cells": proxy["cells"], "Seeds": proxy["seeds"],
        "ρ with the paper": proxy["spearman"].map(_share), "τ with the paper": proxy["kendall"].map(_share),
        "ρ of seeds with seeds": proxy["noise_ceiling"].map(_share),
        "cells at the ceiling": proxy["at_ceiling"].map(lambda share: f"{100 * share:.0f} %"), "So": proxy["ranks"]})


def html(judged: pd.DataFrame) -> str:
    """The claims as a notebook shows them, verdicts in colour; the same claims are the same text."""
    table = quantities(judged).assign(Verdict=judged["verdict"], Why=judged["reason"])
    colors = {verdict: f"color: {color}; font-weight: bold" for verdict, color in COLORS.items()}
    left = [{"selector": "th, td", "props": "text-align: left; vertical-align: top"}]
    style = Styler(table, uuid="claims", cell_ids=False).hide(axis="index").set_table_styles(left)
    return style.format(escape="html").map(colors.get, subset=["Verdict"]).to_html()


def markdown(table: pd.DataFrame) -> str:
    """A table of texts in Markdown, not padded: a longer cell changes its own line only."""
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "—"
    forms = {"points": "{:+.2f}", "×": "{:.2f}×", "ρ": "{:.2f}", "M": "{:.4g} M"}
    return forms[unit].format(value).replace("-", "−")


def _share(value: float) -> str:
    return _number(value, "ρ")

"""Claims and what they rest on as tables for a reader: in Markdown, and in colour for a notebook."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from ghostlib.evidence.quantities import counted, number, weakness, with_interval
from ghostlib.evidence.verdict import Verdict
from ghostlib.exhibits import complexity
from ghostlib.paper import claims, exhibits

# Experiments of claims that are no exhibit of the paper; each has a notebook of its own name.
TITLES = {"complexity": "Parameters and multiply-accumulates", "latency": "CPU latency",
          "published": "Accuracy of public weights"}
CAUSES = "Do branches cost accuracy in short trainings, and why?"  # the title of our experiment `causes`


def chapter(judged: pd.DataFrame, folder: Path) -> str:
    """An experiment's heading, links to what is rendered of it where it was run, and its claims.

    Args:
        judged: the claims that the experiment tests, as `verdicts.judge` gives them.
        folder: results/<profile>.
    """
    name = judged["experiment"].iloc[0]
    tables = {table: exhibits.label(table) for table in (complexity.TABLES if name == "complexity" else [name])}
    links = [(f"tables/{table}.md", label) for table, label in tables.items()]
    links.append((f"notebooks/{name if name in TITLES else exhibits.find(name).notebook}.ipynb", "executed notebook"))
    was_run = (folder / "runs" / f"{name}.csv").exists()  # the verdicts come first: nothing is rendered yet
    there = " · ".join(f"[{label}]({place})" for place, label in links) if was_run else ""
    title = TITLES[name] if name in TITLES else exhibits.find(name).heading
    why = "**" + judged["verdict"] + "** — " + judged["reason"]
    return "\n\n".join((f"### {title.rstrip('.')}", there or "Not run at this scale.",
                        markdown(quantities(judged).assign(Verdict=why))))


def quantities(judged: pd.DataFrame) -> pd.DataFrame:
    """Claims, each with its place, and the numbers of the comparison that decides, as texts."""
    return pd.DataFrame({
        "Claim": judged["statement"] + " " + judged["place"] + _ours(judged) + ".",
        "Weakest comparison": judged["comparison"].replace("", "—"),
        "Paper": [number(row.paper, row.unit) for row in judged.itertuples()],
        "Here": [with_interval(row.ours, row.low, row.high, row.unit) for row in judged.itertuples()],
        "Runs": [counted(row.seeds, "seed") if row.seeds else counted(row.sessions, "session") if row.sessions else "—"
                 for row in judged.itertuples()]}, index=judged.index)


def statements(judged: pd.DataFrame) -> pd.Series:
    """The claims in words, for a table without their places."""
    return judged["statement"] + _ours(judged)


def in_short(judged: pd.DataFrame) -> pd.Series:
    """The verdicts without their reasons, but with what a reader must know.

    These are few seeds, a weakness of what holds, and how many comparisons of an open claim hold.
    """
    rule, _ = claims.load()
    return pd.Series([Verdict(row.verdict).with_seeds(row.seeds, rule) + weakness(row.verdict, row.but)
                      + (f" ({row.part})" if row.part else "") for row in judged.itertuples()], judged.index)


def proxy_table(proxy: pd.DataFrame) -> pd.DataFrame:
    """The scale's own verdicts as texts."""
    proxy = proxy[proxy["cells"] > 0]  # the profile leaves the others out
    return pd.DataFrame({
        "Experiment": proxy["experiment"].map(exhibits.label), "Cells": proxy["cells"], "Seeds": proxy["seeds"],
        "Spearman's ρ with the paper": proxy["spearman"].map(_correlation),
        "Kendall's τ with the paper": proxy["kendall"].map(_correlation),
        "ρ of half the seeds with the other half": proxy["noise_ceiling"].map(_correlation),
        "Cells at the ceiling": proxy["at_ceiling"].map(lambda share: f"{100 * share:.0f} %"),
        "Conclusion": proxy["ranks"]})


def html(judged: pd.DataFrame) -> str:
    """The claims as a notebook shows them, verdicts in colour; the same claims are the same text."""
    table = quantities(judged)
    texts = list(table.columns)
    table["Verdict"] = [f'<b style="color: {Verdict(row.verdict).color}">{row.verdict}</b>: {escape(row.reason)}'
                        for row in judged.itertuples()]
    left = [{"selector": "th, td", "props": "text-align: left; vertical-align: top"}]
    style = Styler(table, uuid="claims", cell_ids=False).hide(axis="index").set_table_styles(left)
    return style.format(escape="html", subset=texts).to_html()


def markdown(table: pd.DataFrame) -> str:
    """A table of texts in Markdown, not padded: a longer cell changes its own line only."""
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _ours(judged: pd.DataFrame) -> pd.Series:
    """What stands beside a claim that is ours."""
    return judged["claimed_by"].map({"us": " (our claim)"}).fillna("")


def _correlation(value: float) -> str:
    return number(value, "ρ")

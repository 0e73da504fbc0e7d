"""The paper's numbers and ours side by side, as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ghostlib.paper import numbers

METRIC = "test_top1"


def compare(experiment: str, results: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """One row per cell, in the paper's order: row, column, paper, measured (mean over seeds), sd, seeds.

    Args:
        experiment: the table's or figure's name in numbers.yaml.
        results: in long format, as `Experiment.results` gives it.
        metric: which of its metrics.

    Raises:
        ValueError: the results hold a cell that the paper does not have, or lack one that it has.
    """
    published = numbers.table(experiment).rename_axis(index="row", columns="column").stack(future_stack=True)
    published = published.rename("paper")
    values = results[results["metric"] == metric].groupby(["row", "column"], sort=False)["value"]
    measured = values.agg(measured="mean", sd="std", seeds="count")  # the sd of one seed is NaN, not 0
    if differing := set(published.index) ^ set(measured.index):
        raise ValueError(f"{experiment}: params.yaml and numbers.yaml differ in the cells {sorted(differing)}")
    return published.to_frame().join(measured).reset_index()


def wide(comparison: pd.DataFrame, labels: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The table a reader looks at: a row a row, and for each column the paper's value and ours (mean ± sd) as text.

    Args:
        comparison: as `compare` gives it.
        labels: what to call a row other than the paper does, e.g. a stand-in teacher.
    """
    rows, columns = _ordered(comparison["row"]), _ordered(comparison["column"])
    cells = comparison.set_index(["row", "column"])
    table = {(column, of): [_text(cells.loc[(row, column)], of) for row in rows]
             for column in columns for of in ("paper", "ours")}
    return pd.DataFrame(table, index=pd.Index([(labels or {}).get(row, row) for row in rows]))


def write_runs(results: pd.DataFrame, folder: str | Path, name: str) -> None:
    """Writes <name>.csv: every measurement, one row per cell, seed and metric."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    results.to_csv(Path(folder) / f"{name}.csv", index=False, float_format="%.4f")


def write(comparison: pd.DataFrame, folder: str | Path, name: str, title: str, notes: Sequence[str],
          labels: Mapping[str, str] | None = None) -> None:
    """Writes <name>.csv (one row a cell), .md and .tex (as `wide`), with the title above and the notes below."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    comparison.to_csv(Path(folder) / f"{name}.csv", index=False, float_format="%.4f")
    write_document(wide(comparison, labels), folder, name, title, notes)


def write_document(table: pd.DataFrame, folder: str | Path, name: str, title: str, notes: Sequence[str]) -> None:
    """Writes a table of texts as <name>.md and .tex, with the title above and the notes below.

    Args:
        table: what a reader looks at; its columns have two levels.
        folder: is made if need be.
        name: of the files.
        title: above the table, and LaTeX's caption.
        notes: below it; in LaTeX as comments.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = table.set_axis([f"{column}: {of}" for column, of in table.columns], axis=1).rename_axis(index=None)
    lines = [f"**{title}**", "", flat.to_markdown(stralign="right", disable_numparse=True), "",
             *(f"- {note}" for note in notes)]
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    styled = table.style.format(escape="latex").format_index(escape="latex").format_index(escape="latex", axis=1)
    latex = styled.to_latex(hrules=True, caption=_escape(title), label=f"tab:{name}", multicol_align="c",
                            column_format="l" + "r" * table.shape[1], environment="table")
    comments = "".join(f"% {note}\n" for note in notes)
    (folder / f"{name}.tex").write_text(comments + _signs(latex), encoding="utf-8")


def _text(cell: pd.Series, of: str) -> str:
    if of == "paper":
        return "—" if pd.isna(cell["paper"]) else f"{cell['paper']:g}"
    spread = "" if pd.isna(cell["sd"]) else f" ± {cell['sd']:.2f}"
    return f"{cell['measured']:.2f}{spread}"


def _ordered(labels: pd.Series) -> list[str]:
    return list(dict.fromkeys(labels))


def _escape(text: str) -> str:
    return text.replace("&", r"\&").replace("%", r"\%").replace("_", r"\_").replace("#", r"\#")


def _signs(latex: str) -> str:
    """Labels hold × α τ ±; as commands they work whatever LaTeX's input encoding."""
    signs = {"×": r"$\times$", "α": r"$\alpha$", "τ": r"$\tau$", "±": r"$\pm$", "—": "--", "–": "--"}
    for sign, command in signs.items():
        latex = latex.replace(sign, command)
    return latex

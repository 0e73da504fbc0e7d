"""The paper's numbers and ours side by side, as CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ghostlib.exhibits.summarise import in_words, of_cells, text
from ghostlib.experiments import KEY, LOSS_METRIC, TOP1_METRIC, run_name
from ghostlib.files import write_atomic
from ghostlib.measures.places import DIVERGED, write_csv
from ghostlib.paper import numbers


def compare(experiment: str, results: pd.DataFrame, metric: str = TOP1_METRIC) -> pd.DataFrame:
    """One row per cell, in the paper's order: row, column, paper, measured (mean over seeds), sd, seeds, diverged.

    Where the profile leaves the experiment out, its results are empty and each cell has the paper's number alone. Where
    a seed diverged, which `diverged` counts, there is no mean: of the seeds that did not it would be too good.

    Args:
        experiment: the table's or figure's name in numbers.yaml.
        results: in long format, with the columns `experiments.COLUMNS`.
        metric: which of its metrics.

    Raises:
        ValueError: the results hold a cell that the paper does not have, or lack some that it has.
    """
    published = numbers.table(experiment).rename_axis(index="row", columns="column").stack(future_stack=True)
    published = published.rename("paper")
    differing = set(published.index) ^ set(results[["row", "column"]].itertuples(index=False, name=None))
    if differing and not results.empty:
        raise ValueError(f"{experiment}: experiments.yaml and numbers.yaml differ in the cells {sorted(differing)}")
    measured = of_cells(results, {metric: metric}, ["row", "column"]).droplevel("quantity")
    compared = published.to_frame().join(measured).fillna({"seeds": 0, "diverged": 0})
    return compared.astype({"seeds": int, "diverged": int}).reset_index()


def table_of_cells(comparison: pd.DataFrame, labels: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The table a reader looks at: for each column of the paper its value and ours (mean ± sd) as text.

    Args:
        comparison: as `compare` gives it.
        labels: what to call a row other than the paper does, e.g. a stand-in teacher.
    """
    rows, columns = _ordered(comparison["row"]), _ordered(comparison["column"])
    cells = {(cell.row, cell.column): cell for cell in comparison.itertuples()}
    table = {}
    for column in columns:
        shown = [cells[row, column] for row in rows]
        table[column, "paper"] = [text(cell.paper) for cell in shown]
        table[column, "ours"] = [in_words(cell) for cell in shown]
    return pd.DataFrame(table, index=pd.Index([(labels or {}).get(row, row) for row in rows]))


def runs(results: pd.DataFrame, metric: str = TOP1_METRIC, name: str = "top-1 (%)") -> pd.DataFrame:
    """A row a training, as texts: what it is called, what it reached on the test images, the beginning of its key.

    Args:
        results: in long format, with the columns `experiments.COLUMNS`. A training that diverged has no numbers.
        metric: which of its metrics; the log-loss (nats) stands beside it where it is recorded.
        name: of the metric's column.
    """
    trained = results[results["metric"].isin([metric, LOSS_METRIC, DIVERGED])]
    places = ["row", "column", "seed", "run"]
    table = trained.pivot(index=places, columns="metric", values="value").reindex(columns=[metric, LOSS_METRIC])
    table = table.loc[pd.MultiIndex.from_frame(trained[places].drop_duplicates())].reset_index()  # the files' order
    shared = table["column"].nunique() == 1
    shown = pd.DataFrame({
        "run": [run_name(row.row, None if shared else row.column, row.seed) for row in table.itertuples()],
        name: [text(value, "{:.2f}") for value in table[metric]],
        "log-loss (nats)": [text(value, "{:.4f}") for value in table[LOSS_METRIC]],
        "key": table["run"].str[:KEY]})
    return shown if table[LOSS_METRIC].notna().any() else shown.drop(columns="log-loss (nats)")


def write(comparison: pd.DataFrame, folder: str | Path, name: str, title: str, notes: Sequence[str],
          labels: Mapping[str, str] | None = None) -> None:
    """Writes <name>.csv (one row a cell), and `table_of_cells` with title and notes as `write_document` does."""
    write_csv(comparison, Path(folder) / f"{name}.csv")
    write_document(table_of_cells(comparison, labels), folder, name, title, notes)


def write_document(table: pd.DataFrame, folder: str | Path, name: str, title: str, notes: Sequence[str]) -> None:
    """Writes a table of texts as <name>.md, .tex and .json, with the title and the notes.

    Args:
        table: what a reader looks at; its columns have two levels.
        folder: is made if need be.
        name: of the files.
        title: above the table, and LaTeX's caption.
        notes: below it; in LaTeX as comments.
    """
    for ending, content in (("md", _markdown(table, title, notes)), ("tex", _latex(table, name, title, notes)),
                            ("json", _json(table, title, notes))):
        write_atomic(Path(folder) / f"{name}.{ending}", content)


def _markdown(table: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    flat = table.set_axis([f"{upper}: {lower}" for upper, lower in table.columns], axis=1).rename_axis(index=None)
    lines = [f"**{title}**", "", flat.to_markdown(stralign="right", disable_numparse=True), "",
             *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _latex(table: pd.DataFrame, name: str, title: str, notes: Sequence[str]) -> str:
    styled = table.style.format(escape="latex").format_index(escape="latex").format_index(escape="latex", axis=1)
    latex = styled.to_latex(hrules=True, caption=_escape(title), label=f"tab:{name}", multicol_align="c",
                            column_format="l" + "r" * table.shape[1], environment="table")
    return "".join(f"% {note}\n" for note in notes) + _signs(latex)


def _json(table: pd.DataFrame, title: str, notes: Sequence[str]) -> str:
    content = {"title": title, "columns": [list(column) for column in table.columns], "index": list(table.index),
               "rows": table.to_numpy().tolist(), "notes": list(notes)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


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

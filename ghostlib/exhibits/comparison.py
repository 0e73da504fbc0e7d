"""Table 9: every compact network by size, operations, latency and accuracy, the paper's numbers beside ours."""

from __future__ import annotations

import math

import pandas as pd

from ghostlib.exhibits.summarise import in_words, of_cells, text
from ghostlib.experiments import TOP1_METRIC, TOP5_METRIC
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.numbers import CPU, MACS, MOBILE, PARAMS, TOP1, TOP5

# What a user of a desktop would deploy with.
ENGINE, THREADS = "ONNX Runtime", 1
# A quantity of ours: the row's network under GhostNetV3's optimiser, schedule and augmentation alone.
RIVAL = f"{TOP1}, without branches and teacher"
# Quantities of ours: what the row's public weights give on ImageNet's validation images.
WEIGHTS_TOP1, WEIGHTS_TOP5 = (f"{quantity}, public weights" for quantity in (TOP1, TOP5))


def compare(counted: pd.DataFrame, times: pd.DataFrame, results: pd.DataFrame, rivals: pd.DataFrame,
            weights: pd.DataFrame) -> pd.DataFrame:
    """One row per row of Table 9 and quantity: row, network, quantity, paper, measured, sd, seeds, diverged, low, high.

    Args:
        counted: as `measures.counts.read` gives it.
        times: as `measures.latencies.read` gives it.
        results: the runs of the experiment `table_9`, in long format.
        rivals: those of the experiment `rivals`; the rows that these train have the quantity `RIVAL` at the end.
        weights: as `measures.published.read` gives it; the rows of which weights were scored have the quantities
            `WEIGHTS_TOP1` and `WEIGHTS_TOP5`, behind those.

    `low` and `high` are the 10th and the 90th percentile of a latency's calls, and missing for all else.
    `measured` is missing where nothing was: a phone's latency, the accuracy of rows that were not trained here, and of
    those of which a seed diverged, which `diverged` counts.
    """
    once = {"sd": math.nan, "seeds": 0, "diverged": 0}
    sizes = counted[counted["table"] == "table_9"].assign(**once)
    calls = times.query("engine == @ENGINE and threads == @THREADS").set_index("network")
    of_rows = calls.loc[list(catalog.deployed().values()), ["median_ms", "p10_ms", "p90_ms"]]
    timed = of_rows.set_axis(["measured", "low", "high"], axis=1).assign(row=list(catalog.rows()), quantity=CPU, **once)
    trained = of_cells(results, {TOP1_METRIC: TOP1, TOP5_METRIC: TOP5}).reset_index()
    measured = pd.concat([sizes, timed, trained]).set_index(["row", "quantity"])[
        ["measured", "sd", "seeds", "diverged", "low", "high"]]
    published = numbers.table("table_9").rename_axis(index="row", columns="quantity").stack(future_stack=True)
    fairer = of_cells(rivals, {TOP1_METRIC: RIVAL}).reset_index()
    scored = [weights[["row"]].assign(quantity=quantity, measured=weights[column], **once)
              for quantity, column in ((WEIGHTS_TOP1, "top1"), (WEIGHTS_TOP5, "top5")) if len(weights)]
    compared = pd.concat([published.rename("paper").to_frame().join(measured).reset_index(), fairer, *scored],
                         ignore_index=True)
    compared.insert(1, "network", compared["row"].map(catalog.rows()))
    return compared.fillna({"seeds": 0, "diverged": 0}).astype({"seeds": int, "diverged": int})


def table_of_networks(comparison: pd.DataFrame, machine: str, scale: str) -> pd.DataFrame:
    """The table a reader looks at. Published and measured accuracies stand in columns of their own.

    Args:
        comparison: as `compare` gives it.
        machine: the processor that the latencies were measured on.
        scale: the name of the profile that the accuracies were measured at.
    """
    ours = {PARAMS: ("ours", "{:.2f}"), MACS: ("ours", "{:.1f}"),
            CPU: (f"{ENGINE}, {THREADS} thread, {machine}", "{:.1f}"), TOP1: (f"ours, {scale}", "{:.2f}"),
            RIVAL: (f"ours, without branches and teacher, {scale}", "{:.2f}"), TOP5: (f"ours, {scale}", "{:.2f}")}
    ours |= dict.fromkeys((WEIGHTS_TOP1, WEIGHTS_TOP5), ("published weights, measured here", "{:.2f}"))
    beside = {RIVAL: TOP1, WEIGHTS_TOP1: TOP1, WEIGHTS_TOP5: TOP5}  # whose column theirs stands by
    scored = [quantity for quantity in (WEIGHTS_TOP1, WEIGHTS_TOP5) if quantity in comparison["quantity"].to_numpy()]
    theirs = {CPU: "paper, i7-8700", MOBILE: "paper, Kirin 9000", TOP1: "paper, ImageNet", TOP5: "paper, ImageNet"}
    table, rows = {}, pd.Index(comparison["row"].unique(), name="row")
    for quantity in [*numbers.table("table_9").columns, *scored, RIVAL]:
        cells = comparison[comparison["quantity"] == quantity].set_index("row").reindex(rows)
        if quantity not in beside:
            table[quantity, theirs.get(quantity, "paper")] = [text(value) for value in cells["paper"]]
        if quantity in ours:
            place, form = ours[quantity]
            shown = [in_words(cell, form) for cell in cells.itertuples()]
            table[beside.get(quantity, quantity), place] = shown
    return pd.DataFrame(table, index=rows).loc[:, [*dict.fromkeys(quantity for quantity, _ in table)]]

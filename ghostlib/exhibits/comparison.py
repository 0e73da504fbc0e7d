"""Table 9: every compact network by size, operations, latency and accuracy, the paper's numbers beside ours."""

from __future__ import annotations

import math

import pandas as pd

from ghostlib.exhibits import latency
from ghostlib.exhibits.complexity import MACS, PARAMS
from ghostlib.models import catalog
from ghostlib.paper import numbers

TOP1, TOP5 = "Top-1 (%)", "Top-5 (%)"
_METRICS = {"test_top1": TOP1, "test_top5": TOP5}
# What a user of a desktop would deploy with.
ENGINE, THREADS = "ONNX Runtime", 1


def compare(complexity: pd.DataFrame, latencies: pd.DataFrame, accuracies: pd.DataFrame) -> pd.DataFrame:
    """One row per row of Table 9 and quantity: row, network, quantity, paper, measured, sd, seeds.

    Args:
        complexity: as `complexity.compare` gives it.
        latencies: as `measurement.latency.benchmark` gives it.
        accuracies: the runs of the experiment `table_9`, in long format.

    `measured` is missing where nothing was: a phone's latency, and the accuracy of rows that were not trained here.
    """
    once = {"sd": math.nan, "seeds": 0}
    counted = complexity[complexity["table"] == "table_9"].assign(**once)
    timed = latencies.query("engine == @ENGINE and threads == @THREADS").set_index("network")["median_ms"]
    timed = pd.DataFrame({"row": list(catalog.rows()), "quantity": latency.CPU, **once,
                          "measured": timed.loc[list(catalog.deployed().values())].to_numpy()})
    trained = accuracies[accuracies["metric"].isin(_METRICS)].replace({"metric": _METRICS})
    trained = trained.groupby(["row", "metric"])["value"].agg(measured="mean", sd="std", seeds="count").reset_index()
    measured = pd.concat([counted, timed, trained.rename(columns={"metric": "quantity"})])
    published = numbers.table("table_9").rename_axis(index="row", columns="quantity").stack(future_stack=True)
    compared = published.rename("paper").to_frame().join(
        measured.set_index(["row", "quantity"])[["measured", "sd", "seeds"]]).reset_index()
    compared.insert(1, "network", compared["row"].map(catalog.rows()))
    return compared.fillna({"seeds": 0}).astype({"seeds": int})


def wide(comparison: pd.DataFrame, machine: str, scale: str) -> pd.DataFrame:
    """The table a reader looks at. Published and measured accuracies stand in columns of their own.

    Args:
        comparison: as `compare` gives it.
        machine: the processor that the latencies were measured on.
        scale: the name of the profile that the accuracies were measured at.
    """
    ours = {PARAMS: ("ours", "{:.2f}"), MACS: ("ours", "{:.1f}"),
            latency.CPU: (f"{ENGINE}, {THREADS} thread, {machine}", "{:.1f}"),
            TOP1: (f"ours, {scale}", "{:.2f}"), TOP5: (f"ours, {scale}", "{:.2f}")}
    theirs = {latency.CPU: "paper, i7-8700", latency.MOBILE: "paper, Kirin 9000", TOP1: "paper, ImageNet",
              TOP5: "paper, ImageNet"}
    table = {}
    for quantity, cells in comparison.groupby("quantity", sort=False):
        cells = cells.set_index("row")
        table[quantity, theirs.get(quantity, "paper")] = cells["paper"].map(_or_dash("{:g}"))
        if quantity in ours:
            place, form = ours[quantity]
            spread = cells["sd"].map(lambda sd: "" if pd.isna(sd) else f" ± {sd:.2f}")
            table[quantity, place] = cells["measured"].map(_or_dash(form)) + spread
    return pd.DataFrame(table)


def _or_dash(form: str):
    return lambda value: "—" if pd.isna(value) else form.format(value)

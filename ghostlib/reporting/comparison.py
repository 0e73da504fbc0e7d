"""Table 9: every compact network by size, operations, latency and accuracy, the paper's numbers beside ours."""

from __future__ import annotations

import pandas as pd

from ghostlib.models import catalog
from ghostlib.reporting import latency, paper
from ghostlib.reporting.complexity import MACS, PARAMS
from ghostlib.reporting.tables import METRIC

TOP1 = "Top-1 (%)"
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
    counted = complexity[complexity["table"] == "table_9"].set_index(["row", "quantity"])["measured"]
    timed = latencies.query("engine == @ENGINE and threads == @THREADS").set_index("network")["median_ms"]
    top1 = accuracies[accuracies["metric"] == METRIC].groupby("row")["value"].agg(["mean", "std", "count"])
    records = []
    for row, name in catalog.rows().items():
        published = paper.table("table_9").loc[row]
        trained = top1.loc[row] if row in top1.index else pd.Series({"mean": None, "std": None, "count": 0})
        for quantity, measured, sd, seeds in (
                (PARAMS, counted[row, PARAMS], None, 0), (MACS, counted[row, MACS], None, 0),
                (latency.CPU, timed[name], None, 0), (latency.MOBILE, None, None, 0),
                (TOP1, trained["mean"], trained["std"], int(trained["count"]))):
            records.append((row, name, quantity, published[quantity], measured, sd, seeds))
    return pd.DataFrame(records, columns=["row", "network", "quantity", "paper", "measured", "sd", "seeds"]).astype(
        {"measured": float, "sd": float})


def wide(comparison: pd.DataFrame, machine: str, scale: str) -> pd.DataFrame:
    """The table a reader looks at. Published and measured accuracies stand in columns of their own.

    Args:
        comparison: as `compare` gives it.
        machine: the processor that the latencies were measured on.
        scale: the name of the profile that the accuracies were measured at.
    """
    ours = {PARAMS: ("ours", "{:.2f}"), MACS: ("ours", "{:.1f}"), latency.CPU: (f"{ENGINE}, {machine}", "{:.1f}"),
            TOP1: (f"ours, {scale}", "{:.2f}")}
    theirs = {latency.CPU: "paper, i7-8700", latency.MOBILE: "paper, Kirin 9000", TOP1: "paper, ImageNet"}
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

"""Latencies measured on one machine beside the paper's: as ratios and ranks, since no two machines' times compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources

import pandas as pd
import yaml
from scipy import stats

from ghostlib.models import catalog
from ghostlib.paper import numbers

CPU, MOBILE = "CPU latency (ms)", "Mobile latency (ms)"
TITLE = "Latency (ms) of one image, median and 10th to 90th percentile of the calls kept, beside the paper's."


def claims() -> list[dict[str, str]]:
    """What the paper says about CPU latency: `row`, `to` and the `claim` about the ratio of the first to the second."""
    return yaml.safe_load(resources.files(__package__).joinpath("latency.yaml").read_text(encoding="utf-8"))


def settings(measured: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each engine, its number of threads as text, and the times (ms) of every row of Table 9 with them."""
    rows = pd.Series(catalog.deployed())
    for (engine, threads), of in measured.groupby(["engine", "threads"], sort=False):
        times = of.set_index("network")[["median_ms", "p10_ms", "p90_ms"]].loc[rows].set_axis(rows.index)
        yield engine, "1 thread" if threads == 1 else f"{threads} threads", times


def medians(measured: pd.DataFrame) -> dict[str, pd.Series]:
    """Engine and number of threads -> the median (ms) of every row of Table 9."""
    return {f"{engine}, {threads}": times["median_ms"] for engine, threads, times in settings(measured)}


def wide(measured: pd.DataFrame) -> pd.DataFrame:
    """Every row of Table 9: the paper's two columns, then for each engine and number of threads median (p10-p90)."""
    published = numbers.table("table_9")
    table = {("paper", "i7-8700"): published[CPU].map("{:g}".format),
             ("paper", "Kirin 9000"): published[MOBILE].map("{:g}".format)}
    for engine, threads, times in settings(measured):
        table[engine, threads] = [f"{of.median_ms:.1f} ({of.p10_ms:.1f}–{of.p90_ms:.1f})" for of in times.itertuples()]
    return pd.DataFrame(table)


def ratios(measured: pd.DataFrame) -> pd.DataFrame:
    """The paper's claims: the ratio that its Table 9 prints and the ratio measured with each engine."""
    published = numbers.table("table_9")[CPU]
    return pd.DataFrame([{
        "ratio": f"{claim['row']} / {claim['to']}", "the paper says": claim["claim"],
        "Table 9": published[claim["row"]] / published[claim["to"]],
        **{setting: of[claim["row"]] / of[claim["to"]] for setting, of in medians(measured).items()}}
        for claim in claims()])


def ranks(measured: pd.DataFrame) -> pd.DataFrame:
    """How well each engine's order of the networks agrees with the paper's CPU column: Spearman's ρ and Kendall's τ.

    A network that is deployed behind several rows (V3's, "+ ours") counts once.
    """
    published = numbers.table("table_9")[CPU]
    once = list({name: row for row, name in catalog.deployed().items()}.values())
    return pd.DataFrame([{
        "engine": setting, "networks": len(once),
        "Spearman": stats.spearmanr(published[once], of[once]).statistic,
        "Kendall": stats.kendalltau(published[once], of[once]).statistic} for setting, of in medians(measured).items()])


def notes(machine: Mapping[str, str], ratios: pd.DataFrame, ranks: pd.DataFrame) -> list[str]:
    """What stands below the table: the machine, each claim's ratios, the rank correlations."""
    lines = [f"Measured on: {', '.join(f'{what} {value}' for what, value in machine.items())}.",
             "Images of 224 px, as in the paper, but for MobileViT, which is timed at the 256 px it was made for.",
             "The paper's columns are its own, of an Intel i7-8700 and of a phone with a Kirin 9000; no phone was "
             "measured. Times of two machines are not compared, only ratios and ranks within one."]
    for _, ratio in ratios.iterrows():
        ours = ", ".join(f"{setting} {ratio[setting]:.2f}" for setting in ratios.columns[3:])
        lines.append(f"{ratio['ratio']}: the paper says {ratio['the paper says']} and prints {ratio['Table 9']:.2f}; "
                     f"here {ours}.")
    agreement = "; ".join(f"{row.engine} {row.Spearman:.3f} and {row.Kendall:.3f}" for row in ranks.itertuples())
    return [*lines, f"Rank correlation with the paper's CPU column (Spearman's ρ and Kendall's τ): {agreement}."]

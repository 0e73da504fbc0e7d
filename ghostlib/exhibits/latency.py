"""Latencies measured on one machine beside the paper's: as ratios and ranks, since no two machines' times compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from ghostlib.measures.beside import AT_224
from ghostlib.models import catalog
from ghostlib.paper import claims, numbers
from ghostlib.paper.numbers import CPU, MOBILE

TITLE = "Latency (ms) of one image, beside the paper's: median, and in parentheses 10th to 90th percentile."
_MACHINE = ["cpu", "cpus", "system", "engines", "date"]


def machine(times: pd.DataFrame) -> dict[str, str]:
    """What the networks were timed on, as the file of latencies says it.

    Args:
        times: as `measures.latencies.read` gives it, here and below.
    """
    return {name: str(times[name].iloc[0]) for name in _MACHINE}


def _at_224(row: str) -> str:
    return f"{row} at 224 px"


def settings(times: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each engine, its number of threads as text, and the times (ms) of every row of Table 9 with them.

    Below the row of a network that was made for images of another size is that with 224 px, if it was timed.
    """
    networks, rows = set(times["network"]), {}
    for row, network in catalog.deployed().items():
        rows[row] = network
        if (other := AT_224.get(row)) in networks:
            rows[_at_224(row)] = other
    for (engine, threads), timed in times.groupby(["engine", "threads"], sort=False):
        of_rows = timed.set_index("network")[["median_ms", "p10_ms", "p90_ms"]].loc[[*rows.values()]].set_axis([*rows])
        yield engine, "1 thread" if threads == 1 else f"{threads} threads", of_rows


def medians(times: pd.DataFrame) -> dict[str, pd.Series]:
    """Engine and number of threads -> the median (ms) of every row of Table 9."""
    return {f"{engine}, {threads}": of_rows["median_ms"] for engine, threads, of_rows in settings(times)}


def table_of_times(times: pd.DataFrame) -> pd.DataFrame:
    """Every row of Table 9: the paper's two columns, then for each engine and number of threads median (p10-p90)."""
    published = numbers.table("table_9")
    table = {}
    for engine, threads, of_rows in settings(times):
        for machine, column in (("i7-8700", CPU), ("Kirin 9000", MOBILE)):
            table["paper", machine] = published[column].map("{:g}".format).reindex(of_rows.index, fill_value="—")
        table[engine, threads] = [f"{row.median_ms:.1f} ({row.p10_ms:.1f}–{row.p90_ms:.1f})"
                                  for row in of_rows.itertuples()]
    return pd.DataFrame(table)


def ratios(times: pd.DataFrame) -> pd.DataFrame:
    """The paper's claims: the ratio that its Table 9 prints and the ratio measured with each engine."""
    published, measured = numbers.table("table_9")[CPU], medians(times)
    return pd.DataFrame([{
        "ratio": f"{claim.row} / {to}", "the paper says": claim.claim,
        "Table 9": published[claim.row] / published[claim.to],
        **{setting: median[claim.row] / median[to] for setting, median in measured.items()}}
        for claim in claims.ratios().values() for to in (claim.to, _at_224(claim.to))
        if all(to in median for median in measured.values())])


def ranks(times: pd.DataFrame) -> pd.DataFrame:
    """How well each engine's order of the networks agrees with the paper's CPU column: Spearman's ρ and Kendall's τ.

    A network that is deployed behind several rows (V3's, "+ ours") counts once.
    """
    from scipy import stats  # a second to import, which no other exhibit needs

    published = numbers.table("table_9")[CPU]
    once = list({name: row for row, name in catalog.deployed().items()}.values())
    return pd.DataFrame([{
        "engine": setting, "networks": len(once),
        "Spearman": stats.spearmanr(published[once], median[once]).statistic,
        "Kendall": stats.kendalltau(published[once], median[once]).statistic}
        for setting, median in medians(times).items()])


def notes(machine: Mapping[str, str], ratios: pd.DataFrame, ranks: pd.DataFrame) -> list[str]:
    """What stands below the table: the machine, how it was timed, each claim's ratios, the rank correlations."""
    lines = [f"Measured on: {', '.join(f'{what} {value}' for what, value in machine.items())}.",
             "Images of 224 px, as in the paper, but for MobileViT, which is timed at the 256 px it was made for" +
             ("; a row of its own has 224 px." if ratios["ratio"].str.endswith(_at_224("")).any() else "."),
             "The paper's columns are its own, of an Intel i7-8700 and of a phone with a Kirin 9000; no phone was "
             "measured. Times of two machines are not compared, only ratios and ranks within one.",
             "The table is of one session; claims are judged over all there are. Its percentiles are of all calls, but "
             "of trimmed calls where it was timed before 2026-11-26 or first on that day: there each network's fastest "
             "and slowest tenth had been left out, so they lie closer together."]
    for _, ratio in ratios.iterrows():
        ours = ", ".join(f"{setting} {ratio[setting]:.2f}" for setting in ratios.columns[3:])
        lines.append(f"{ratio['ratio']}: the paper says {ratio['the paper says']} and prints {ratio['Table 9']:.2f}; "
                     f"here {ours}.")
    agreement = "; ".join(f"{row.engine} {row.Spearman:.3f} and {row.Kendall:.3f}" for row in ranks.itertuples())
    return [*lines, f"Rank correlation with the paper's CPU column (Spearman's ρ and Kendall's τ): {agreement}."]

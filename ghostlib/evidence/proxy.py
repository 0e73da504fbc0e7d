"""Whether a profile's scale can rank anything at all: a small profile must earn its use as a proxy of the paper's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from ghostlib.evidence import measured, stats
from ghostlib.evidence.quantities import number
from ghostlib.paper import claims
from ghostlib.paper.claims import Rule

COLUMNS = ["experiment", "cells", "seeds", "spearman", "kendall", "noise_ceiling", "at_ceiling", "rankable", "ranks"]


def proxy(folder: str | Path) -> pd.DataFrame:
    """Whether a profile's scale can rank the cells of each experiment: one row each, with the columns `COLUMNS`.

    An experiment of one cell has no order and no row.

    `spearman` and `kendall` are with the paper's values, NaN where it prints none, as of experiments of ours;
    `noise_ceiling` is how well one half of the seeds agrees with the other; of Table 10 all three are means over its
    two resolutions, which are different tasks; `at_ceiling` is the share of cells whose
    mean accuracy is the data's own ceiling (`ceiling` of the rule); `rankable` is what follows from these, and `ranks`
    says it in a sentence.

    Args:
        folder: results/<profile>; of its runs/*.csv whatever is there.
    """
    rule, _ = claims.load()
    records = []
    of_all = measured.read(folder)
    for name, values in measured.accuracies(measured.undiverged(of_all)).items():
        if len(of_all[name][["row", "column"]].drop_duplicates()) == 1:
            continue
        means = values.mean()
        published = pd.Series([claims.published((name, *cell)) for cell in values.columns], values.columns)
        seeds = values.dropna()  # those that have all cells
        of_cells = np.array([row.partition(" @")[2] for row, _ in values.columns])
        tasks = [of_cells == task for task in dict.fromkeys(of_cells)] or [of_cells == ""]
        rho, tau = np.mean([stats.rank_correlation(published[task], means[task]) for task in tasks], axis=0)
        agreement = float(np.mean([stats.noise_ceiling(seeds.loc[:, task]) for task in tasks]))
        full = (means >= rule.ceiling).mean()
        obstacles = _obstacles(len(seeds), agreement, full, rule)
        records.append((name, len(means), len(seeds), rho, tau, agreement, full, not obstacles,
                        _sentence(obstacles, agreement, rho)))
    return pd.DataFrame(records, columns=COLUMNS).astype({"rankable": bool})


def _obstacles(seeds: int, agreement: float, full: float, rule: Rule) -> list[str]:
    """What keeps a scale from ranking cells; nothing if it can."""
    obstacles = []
    if seeds < 2:
        obstacles.append("one seed does not tell an order from chance")
    elif math.isnan(agreement):
        obstacles.append("the seeds give no order to compare with that of other seeds")
    elif agreement < rule.reliability:
        obstacles.append(f"half the seeds agree with the other half by ρ = {number(agreement, 'ρ')} only")
    if full >= 0.5:
        obstacles.append(f"{full:.0%} of the cells reach {rule.ceiling:g} %")
    return obstacles


def _sentence(obstacles: list[str], agreement: float, rho: float) -> str:
    if obstacles:
        return f"It cannot rank the cells: {', and '.join(obstacles)}."
    theirs = ("the paper prints no values to compare with" if math.isnan(rho) else
              f"the paper's order by ρ = {number(rho, 'ρ')}")
    return f"It ranks the cells: half the seeds agree with the other half by ρ = {number(agreement, 'ρ')}, {theirs}."

"""The report as data: report.json, which the pages read and nothing else, and metrics.json for `dvc metrics show`."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ghostlib.evidence import measured, summary
from ghostlib.evidence.findings import Findings
from ghostlib.models import catalog
from ghostlib.paper import claims, numbers

_CLAIM = ["id", "statement", "place", "claimed_by", "subject", "exhibit", "experiment", "comparison", "paper", "ours",
          "low", "high", "unit", "seeds", "sessions", "p", "detectable", "mean", "mean_low", "mean_high", "mean_word",
          "loss", "loss_low", "loss_high", "verdict", "but", "beside", "reason", "caveat"]
# The rows of Tables 9 and 10 whose accuracies are the paper's headlines.
_TOP1 = [f"GhostNet{version} {width}" for width in ("1.0×", "1.3×", "1.6×") for version in ("V2", "V3")]
_MAP = ["GhostNetV2 1.0× @416", "GhostNetV3 1.0× @416"]


def full(findings: Findings) -> dict[str, Any]:
    """All that the report says, as JSON can hold it; a number that is not there is None.

    `p` of a claim is corrected by Holm, and None below the rule's `significant_seeds`.
    """
    rule, _ = claims.load()
    shown = findings.claims.assign(p=findings.claims["p_holm"], beside=[
        summary.beside(row) for row in findings.claims.itertuples()])[_CLAIM]
    fewest, most = findings.seeds
    return {
        "profile": findings.profile.name, "scale": findings.profile.scale, "in_short": findings.scale,
        "certainty": summary.certainty(findings), "teachers": findings.teachers,
        "on_imagenet": findings.profile.data == "imagenet",
        "seeds": {"values": list(findings.profile.seeds), "fewest": fewest, "most": most},
        "detectable": {name: _plain(value) for name, value in findings.detectable.items()},
        "rule": rule.model_dump(), "history": claims.history(),
        "verdicts": {subject: {str(verdict): int(count) for verdict, count in counts.items()}
                     for subject, counts in findings.counts.iterrows()},
        "claims": _records(shown), "proxy": _records(findings.proxy), "errata": _records(findings.errata),
        "costs": findings.cost.record(), "machine": findings.machine,
        "sessions": findings.sessions, "trainings": findings.trainings}


def metrics(findings: Findings) -> dict[str, Any]:
    """The few numbers that tell one state of the results from another, as far as they were measured.

    `verdicts` are counts, `top1` (%) and `mAP` means over the seeds, `time_ratio` the ratios of the headline claims.
    """
    counts = findings.counts.loc["all"].drop("all")
    values = measured.accuracies(measured.undiverged(findings.measured))
    top1 = {catalog.rows()[row]: _mean(values, "table_9", row, numbers.TOP1) for row in _TOP1}
    detected = {"_".join(map(str, catalog.backbones()[row])): _mean(values, "table_10", row, numbers.MAP)
                for row in _MAP}
    ratios = {}
    for claim in claims.load()[1]:
        if claim.headline and claim.latencies:
            rows = findings.evidence[(findings.evidence["claim"] == claim.id) & findings.evidence["decides"]]
            ratios |= {name: round(ratio, 3) for name, ratio in zip(claim.latencies, rows["ours"], strict=True)}
    parts = {"verdicts": {verdict.replace(" ", "_"): int(count) for verdict, count in counts.items()},
             "top1": top1, "time_ratio": ratios, "mAP": detected}
    measured_parts = {name: {key: value for key, value in part.items() if not math.isnan(value)}
                      for name, part in parts.items()}
    return {name: part for name, part in measured_parts.items() if part}


def _mean(values: dict[str, pd.DataFrame], experiment: str, row: str, column: str) -> float:
    cells = values.get(experiment, pd.DataFrame())
    return round(float(cells[row, column].mean()), 2) if (row, column) in cells else math.nan


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers to six digits, and None for NaN."""
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value

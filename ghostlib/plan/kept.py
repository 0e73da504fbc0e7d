"""Stored runs beside what the present profiles ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ghostlib.config import ConfigError, hint
from ghostlib.plan.wanted import stored_identity, wanted
from ghostlib.runs.listing import TRAINING, UNFINISHED, Stored

STALE = "stale"  # what no present profile asks for


def askers(runs: Sequence[Stored], params: dict[str, Any]) -> dict[str, list[str]]:
    """For each run, by its key, the profiles that ask for it; none for a stale one.

    No data is read for it, so that a run on other images than today's counts as asked for.

    Raises:
        ConfigError: a profile cannot be meant as written.
    """
    described = {run.key: run.described for run in runs}
    of_identity: dict[str | None, list[str]] = {}
    for profile in params["profiles"]:
        for identity in wanted(profile, params):
            of_identity.setdefault(identity, []).append(profile)
    return {run.key: of_identity.get(stored_identity(run.described, described), []) for run in runs}


def of_profile(profile: str, runs: Sequence[Stored], asked: Mapping[str, list[str]]) -> list[Stored]:
    """Those that a profile asks for, and those that were trained for one of its name."""
    described = {run.key: run.described for run in runs}
    return [run for run in runs if profile in asked[run.key] or _profile(run.described, described) == profile]


def chosen(words: Sequence[str], runs: Sequence[Stored], asked: Mapping[str, list[str]]) -> list[Stored]:
    """The runs that are to be removed; none that is being trained, unless it is named.

    Args:
        words: "stale", "unfinished" or keys.
        runs: of which.
        asked: as `askers` gives it.

    Raises:
        ConfigError: a word is none of them.
    """
    keys = [run.key for run in runs]
    if unknown := [word for word in words if word not in (STALE, UNFINISHED, *keys)]:
        raise ConfigError(f"no such run: {unknown[0]!r}; {hint(unknown[0], [STALE, UNFINISHED, *keys])}"
                          if keys else f"no such run: {unknown[0]!r}; there are none")
    return [run for run in runs if run.key in words or run.state != TRAINING and (
        STALE in words and not asked[run.key] or UNFINISHED in words and run.state == UNFINISHED)]


def table(runs: Sequence[Stored], asked: Mapping[str, list[str]]) -> str:
    """A row a run, and their sum."""
    from tabulate import tabulate

    rows = [{"run": run.key, "label": run.label, "state": ", ".join(filter(None, [run.state, run.done])),
             "asked for by": ", ".join(asked[run.key]) or STALE, "seconds": run.cost.get("seconds", ""),
             "device": run.cost.get("device", ""), "date": run.date, "MB": f"{run.size / 1e6:.1f}"} for run in runs]
    stale = sum(not asked[run.key] for run in runs)
    told = (f"{len(runs)} runs, {megabytes(runs)}: {sum(run.ended for run in runs)} ended, {stale} stale.")
    return "\n".join([*([tabulate(rows, headers="keys", disable_numparse=True), ""] if rows else []), told])


def megabytes(runs: Sequence[Stored]) -> str:
    """What they have on disk."""
    return f"{sum(run.size for run in runs) / 1e6:.1f} MB"


def _profile(described: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The name of the profile that a run was trained for: of a detector, its backbone was."""
    if "backbone" in described:
        described = others.get(described["backbone"], {})
    return described.get("profile", {}).get("name")

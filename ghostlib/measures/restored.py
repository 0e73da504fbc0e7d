"""A profile's results back in the run store: what is trained and written somewhere need not be trained again here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ghostlib.experiments import STEPS_METRIC, Experiment
from ghostlib.measures import places
from ghostlib.training.profile import load_params

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.classifier import ClassifierRun
    from ghostlib.runs.store import Store

_CELL = ["row", "column", "seed"]


def restore(profile_name: str, store: Store) -> tuple[list[str], list[str]]:
    """Takes the classifiers behind a profile's written results as finished, if they would be trained the same way now.

    What they are written with goes back: metrics, learning curves, which test images they get right, and what they
    cost; not their weights. So those whose weights are wanted are left out, and those that track averages of which
    nothing is written.

    Returns:
        The keys of those that were restored, and of those that were left out; what the store has is neither.

    Raises:
        FileNotFoundError: the profile has no results of classifiers.
        ConfigError: experiments.yaml has no such profile, or what it says of it cannot be meant.
    """
    params = load_params()
    runs, known = {}, {}
    for name in params["experiments"]:
        experiment = Experiment.load(name, profile_name, params)
        for run, weights, metrics in _written(experiment):
            runs[run.key] = run
            _merge(known.setdefault(run.key, {}), metrics | {"averages": {weights: True}})
    if not runs:
        raise FileNotFoundError(f"{places.folder(profile_name)} holds no results of classifiers as experiments.yaml "
                                "asks for them now")
    path = places.costs_file(profile_name, "classifiers")
    costs = places.read_csv(path).set_index("run").to_dict("index") if path.exists() else {}
    wanted, restored, left_out = _wanted_weights(profile_name, params), [], []
    for key, run in runs.items():
        if store.finished(run):
            continue
        averages = known[key].pop("averages")
        if key in wanted or not {str(decay) for decay in run.recipe.ema_decays} <= set(averages):
            left_out.append(key)
        elif store.take(run, known[key] if "test" in known[key] else None, _cost(costs.get(key)),
                        str(places.folder(profile_name))):
            restored.append(key)
    return restored, left_out


def _written(experiment: Experiment) -> Iterator[tuple[ClassifierRun, str, dict[str, Any]]]:
    """Each cell and seed whose result is written under the key that its run has now: its average, and its metrics."""
    files = [find(experiment.profile.name, experiment.name)
             for find in (places.runs_file, places.curves_file, places.correct_file)]
    if not all(file.exists() for file in files):
        return
    values, curves, correct = (dict(list(places.read_csv(file).groupby(_CELL))) for file in files)
    for cell, run in experiment.runs():
        at = cell.row, cell.column, run.seed
        if at not in values or set(values[at]["run"]) != {run.key}:
            continue
        weights = str(cell.recipe.ema_decay)
        metrics = _metrics(dict(zip(values[at]["metric"], values[at]["value"], strict=True)), weights)
        if at in correct and at in curves:
            metrics |= {"correct": {weights: correct[at]["correct"].item()}, "history": _history(curves[at])}
        yield run, weights, metrics


def _metrics(values: dict[str, float], weights: str) -> dict[str, Any]:
    """Of one average and of the last weights, as the training itself returns them; nothing of one that diverged."""
    metrics: dict[str, Any] = {}
    for name, value in values.items():
        if name == STEPS_METRIC:
            metrics[name] = round(value)
        elif name != places.DIVERGED:
            part, metric = name.split("_", 1)
            of = "raw" if metric.endswith("_raw") else weights
            metrics.setdefault(part, {}).setdefault(metric.removesuffix("_raw"), {})[of] = value
    return metrics


def _history(curves: pd.DataFrame) -> list[dict[str, float]]:
    records = curves.drop(columns=["experiment", *_CELL]).to_dict("records")
    return [{name: value for name, value in record.items() if value == value} for record in records]


def _merge(known: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds what another cell says of the same run."""
    for name, value in more.items():
        if isinstance(value, dict):
            _merge(known.setdefault(name, {}), value)
        else:
            known[name] = value


def _cost(found: dict[str, Any] | None) -> dict[str, Any]:
    return {name: found[name] for name in ("seconds", "device", "date")} if found else {}


def _wanted_weights(profile_name: str, params: dict[str, Any]) -> set[str]:
    """The classifiers that detectors start from. A teacher is in no table's cells."""
    from ghostlib.detection import run as detection
    from ghostlib.detection.scale import read_scales

    if profile_name not in read_scales(params):
        return set()
    return {run.backbone.key for run in detection.runs(profile_name, params)}

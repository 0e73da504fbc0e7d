"""A profile's results back in the run store: what was trained and written elsewhere need not be trained again here."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ghostlib import machine
from ghostlib.experiments import STEPS_METRIC, Experiment
from ghostlib.measures import places, rates
from ghostlib.training.bits import unpacked
from ghostlib.training.profile import load_params, load_profile

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.classifier import ClassifierRun
    from ghostlib.runs.store import Store


# Of the code of now, by its digest (`classifier.CODE`): earlier code that trained to the same bits, and whether it did
# of all recipes. (By the second, on a CPU, the gradients of a site's β shared memory, which only who clips them in
# place notices: not LAMB.) Whoever changes the code compares the bits again, or leaves it out.
_SAME_BITS = {"83899ecb3cfde4dd": {"428960c76b40d2f7": True, "1950832fd5556c8e": True, "547ad1da84696017": False}}


class Restored(NamedTuple):
    """The keys of the classifiers that results were written of; what the store had is in none of them.

    Attributes:
        taken: those that are finished now.
        left_out: those whose weights are wanted, or of which not everything is written.
        others: those that no training would have here and now: settings, images, code, libraries or device differ.
    """

    taken: list[str]
    left_out: list[str]
    others: list[str]


class _Written(NamedTuple):
    """What is written of a run: by a cell, or as a trial of a learning rate.

    Attributes:
        key: its key then.
        run: its run now.
        metrics: as a training returns them, as far as they are written; None where it diverged.
        averages: of weights, whose metrics must be written: another cell may ask for any that it tracks, and of a
            trial nobody asks for more than one.
    """

    key: str
    run: ClassifierRun
    metrics: dict[str, Any] | None
    averages: set[str]


def restore(profile_name: str, store: Store) -> Restored:
    """Takes the classifiers behind a profile's results as finished, if they would be trained the same way here.

    Their metrics, learning curves and costs go back, not their weights.

    Raises:
        FileNotFoundError: the profile has no results of classifiers.
        ConfigError: experiments.yaml has no such profile, or what it says of it cannot be meant.
    """
    params = load_params()
    profile, folder = load_profile(profile_name, params), places.folder(profile_name)
    written = [one for name in params["experiments"] for one in _cells(Experiment.load(name, profile_name, params))]
    written += _trials(rates.trials(profile, params, rates.known(profile)), profile_name)
    if not written:
        raise FileNotFoundError(f"{folder} holds no results of classifiers")
    of_run: dict[str, list[_Written]] = {}
    for one in written:
        if one.key in _keys(one.run):
            of_run.setdefault(one.run.key, []).append(one)
    used = [one for ones in of_run.values() for one in ones]
    costs, wanted = _costs(profile_name), _wanted_weights(profile_name, params, [one.run for one in used])
    result = Restored([], [], sorted({one.key for one in written} - {one.key for one in used}))
    for ones in map(_of_one_machine, of_run.values()):
        key, run, metrics, _ = ones[0]
        if store.finished(run):
            continue
        if metrics is not None:
            metrics = functools.reduce(_merged, (one.metrics for one in ones))
        if run.key in wanted or not _whole(metrics, set().union(*(one.averages for one in ones))):
            result.left_out.append(key)
        elif store.take(run, metrics, costs.get(key, {}), str(folder)):
            result.taken.append(key)
    return result


def trained_elsewhere(profile_name: str, keys: Iterable[str]) -> str:
    """On which devices other than this machine's a profile's classifiers were trained, as far as it is written."""
    profile, costs = load_profile(profile_name, load_params()), _costs(profile_name)
    devices = {costs[key]["device"] for key in keys if key in costs} - {machine.device_name(profile.device_type)}
    return ", ".join(sorted(devices))


def _of_one_machine(written: Iterable[_Written]) -> list[_Written]:
    """What most tables tell of a run, of as many the first; those whose files disagree tell nothing.

    Some of them may have it from another kind of processor, to other bits, which its learning curve shows.
    """
    by_curve: dict[str, list[_Written]] = {}
    for one in written:
        curve = "diverged" if one.metrics is None else str(one.metrics.get("history", ""))
        by_curve.setdefault(curve, []).append(one)
    return max(by_curve.items(), key=lambda told: (told[0] != "", len(told[1])))[1]


def _keys(run: ClassifierRun) -> list[str]:
    """Those of the trainings that end in the run's bits: its own, and those by earlier code."""
    clips_none = run.recipe.optimizer == "lamb" or not run.recipe.branches
    return [run.key, *(replace(run, code=code).key for code, of_all in _SAME_BITS.get(run.code, {}).items()
                       if of_all or clips_none)]


def _cells(experiment: Experiment) -> Iterator[_Written]:
    """What is written of the cells of an experiment and their seeds."""
    files = [find(experiment.profile.name, experiment.name)
             for find in (places.runs_file, places.curves_file, places.correct_file)]
    if not all(file.exists() for file in files):
        return
    values, curves, correct = (dict(list(places.read_csv(file).groupby(["row", "column", "seed"]))) for file in files)
    for cell, run in experiment.runs():
        at, weights = (cell.row, cell.column, run.seed), str(cell.recipe.ema_decay)
        if at not in values:
            continue
        of_metric = dict(zip(values[at]["metric"], values[at]["value"], strict=True))
        metrics: dict[str, Any] | None = None if places.DIVERGED in of_metric else {}
        if metrics is not None and at in curves and at in correct:
            scores, history = _scores(of_metric, weights), _history(curves[at])
            hits, images = correct[at]["correct"].item(), correct[at]["images"].item()
            if _of_one_training(scores, weights, history, hits, images):
                metrics = {**scores, "correct": {weights: hits}, "history": history}
        tracked = {str(decay) for decay in run.recipe.ema_decays}
        yield _Written(values[at]["run"].iloc[0], run, metrics, tracked)


def _trials(tried: list[tuple[str, ClassifierRun]], profile_name: str) -> Iterator[_Written]:
    """The same of the trials of learning rates, of which nothing on test images is."""
    files = places.rates_file(profile_name), places.rates_curves_file(profile_name)
    if not all(file.exists() for file in files):
        return
    values, curves = (dict(list(places.read_csv(file).groupby(["kind", "lr_scale", "seed"]))) for file in files)
    for kind, run in tried:
        at, weights = (kind, run.recipe.lr_scale, run.seed), str(run.recipe.ema_decay)
        if at not in values:
            continue
        [row] = values[at].to_dict("records")
        scores = {"top1": {weights: row["val_top1"]}, "loss": {weights: row["val_loss"]}}
        metrics: dict[str, Any] | None = None if math.isnan(row["val_top1"]) else {}
        if metrics is not None and at in curves:
            metrics = {"val": scores, "history": _history(curves[at])}
        yield _Written(row["run"], run, metrics, {weights})


def _scores(values: dict[str, float], weights: str) -> dict[str, Any]:
    """`test`, `val` and `steps` of an average and of the last weights."""
    metrics: dict[str, Any] = {}
    for name, value in values.items():
        if name == STEPS_METRIC:
            metrics[name] = round(value)
        else:
            part, metric = name.split("_", 1)
            of = "raw" if metric.endswith("_raw") else weights
            metrics.setdefault(part, {}).setdefault(metric.removesuffix("_raw"), {})[of] = value
    return metrics


def _of_one_training(scores: dict[str, Any], weights: str, history: list[dict[str, float]], hits: str,
                     images: int) -> bool:
    """Whether a cell's result, learning curve and hits were written of the same training.

    A process that was killed between the files leaves an older training's beside a new one's. Two accuracies stand in
    two files each and must be equal: that on the test images, and that on the validation images after the last epoch.
    """
    said = [(scores["test"]["top1"][weights], 100 * unpacked(hits, images).mean())]
    if "val_top1" in history[-1]:
        said.append((scores["val"]["top1"]["raw"], history[-1]["val_top1"]))
    return all(math.isclose(one, other, abs_tol=1e-4) for one, other in said)


def _history(curves: pd.DataFrame) -> list[dict[str, float]]:
    """An epoch's record has only what is written of it: not every epoch is validated."""
    epochs = curves[["epoch", "loss", "accuracy", "val_top1", "val_loss"]].to_dict("records")
    return [{name: value for name, value in epoch.items() if not math.isnan(value)} for epoch in epochs]


def _merged(known: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Both, down to what each cell says of its own average."""
    return {**known, **{name: _merged(known.get(name, {}), value) if isinstance(value, dict) else value
                        for name, value in more.items()}}


def _whole(metrics: dict[str, Any] | None, averages: set[str]) -> bool:
    """Whether nothing of it is absent that may be asked for."""
    return metrics is None or averages <= metrics.get("val", {}).get("top1", {}).keys()


def _costs(profile_name: str) -> dict[str, dict[str, Any]]:
    """By key."""
    files = [places.costs_file(profile_name, kind) for kind in ("rates", "classifiers")]
    return {row.pop("run"): {name: row[name] for name in ("seconds", "device", "date")}
            for file in files if file.exists() for row in places.read_csv(file).to_dict("records")}


def _wanted_weights(profile_name: str, params: dict[str, Any], runs: Iterable[ClassifierRun]) -> set[str]:
    """The classifiers whose weights others need: teachers, and what detectors start from."""
    from ghostlib.detection import run as detection
    from ghostlib.detection.scale import read_scales

    wanted = {required.key for run in runs for required in run.requires}
    if profile_name in read_scales(params):
        detectors = detection.runs(profile_name, params) + detection.trials(profile_name, params)
        wanted |= {run.backbone.key for run in detectors}
    return wanted

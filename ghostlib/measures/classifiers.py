"""The trainings behind Tables 1 to 9 and Figures 3 and 4: their accuracies, learning curves, teachers and costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError
from ghostlib.experiments import COLUMNS, STEPS_METRIC, Experiment
from ghostlib.files import write_atomic
from ghostlib.measures import frozen, history, places
from ghostlib.training.profile import Profile, kind_of, load_params, load_profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.classifier import ClassifierRun
    from ghostlib.runs.store import Store

CURVES = ["experiment", "row", "column", "seed", "epoch", "loss", "accuracy", "val_top1", "val_loss"]
CORRECT = ["experiment", "row", "column", "seed", "images", "correct"]
TEACHERS = ["stands_in_for", "network", "epochs", "seed", "run", "test_top1", "data", places.SETTINGS]


def measure(profile_name: str) -> None:
    """Trains every run of the profile that is not in the run store, in one go that keeps all cores busy; writes all.

    Raises:
        ConfigError: experiments.yaml has no such profile, or what it says of it cannot be meant.
    """
    params = load_params()
    profile = load_profile(profile_name, params)
    _measure(profile, [Experiment.load(name, profile_name, params) for name in params["experiments"]])


def read(profile_name: str, name: str) -> pd.DataFrame:
    """The results of one experiment, with the columns `COLUMNS`; accuracies in %.

    `test_top1` and its like are of the weights averaged with the cell's `ema_decay`; `..._raw` of the last ones.
    """
    path = places.runs_file(profile_name, name)
    _provide(profile_name, name)
    return places.read_csv(path)


def read_curves(profile_name: str, name: str) -> pd.DataFrame:
    """Loss and accuracy (%) of one experiment on the training views, one row per cell, seed and epoch."""
    _provide(profile_name, name)
    return places.read_csv(places.curves_file(profile_name, name))


def read_teachers(profile_name: str) -> pd.DataFrame:
    """The profile's stand-in teachers, with the columns `TEACHERS`; a profile without any trains nothing."""
    profile, path = load_profile(profile_name, load_params()), places.teachers_file(profile_name)
    if why := _teachers_lacking(profile):
        places.announce(path, why)
        _measure(profile, [])
    return places.read_csv(path)


def results(experiment: Experiment, store: Store) -> pd.DataFrame:
    """What is in the store of an experiment, with the columns `COLUMNS`, one row per cell, seed and metric.

    A training that diverged has the metric `places.DIVERGED` alone.
    """
    import pandas as pd

    records = []
    for cell, run in experiment.runs():
        settings, metrics = settings_of(cell.recipe, experiment.profile, run.seed), store.metrics(run)
        values = {**dict(_accuracies(metrics, str(cell.recipe.ema_decay))), STEPS_METRIC: run.steps
                  } if metrics else {places.DIVERGED: 1}
        records += [(experiment.name, cell.row, cell.column, run.seed, run.key, metric, value, run.data, settings)
                    for metric, value in values.items()]
    return pd.DataFrame(records, columns=COLUMNS)


def curves(experiment: Experiment, store: Store) -> pd.DataFrame:
    """Loss and accuracy (%) on training views and validation images, one row per cell, seed and epoch."""
    return history.curves((({"experiment": experiment.name, "row": cell.row, "column": cell.column, "seed": run.seed},
                            run) for cell, run in experiment.runs()), CURVES, store)


def correct(experiment: Experiment, store: Store) -> pd.DataFrame:
    """Which of the test images each cell and seed gets right; see `evaluate.packed`."""
    import pandas as pd

    return pd.DataFrame([{"experiment": experiment.name, "row": cell.row, "column": cell.column, "seed": run.seed,
                          "images": len(run.splits.test),
                          "correct": store.metrics(run)["correct"][str(cell.recipe.ema_decay)]}
                         for cell, run in experiment.runs() if store.metrics(run)], columns=CORRECT)


def settings_of(recipe: Recipe, profile: Profile, seed: int) -> str:
    """The digest of all that params.yaml and experiments.yaml say about a training; see `places.digest`."""
    teacher = recipe.teacher and profile.teachers[recipe.teacher]
    answering = (_teacher_settings(profile, recipe.teacher) if teacher.stand_in else teacher.timm) if teacher else None
    return places.digest(recipe.model_dump(), places.scale_of(profile), seed, answering)


def check(profile_name: str) -> None:
    """Sees that the trainings of classifiers on file are of the settings of now, and all of the same images.

    Raises:
        ConfigError: they are not, or experiments.yaml has no such profile. Some may have been measured before and some
            after a change, and are not to be compared.
    """
    params, of_images = load_params(), {}
    for name in params["experiments"]:
        path, experiment = places.runs_file(profile_name, name), Experiment.load(name, profile_name, params)
        if not path.exists():
            continue
        if why := _lacking(experiment):
            raise ConfigError(f"{path} {why}; measure it again (`ghostlib measure classifiers {profile_name}`), or "
                              "remove it: its claims then count as not attempted")
        of_images |= {data: path for data in places.read_csv(path)["data"].unique()}
    for path in sorted((places.folder(profile_name) / "runs").glob("*.csv")):
        # Detectors have their own `check`; counts and latencies are of no experiment.
        if path.stem not in (*params["experiments"], "table_10") and "experiment" in places.read_csv(path):
            raise ConfigError(f"{path}: experiments.yaml has no experiment {path.stem!r}, so its settings may not be "
                              "those of now; remove the file, or put the experiment back")
    if len(of_images) > 1:
        raise ConfigError(f"{' and '.join(map(str, dict.fromkeys(of_images.values())))}: trainings are of different "
                          "images (column data); measure all with the same")


def _lacking(experiment: Experiment) -> str:
    wanted = [(cell.row, cell.column, settings_of(cell.recipe, experiment.profile, seed))
              for cell in experiment.cells for seed in experiment.seeds]
    return places.lacking(places.runs_file(experiment.profile.name, experiment.name), wanted)


def _provide(profile_name: str, name: str) -> None:
    """Measures one experiment if its files do not answer params.yaml and experiments.yaml."""
    experiment = Experiment.load(name, profile_name)
    path, others = places.runs_file(profile_name, name), [
        places.curves_file(profile_name, name), places.correct_file(profile_name, name)]
    why, absent = _lacking(experiment), [other for other in others if not other.exists()]
    if why or absent:
        places.announce(path if why else absent[0], why or "does not exist")
        _measure(experiment.profile, [experiment])


def _measure(profile: Profile, experiments: list[Experiment]) -> None:
    from ghostlib.runs import engines
    from ghostlib.runs.classifier import stand_in_run
    from ghostlib.runs.store import Store

    if why := frozen.lacking(profile, (kind_of(cell.recipe) for experiment in experiments
                                       for cell in experiment.cells)):
        raise ConfigError(why)
    teachers = {name: stand_in_run(profile, name) for name, teacher in profile.teachers.items() if teacher.stand_in}
    runs, store = [run for experiment in experiments for _, run in experiment.runs()], Store()
    try:
        engines.run([*teachers.values(), *runs], store=store, title=profile.name)
    except engines.GridError as error:  # students only say that they need their teacher
        _check_teachers(profile, teachers, store, f"\n\n{error}")
        raise
    _check_teachers(profile, teachers, store)
    described = profile.model_dump(mode="json", exclude={"base"})
    write_atomic(places.profile_file(profile.name), json.dumps(described, indent=1, ensure_ascii=False))
    _write_teachers(profile, teachers, store)
    _write_costs(profile, teachers.values(), runs, store)
    for experiment in experiments:
        places.write_csv(curves(experiment, store), places.curves_file(profile.name, experiment.name))
        places.write_csv(correct(experiment, store), places.correct_file(profile.name, experiment.name))
        # Last what says which settings all are of: killed before, it is measured again.
        places.write_csv(results(experiment, store), places.runs_file(profile.name, experiment.name))


def _check_teachers(profile: Profile, teachers: dict[str, ClassifierRun], store: Store, others: str = "") -> None:
    for name, run in teachers.items():
        if why := store.diverged(run):
            raise ConfigError(f"experiments.yaml: profiles.{profile.name}.teachers.{name}.stand_in: it diverged "
                              f"({why}); give it a smaller lr_scale{others}")


def _write_teachers(profile: Profile, teachers: dict[str, ClassifierRun], store: Store) -> None:
    """Their table and, beside it, each one's weights."""
    import pandas as pd

    from ghostlib.runs.classifier import load_weights

    path, records = places.teachers_file(profile.name), []
    path.with_suffix("").mkdir(parents=True, exist_ok=True)  # the pipeline looks for it, with or without teachers
    for name, run in teachers.items():
        top1 = store.metrics(run)["test"]["top1"][str(run.recipe.ema_decay)]
        records.append((name, run.recipe.network, run.recipe.epochs, run.seed, run.key, top1, run.data,
                        _teacher_settings(profile, name)))
        load_weights(store, run, "ema.safetensors")  # a torn file is not passed on
        write_atomic(path.with_suffix("") / f"{name}.safetensors",
                     (store.folder(run) / "ema.safetensors").read_bytes())
    places.write_csv(pd.DataFrame(records, columns=TEACHERS), path)


def _write_costs(profile: Profile, teachers: Iterable[ClassifierRun], runs: list[ClassifierRun], store: Store) -> None:
    """A row a training; those of experiments that are not measured this time stay."""
    import pandas as pd
    from filelock import FileLock

    path = places.costs_file(profile.name, "classifiers")
    costs = history.costs([*(("classifier", run) for run in runs), *(("teacher", run) for run in teachers)], store)
    store.root.mkdir(parents=True, exist_ok=True)
    with FileLock(store.root / "costs.lock"):  # another experiment may be measured at the same time
        tables = [places.read_csv(path), costs] if path.exists() else [costs]
        rows = {row["run"]: row for table in tables for row in table.to_dict("records")}
        places.write_csv(pd.DataFrame(list(rows.values()), columns=history.COSTS), path)


def _accuracies(metrics: dict[str, Any], decay: str) -> Iterator[tuple[str, float]]:
    for part in ("test", "val"):
        for metric, of in metrics[part].items():
            yield f"{part}_{metric}", of[decay]
            yield f"{part}_{metric}_raw", of["raw"]


def _teachers_lacking(profile: Profile) -> str:
    names = [name for name, teacher in profile.teachers.items() if teacher.stand_in]
    wanted = [(name, _teacher_settings(profile, name)) for name in names]
    return places.lacking(places.teachers_file(profile.name), wanted, ("stands_in_for", places.SETTINGS))


def _teacher_settings(profile: Profile, name: str) -> str:
    scaled = profile.of_stand_in(name)
    recipe = scaled.resolve(profile.teachers[name].stand_in, where=f"teachers.{name}.stand_in")
    return places.digest(recipe.model_dump(), places.scale_of(scaled))

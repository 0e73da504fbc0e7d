"""The trainings that the detectors' learning rate is chosen by: every backbone at the same rates, on validation scenes.

Table 10 compares backbones under one recipe, so they share a rate, which is chosen for none in particular: the highest
mean mAP over the backbones at the lower resolution, with seeds that measure nothing else. It is frozen in
experiments.yaml (`ghostlib rates PROFILE --detectors --freeze`); detectors have it from there. The scenes are laid out
with the classifiers' validation images; the choice looks at no test image. Since the backbones begin with classifiers,
the rates of these are chosen and frozen before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghostlib.config import ConfigError
from ghostlib.detection.run import DetectorRun, trials
from ghostlib.detection.scale import Scale, scale_of
from ghostlib.measures import detectors, places

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.store import Store

# A row a training. Its mAP (%) on the validation scenes is missing where it diverged.
COLUMNS = ["backbone", "rate", "seed", "run", "mAP", "data", places.SETTINGS]


def measure(profile_name: str) -> None:
    """Trains what is not in the run store, the backbones first; nothing where the profile's scale has no `tune`.

    A training that diverges is a result: its rate is too large.

    Raises:
        ConfigError, DetectionError, GridError: see `detectors.measure`.
    """
    from ghostlib.runs.store import Store

    wanted, store = trials(profile_name), Store()
    if wanted:  # else it needs no MMDetection
        detectors.train(wanted, store, f"detectors' rates of {profile_name}")
    # As text, since a rate must come back as it is and not to four decimals.
    places.write_csv(results(wanted, store).astype({"rate": str}), places.detector_rates_file(profile_name))
    places.write_csv(detectors.costs(wanted, store), places.costs_file(profile_name, "detector_rates"))


def read(profile_name: str) -> pd.DataFrame:
    """The trainings, with the columns `COLUMNS`; measured if their file does not answer the settings of now."""
    if why := lacking(profile_name):
        places.announce(places.detector_rates_file(profile_name), why)
        measure(profile_name)
    return places.read_csv(places.detector_rates_file(profile_name))


def measured(profile_name: str) -> tuple[Scale, pd.DataFrame]:
    """The profile's scale and its trainings, with the columns `COLUMNS`; none is started.

    Raises:
        ConfigError: their file does not answer the settings of now.
    """
    import pandas as pd

    scale = scale_of(profile_name)
    if scale.tune is None:
        return scale, pd.DataFrame(columns=COLUMNS)
    if why := lacking(profile_name):
        raise ConfigError(f"{places.detector_rates_file(profile_name)} {why}; run `ghostlib measure detector_rates "
                          f"{profile_name}` first")
    return scale, places.read_csv(places.detector_rates_file(profile_name))


def lacking(profile_name: str) -> str:
    """Why the file is not what params.yaml and experiments.yaml ask for; empty where it is."""
    wanted = [(run.arch, detectors.settings(run)) for run in trials(profile_name)]
    return places.lacking(places.detector_rates_file(profile_name), wanted, ("backbone", places.SETTINGS))


def results(wanted: list[DetectorRun], store: Store) -> pd.DataFrame:
    """What is in the store, with the columns `COLUMNS`."""
    import pandas as pd

    return pd.DataFrame([(run.arch, run.scale.lr, run.seed, run.key,
                          (store.metrics(run) or {"trained": {}})["trained"].get(detectors.COLUMN), run.data,
                          detectors.settings(run)) for run in wanted], columns=COLUMNS)


def scores(trained: pd.DataFrame) -> pd.DataFrame:
    """Mean mAP (%) over the seeds, a row a rate and a column a backbone; missing where a seed diverged.

    Args:
        trained: with the columns `COLUMNS`, here and below.
    """
    of_cell = trained.groupby(["rate", "backbone"])["mAP"]
    means = of_cell.mean().where(of_cell.count() == of_cell.size()).unstack("backbone")
    return means[trained["backbone"].unique()]  # in the order of the file


def chosen(trained: pd.DataFrame) -> float | None:
    """The rate of the highest mean over the backbones, of equal ones the lower; one that diverged is left out.

    Returns:
        None where at every rate a training diverged.
    """
    means = scores(trained).mean(axis=1, skipna=False).round(6).dropna()  # equal means may differ in the last bit
    return None if means.empty else float(means.idxmax())


def table(trained: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """For a reader, a row a rate: `scores`, their mean over the backbones, and whether it is the best and is used.

    Args:
        trained: as `read` gives it.
        scale: the profile's.
    """
    of_rates, best = scores(trained), chosen(trained)
    return of_rates.assign(mean=of_rates.mean(axis=1, skipna=False), best=of_rates.index == best,
                           frozen=of_rates.index == scale.lr).rename_axis(columns=None).reset_index()


def given(profile_name: str) -> str:
    """What there is to say of a profile whose detectors have a given rate: a sentence."""
    return (f"The detectors of profile {profile_name!r} have the learning rate that experiments.yaml gives; it was not "
            "chosen on validation scenes.")

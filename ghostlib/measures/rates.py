"""The trainings that learning rates are chosen by: every kind of recipe at the same few rates, on validation images.

Arms that an experiment compares may be of different kinds (`profile.kind_of`), and a good rate for one may be a bad one
for the other. So each kind gets the same grid, that of `Profile.tune`, with seeds that measure nothing else; and where
its best rate lies at an edge, the grid goes on beyond it. Is there more than one seed, all rates are tried with the
first, and with the others those that came close to the best, which one seed cannot tell apart. The best rate by mean
validation top-1 is frozen in experiments.yaml (`ghostlib rates PROFILE --freeze`); recipes have it from there. The
choice looks at no test image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError
from ghostlib.detection.scale import backbone_recipes, read_scales
from ghostlib.experiments import Experiment
from ghostlib.measures import history, places
from ghostlib.measures.classifiers import settings_of
from ghostlib.training.profile import Profile, kind_of, load_params, load_profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.classifier import ClassifierRun
    from ghostlib.runs.store import Store

# A row a training. Its validation top-1 (%) and loss, of the averaged weights, are missing where it diverged.
COLUMNS = ["kind", "network", "lr_scale", "seed", "run", "val_top1", "val_loss", "data", places.SETTINGS]
CURVES = ["kind", "lr_scale", "seed", "epoch", "loss", "accuracy", "val_top1", "val_loss"]
FURTHER = 6  # rates that a kind is tried at, at most, beyond the grid's edges
# Points of validation top-1 below the best with the first seed. A seed moves all rates of a kind together: in Figure 3
# of `fashion` the rate that is best on the whole lies at most 1.25 points below the best of each single seed.
CLOSE = 2.0


def measure(profile_name: str) -> None:
    """Trains what is not in the run store, and writes all; nothing is trained where the profile has no `tune`.

    A training that diverges is a result: its rate is too large.

    Raises:
        ConfigError: experiments.yaml has no such profile, or what it says of it cannot be meant.
        GridError: after all the others have finished, where a training failed but did not diverge.
    """
    from ghostlib.runs import engines
    from ghostlib.runs.store import Store

    params = load_params()
    profile = load_profile(profile_name, params)
    check(profile, params)
    store, tried, trained = Store(), trials(profile, params), None
    while trained is None or len(tried) > len(trained):
        engines.run([run for _, run in tried], store=store, title=f"rates of {profile_name}", last=False)
        trained = results(tried, store)
        # After every round, for what asks which trainings are wanted (`known`). As text, since a rate must come back as
        # it is and not to four decimals. Last what says which settings all are of.
        places.write_csv(curves(tried, store).astype({"lr_scale": str}), places.rates_curves_file(profile_name))
        costs = history.costs((("rate", run) for _, run in tried), store)
        places.write_csv(costs, places.costs_file(profile_name, "rates"))
        places.write_csv(trained.astype({"lr_scale": str}), places.rates_file(profile_name))
        tried = trials(profile, params, trained)
    engines.dismiss()


def read(profile_name: str) -> pd.DataFrame:
    """The trainings, with the columns `COLUMNS`; they are measured if their files do not answer the settings of now."""
    params = load_params()
    if why := lacking(load_profile(profile_name, params), params):
        places.announce(places.rates_file(profile_name), why)
        measure(profile_name)
    return places.read_csv(places.rates_file(profile_name))


def measured(profile_name: str) -> tuple[Profile, pd.DataFrame]:
    """The profile and its trainings, with the columns `COLUMNS`; none is started.

    Raises:
        ConfigError: their file does not answer the settings of now.
    """
    import pandas as pd

    params = load_params()
    profile, path = load_profile(profile_name, params), places.rates_file(profile_name)
    if profile.tune is None:
        return profile, pd.DataFrame(columns=COLUMNS)
    if why := lacking(profile, params):
        raise ConfigError(f"{path} {why}; run `ghostlib measure rates {profile_name}` first")
    return profile, places.read_csv(path)


def known(profile: Profile) -> pd.DataFrame | None:
    """The trainings that are on file, whatever the settings of now, with the columns `COLUMNS`."""
    path = places.rates_file(profile.name)
    return places.read_csv(path) if path.exists() else None


def lacking(profile: Profile, params: dict[str, Any]) -> str:
    """Why the files are not what params.yaml and experiments.yaml ask for; empty where they are."""
    path = places.rates_file(profile.name)
    if absent := [file for file in (path, places.rates_curves_file(profile.name)) if not file.exists()]:
        return "does not exist" if path in absent else f"is there without {absent[0].name}"
    wanted = ((kind, settings_of(recipe, profile, seed))
              for kind, recipe, seed in _grid(profile, params, places.read_csv(path)))
    return places.lacking(path, wanted, ("kind", places.SETTINGS))


def representatives(profile: Profile, params: dict[str, Any]) -> dict[str, Recipe]:
    """For each kind of recipe that the profile trains, the one that differs least from its final recipe.

    Looked at are the cells of all experiments and the backbones of Table 10, without their lr_scale; of equally near
    ones it is the first.
    """
    experiments = [Experiment.load(name, profile.name, params) for name in params["experiments"]]
    recipes = [cell.recipe for experiment in experiments for cell in experiment.cells]
    if profile.name in read_scales(params):
        recipes += backbone_recipes(profile, params).values()
    of_kinds: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        of_kinds.setdefault(kind_of(recipe), []).append(recipe.model_copy(update={"lr_scale": 1.0}))
    final = profile.resolve().model_dump()

    def distance(recipe: Recipe) -> int:
        return sum(value != final[name] for name, value in recipe.model_dump().items())

    return {kind: min(of_kind, key=distance) for kind, of_kind in of_kinds.items()}


def check(profile: Profile, params: dict[str, Any]) -> None:
    """Compares the kinds that the profile has rates for with those that it trains, or would with detectors.

    Raises:
        ConfigError: there is no recipe of such a kind; the message names those there are.
    """
    if not profile.rates:
        return
    backbones = backbone_recipes(profile, params).values() if "detection" in params else ()
    known = dict.fromkeys([*representatives(profile, params), *map(kind_of, backbones)])
    if unknown := profile.rates.keys() - known.keys():
        raise ConfigError(f"experiments.yaml: profiles.{profile.name}.rates: no recipe is of the kind "
                          f"{' or '.join(map(repr, sorted(unknown)))}; known: {', '.join(map(repr, known))}")


def results(tried: list[tuple[str, ClassifierRun]], store: Store) -> pd.DataFrame:
    """What is in the store, with the columns `COLUMNS`."""
    import pandas as pd

    records = []
    for kind, run in tried:
        val = (store.metrics(run) or {}).get("val")
        top1, loss = (val[metric][str(run.recipe.ema_decay)] if val else None for metric in ("top1", "loss"))
        records.append((kind, run.recipe.network, run.recipe.lr_scale, run.seed, run.key, top1, loss, run.data,
                        settings_of(run.recipe, run.profile, run.seed)))
    return pd.DataFrame(records, columns=COLUMNS)


def curves(tried: list[tuple[str, ClassifierRun]], store: Store) -> pd.DataFrame:
    """Loss and accuracy (%) on training views and validation images, one row per training and epoch."""
    return history.curves((({"kind": kind, "lr_scale": run.recipe.lr_scale, "seed": run.seed}, run)
                           for kind, run in tried), CURVES, store)


def chosen(trained: pd.DataFrame) -> pd.DataFrame:
    """The best rate of each kind: the highest mean validation top-1 over the seeds, of equal ones the lower rate.

    A rate that was tried with fewer seeds than another of its kind is not chosen, nor one at which a seed diverged; a
    kind without any other is left out.

    Args:
        trained: with the columns `COLUMNS`.

    Returns:
        By `kind`: `lr_scale`; `val_top1` (%), the mean over the seeds; `sd`, their standard deviation (NaN for one
        seed); `at_edge`, whether it is the least or the greatest rate tried, so that a better one may lie outside.
    """
    of_rate = trained.groupby(["kind", "lr_scale"])["val_top1"]
    whole = of_rate.count() == of_rate.size().groupby("kind").transform("max")
    scores = of_rate.mean().where(whole).round(6)  # equal means may differ in the last bit
    scores = scores.to_frame().assign(sd=of_rate.std()).dropna(subset="val_top1").reset_index()
    ranked = scores.sort_values(["val_top1", "lr_scale"], ascending=[False, True])
    best = ranked.drop_duplicates("kind").set_index("kind")
    best = best.loc[[kind for kind in trained["kind"].unique() if kind in best.index]]  # in the order of the file
    tried = trained.groupby("kind")["lr_scale"].agg(["min", "max"]).loc[best.index]
    return best.assign(at_edge=best["lr_scale"].eq(tried["min"]) | best["lr_scale"].eq(tried["max"]))


def beside_frozen(trained: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """For a reader, by kind: `tried`, the rates; what `chosen` says; `frozen`, the rate in experiments.yaml or NaN."""
    tried = trained.groupby("kind", sort=False)["lr_scale"].agg(
        lambda rates: ", ".join(f"{rate:g}" for rate in sorted(set(rates))))
    frozen = tried.index.to_series().map(profile.rates).astype(float)
    return tried.to_frame("tried").join(chosen(trained)).assign(frozen=frozen)


def given(profile: Profile) -> str:
    """What there is to say of a profile that chooses no rates: a sentence."""
    return f"The learning rates of profile {profile.name!r} are given in experiments.yaml; none was chosen here."


def trials(profile: Profile, params: dict[str, Any], trained: pd.DataFrame | None = None,
           ) -> list[tuple[str, ClassifierRun]]:
    """Everything that is to be trained, each with its kind.

    Args:
        profile: whose rates they are.
        params: of params.yaml and experiments.yaml.
        trained: what is known of them, with the columns `COLUMNS`; it says where the grid goes on.
    """
    from ghostlib.runs.classifier import ClassifierRun

    return [(kind, ClassifierRun(recipe, profile, seed, f"rates ({kind}), x {recipe.lr_scale:g}, seed {seed}"))
            for kind, recipe, seed in _grid(profile, params, trained)]


def _grid(profile: Profile, params: dict[str, Any], trained: pd.DataFrame | None,
          ) -> Iterator[tuple[str, Recipe, int]]:
    """Kind, recipe and seed of all trials."""
    if profile.tune is None:
        return
    first, *others = profile.tune.seeds
    for kind, recipe in representatives(profile, params).items():
        tried: Sequence[float] = profile.tune.rates
        best: set[float] = set()
        if trained is not None:
            known = trained[trained["kind"] == kind]
            tried = extended(tried, known[known["seed"] == first], bool(others))
            best = finalists(tried, known, first, others)
        yield from ((kind, recipe.model_copy(update={"lr_scale": rate}), seed)
                    for rate in tried for seed in (first, *(others if rate in best else ())))


def finalists(rates: Sequence[float], trained: pd.DataFrame, first: int, others: Sequence[int]) -> set[float]:
    """The rates that are tried with the other seeds, too: those that are `close` to the best with the first.

    Where one of them diverges with another seed, those that are close without it follow.

    Args:
        rates: of a kind; as long as the first seed's are not all known, none is a finalist.
        trained: what is known of the kind, with the columns `COLUMNS`.
        first: the seed that every rate is tried with.
        others: the other seeds; without any, nothing is a finalist.
    """
    of_first = trained[(trained["seed"] == first) & trained["lr_scale"].isin(rates)]
    if not others or not set(rates) <= set(of_first["lr_scale"]):
        return set()
    diverged = trained.loc[trained["val_top1"].isna(), "lr_scale"]
    # What was tried once stays: what is said of it would else be forgotten, and asked for again.
    return close(of_first[~of_first["lr_scale"].isin(diverged)]) | set(
        trained.loc[trained["seed"].isin(others), "lr_scale"])


def extended(grid: Sequence[float], trained: pd.DataFrame, all_close: bool = False) -> list[float]:
    """The rates of a kind: the grid, and where the best lies at an edge, rates beyond it, by the grid's own factor.

    Args:
        grid: in ascending order, two or more.
        trained: what is known of the kind with one seed, with the columns `COLUMNS`.
        all_close: whether the grid goes on beyond an edge that is `close` to the best, too; of two the better one's.

    Returns:
        The grid with the rates beyond it that are known and the next one, if it takes one; `FURTHER` at most.
    """
    rates = list(grid)
    for _ in range(FURTHER):
        known = trained[trained["lr_scale"].isin(rates)]
        if not set(rates) <= set(known["lr_scale"]):
            break  # what comes next depends on it
        best = (close(known) if all_close else set(chosen(known)["lr_scale"])) & {rates[0], rates[-1]}
        edges = known[known["lr_scale"].isin(best)].sort_values(["val_top1", "lr_scale"], ascending=[False, True])
        if edges.empty:
            break
        if edges["lr_scale"].iloc[0] == rates[0]:
            rates.insert(0, float(f"{rates[0] ** 2 / rates[1]:.6g}"))
        else:
            rates.append(float(f"{rates[-1] ** 2 / rates[-2]:.6g}"))
    return rates


def close(trained: pd.DataFrame) -> set[float]:
    """The rates of a kind at most `CLOSE` points below the best, it included; `trained` is as for `extended`."""
    return set(trained.loc[trained["val_top1"] >= trained["val_top1"].max() - CLOSE, "lr_scale"])

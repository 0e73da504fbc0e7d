"""Learning rates: which recipes stand for a kind, what is trained, which rate is best, and what is written of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ghostlib.config import ConfigError
from ghostlib.files import write_atomic
from ghostlib.measures import places, rates
from ghostlib.runs import engines
from ghostlib.training.profile import load_params, load_profile
from tests.params import write_params

PLAIN = {"branches": 0, "teacher": None}
TUNE = {"seeds": [8, 9], "rates": [5, 10, 20, 1e30]}
GRID = {"rows": {"plain": PLAIN, "distilled": {"branches": 0}, "branched": {"teacher": None}},
        "columns": {"0.005": {}, "0.01": {"lr": 0.01}}}


@pytest.fixture
def params(tiny):
    described = tiny.model_dump(exclude={"name", "base"}, mode="json")
    return {"profile": "tiny", "recipe": {"weight_decay": 0.05},
            "experiments": {"first": GRID, "second": {"base": PLAIN, "rows": {"row": {}},
                                                      "columns": {"0.01": {"lr": 0.01, "lr_scale": 3}}}},
            "profiles": {"tiny": described | {"tune": TUNE}}}


def test_a_profile_without_detectors_chooses_no_rates_for_them(params):
    profile = load_profile("tiny", params)
    kinds = rates.representatives(profile, params)
    backbones = load_params(Path(__file__).parents[2] / "params.yaml")["detection"]["backbones"]
    without = {**params, "detection": {"backbones": backbones, "scales": {}}}
    assert rates.representatives(profile, without) == kinds


@pytest.fixture
def repository(tmp_path, monkeypatch, params):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / ".runs"))
    write_params(".", params)
    return tmp_path


def trained(**kinds) -> pd.DataFrame:
    """Made up: kind -> rate -> the validation top-1 of each seed."""
    return pd.DataFrame([(kind, rate, seed, top1) for kind, of_kind in kinds.items() for rate, values in of_kind.items()
                         for seed, top1 in enumerate(values)], columns=["kind", "lr_scale", "seed", "val_top1"])


# -- kinds


def test_the_recipe_that_stands_for_a_kind_is_the_nearest_to_the_final_one_and_the_first_of_equals(params):
    profile = load_profile("tiny", params)
    found = rates.representatives(profile, params)
    assert list(found) == ["ghostnetv2, lamb", "ghostnetv2, lamb, teacher", "ghostnetv2, lamb, branches"]
    assert [recipe.lr for recipe in found.values()] == [profile.resolve().lr] * 3
    assert {recipe.lr_scale for recipe in found.values()} == {1.0}


def test_deit_s_rate_is_chosen_under_the_augmentation_of_the_others():
    params = load_params()
    for name in ("digits", "fashion"):
        profile = load_profile(name, params)
        deit, final = rates.representatives(profile, params)["deit, lamb, teacher"], profile.resolve()
        assert (deit.auto_augment, deit.erasing) == (final.auto_augment, final.erasing)


def test_the_backbones_of_detectors_have_kinds_too():
    params = load_params()
    kinds = rates.representatives(load_profile("digits", params), params)
    assert kinds["ghostnetv1, rmsproptf"].network == "ghostnetv1_110"
    assert kinds["ghostnetv2, lamb, branches, teacher"] == load_profile("digits", params).resolve({"lr_scale": 1})


def test_a_rate_of_a_kind_that_nothing_is_of_is_an_error_that_names_the_known(params):
    params["profiles"]["tiny"]["rates"] = {"ghostnetv2, lamb": 2}
    rates.check(load_profile("tiny", params), params)
    params["profiles"]["tiny"]["rates"] = {"ghostnetv2, lamp": 2}
    with pytest.raises(ConfigError, match=r"profiles\.tiny\.rates: .*'ghostnetv2, lamp'; known: 'ghostnetv2, lamb', "):
        rates.check(load_profile("tiny", params), params)


@pytest.mark.parametrize("name", load_params()["profiles"])
def test_every_profile_has_rates_of_known_kinds_alone(name):
    params = load_params()
    rates.check(load_profile(name, params), params)


# -- training


def test_every_kind_is_trained_at_every_rate_and_a_rate_may_diverge(repository, monkeypatch):
    """Pretends to train; at the last rate as if the loss had become infinite."""
    asked = []

    def run(jobs, store=None, **options):
        asked.extend(job.label for job in jobs)
        for job in jobs:
            folder = store.folder(job)
            if job.recipe.lr_scale == 1e30:
                write_atomic(folder / "diverged.txt", "the loss is inf")
                continue
            of_all = {"0.9999": 9 * job.seed + abs(job.recipe.lr_scale - 10), "0.99999": 0, "raw": 0}
            write_atomic(folder / "cost.json", json.dumps({"seconds": 1.5, "device": "a CPU", "date": "2026-01-02"}))
            write_atomic(folder / "metrics.json", json.dumps(
                {"val": {"top1": of_all, "loss": of_all}, "history": [{"epoch": 1, "loss": 2, "accuracy": 3}]}))

    monkeypatch.setattr(engines, "run", run)
    rates.measure("tiny")
    assert len(set(asked)) == 3 * (4 + 1), "a rate at which the first seed diverged gets no other"
    assert asked[0] == "rates (ghostnetv2, lamb), x 5, seed 8"
    found = rates.read("tiny")  # which measures nothing again
    assert len(asked) == 12 + 15 and list(found.columns) == rates.COLUMNS and found["settings"].is_unique
    assert set(found["lr_scale"]) == {5, 10, 20, 1e30}
    ended = found[found["lr_scale"] < 1e30]
    assert (ended["val_top1"] == 9 * ended["seed"] + (ended["lr_scale"] - 10).abs()).all()
    assert found.loc[found["lr_scale"] == 1e30, ["val_top1", "val_loss"]].isna().all(axis=None)
    curves = places.read_csv(places.rates_curves_file("tiny"))
    assert list(curves.columns) == rates.CURVES and len(curves) == 3 * 4
    costs = places.read_csv(places.costs_file("tiny", "rates"))
    assert set(costs["run"]) == set(ended["run"]) and set(costs["kind"]) == {"rate"}
    best = rates.chosen(found)
    assert set(best["lr_scale"]) == {20} and not best["at_edge"].any()


def test_where_the_best_lies_at_an_edge_the_grid_goes_on(repository, params, monkeypatch):
    """Pretends to train: validation top-1 peaks at half the grid's least rate, or is better the greater the rate."""
    params["profiles"]["tiny"]["tune"] = {"seeds": [8], "rates": [5, 10, 20, 40]}
    write_params(".", params)
    commands = []

    def run(jobs, store=None, **options):
        commands.append(len(jobs))
        for job in jobs:
            rate = job.recipe.lr_scale
            top1 = -abs(rate - 2.5) if job.recipe.branches else rate
            write_atomic(store.folder(job) / "metrics.json", json.dumps(
                {"val": {"top1": {"0.9999": top1}, "loss": {"0.9999": 1}}, "history": []}))

    monkeypatch.setattr(engines, "run", run)
    rates.measure("tiny")
    assert commands == [12, 15, 18, 20, 22, 24, 26]
    profile, found = rates.measured("tiny")
    tried = found.groupby("kind")["lr_scale"].agg(list)
    assert tried["ghostnetv2, lamb, branches"] == [1.25, 2.5, 5, 10, 20, 40]
    assert tried["ghostnetv2, lamb"] == tried["ghostnetv2, lamb, teacher"] == [5 * 2**i for i in range(10)]
    assert rates.chosen(found)["at_edge"].to_dict() == {
        "ghostnetv2, lamb": True, "ghostnetv2, lamb, teacher": True, "ghostnetv2, lamb, branches": False}
    assert len(rates.trials(profile, load_params(), rates.known(profile))) == 26
    path = places.rates_file("tiny")
    path.write_text("".join(line for line in path.read_text().splitlines(True) if ",2560.0," not in line))
    assert rates.lacking(profile, load_params()) == "does not hold what params.yaml and experiments.yaml ask for"


def test_what_comes_close_with_the_first_seed_is_tried_with_the_others(repository, params, monkeypatch):
    """Pretends to train: 20 is the best with the first seed, 40 beyond it comes close, 10 is best on the whole."""
    top1 = {5: (70, 99), 10: (78.5, 80), 20: (80, 76), 40: (78, 75), 80: (60, 99)}
    params["profiles"]["tiny"]["tune"] = {"seeds": [8, 9], "rates": [2.5, 5, 10, 20]}
    write_params(".", params)
    asked = []

    def run(jobs, store=None, **options):
        asked.append([(job.recipe.lr_scale, job.seed) for job in jobs if job.recipe.branches])
        for job in jobs:
            values = {"0.9999": top1.get(job.recipe.lr_scale, (50, 99))[job.seed - 8]}
            write_atomic(store.folder(job) / "metrics.json",
                         json.dumps({"val": {"top1": values, "loss": values}, "history": []}))

    monkeypatch.setattr(engines, "run", run)
    rates.measure("tiny")
    assert asked[0] == [(rate, 8) for rate in (2.5, 5, 10, 20)]
    assert asked[1:3] == [asked[0] + [(40, 8)], asked[0] + [(40, 8), (80, 8)]]
    assert asked[3:] == [[(2.5, 8), (5, 8), (10, 8), (10, 9), (20, 8), (20, 9), (40, 8), (40, 9), (80, 8)]]
    profile, found = rates.measured("tiny")
    best = rates.chosen(found).loc["ghostnetv2, lamb, branches"]
    assert (best["lr_scale"], best["val_top1"], best["at_edge"]) == (10, 79.25, False)
    path = places.rates_file("tiny")
    path.write_text("".join(line for line in path.read_text().splitlines(True) if ",40.0,9," not in line))
    assert rates.lacking(profile, load_params()) == "does not hold what params.yaml and experiments.yaml ask for"


@pytest.mark.parametrize(("top1", "asked", "best"), [
    # Both edges are close: the better one is followed first.
    ({0.625: (60, 0), 1.25: (77.4, 60), 2.5: (77.5, 70), 20: (78.5, 78), 40: (79, 79), 80: (79.4, 79.4),
      160: (79.3, 79), 320: (70, 0)},
     [0.625, 1.25, 2.5, 5, 10, 20, 40, 80, 160, 320], (80, False)),
    # All alike, as where nothing is learned: it ends, and says that the best lies at the edge.
    ({}, [0.0390625, 0.078125, 0.15625, 0.3125, 0.625, 1.25, 2.5, 5, 10, 20], (0.0390625, True)),
    # The close ones diverge with the other seed: the next ones follow.
    ({2.5: (70, 70), 5: (74, 73), 10: (80, None), 20: (79.5, None), 40: (60, 0)}, [2.5, 5, 10, 20, 40], (5, False))])
def test_the_trials_end_with_a_choice_that_stands(repository, params, monkeypatch, top1, asked, best):
    """Pretends to train; a rate that is not named reaches 75."""
    params["profiles"]["tiny"]["tune"] = {"seeds": [8, 9], "rates": [2.5, 5, 10, 20]}
    params["experiments"] = {"only": {"base": PLAIN, "rows": {"row": {}}, "columns": {"column": {}}}}
    write_params(".", params)

    def run(jobs, store=None, **options):
        for job in jobs:
            value = top1.get(job.recipe.lr_scale, (75, 75))[job.seed - 8]
            if value is None:
                write_atomic(store.folder(job) / "diverged.txt", "the loss is inf")
                continue
            values = {"0.9999": value}
            write_atomic(store.folder(job) / "metrics.json",
                         json.dumps({"val": {"top1": values, "loss": values}, "history": []}))

    monkeypatch.setattr(engines, "run", run)
    rates.measure("tiny")
    profile, found = rates.measured("tiny")  # which raises where it lacks anything
    assert sorted(set(found["lr_scale"])) == asked
    assert tuple(rates.chosen(found)[["lr_scale", "at_edge"]].iloc[0]) == best


@pytest.mark.parametrize(("of_rates", "wanted"), [
    ({1: [1], 2: [2], 4: [1]}, [1, 2, 4]), ({1: [3], 2: [2], 4: [1]}, [0.5, 1, 2, 4]),
    ({1: [1], 2: [2], 4: [3]}, [1, 2, 4, 8]), ({1: [1], 2: [2], 4: [3], 8: [None]}, [1, 2, 4, 8]),
    ({1: [None], 2: [None], 4: [None]}, [1, 2, 4]), ({1: [1], 2: [1], 4: [1]}, [0.5, 1, 2, 4]), ({}, [1, 2, 4])])
def test_how_far_a_grid_goes_on(of_rates, wanted):
    assert rates.extended([1, 2, 4], trained(kind=of_rates)) == wanted


def test_a_training_that_failed_and_did_not_diverge_is_an_error(repository, monkeypatch):
    def run(jobs, store=None, **options):
        raise engines.GridError("24 of 24 runs failed")

    monkeypatch.setattr(engines, "run", run)
    with pytest.raises(engines.GridError):
        rates.measure("tiny")
    assert not places.rates_file("tiny").exists()


def test_a_choice_that_is_stopped_in_its_second_round_still_knows_which_trainings_it_wants(repository, monkeypatch):
    def run(jobs, store=None, **options):
        if any(job.seed == 9 for job in jobs):
            raise KeyboardInterrupt
        for job in jobs:
            values = {"0.9999": -abs(job.recipe.lr_scale - 10)}
            write_atomic(store.folder(job) / "metrics.json",
                         json.dumps({"val": {"top1": values, "loss": values}, "history": []}))

    monkeypatch.setattr(engines, "run", run)
    with pytest.raises(KeyboardInterrupt):
        rates.measure("tiny")
    params = load_params()
    profile = load_profile("tiny", params)
    assert len(rates.known(profile)) == 12 and len(rates.trials(profile, params, rates.known(profile))) == 15
    assert rates.lacking(profile, params) == "does not hold what params.yaml and experiments.yaml ask for"


def test_a_profile_that_chooses_none_trains_nothing_and_writes_empty_files(repository, params, monkeypatch):
    monkeypatch.setattr(engines, "_local", lambda todo, *others: {} if not todo else pytest.fail("trains"))
    params["profiles"]["tiny"]["tune"] = None
    write_params(".", params)
    assert rates.read("tiny").empty
    assert rates.chosen(rates.read("tiny")).empty
    assert rates.measured("tiny")[1].empty
    for path, columns in ((places.rates_file("tiny"), rates.COLUMNS), (places.rates_curves_file("tiny"), rates.CURVES)):
        assert path.read_text() == ",".join(columns) + "\n"


def test_what_the_files_lack(repository, params, monkeypatch):
    def lacking():
        write_params(".", params)
        return rates.lacking(load_profile("tiny", load_params()), load_params())

    monkeypatch.setattr(engines, "run", lambda *arguments, **options: {})
    assert lacking() == "does not exist"
    with pytest.raises(ConfigError, match=r"rates\.csv does not exist; run `ghostlib measure rates tiny` first"):
        rates.measured("tiny")
    rates.measure("tiny")
    assert lacking() == ""
    params["profiles"]["tiny"]["rates"] = {"ghostnetv2, lamb": 20}
    assert lacking() == "", "what is frozen asks for no other trainings"
    params["profiles"]["tiny"]["tune"] = TUNE | {"seeds": [7]}
    assert lacking() == "does not hold what params.yaml and experiments.yaml ask for"
    params["profiles"]["tiny"]["tune"] = TUNE
    places.rates_curves_file("tiny").unlink()
    assert lacking() == "is there without curves.csv"


def test_a_tiny_grid_is_trained(repository, params, monkeypatch):
    """Two of its four rates end in a network, the others in a loss that is not finite."""
    monkeypatch.setenv("GHOSTLIB_WORKERS", "1")  # another would import PyTorch first
    params["experiments"] = {"first": {"rows": {"plain": PLAIN}, "columns": {"all": {"epochs": 1}}}}
    params["profiles"]["tiny"]["tune"] = {"seeds": [7], "rates": [10, 20, 1e30, 1e31]}
    write_params(".", params)
    found = rates.read("tiny").set_index("lr_scale")["val_top1"]
    assert found.loc[[10, 20]].between(0, 100).all() and found.loc[[1e30, 1e31]].isna().all()
    assert found.idxmax() == rates.chosen(rates.read("tiny"))["lr_scale"].item() < 1e30


# -- choosing


def test_the_best_has_the_highest_mean_whatever_single_seeds_say():
    best = rates.chosen(trained(b={1: [50, 52], 2: [70, 60], 4: [99, 0], 8: [60, 60]}, a={1: [1], 2: [3], 4: [2]}))
    assert list(best.index) == ["b", "a"]
    assert best.loc["b"].to_dict() == {"lr_scale": 2, "val_top1": 65, "sd": pytest.approx(7.0711, abs=1e-4),
                                       "at_edge": False}
    assert best.loc["a", "lr_scale"] == 2 and pd.isna(best.loc["a", "sd"])


@pytest.mark.parametrize(("of_rates", "rate", "at_edge"), [
    ({1: [5], 2: [7], 4: [7], 8: [6]}, 2, False), ({8: [7], 4: [7], 2: [7], 1: [0]}, 2, False),
    ({1: [0.1, 0.2, 0.3], 2: [0.3, 0.2, 0.1], 4: [0, 0, 0]}, 1, True), ({1: [1], 2: [2], 4: [3]}, 4, True)])
def test_of_equal_means_the_lower_rate_is_best_and_an_edge_is_told(of_rates, rate, at_edge):
    best = rates.chosen(trained(kind=of_rates)).loc["kind"]
    assert (best["lr_scale"], best["at_edge"]) == (rate, at_edge)


def test_a_rate_that_diverged_with_one_seed_is_not_chosen_and_bounds_the_grid():
    best = rates.chosen(trained(some={1: [1, 1], 2: [2, 2], 4: [9, None]}, all={1: [None, 1], 2: [None, None]}))
    assert list(best.index) == ["some"] and best.loc["some", "lr_scale"] == 2 and not best.loc["some", "at_edge"]


def test_what_is_chosen_stands_beside_what_is_frozen(params):
    profile = load_profile("tiny", params).model_copy(update={"rates": {"a": 2.0}})
    table = rates.beside_frozen(trained(b={1: [None], 0.5: [None]}, a={1: [1], 2.5: [3], 4: [2]}), profile)
    assert table["tried"].to_dict() == {"b": "0.5, 1", "a": "1, 2.5, 4"}
    assert table.loc["a", ["lr_scale", "frozen"]].to_list() == [2.5, 2.0]
    assert table.loc["b", ["lr_scale", "frozen"]].isna().all()

"""Stored runs beside the profiles that ask for them, and the two commands on a fake store."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ghostlib import cli, reproduction
from ghostlib.config import ConfigError
from ghostlib.measures import places
from ghostlib.plan.plan import make
from ghostlib.plan.wanted import askers
from ghostlib.runs.listing import stored
from ghostlib.runs.store import Store
from ghostlib.training.profile import load_params, load_profile
from tests.params import write_params


@pytest.fixture
def repository(tmp_path, monkeypatch, params, finish) -> Store:
    """A finished teacher, a finished run, an unfinished one, and one of a recipe that nothing asks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / ".runs"))
    del params["profiles"]["large"]
    write_params(".", params)
    store = Store()
    teacher, _, run, begun, *_ = (one.job for one in make("tiny", load_params(), store).trainings)
    stale = type(run)(run.recipe.model_copy(update={"lr": 0.1}), run.profile, 0, "an old one")
    for job in (teacher, run, begun, stale):
        finish(job, store)
    (store.folder(begun) / "metrics.json").unlink()
    store.jobs = {"teacher": teacher, "run": run, "begun": begun, "stale": stale}
    return store


def invoke(*arguments, status: int = 0, answer: str = "") -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=answer, catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.stdout


def keys(store: Store) -> set[str]:
    return {name for name, job in store.jobs.items() if store.folder(job).exists()}


def test_a_run_that_no_profile_asks_for_is_stale(repository):
    lines = {line.split()[0]: line for line in invoke("runs").splitlines()[2:-2]}
    of = {name: lines[job.key] for name, job in repository.jobs.items()}
    assert [name for name, line in of.items() if "stale" in line] == ["stale"]
    assert "tiny" in of["run"] and "unfinished" in of["begun"] and "9" in of["teacher"]
    assert invoke("runs").splitlines()[-1].endswith("MB: 3 ended, 1 stale.")


def test_a_profile_s_runs_are_those_it_asks_for_or_was_trained_for(repository, params):
    params["profiles"]["other"] = params["profiles"]["tiny"] | {"width_scale": 0.2}
    write_params(".", params)
    assert invoke("runs", "tiny").splitlines()[-1].startswith("4 runs, ")
    assert invoke("runs", "other").splitlines()[-1].startswith("0 runs, ")
    with pytest.raises(ConfigError, match="unknown profile 'tony'"):
        invoke("runs", "tony")


@pytest.mark.parametrize(("words", "left"), [
    (["stale"], {"teacher", "run", "begun"}), (["unfinished"], {"teacher", "run", "stale"}),
    (["stale", "unfinished"], {"teacher", "run"}), (["run"], {"teacher", "begun", "stale"})])
def test_what_is_named_is_removed(repository, words, left):
    named = [repository.jobs[word].key if word in repository.jobs and word != "stale" else word for word in words]
    options = [option for word in named for option in ("--clear", word)]
    invoke("runs", *options, answer="n\n")
    assert keys(repository) == set(repository.jobs), "whoever says no keeps all"
    assert f"{4 - len(left)} removed" in invoke("runs", *options, "--yes")
    assert keys(repository) == left


def test_a_run_that_is_not_there_cannot_be_removed(repository):
    with pytest.raises(ConfigError, match="no such run: 'stail'; did you mean 'stale'"):
        invoke("runs", "--clear", "stail")


def test_another_store_s_runs_are_copied_and_listed(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / "new"))
    told = invoke("runs", "--adopt", tmp_path / ".runs")
    assert "3 runs copied" in told and "3 runs, " in told
    assert "0 runs copied" in invoke("runs", "--adopt", tmp_path / ".runs") and len(stored(Store())) == 3


def test_runs_are_read_without_their_images(repository, monkeypatch):
    monkeypatch.setattr("ghostlib.training.datasets.load", lambda profile: pytest.fail("reads them"))
    assert askers(stored(repository), load_params())[repository.jobs["run"].key] == ["tiny"]


def test_a_plan_is_printed_and_checked(repository, params, monkeypatch):
    monkeypatch.setattr(reproduction, "check_settings", lambda name: None)
    assert "rates has no rate for 'ghostnetv2, lamb'" in invoke("plan", "--untimed", "--check", status=1)
    given = load_profile("tiny", load_params()).resolve().lr_scale  # the same, so that keys stay
    params["profiles"]["tiny"]["rates"] = {"ghostnetv2, lamb": given, "ghostnetv2, lamb, branches, teacher": given}
    write_params(".", params)
    assert "14 trainings wanted, 2 finished, 12 left." in invoke("plan", "--untimed")
    invoke("plan", "tiny", "--untimed", "--check")
    monkeypatch.setattr("ghostlib.plan.missing.of_trainings", lambda profile, left: ["a teacher"])
    assert invoke("plan", "tiny", "--untimed").endswith("- a teacher\n")
    assert invoke("plan", "tiny", "--untimed", "--check", status=1).endswith("- a teacher\n")


def test_a_plan_s_settings_are_checked_first(repository, params, monkeypatch):
    params["profiles"]["tiny"]["rates"] = {"ghostnetv9": 1}
    write_params(".", params)
    with pytest.raises(ConfigError, match="no recipe is of the kind 'ghostnetv9'"):
        invoke("plan", "tiny", "--untimed")
    assert not places.rates_file("tiny").exists()

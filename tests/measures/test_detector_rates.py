"""The detectors' learning rate: what is trained, what is written, which is best, and that it is frozen."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from ghostlib.config import ConfigError
from ghostlib.detection.run import runs, trials
from ghostlib.detection.scale import Scale
from ghostlib.exhibits import detection as exhibit
from ghostlib.files import write_atomic
from ghostlib.measures import detector_rates, detectors, places
from ghostlib.models import catalog
from ghostlib.reproduction import show_rates
from ghostlib.runs import engines
from ghostlib.training.profile import load_params
from tests.detection.conftest import TINY
from tests.params import write_params

TUNE = {"seeds": [8, 9], "rates": [0.002, 0.004, 0.00815, 1e30]}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def params():
    """The project's own, where digits has five scenes and chooses its rate."""
    params = load_params(ROOT / "params.yaml")
    digits = params["detection"]["scales"]["digits"]
    digits["scenes"] |= {"train": 2, "val": 5}
    digits["tune"] = TUNE
    return params


@pytest.fixture
def repository(tmp_path, monkeypatch, params):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / ".runs"))
    write_params(".", params)
    return tmp_path


@pytest.fixture
def pretended(monkeypatch):
    """Pretends to train, at the last rate as if the loss had become infinite; the labels of what was asked for."""
    asked = []

    def train(jobs, store, title):
        asked.extend(job.label for job in jobs)
        for job in jobs:
            folder, lr = store.folder(job), job.scale.lr
            write_atomic(folder / "cost.json", json.dumps({"seconds": 1.5, "device": "a CPU", "date": "2026-01-02"}))
            if lr == 1e30:
                write_atomic(folder / "diverged.txt", "the loss is inf")
                continue
            metrics = {"mAP": job.seed + 1000 * lr, "AP50": 50.0}
            write_atomic(folder / "metrics.json", json.dumps({"trained": metrics, "untrained": {}, "history": []}))

    monkeypatch.setattr(detectors, "train", train)
    return asked


def trained(**backbones) -> pd.DataFrame:
    """Made up: backbone -> rate -> the mAP of each seed."""
    return pd.DataFrame([(backbone, rate, seed, score) for backbone, of_rates in backbones.items()
                         for rate, of_seeds in of_rates.items() for seed, score in enumerate(of_seeds)],
                        columns=["backbone", "rate", "seed", "mAP"])


# -- training


def test_every_backbone_is_trained_at_every_rate_with_every_seed_and_a_rate_may_diverge(repository, pretended):
    found = detector_rates.read("digits")
    assert len(set(pretended)) == len(found) == 4 * 4 * 2
    assert pretended[0] == "rates (MobileNetV2 @320), lr 0.002, seed 8"
    assert list(found.columns) == detector_rates.COLUMNS and found["settings"].is_unique
    assert set(found["rate"]) == set(TUNE["rates"]), "a rate comes back as it was"
    ended = found[found["rate"] < 1]
    assert ended["mAP"].to_numpy() == pytest.approx((ended["seed"] + 1000 * ended["rate"]).to_numpy())
    assert found.loc[found["rate"] == 1e30, "mAP"].isna().all()
    assert not set(found["run"]) & {run.key for run in runs("digits")}
    costs = places.read_csv(places.costs_file("digits", "detector_rates"))
    assert set(costs["run"]) == set(found["run"]) and set(costs["kind"]) == {"detector"}
    detector_rates.read("digits")
    assert len(pretended) == 32, "what is measured is not measured again"
    rows = [line[1:-1].split("|") for line in exhibit.rate("digits").splitlines() if line.startswith("|")]
    header, _, *rates = ([cell.strip() for cell in row] for row in rows)
    assert header[0] == "rate" and header[-3:] == ["mean", "best", "in experiments.yaml"] and len(header) == 4 + 4
    assert [row[0] for row in rates] == ["0.002", "0.004", "0.00815", "1e+30"]
    assert [row[header.index("mean")] for row in rates] == ["10.5", "12.5", "16.6", "—"]  # seeds 8 and 9
    assert [row[header.index("best")] for row in rates] == ["", "", "yes", ""]


def test_what_the_file_lacks(repository, params, pretended):
    def lacking():
        write_params(".", params)
        return detector_rates.lacking("digits")

    assert lacking() == "does not exist"
    with pytest.raises(ConfigError, match=r"detectors\.csv does not exist; run `ghostlib measure detector_rates d"):
        detector_rates.measured("digits")
    detector_rates.measure("digits")
    params["detection"]["scales"]["digits"]["lr"] = 0.004
    assert lacking() == "", "what is frozen asks for no other trainings"
    params["profiles"]["digits"]["rates"] = {"ghostnetv1, rmsproptf": 3}
    assert lacking() == "does not hold what params.yaml and experiments.yaml ask for", "a backbone is another one"
    del params["profiles"]["digits"]["rates"]
    assert lacking() == ""
    params["detection"]["scales"]["digits"]["tune"] = TUNE | {"seeds": [8]}
    assert lacking() == "does not hold what params.yaml and experiments.yaml ask for"


def test_a_profile_that_chooses_none_trains_nothing_and_writes_an_empty_file(repository, params, monkeypatch):
    monkeypatch.setattr(engines, "run", lambda *jobs, **options: pytest.fail("trains"))
    del params["detection"]["scales"]["digits"]["tune"]
    write_params(".", params)
    assert detector_rates.read("digits").empty and detector_rates.measured("digits")[1].empty
    assert exhibit.rate("digits").startswith(detector_rates.given("digits"))
    assert places.detector_rates_file("digits").read_text() == ",".join(detector_rates.COLUMNS) + "\n"


def test_a_tiny_detector_is_trained_and_evaluated_on_validation_scenes(repository, tiny, monkeypatch):
    """Of one backbone at the first of its rates; at the others it is said to have diverged."""
    monkeypatch.setattr(catalog, "_BACKBONES", {"GhostNetV2 1.0×": "ghostnetv2_100"})
    scale = TINY.model_dump(mode="json", exclude={"tune", "lr", "part", "seeds"})
    scale["options"]["train_cfg.max_epochs"] = 1
    write_params(".", {
        "profile": "tiny", "recipe": {"weight_decay": 0.05}, "experiments": {"none": {"rows": {"": {}}}},
        "profiles": {"tiny": tiny.model_dump(exclude={"name", "base"}, mode="json")},
        "detection": {"backbones": {"ghostnetv2_100": {"branches": 0, "teacher": None, "epochs": 1}},
                      "scales": {"tiny": scale | {"tune": {"seeds": [7], "rates": [0.001, 0.002, 0.004, 0.008]}}}}})

    def run(jobs, store=None, title=""):
        store.ensure(jobs[0])
        for job in jobs[1:]:
            write_atomic(store.folder(job) / "diverged.txt", "the loss is inf")

    monkeypatch.setattr(engines, "run", run)
    found = detector_rates.read("tiny").set_index("rate")["mAP"]
    assert 0 <= found[0.001] <= 100 and found.isna().sum() == 3
    text = Path(".runs", trials("tiny")[0].key, "config.py").read_text()
    assert "annotations/tune.json" in text and "annotations/val.json" not in text


# -- choosing


def test_the_best_has_the_highest_mean_over_the_backbones_whatever_one_of_them_says():
    of_two = trained(b={0.1: [50, 60], 0.2: [70, 72], 0.4: [10, 10]}, a={0.1: [30, 30], 0.2: [31, 31], 0.4: [60, 70]})
    assert detector_rates.scores(of_two).to_dict("list") == {"b": [55, 71, 10], "a": [30, 31, 65]}
    assert list(detector_rates.scores(of_two)) == ["b", "a"] and detector_rates.chosen(of_two) == 0.2


@pytest.mark.parametrize(("of_rates", "rate"), [
    ({0.1: [5], 0.2: [7], 0.4: [7]}, 0.2), ({0.4: [7], 0.2: [7], 0.1: [0]}, 0.2),
    ({0.1: [0.1, 0.2, 0.3], 0.2: [0.3, 0.2, 0.1]}, 0.1), ({0.1: [1, 1], 0.2: [9, None]}, 0.1), ({0.1: [None]}, None)])
def test_of_equal_means_the_lower_rate_is_best_and_one_that_diverged_is_not(of_rates, rate):
    assert detector_rates.chosen(trained(a=of_rates, b=dict.fromkeys(of_rates, [1]))) == rate


def test_a_table_shows_what_is_best_and_what_is_used():
    table = detector_rates.table(trained(b={0.1: [1], 0.2: [4]}, a={0.1: [2], 0.2: [None]}), Scale(scale="", lr=0.2))
    assert list(table) == ["rate", "b", "a", "mean", "best", "frozen"]
    assert list(table["best"]) == [True, False] and list(table["frozen"]) == [False, True]
    assert table.loc[0, "mean"] == 1.5 and pd.isna(table.loc[1, "mean"])


# -- freezing


def test_the_best_is_frozen_and_detectors_have_it(repository, pretended, capsys):
    detector_rates.measure("digits")
    before, keys = Path("experiments.yaml").read_text(), {run.key for run in runs("digits")}
    show_rates("digits", freeze=False, detectors=True)
    assert Path("experiments.yaml").read_text() == before
    show_rates("digits", freeze=True, detectors=True)
    assert "| 0.00815 |" in capsys.readouterr().out
    assert Path("experiments.yaml").read_text().replace("      lr: 0.00815\n", "") == before
    assert {run.scale.lr for run in runs("digits")} == {0.00815} and not {run.key for run in runs("digits")} & keys
    assert {run.scale.part for run in runs("digits")} == {None}


def test_what_was_not_chosen_is_not_frozen(repository, params, monkeypatch):
    monkeypatch.setattr(detector_rates, "lacking", lambda profile: "")
    places.write_csv(trained(a={0.002: [None]}), places.detector_rates_file("digits"))
    before = Path("experiments.yaml").read_text()
    with pytest.raises(ConfigError, match=r"every rate a detector diverged; give detection\.scales\.digits\.tune\.ra"):
        show_rates("digits", freeze=True, detectors=True)
    assert Path("experiments.yaml").read_text() == before
    del params["detection"]["scales"]["digits"]["tune"]
    write_params(".", params)
    with pytest.raises(ConfigError, match="it was not chosen on validation scenes. There is nothing to freeze"):
        show_rates("digits", freeze=True, detectors=True)

"""Table 10's measured files: what is written, when it is measured again, and that data is looked for first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image

from ghostlib.config import ConfigError
from ghostlib.detection.run import runs
from ghostlib.detection.scale import Scale
from ghostlib.experiments import COLUMNS
from ghostlib.measures import detectors, places
from ghostlib.mmdet.coco import DetectionError
from ghostlib.runs import engines
from ghostlib.runs.store import Store, StoreError
from ghostlib.training.profile import load_params
from tests.params import write_params

SIZES = {"mAP": 12.5, "AP50": 30.0, "AP75": 5.0, "AP small": None, "AP medium": 12.5, "AP large": None}
METRICS = {"trained": SIZES, "untrained": {name: value and 0.0 for name, value in SIZES.items()},
           "history": [{"epoch": 1, "loss": 20.5}, {"epoch": 2, "loss": 10.25}]}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a params.yaml of five scenes, a run store with results of every run, and what was measured."""
    folder, patch = tmp_path_factory.mktemp("measured"), pytest.MonkeyPatch()
    values = load_params()
    values["detection"]["scales"]["digits"]["scenes"] |= {"train": 2, "val": 5}
    write_params(folder, values)
    with patch.context() as here:
        here.chdir(folder)
        here.setenv("GHOSTLIB_RUNS", str(folder / "runs"))
        pretend_to_train("digits")
        detectors.measure("digits")
    return folder


@pytest.fixture
def here(measured, tmp_path, monkeypatch):
    """Its own copy of what was measured, to work in; measuring again is only noted."""
    shutil.copytree(measured / "results", tmp_path / "here" / "results")
    for file in measured.glob("*.yaml"):
        shutil.copy(file, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    asked = []
    monkeypatch.setattr(detectors, "measure", asked.append)
    return SimpleNamespace(measures=asked)


def pretend_to_train(profile: str) -> None:
    """Puts results of every run into the store, and of what it requires, so that nothing is trained."""
    store = Store()
    for run in runs(profile):
        first = {"image_id": 1, "category_id": 4, "bbox": [1.0, 2.0, 30.0, 40.126], "score": 0.1}
        found = [first, {**first, "category_id": 3, "score": 0.9}, {**first, "image_id": 99}]
        for job, cost in ((run, 2.0), (run.backbone, 1.0), *((teacher, 1.0) for teacher in run.backbone.requires)):
            store.folder(job).mkdir(parents=True, exist_ok=True)
            (store.folder(job) / "cost.json").write_text(
                json.dumps({"seconds": cost, "device": "a processor", "date": "2026-01-01"}))
            (store.folder(job) / "metrics.json").write_text(json.dumps(METRICS))
        (store.folder(run) / "detections.bbox.json").write_text(json.dumps(found))


def test_results_curves_and_costs_are_of_every_row(here):
    results, rows = detectors.read("digits"), [run.row for run in runs("digits")]
    assert list(results.columns) == COLUMNS and len(results) == 8 * 12
    assert list(results["row"].unique()) == rows and set(results["column"]) == {"mAP"}
    by_metric = results[results["row"] == rows[0]].set_index("metric")["value"]
    assert by_metric["mAP"] == 12.5 and by_metric["untrained AP50"] == 0 and pd.isna(by_metric["AP small"])

    curves = detectors.read_curves("digits")
    assert list(curves.columns) == ["experiment", "row", "column", "seed", "epoch", "loss"]
    assert list(curves["loss"]) == [20.5, 10.25] * 8 and set(curves["experiment"]) == {"table_10"}

    costs = places.read_csv(places.costs_file("digits", "detectors"))
    assert list(costs.columns) == ["run", "kind", "seconds", "device", "date"]
    # Four backbones, each at two resolutions.
    assert costs["kind"].value_counts().to_dict() == {"detector": 8, "backbone": 4} and costs["run"].is_unique


def test_detections_are_those_of_the_first_images_with_objects_at_the_higher_resolution(here):
    folder = detectors.read_detections("digits")
    images = json.loads((folder / "detections.json").read_text())["images"]
    assert [image["file"] for image in images] == ["1.png", "2.png", "3.png"]
    assert {path.name for path in folder.iterdir()} == {"1.png", "2.png", "3.png", "detections.json"}
    first = images[0]
    with Image.open(folder / "1.png") as pixels:
        assert pixels.size == (112, 112)
    assert list(first["detections"]) == [run.row for run in runs("digits") if run.side == 416]
    assert first["detections"]["GhostNetV3 1.0× @416"] == [  # the most certain first, of this image alone
        {"category": "2", "bbox": [1.0, 2.0, 30.0, 40.13], "score": 0.9},
        {"category": "3", "bbox": [1.0, 2.0, 30.0, 40.13], "score": 0.1}]
    assert first["objects"] and all(set(there) == {"category", "bbox"} for there in first["objects"])


def test_what_is_measured_is_read_and_what_params_yaml_no_longer_asks_for_is_measured_again(here):
    def change(key, value):
        params["detection"]["scales"]["digits"][key] = value
        write_params(".", params)
    params = load_params()
    change("scale", "other words")
    detectors.read("digits")
    assert here.measures == []
    change("resize", 0.4)
    detectors.read("digits")
    assert here.measures == ["digits"]


@pytest.mark.parametrize("path", [places.losses_file("digits", "table_10"),
                                  places.detections_folder("digits") / "detections.json"])
def test_a_file_that_is_missing_is_measured(here, path):
    path.unlink()
    detectors.read("digits")
    assert here.measures == ["digits"]


def test_reading_imports_neither_torch_nor_mmdetection(here):
    code = ("import sys; from ghostlib.measures import detectors as d; "
            "d.read('digits'), d.read_curves('digits'), d.read_detections('digits'); "
            "print([name for name in ('torch', 'mmdet', 'mmengine', 'sklearn') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_results_of_other_settings_are_refused_where_claims_are_judged(here):
    detectors.check("digits")
    values = load_params()
    values["detection"]["scales"]["digits"]["resize"] = 0.4
    write_params(".", values)
    with pytest.raises(ConfigError, match=r"table_10\.csv does not hold what .* measure it again \(`ghostlib measure "
                                          r"detectors digits`\), or remove it"):
        detectors.check("digits")
    places.runs_file("digits", "table_10").unlink()
    detectors.check("digits")


def test_where_every_detector_diverged_there_are_no_curves(measured, tmp_path, monkeypatch):
    monkeypatch.chdir(measured)
    places.write_csv(detectors.curves(runs("digits"), Store(tmp_path)), tmp_path / "losses.csv")
    assert list(places.read_csv(tmp_path / "losses.csv").columns)[-2:] == ["epoch", "loss"]


def test_a_backbone_without_its_weights_ends_all_before_anything_is_trained(tmp_path, measured, monkeypatch):
    """As `ghostlib runs --restore` leaves it, where a detector is wanted of it later."""
    monkeypatch.chdir(measured)
    store, (run, *_) = Store(tmp_path), runs("digits")
    store.folder(run.backbone).mkdir()
    (store.folder(run.backbone) / "metrics.json").write_text("{}")
    monkeypatch.setattr(engines, "run", None)
    with pytest.raises(StoreError, match=rf"{run.backbone.key}/ema\.safetensors is missing, from which .*; remove the"):
        detectors.train([run], store)


def test_missing_data_ends_all_before_anything_is_trained(measured, tmp_path, monkeypatch):
    monkeypatch.chdir(measured)
    store, on_coco = Store(tmp_path), [replace(run, scale=Scale(scale="COCO")) for run in runs("digits")]
    with pytest.raises(DetectionError, match="instances_train2017.json is missing"):
        detectors.train(on_coco, store)
    assert not list(store.root.glob("*/run.json"))

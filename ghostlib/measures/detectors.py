"""The trainings behind Table 10: the metrics of the detectors, their loss curves and costs, and what they detect."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError
from ghostlib.detection.run import DetectorRun, runs
from ghostlib.experiments import COLUMNS
from ghostlib.files import write_atomic
from ghostlib.measures import frozen, history, places
from ghostlib.measures.classifiers import settings_of
from ghostlib.training.profile import kind_of

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.runs.store import Store

EXPERIMENT, COLUMN = "table_10", "mAP"  # the paper's table and its column
CURVES = ["experiment", "row", "column", "seed", "epoch", "loss"]
UNTRAINED = "untrained "  # begins the name of a metric of the detector before its training
IMAGES = 3  # in the picture of detections


def measure(profile_name: str) -> None:
    """Trains every detector of the profile that is not in the run store, the backbones first; writes all.

    Raises:
        ConfigError: experiments.yaml has no such profile, or none of its detectors, or their rate is yet to be chosen.
        DetectionError: an annotation, image or category is missing; before anything is trained.
        GridError: after all the others have finished, with the log of each run that failed.
    """
    from ghostlib.runs.store import Store

    store, detectors = Store(), runs(profile_name)
    if why := frozen.lacking_detectors(detectors[0].scale, profile_name):
        raise ConfigError(why)
    train(detectors, store)
    places.write_csv(curves(detectors, store), places.losses_file(profile_name, EXPERIMENT))
    places.write_csv(costs(detectors, store), places.costs_file(profile_name, "detectors"))
    write_detections(detectors, store, places.detections_folder(profile_name))
    # Last what says which settings all are of: killed before, it is measured again.
    places.write_csv(results(detectors, store), places.runs_file(profile_name, EXPERIMENT))


def read(profile_name: str) -> pd.DataFrame:
    """The metrics (%) of every detector, with the columns `COLUMNS`; `untrained ...` are of it before its training."""
    _provide(profile_name)
    return places.read_csv(places.runs_file(profile_name, EXPERIMENT))


def read_curves(profile_name: str) -> pd.DataFrame:
    """The mean loss of an image, one row per detector, seed and epoch."""
    _provide(profile_name)
    return places.read_csv(places.losses_file(profile_name, EXPERIMENT))


def read_detections(profile_name: str) -> Path:
    """The folder with three images and detections.json, see `write_detections`."""
    _provide(profile_name)
    return places.detections_folder(profile_name)


def check(profile_name: str) -> None:
    """Sees that the detectors on file are of the settings of now.

    Raises:
        ConfigError: they are not. Some may have been measured before and some after a change.
    """
    path = places.runs_file(profile_name, EXPERIMENT)
    if path.exists() and (why := _lacking(profile_name)):
        raise ConfigError(f"{path} {why}; measure it again (`ghostlib measure detectors {profile_name}`), or remove "
                          "it: its claims then count as not attempted")


def train(detectors: list[DetectorRun], store: Store, title: str = "detectors") -> None:
    """Trains what is not in the store, after it has looked for all the data; see `measure` for errors."""
    from ghostlib.detection.configure import CLASSIFIER_WEIGHTS
    from ghostlib.mmdet.coco import check_data
    from ghostlib.runs import engines
    from ghostlib.runs.store import StoreError

    if why := frozen.lacking(detectors[0].profile, (kind_of(run.backbone.recipe) for run in detectors)):
        raise ConfigError(why)
    for run in detectors:
        weights = store.folder(run.backbone) / CLASSIFIER_WEIGHTS
        if store.metrics(run) is None and store.metrics(run.backbone) is not None and not weights.exists():
            raise StoreError(f"{weights} is missing, from which a detector starts; remove the folder {weights.parent}, "
                             "and the same command trains that run again")
    # The seeds of a row share their data, so one is checked. Scenes are drawn here, before several processes need them.
    for run in {run.row: run for run in detectors if store.metrics(run) is None}.values():
        check_data(run.config(store))
    engines.run(detectors, store=store, title=title)


def results(detectors: list[DetectorRun], store: Store) -> pd.DataFrame:
    """What is in the store, with the columns `COLUMNS`, one row per detector and metric."""
    import pandas as pd

    records = [(EXPERIMENT, run.row, COLUMN, run.seed, run.key, prefix + metric, value, run.data, settings(run))
               for run in detectors for prefix, part in (("", "trained"), (UNTRAINED, "untrained"))
               for metric, value in (store.metrics(run) or {"trained": {places.DIVERGED: 1}}).get(part, {}).items()]
    return pd.DataFrame(records, columns=COLUMNS)


def curves(detectors: list[DetectorRun], store: Store) -> pd.DataFrame:
    """The mean loss of an image, one row per detector and epoch."""
    return history.curves((({"experiment": EXPERIMENT, "row": run.row, "column": COLUMN, "seed": run.seed}, run)
                           for run in detectors), CURVES, store)


def costs(detectors: list[DetectorRun], store: Store) -> pd.DataFrame:
    """A row a training: of the detectors, and of the classifiers that they start from."""
    backbones = [("backbone", run.backbone) for run in detectors]
    return history.costs([*backbones, *(("detector", run) for run in detectors)], store)


def settings(run: DetectorRun) -> str:
    """The digest of all that params.yaml and experiments.yaml say about a detector; see `places.digest`."""
    return places.digest(run.scale.decides_results, settings_of(run.backbone.recipe, run.profile, run.seed))


def write_detections(detectors: list[DetectorRun], store: Store, folder: Path) -> None:
    """Writes the first images with objects, and what the detectors at the higher resolution find in them (first seed).

    detections.json says at which scale (`measured_at`) and holds a record for each image: its `file`; its `objects`,
    each with a `category` and a `bbox` (x, y, width, height in px); and `detections`, of each row the objects it found,
    the most certain first, with a `score`.
    """
    annotations, images = detectors[0].evaluated(store)
    truth = json.loads(annotations.read_text(encoding="utf-8"))
    categories = {category["id"]: category["name"] for category in truth["categories"]}
    side = max(run.side for run in detectors)
    found = {run.row: json.loads((store.folder(run) / "detections.bbox.json").read_text(encoding="utf-8"))
             for run in detectors if (run.side, run.seed) == (side, detectors[0].seed) and store.metrics(run)}
    with_objects = {annotation["image_id"] for annotation in truth["annotations"]}
    records = []
    for image in [image for image in truth["images"] if image["id"] in with_objects][:IMAGES]:
        file = f"{len(records) + 1}.png"
        write_atomic(folder / file, _png(images / image["file_name"]))
        records.append({"file": file, "objects": _boxes(truth["annotations"], image["id"], categories), "detections": {
            row: _boxes(boxes, image["id"], categories) for row, boxes in found.items()}})
    content = {"measured_at": detectors[0].scale.scale, "images": records}
    write_atomic(folder / "detections.json", json.dumps(content, indent=1, ensure_ascii=False))


def _png(image: Path) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    with Image.open(image) as pixels:
        pixels.convert("RGB").save(content, "PNG")
    return content.getvalue()


def _boxes(boxes: list[dict[str, Any]], image_id: int, categories: dict[int, str]) -> list[dict[str, Any]]:
    """The boxes in one image, the most certain first."""
    here = sorted((box for box in boxes if box["image_id"] == image_id), key=lambda box: -box.get("score", 0))
    return [{"category": categories[box["category_id"]], "bbox": [round(length, 2) for length in box["bbox"]],
             **({"score": round(box["score"], 4)} if "score" in box else {})} for box in here]


def _lacking(profile_name: str) -> str:
    wanted = [(run.row, COLUMN, settings(run)) for run in runs(profile_name)]
    return places.lacking(places.runs_file(profile_name, EXPERIMENT), wanted)


def _provide(profile_name: str) -> None:
    """Measures if the files do not answer params.yaml and experiments.yaml."""
    path, others = places.runs_file(profile_name, EXPERIMENT), [
        places.losses_file(profile_name, EXPERIMENT), places.detections_folder(profile_name) / "detections.json"]
    why, absent = _lacking(profile_name), [other for other in others if not other.exists()]
    if why or absent:
        places.announce(path if why else absent[0], why or "does not exist")
        measure(profile_name)

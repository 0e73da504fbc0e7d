"""A detector small enough to train in seconds."""

from __future__ import annotations

import shutil

import pytest

from ghostlib.detection.run import DetectorRun
from ghostlib.detection.scale import Scale
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.store import Store

LOADER = dict(batch_size=2, num_workers=0, persistent_workers=False)
TINY = Scale(
    scale="tiny", resize=0.3, without=("Expand", "MinIoURandomCrop", "RandomFlip", "PhotoMetricDistortion"),
    scenes=dict(train=4, val=2, side=96, sizes=(32, 48), objects=(1, 2)),
    options={"train_cfg.max_epochs": 3, "train_dataloader": LOADER, "val_dataloader": LOADER,
             "param_scheduler": [dict(type="MultiStepLR", by_epoch=True, milestones=[1], gamma=0.1)]})


@pytest.fixture(scope="session")
def tiny_run(tiny) -> DetectorRun:
    """GhostNetV3 at width 0.1 on four scenes, three epochs of two steps, from a classifier of one epoch."""
    recipe = tiny.resolve({"teacher": None, "epochs": 1})
    return DetectorRun("GhostNetV3 1.0× @320", "ghostnetv3_100", 320, TINY, ClassifierRun(recipe, tiny, 0).canonical,
                       "table_10 (GhostNetV3 1.0× @320), seed 0")


@pytest.fixture(scope="session")
def finished(tiny_run, tmp_path_factory) -> Store:
    """A store where the run was trained without an interruption."""
    store = Store(tmp_path_factory.mktemp("finished"))
    store.ensure(tiny_run)
    return store


@pytest.fixture
def store(finished, tiny_run, tmp_path) -> Store:
    """A store with the backbone alone."""
    store = Store(tmp_path / "runs")
    shutil.copytree(finished.folder(tiny_run.backbone), store.folder(tiny_run.backbone))
    return store

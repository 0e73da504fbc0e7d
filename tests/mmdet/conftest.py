"""MMDetection's registries as its runner leaves them, and four scenes to train on."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope

import ghostlib.mmdet  # noqa: F401  (before any test imports mmcv.ops)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    init_default_scope("mmdet")  # as MMEngine's runner does before it builds a detector


@pytest.fixture(scope="session")
def data_set(tmp_path_factory):
    """The folder of four scenes of digits to train on, and two to evaluate on."""
    # Here, so that the tests without a training need no more than the library and MMDetection.
    from ghostlib.detection import scenes
    from ghostlib.detection.layout import Layout
    from ghostlib.training.profile import Profile

    digits = Profile.parse(dict(name="digits", scale="digits", data="digits", num_classes=10, image_size=33,
                                val_images=140, crop_pct=1.0))
    layout = Layout(train=4, val=2, side=96, sizes=(24, 48))
    return scenes.write(digits, layout, tmp_path_factory.mktemp("scenes"))

"""The configurations of Table 10: MMDetection's own, and of each row only what differs."""

from __future__ import annotations

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

from ghostlib.mmdet import GhostBackbone  # noqa: F401 (registers it)
from ghostlib.models import catalog
from tests.mmdet.detectors import CONFIGS, THEIRS, branches


def without_scopes(content):
    """A configuration without the registries that MMEngine notes in what it inherits from an installed package."""
    if isinstance(content, dict):
        return {key: without_scopes(value) for key, value in content.items() if key != "_scope_"}
    return [without_scopes(value) for value in content] if isinstance(content, list) else content


@pytest.mark.parametrize(("row", "arch", "side"), [(row, *backbone) for row, backbone in catalog.backbones().items()])
def test_every_row_of_table_10_has_a_configuration_that_states_only_what_differs(row, arch, side):
    ours = Config.fromfile(CONFIGS / f"yolov3_{arch}_{side}.py")
    theirs = Config.fromfile(THEIRS / "yolo" / f"yolov3_mobilenetv2_8xb24-{'ms-' * (side == 416)}{side}-300e_coco.py")
    stated = set(ours.to_dict()) - set(theirs.to_dict())
    assert stated <= {"custom_imports", "custom_hooks"} and ours.custom_imports["imports"] == ["ghostlib.mmdet"]
    if arch != "mobilenetv2_100":
        assert ours.model.backbone.arch == arch
        built = MODELS.build(ours.model.backbone)
        assert ours.model.neck.in_channels == list(built.channels[::-1]) and built.strides == (8, 16, 32)
        assert ("custom_hooks" in ours) == (branches(built) > 0)
        ours.model.backbone, ours.model.neck.in_channels = theirs.model.backbone, theirs.model.neck.in_channels
    inherited = {key: value for key, value in ours.to_dict().items() if key not in stated}
    assert without_scopes(inherited) == without_scopes(theirs.to_dict())
    assert ours.test_pipeline[1].scale == (side, side)


def test_no_configuration_is_without_a_row():
    names = {f"yolov3_{arch}_{side}" for arch, side in catalog.backbones().values()}
    assert {path.stem for path in CONFIGS.glob("*.py")} == names

"""The stand-in for MMCV's compiled operators: nms is MMCV's, the rest says what to do, a compiled MMCV goes first."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from ghostlib.mmdet import nms
from ghostlib.mmdet.nms import EXTENSION, StandIn


def reference(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """Greedy suppression, a pair at a time."""
    def area(x1, y1, x2, y2):
        return max(0.0, x2 - x1 + offset) * max(0.0, y2 - y1 + offset)

    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        overlaps = []
        for j in kept:
            shared = area(*np.maximum(boxes[i, :2], boxes[j, :2]), *np.minimum(boxes[i, 2:], boxes[j, 2:]))
            overlaps.append(shared / (area(*boxes[i]) + area(*boxes[j]) - shared))
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(int(i))
    return kept


def some_boxes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 30, (n, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 12, (n, 2))], axis=1)
    return torch.tensor(boxes), torch.tensor(random.permutation(n) / n)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.2, 0.45, 0.7])
def test_nms_keeps_what_greedy_suppression_keeps(threshold, offset):
    boxes, scores = some_boxes(120)
    kept = StandIn.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    assert kept.tolist() == reference(boxes.numpy(), scores.numpy(), threshold, offset)
    assert len(kept) < 120


def test_the_offset_decides_where_a_pixel_does():
    # Between the corners they share 2 of 4, with the last pixels counted in 3 of 5.
    boxes, scores = torch.tensor([[0.0, 0, 3, 9], [1, 0, 4, 9]]), torch.tensor([0.9, 0.8])
    assert StandIn.nms(boxes, scores, iou_threshold=0.55, offset=0).tolist() == [0, 1]
    assert StandIn.nms(boxes, scores, iou_threshold=0.55, offset=1).tolist() == [0]
    assert boxes[0].tolist() == [0, 0, 3, 9]


def test_no_boxes_are_no_boxes():
    kept = StandIn.nms(torch.zeros(0, 4), torch.zeros(0), iou_threshold=0.5, offset=0)
    assert kept.shape == (0,) and kept.dtype == torch.int64


def test_every_other_operator_is_there_and_says_when_called_what_to_do():
    stand_in = StandIn()
    assert all(hasattr(stand_in, name) for name in ("softnms", "deform_conv_forward", "sigmoid_focal_loss_forward"))
    with pytest.raises(NotImplementedError, match="'roi_align_forward' is compiled code.*Install MMCV with its operat"):
        stand_in.roi_align_forward(torch.zeros(1), aligned=True)


def test_the_stand_in_answers_python_as_a_module_without_a_file():
    assert not hasattr(StandIn(), "__file__") and not hasattr(StandIn(), "__path__")
    assert StandIn().__spec__.loader is None


@pytest.fixture
def mmcv(monkeypatch, tmp_path):
    """An MMCV without compiled operators; a folder of its own that a test may put some into."""
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmcv"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    for name in ("mmcv", EXTENSION):
        sys.modules.pop(name, None)


def test_the_stand_in_is_found_as_mmcvs_own_module(mmcv):
    nms.install()
    module = importlib.import_module(EXTENSION)
    assert isinstance(module, StandIn)
    nms.install()
    assert importlib.import_module(EXTENSION) is module
    # MMCV's own question whether it was compiled is answered truly.
    assert importlib.util.find_spec(EXTENSION).loader is None


def test_a_compiled_mmcv_goes_first(mmcv):
    (mmcv / "_ext.py").write_text("def nms(): ...")
    nms.install()
    module = importlib.import_module(EXTENSION)
    assert type(module) is ModuleType and module.__file__ == str(mmcv / "_ext.py")


def test_without_mmcv_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    with pytest.raises(ModuleNotFoundError):
        nms.install()


def test_a_script_runs_as_python_runs_it_with_the_stand_in_there(mmcv, tmp_path, monkeypatch, capsys):
    script = tmp_path / "tools" / "tool.py"
    script.parent.mkdir()
    (script.parent / "beside.py").write_text("name = 'beside'")
    script.write_text("import sys, mmcv._ext, beside\n"
                      "print(__name__, sys.argv[1:], beside.name, type(sys.modules['mmcv._ext']).__name__)")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    nms.run_script([str(script), "config.py", "--amp"])
    assert capsys.readouterr().out.strip() == "__main__ ['config.py', '--amp'] beside StandIn"


def test_a_script_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="tools/nothing.py does not exist; name a script"):
        nms.run_script(["tools/nothing.py"])


# -- MMCV's own functions on it


@pytest.fixture
def ops():
    nms.install()
    return importlib.import_module("mmcv.ops")


@pytest.mark.parametrize("offset", [0, 1])
def test_mmcvs_nms_sorts_filters_and_limits(ops, offset):
    boxes, scores = some_boxes(120)
    kept = reference(boxes.numpy(), scores.numpy(), 0.45, offset)
    detections, indices = ops.nms(boxes.float(), scores.float(), 0.45, offset=offset, score_threshold=0.3, max_num=20)
    expected = [i for i in kept if scores[i] > 0.3][:20]
    assert indices.tolist() == expected and detections.shape == (20, 5)


def test_mmcvs_batched_nms_suppresses_within_a_class_only(ops):
    boxes, scores = some_boxes(120)
    classes = torch.arange(120) % 3
    _, kept = ops.batched_nms(boxes.float(), scores.float(), classes, dict(type="nms", iou_threshold=0.45))
    expected = [members[i].item() for members in (torch.where(classes == one)[0] for one in range(3))
                for i in reference(boxes[members].numpy(), scores[members].numpy(), 0.45, 0)]
    assert sorted(kept.tolist()) == sorted(expected)
    assert scores[kept].diff().max() <= 0

"""Every network of the zoo as a backbone of MMDetection's detectors, and its folding.

    custom_imports = dict(imports=["ghostlib.mmdet"], allow_failed_imports=False)
    custom_hooks = [dict(type="FoldHook")]
    model = dict(
        backbone=dict(_delete_=True, type="GhostBackbone", arch="ghostnetv3_100", out_indices=(2, 3, 4)),
        neck=dict(in_channels=[160, 112, 40]))

or begin with one of the configurations of Table 10 that come with this package:

    _base_ = __import__("ghostlib.mmdet").mmdet.config_file("yolov3_ghostnetv3_100_320")

The channels to write there: `zoo.features("ghostnetv3_100").feature_info.channels()`, or a backbone's `.channels`.

For MMDetection 3 with MMCV 2, compiled or not (see `stand_in.py`), the original packages or the onedl forks.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch

from ghostlib.machine import require
from ghostlib.mmdet import stand_in

require("mmdet-onedl", "mmengine", "mmcv", "mmdet")
stand_in.install()  # before MMDetection's models, which import MMCV's operators

from mmdet.models.dense_heads import SSDHead  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402
from mmengine.runner import checkpoint as checkpoints  # noqa: E402

from ghostlib.mmdet.backbone import GhostBackbone  # noqa: E402
from ghostlib.mmdet.hooks import AtomicBackend, CheckDataHook, FoldHook, fold  # noqa: E402

__all__ = ["AtomicBackend", "CheckDataHook", "FoldHook", "GhostBackbone", "config_file", "fold"]

# MMEngine's checkpoints hold its record of the losses, which PyTorch reads since 2.6 only if these names are declared
# harmless (older ones without add_safe_globals read them anyway). The onedl fork declares them while it reads (and
# where that fails it unpickles anything, so never give MMEngine a checkpoint from strangers); the original does not,
# and could not resume.
if hasattr(torch.serialization, "add_safe_globals") and not hasattr(checkpoints, "get_torch_safe_globals"):
    multiarray = importlib.import_module("numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray")
    torch.serialization.add_safe_globals([
        HistoryBuffer, getattr, multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype,
        *(type(np.dtype(kind)) for kind in ("float64", "int64", "uint32"))])
# In MMDetection 3.1 to 3.5 the detection of SSD and SSDLite looks for a loss that their head does not have
# (open-mmlab/mmdetection, issue 11063).
if not hasattr(SSDHead, "loss_cls"):
    SSDHead.loss_cls = None


def config_file(name: str) -> str:
    """The path of a configuration in this package, e.g. "yolov3_ghostnetv3_100_416", for `_base_` or `Config.fromfile`.

    MMEngine's own `package::file` knows no packages but its own.

    Raises:
        FileNotFoundError: there is no such configuration; the message lists all.
    """
    folder = Path(__file__).parent / "configs"
    if not (file := folder / f"{name.removesuffix('.py')}.py").is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
        raise FileNotFoundError(f"no configuration {name!r}; there are {known}")
    return str(file)

"""What importing ghostlib.mmdet brings with it, and with which PyTorch and NumPy it works."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

import ghostlib.mmdet

# The original MMEngine, which does not declare what its checkpoints hold.
ORIGINAL = "import mmengine.runner.checkpoint as c; vars(c).pop('get_torch_safe_globals', None); "


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_it_brings_nothing_of_the_reproduction():
    code = ("import sys, ghostlib.mmdet; print(sorted(name for name in sys.modules if name == 'pydantic' or "
            "name.startswith(('ghostlib.training', 'ghostlib.detection', 'ghostlib.runs', 'ghostlib.config'))))")
    assert python(code) == "[]"


@pytest.mark.parametrize("missing", ["mmengine", "mmcv", "mmdet"])
def test_without_mmdetection_it_names_the_extra_that_brings_it(missing):
    code = (f"import sys; sys.modules[{missing!r}] = None\ntry: import ghostlib.mmdet\n"
            "except ModuleNotFoundError as error: print(error)")
    told = python(code)
    assert told.startswith("this needs mm") and missing in told and "pip install 'ghostlib[mmdet-onedl]'" in told


def test_it_imports_with_a_pytorch_that_knows_no_harmless_names(monkeypatch):
    """PyTorch 2.1 to 2.3."""
    monkeypatch.delattr(checkpoint, "get_torch_safe_globals", raising=False)
    monkeypatch.delattr(torch.serialization, "add_safe_globals", raising=False)
    importlib.reload(ghostlib.mmdet)


@pytest.mark.skipif(not hasattr(torch.serialization, "add_safe_globals"), reason="PyTorch before 2.4")
def test_pytorch_reads_the_checkpoints_of_the_original_mmengine(tmp_path):
    record = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"message_hub": {"loss": record}}, tmp_path / "epoch_1.pth")
    code = ("import torch, ghostlib.mmdet; read = torch.load({!r}, weights_only=True); "
            "print(read['message_hub']['loss'].mean())")
    assert python(ORIGINAL + code.format(str(tmp_path / "epoch_1.pth"))) == "1.5"

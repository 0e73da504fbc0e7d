"""The loop that docs/strategy.md prints for a network of one's own runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import timm
import torch

from ghostlib.models.rep_conv import RepConv

PAGE = Path(__file__).parents[2] / "docs" / "strategy.md"


def test_the_printed_loop_runs():
    (code,) = (block for block in re.findall(r"```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.S)
               if "WeightAverages" in block)
    torch.manual_seed(0)
    loader = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))] * 2
    scope = {"loader": loader, "teacher": timm.create_model("mobilenetv3_small_050", num_classes=10).eval()}
    exec(code.replace("epochs=100", "epochs=2"), scope)
    assert scope["steps"] == 4 and scope["step"] == 3 and scope["loss"].isfinite()
    assert not any(isinstance(module, RepConv) for module in scope["network"].modules())
    assert scope["network"](loader[0][0]).shape == (4, 10)
    assert scope["optimizer"].param_groups[0]["lr"] < scope["recipe"].effective_lr

"""MMCV without a compiler: a stand-in for the compiled module `mmcv._ext` with the one operator that YOLOv3, SSDLite
and RetinaNet detect with, nms.

    python -m ghostlib.mmdet.nms tools/test.py CONFIG CHECKPOINT  # any script of MMDetection's, with the stand-in there

`import ghostlib.mmdet`, and so a config with it among its `custom_imports`, puts the stand-in there, too. But a script
that imports MMDetection's models before it reads its config (MMDetection's test.py does) needs it earlier.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torchvision
from torch import Tensor

EXTENSION = "mmcv._ext"


class StandIn(ModuleType):
    """A module that has every operator MMCV may look for and can compute one of them."""

    def __init__(self):
        super().__init__(EXTENSION, "Stands in for MMCV's compiled operators; see ghostlib.mmdet.nms.")
        self.__spec__ = ModuleSpec(EXTENSION, loader=None)

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        """Non-maximum suppression as MMCV's own.

        Args:
            boxes: corners (x1, y1, x2, y2) in px, (N, 4).
            scores: (N,).
            iou_threshold: a box goes that overlaps a better one by more.
            offset: 0, or 1 where x2 and y2 are the last pixels inside, so that a width is x2 − x1 + 1.

        Returns:
            The indices of the boxes that stay, best first.
        """
        corners = boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes
        return torchvision.ops.nms(corners, scores, iou_threshold)

    def __getattr__(self, name: str) -> Any:
        # MMCV asks for all names at import; only Python's own questions (`__file__`, `__path__`) are to be answered no.
        if name.startswith("__"):
            raise AttributeError(name)

        def operator(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"MMCV's operator {name!r} is compiled code, and the MMCV installed here has none; ghostlib stands in "
                "for nms alone. Install MMCV with its operators: with a C++ compiler (nvcc too, for a GPU), "
                "`pip install --no-build-isolation --no-deps --force-reinstall --no-cache-dir --no-binary :all: "
                "PACKAGE`, where PACKAGE is mmcv==2.1.0 or onedl-mmcv, whichever is yours")

        return operator


def install() -> None:
    """Puts the stand-in where MMCV looks for its compiled module, unless that is there.

    Raises:
        ModuleNotFoundError: there is no MMCV at all.
    """
    if EXTENSION not in sys.modules and importlib.util.find_spec(EXTENSION) is None:
        sys.modules[EXTENSION] = StandIn()


def main(arguments: list[str]) -> None:
    """Runs a Python script with its arguments as `python SCRIPT ...` does, the stand-in in place."""
    if not arguments or not Path(arguments[0]).is_file():
        raise SystemExit(f"no such script: {arguments[0]}" if arguments else __doc__)
    install()
    script = arguments[0]
    sys.argv[:] = arguments
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])

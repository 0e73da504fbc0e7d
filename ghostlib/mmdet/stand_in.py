"""MMCV without a compiler: a stand-in for the compiled module `mmcv._ext` that has the operators of `ops.py`.

    ghostlib mmdet run tools/test.py CONFIG CHECKPOINT  # runs any script of MMDetection's with the stand-in

`import ghostlib.mmdet` installs the stand-in, and so does a configuration that has it among its `custom_imports`. A
script that imports MMDetection's models before it reads its configuration, as their test.py does, needs it earlier.
"""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ghostlib.mmdet.ops import OPERATORS

EXTENSION = "mmcv._ext"


class StandIn(ModuleType):
    """A module that has every operator that MMCV looks for, and computes those of `ops.OPERATORS`."""

    def __init__(self):
        super().__init__(EXTENSION, "Stands in for MMCV's compiled operators; see ghostlib.mmdet.stand_in.")
        self.__spec__ = ModuleSpec(EXTENSION, loader=None)
        vars(self).update(OPERATORS)
        # What MMCV's collect_env asks, which scripts call that write a log.
        self.get_compiler_version = self.get_compiling_cuda_version = lambda: "none: ghostlib stands in"

    def __getattr__(self, name: str) -> Any:
        # MMCV looks for all its operators at import; Python itself looks for `__file__`, `__path__` and the like.
        if name.startswith("__"):
            raise AttributeError(name)

        def operator(*args: Any, **kwargs: Any) -> NoReturn:
            *others, last = dict.fromkeys(re.sub("_(forward|backward).*", "", known) for known in OPERATORS)
            raise NotImplementedError(
                f"MMCV's operator {name!r} is compiled code, and the MMCV installed here has none; ghostlib stands in "
                f"for {', '.join(others)} and {last} only. Install MMCV with its operators: with a C++ compiler (nvcc "
                "too, for a GPU), `pip install --no-build-isolation --no-deps --force-reinstall --no-cache-dir "
                "--no-binary :all: PACKAGE`, where PACKAGE is mmcv==2.1.0 or onedl-mmcv, whichever you use")

        return operator


def install() -> None:
    """Puts the stand-in where MMCV looks for its compiled module, unless MMCV has one.

    Raises:
        ModuleNotFoundError: MMCV is not installed.
    """
    if EXTENSION not in sys.modules and importlib.util.find_spec(EXTENSION) is None:
        sys.modules[EXTENSION] = StandIn()


def run_script(arguments: Sequence[str]) -> None:
    """Runs a Python script as `python SCRIPT ...` does, with the stand-in installed; what it raises passes.

    Args:
        arguments: the script, then its own arguments.

    Raises:
        FileNotFoundError: there is no such script.
    """
    script = arguments[0]
    if not Path(script).is_file():
        raise FileNotFoundError(f"{script} does not exist; name a script, such as MMDetection's tools/test.py")
    install()
    sys.argv[:] = arguments
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")

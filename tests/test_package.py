"""The package as a user meets it."""

from __future__ import annotations

import subprocess
import sys


def test_importing_ghostlib_imports_nothing_heavy():
    heavy = ["torch", "timm", "pandas", "matplotlib", "papermill", "mmcv", "mmengine", "mmdet"]
    code = f"import sys, ghostlib; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

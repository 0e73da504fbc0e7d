"""The package as a user meets it."""

from __future__ import annotations

import subprocess
import sys


def test_importing_ghostlib_imports_nothing_heavy():
    heavy = "[name for name in ('torch', 'timm', 'pandas', 'matplotlib', 'papermill', 'mmdet') if name in sys.modules]"
    code = f"import sys, ghostlib; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

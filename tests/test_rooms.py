"""The house: imports point down the rooms and never in a circle, the library stands alone, files stay small."""

from __future__ import annotations

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from ghostlib.runs import digest

PACKAGE = digest.PACKAGE
# From the ground up. A module imports of its own line and of lines above it here.
ROOMS = (("files", "config", "machine"), ("gpu",), ("models",), ("mmdet",), ("deploy",), ("training",), ("runs",),
         ("own",), ("detection",), ("experiments",), ("measures",), ("plan",), ("paper",), ("exhibits",), ("evidence",),
         ("site",), ("notebook",), ("errors", "library", "reproduction", "cli", "__main__"))
LIBRARY = {"gpu", "models", "mmdet", "deploy", "files", "machine"}  # what those install who have a network of their own


def modules() -> dict[str, Path]:
    """Every module of the package, a package under its folder's name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = sorted(name for name in modules() if "." in name)


def room(module: str) -> str:
    return module.split(".")[1]


def level(module: str) -> int:
    return next(i for i, rooms in enumerate(ROOMS) if room(module) in rooms)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_the_rooms(module):
    upwards = [name for name in digest.imports(module) if level(name) > level(module)]
    assert not upwards, f"{module} imports {upwards}, which stand above it"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in LIBRARY])
def test_the_library_imports_nothing_of_the_reproduction(module):
    assert {room(name) for name in digest.imports(module)} <= LIBRARY
    source = modules()[module].read_text(encoding="utf-8")
    assert "import pydantic" not in source and "import accelerate" not in source
    assert "from pydantic" not in source and "from accelerate" not in source


def test_no_module_imports_itself_by_way_of_others():
    # A module in a package depends on the package's own code; that this imports its modules is how Python has it.
    graph = {name: {other for other in digest.imports(name) if not name.startswith(f"{other}.")} for name in MODULES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", modules().values(), ids=modules().keys())
def test_a_file_is_read_in_one_go(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_the_test_knows_every_room():
    known = {name for rooms in ROOMS for name in rooms}
    assert {room(name) for name in MODULES} == known


@pytest.mark.parametrize(("imported", "absent"), [
    ("ghostlib.cli", ("torch", "pandas", "yaml")),
    ("ghostlib.runs.classifier", ("torch", "pandas")),
])
def test_what_is_imported_brings_nothing_heavy_that_it_does_not_need(imported, absent):
    code = f"import sys, {imported}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

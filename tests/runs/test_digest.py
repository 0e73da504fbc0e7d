"""The meaning of code: words leave it, a constant or an import changes it, and only what is reachable counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostlib.detection import run as detection_run
from ghostlib.runs import classifier, digest


@pytest.fixture
def package(tmp_path) -> Path:
    """training.loop uses models.net, which uses models.part inside a function; models.other is used by nobody."""
    root = tmp_path / "lib"
    net = '"""Words."""\n\n\ndef build():\n    """Words."""\n    from lib.models.part import X\n    return X\n'
    files = {"training/loop.py": "from lib.models import net\nRATE = 1\n", "models/net.py": net,
             "models/part.py": "X = 1\n", "models/other.py": "", "exhibits/table.py": "from lib.training import loop\n"}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).with_name("__init__.py").touch()
    return root


def code(package: Path) -> str:
    digest.code_of.cache_clear()
    return digest.code_of("lib.training.loop", package=package)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_comments_docstrings_and_layout_leave_the_code_s_digest(package):
    before = code(package)
    edit(package / "models/net.py", '"""Words."""', '"""Other words,\n\nand more of them."""')
    edit(package / "training/loop.py", "RATE = 1", "# a comment\nRATE = (1)  # another")
    assert code(package) == before


def test_a_docstring_that_a_function_has_alone_may_come_and_go(package):
    edit(package / "models/part.py", "X = 1", "X = 1\n\n\nclass Error(ValueError):\n    pass")
    before = code(package)
    edit(package / "models/part.py", "    pass", '    """It says what is wrong."""')
    assert code(package) == before


@pytest.mark.parametrize(("file", "old", "new"), [
    ("training/loop.py", "RATE = 1", "RATE = 2"), ("models/part.py", "X = 1", "X = 2"),
    ("models/net.py", "return X", "return -X"), ("training/loop.py", "RATE = 1", "RATE = '1'"),
    ("training/loop.py", "import net", "import net, other")])
def test_a_change_of_what_is_computed_changes_the_code_s_digest(package, file, old, new):
    before = code(package)
    edit(package / file, old, new)
    assert code(package) != before


def test_files_that_the_code_does_not_use_may_be_changed_renamed_and_removed(package):
    before = code(package)
    (package / "models/other.py").rename(package / "models/renamed.py")
    assert code(package) == before
    (package / "models/renamed.py").unlink()
    edit(package / "exhibits/table.py", "loop", "loop\nX = 3")
    assert code(package) == before


def test_a_module_that_is_not_there_is_an_error(package):
    with pytest.raises(FileNotFoundError, match="no module lib.training.lop"):
        digest.code_of("lib.training.lop", package=package)


def test_what_decides_a_classifier_is_networks_and_training_and_what_decides_a_detector_is_more():
    of_classifiers = digest._reachable(["ghostlib.training.loop"], digest.PACKAGE, digest.ROOMS)
    assert {name.split(".")[1] for name in of_classifiers} == {"models", "training"}
    assert {"ghostlib.models.reparam", "ghostlib.training.views", "ghostlib.training.ema"} <= of_classifiers
    assert "ghostlib.models.weights" not in of_classifiers  # which files are read decides no training
    assert classifier.CODE != detection_run.CODE


def test_the_kernels_of_a_gpu_decide_what_is_computed_there_alone():
    only_there = ["ghostlib.gpu", "ghostlib.training.replay"]
    kernels = digest._reachable(only_there, digest.PACKAGE, digest.GPU)
    assert {"ghostlib.gpu.depthwise", "ghostlib.gpu.depthwise_kernels", "ghostlib.gpu.pointwise_kernels"} <= kernels
    assert digest.code_of_device("cpu") == {}
    assert digest.code_of_device("cuda")["gpu"] == digest.code_of(*only_there, rooms=digest.GPU)


def test_the_libraries_of_a_key_are_those_installed_under_the_first_of_their_names():
    assert digest.library_versions(("no-such-package", "pytest"), ("neither", "nor")) == {"pytest": pytest.__version__}

"""The stand-in for MMCV's compiled module: what it lacks says what to do, and a compiled MMCV goes first."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest
import torch

from ghostlib.mmdet import stand_in
from ghostlib.mmdet.ops import OPERATORS
from ghostlib.mmdet.stand_in import EXTENSION, StandIn


def test_it_has_the_operators_by_their_names():
    stand_in = StandIn()
    assert len(OPERATORS) == 10 and all(getattr(stand_in, name) is operator for name, operator in OPERATORS.items())


def test_every_other_operator_is_there_and_says_when_called_what_to_do():
    assert all(hasattr(StandIn(), name) for name in ("softnms", "carafe_forward", "softmax_focal_loss_forward"))
    with pytest.raises(NotImplementedError, match=(
            "'roi_pool_forward' is compiled code.* stands in for nms, roi_align, deform_conv, modulated_deform_conv "
            "and sigmoid_focal_loss only. Install MMCV with its operators")):
        StandIn().roi_pool_forward(torch.zeros(1), pooled_height=7)


def test_the_stand_in_answers_python_as_a_module_without_a_file():
    assert not hasattr(StandIn(), "__file__") and not hasattr(StandIn(), "__path__")
    assert StandIn().__spec__.loader is None


def test_it_says_what_it_was_compiled_with():
    """MMCV's `collect_env` asks that."""
    assert StandIn().get_compiler_version() == StandIn().get_compiling_cuda_version() == "none: ghostlib stands in"


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
    stand_in.install()
    module = importlib.import_module(EXTENSION)
    assert isinstance(module, StandIn)
    stand_in.install()
    assert importlib.import_module(EXTENSION) is module
    # MMCV's own question whether it was compiled is answered truly.
    assert importlib.util.find_spec(EXTENSION).loader is None


def test_a_compiled_mmcv_goes_first(mmcv):
    (mmcv / "_ext.py").write_text("def nms(): ...")
    stand_in.install()
    module = importlib.import_module(EXTENSION)
    assert type(module) is ModuleType and module.__file__ == str(mmcv / "_ext.py")


def test_without_mmcv_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    with pytest.raises(ModuleNotFoundError):
        stand_in.install()


def test_a_script_runs_as_python_runs_it_with_the_stand_in_there(mmcv, tmp_path, monkeypatch, capsys):
    script = tmp_path / "tools" / "tool.py"
    script.parent.mkdir()
    (script.parent / "beside.py").write_text("name = 'beside'")
    script.write_text("import sys, mmcv._ext, beside\n"
                      "print(__name__, sys.argv[1:], beside.name, type(sys.modules['mmcv._ext']).__name__)")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    stand_in.run_script([str(script), "config.py", "--amp"])
    assert capsys.readouterr().out.strip() == "__main__ ['config.py', '--amp'] beside StandIn"


def test_a_script_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="tools/nothing.py does not exist; name a script"):
        stand_in.run_script(["tools/nothing.py"])

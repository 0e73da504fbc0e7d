"""What is told about timing a file on a phone."""

from __future__ import annotations

import shlex
from importlib.metadata import version

import pytest

from ghostlib.deploy import phone
from ghostlib.deploy.export import SUFFIXES
from tests import needs


@pytest.mark.parametrize(("engine", "tool"), [("executorch", "executor_runner"), ("ncnn", "benchncnn")])
def test_phone_commands_push_the_file_and_run_it(engine, tool):
    needs.engine(engine)
    lines = phone.commands(engine, f"my exports/x 1{SUFFIXES[engine]}", 256)
    comments, shell = [[line for line in lines if line.startswith("#") is wanted] for wanted in (True, False)]
    assert comments[0].endswith(f" {tool}:") and any("$ANDROID_NDK/build/cmake" in line for line in comments[1:])
    push, run = map(shlex.split, shell)  # as a shell would take them
    assert push[:2] == ["adb", "push"] and push[2].endswith(f"/{tool}")
    assert push[3] == f"my exports/x 1{SUFFIXES[engine]}"
    assert run[:2] == ["adb", "shell"] and f"./{tool} " in run[2] and f"'x 1{SUFFIXES[engine]}'" in run[2]


@pytest.mark.parametrize(("engine", "package"), [("executorch", "executorch"), ("ncnn", "pnnx")])
def test_phone_commands_build_the_version_that_wrote_the_file(engine, package):
    needs.engine(engine)
    clone, = (line for line in phone.commands(engine, f"x{SUFFIXES[engine]}") if "git clone" in line)
    assert f"{version(package)} https://" in clone


def test_the_phone_s_benchmark_is_told_the_image_s_size():
    needs.engine("ncnn")
    assert "'shape=[256,256,3]'" in shlex.split(phone.commands("ncnn", "x.ncnn.param", 256)[-1])[2]


def test_there_are_phone_commands_for_phone_engines_only():
    with pytest.raises(ValueError, match="no tool to time openvino on a phone"):
        phone.commands("openvino", "x.xml")

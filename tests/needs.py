"""What some tests of the library need beside its base install: where it is not there, they are skipped and say why."""

from __future__ import annotations

import pytest
import timm

timms_v3 = pytest.mark.skipif(not timm.is_model("ghostnetv3_100"), reason=f"timm {timm.__version__} has no GhostNetV3")

# What each format is written with and executed by.
ENGINES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "executorch": ("executorch.exir",),
           "ncnn": ("ncnn", "pnnx", "onnx")}


def packages(*modules: str) -> None:
    """Skips the test that asks where one of them cannot be imported."""
    for module in modules:
        pytest.importorskip(module)


def engine(name: str) -> None:
    packages(*ENGINES[name])

"""Exports: every file is executed here; one that disagrees with PyTorch does not stay."""

from __future__ import annotations

import pytest
import torch

from ghostlib.models import zoo

SIZE = 64
OTHERS = {"onnx": (), "openvino": (".bin",), "executorch": (), "ncnn": (".ncnn.bin",)}


@pytest.fixture(scope="module")
def network():
    """A V3 in the form it trains in, with statistics of its own."""
    torch.manual_seed(0)
    network = zoo.create("ghostnetv3_050", 10)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over the batches
    network.train()
    with torch.no_grad():
        network(torch.randn(8, 3, SIZE, SIZE))
    return network


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())

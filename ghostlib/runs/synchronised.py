"""Whether a network stays the same when its normalisations are made ones over the batches of several GPUs."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ghostlib.models.flow import example_for, run


def check(network: nn.Module, image_size: int) -> None:
    """Converts a copy as the training will, and compares what both answer.

    Args:
        network: stays as it is.
        image_size: px.

    Raises:
        ValueError: PyTorch's conversion drops what a normalisation does besides.
    """
    image, whole = example_for(network, image_size), copy.deepcopy(network)
    for module in whole.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.ones_(module.weight)  # behind a γ of 0, at which some begin, nothing would be seen
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(whole))
    if not torch.allclose(run(whole, image), run(converted, image), rtol=1e-4, atol=1e-5, equal_nan=True):
        raise ValueError("sync_batchnorm = true: PyTorch's conversion makes this another network, as it drops what a "
                         "normalisation does besides (timm's BatchNormAct2d ends with an activation); leave it out: "
                         "running statistics are averaged over the processes after every step as it is")

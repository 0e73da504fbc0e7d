"""What a network answers, and whether a file of it answers the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ghostlib.models.flow import example_for

# Of the largest logit. Engines add up in another order, which in float32 moved no logit of any network of the zoo by
# more than 3e-6; a lost layer, a wrong padding or float16 (whose own rounding is 5e-4) move them by more than this, in
# a network whose answer depends on the image.
TOLERANCE = 1e-4
_LIVELY = 0.01  # of the largest logit: by which at least two images' are expected to differ


class ExportError(RuntimeError):
    """The network has no single output, or the engine cannot take it or computes something else than PyTorch does."""


def noise(count: int, model: nn.Module, image_size: int | Sequence[int], channels: int | None = None) -> Tensor:
    """Images (count, C, H, W) like noise, the same for everyone, with the channels that the first convolution reads."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not channels:
        channels = example_for(model, 1).shape[1] if any(True for _ in model.parameters()) else 3
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def enliven(network: nn.Module, image_size: int | Sequence[int], channels: int | None = None) -> None:
    """Gives a network of random weights an answer that its layers show in, in place, for an export's check.

    Freshly initialised, some answer all images alike: residual branches begin at a scale of 0 or 1e-6, a head at 0, and
    means and variances that are not the activations' own let these vanish. Here what begins at one value, other than a
    bias, is drawn, and batch normalisations take the statistics of eight images of noise.

    Args:
        network: is in evaluation mode afterwards.
        image_size: side of the images (px), or height and width.
        channels: of the images; by default what the network's first convolution reads.

    Raises:
        ValueError: the network cannot take such images.
    """
    like, drawn = next(network.parameters(), torch.empty(0)), torch.Generator().manual_seed(0)
    images = noise(8, network, image_size, channels).to(like.device, like.dtype)
    forward(network.eval(), images)  # which says what it cannot take
    for name, parameter in network.named_parameters():
        if not name.endswith("bias") and (parameter == parameter.flatten()[0]).all():
            shape, scale = parameter.shape, parameter.numel() == max(parameter.shape, default=1)
            parameter.copy_(0.5 + torch.rand(shape, generator=drawn) if scale else
                            torch.randn(shape, generator=drawn) * shape[1:].numel()**-0.5)
    # These alone train: an auxiliary head may need larger images, and dropout draws.
    momenta = {module: module.momentum for module in network.modules()
               if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None}
    try:
        for norm in momenta:
            norm.reset_running_stats()
            norm.train().momentum = None  # an average over all images that it sees
        forward(network, images)
    finally:
        for norm, momentum in momenta.items():
            norm.eval().momentum = momentum


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> object:
    """What the network makes of images (N, C, H, W).

    Raises:
        ValueError: it cannot take them.
    """
    try:
        return model(images)
    except (RuntimeError, AssertionError) as error:
        size = " × ".join(map(str, dict.fromkeys(images.shape[2:])))
        raise ValueError(f"{type(model).__name__} cannot take an image of {size} px and {images.shape[1]} channels: "
                         f"{error}") from error


def answer(model: nn.Module, image: Tensor) -> np.ndarray:
    """The network's logits of an image (1, C, H, W).

    Raises:
        ExportError: it answers with something else than one tensor.
        ValueError: it cannot take the image.
    """
    logits = forward(model, image)
    if not isinstance(logits, Tensor):
        raise ExportError(f"{type(model).__name__} answers with a {type(logits).__name__}, and a file has one tensor "
                          "as its output: export a module around it whose forward returns the one that you want")
    return logits.numpy()


def check_lively(one: np.ndarray, two: np.ndarray, name: str) -> None:
    """Warns where a network answers two images so much alike that layers could be lost unseen."""
    moved = np.abs(np.subtract(one, two, dtype=np.float64)).max() / max(np.abs(one).max(), np.finfo(np.float32).tiny)
    if moved < _LIVELY:
        warnings.warn(f"{name} answers two images alike, but for {moved:.2g} of the largest logit, so that a file that "
                      "agrees with it may lack layers; export trained weights, or try it with random ones after "
                      "ghostlib.deploy.agreement.enliven(network, image_size)", stacklevel=4)


def compare(expected: np.ndarray, actual: np.ndarray, engine: str, path: Path, tolerance: float) -> None:
    """Raises an ExportError where two arrays of logits (1, classes) differ by more than the tolerance."""
    expected, actual = (np.asarray(logits, np.float64) for logits in (expected, actual))  # of a mask too
    if actual.shape != expected.shape:
        raise ExportError(f"{path} is not written: {engine} answers with shape {actual.shape}, PyTorch with "
                          f"{expected.shape}")
    largest = np.abs(expected).max()
    difference = np.abs(actual - expected).max() / max(largest, np.finfo(np.float32).tiny)
    if not difference <= tolerance:  # written so that NaN is no agreement
        raise ExportError(f"{path} is not written: {engine}'s logits differ from PyTorch's by up to {difference:.2g} "
                          f"of the largest ({largest:.4g}), by more than the tolerance, {tolerance:g}")

"""Parameters and multiply-accumulate operations of a deployed network, as the paper counts them.

The paper's "FLOPs" are multiply-accumulates of convolutions and linear layers; the attention of transformers adds its
matrix products. Normalisation, activations, pooling and resampling are not counted. A network that multiplies in
another way, in a recurrent layer, say, is refused: without it, it would look cheap. What is written as an autograd
function or scripted cannot be looked into; of that there is a warning.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ghostlib.machine import require
from ghostlib.models.flow import example_for
from ghostlib.models.reparam import reparameterize

# Names of PyTorch's operators that would count if there were a rule for them, and of what may do anything.
_MULTIPLIES = re.compile(r"conv(?!ert)|(mm|mv|dot|inner|cdist)$|matmul|attention|transformer|lstm|gru|rnn"
                         r"|aten::bilinear$")
_UNKNOWN = re.compile(r"^prim::(PythonOp|CallFunction)")


@dataclass(frozen=True)
class Complexity:
    """Parameters and multiply-accumulates, both in millions."""

    params: float
    macs: float


def count(network: nn.Module, image_size: int = 224, channels: int | None = None) -> Complexity:
    """Counts a network as it is deployed: folded, for one square image. The network stays as it is.

    Parameters that only training uses, an auxiliary head's, count with the others.

    Args:
        network: in training form or folded. The image has its precision.
        image_size: side of the image (px).
        channels: of the image; by default what the first of the network's convolutions reads.

    Raises:
        ModuleNotFoundError: fvcore is not installed.
        ValueError: the network cannot take images of this size, or computes something that would be left out.
    """
    with warnings.catch_warnings():  # of PyTorch's, about losses that fvcore compiles when it is imported
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is ", FutureWarning)
        require("export", "fvcore.nn")
    from fvcore.nn import FlopCountAnalysis

    # Some modules of timm fold in evaluation mode only.
    deployed = reparameterize(copy.deepcopy(network).eval()).eval()
    for parameter in deployed.parameters():  # of frozen ones PyTorch makes one operator of a transformer's layer
        parameter.requires_grad_(parameter.is_floating_point())
    image = example_for(deployed, image_size)
    analysis = FlopCountAnalysis(deployed, image if channels is None else image[:, :1].expand(-1, channels, -1, -1))
    analysis.clear_op_handles().set_op_handle(**_handles()).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    try:
        with torch.enable_grad():
            macs, without_rule = analysis.total(), sorted(analysis.unsupported_ops())
    except Exception as error:  # a network can fail in any way on what is not for it
        raise ValueError(f"{type(network).__name__} cannot take an image of {image_size} px: {error}") from error
    if left_out := [name for name in without_rule if _MULTIPLIES.search(name)]:
        raise ValueError(f"{type(network).__name__} cannot be counted: there is no rule for {', '.join(left_out)}")
    if unknown := [name for name in without_rule if _UNKNOWN.search(name)]:
        warnings.warn(f"{type(network).__name__}: what a function of its own multiplies is not counted "
                      f"({', '.join(unknown)})", stacklevel=2)
    return Complexity(sum(parameter.numel() for parameter in deployed.parameters()) / 1e6, macs / 1e6)


def _handles() -> dict[str, Any]:
    from fvcore.nn import jit_handles

    products = {"linear": 0, "matmul": 0, "mm": 0, "bmm": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
    return {"aten::_convolution": jit_handles.conv_flop_jit, "aten::_convolution_mode": _convolution,
            "aten::einsum": jit_handles.einsum_flop_jit, "aten::scaled_dot_product_attention": _attention,
            **{f"aten::{name}": partial(_product, first) for name, first in products.items()}}


def _convolution(inputs: list[Any], outputs: list[Any]) -> int:
    """Of padding by name, "same" or "valid": of images (N, C, ...) with weights (outputs, inputs a group, ...)."""
    weights, made = (value.type().sizes() for value in (inputs[1], outputs[0]))
    return math.prod(weights) * math.prod(made[2:]) * made[0]


def _product(first: int, inputs: list[Any], outputs: list[Any]) -> int:
    """A (..., K) times B, batches and vectors included: K for every element of the product. A is `inputs[first]`."""
    return math.prod(outputs[0].type().sizes()) * inputs[first].type().sizes()[-1]


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """QKᵀ and its product with V: queries (..., L, E), keys (..., S, E), values (..., S, V)."""
    queries, keys, values = (value.type().sizes() for value in inputs[:3])
    return math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])

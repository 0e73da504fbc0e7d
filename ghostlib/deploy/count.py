"""Parameters and multiply-accumulate operations of a deployed network, as the paper counts them.

The paper's "FLOPs" are multiply-accumulates of convolutions and linear layers; the attention of transformers adds its
matrix products. Normalisation, activations, pooling and resampling are not counted.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any

from torch import nn

from ghostlib.machine import require
from ghostlib.models.flow import example_for
from ghostlib.models.reparam import reparameterize


@dataclass(frozen=True)
class Complexity:
    """Parameters and multiply-accumulates, both in millions."""

    params: float
    macs: float


def count(network: nn.Module, image_size: int = 224) -> Complexity:
    """Counts a network as it is deployed: folded, for one square image of `image_size` px. The network stays as it is.

    The image has the network's precision, and as many channels as its first convolution reads.

    Raises:
        ModuleNotFoundError: fvcore is not installed.
        ValueError: the network cannot take images of this size.
    """
    with warnings.catch_warnings():  # of PyTorch's, about losses that fvcore compiles when it is imported
        warnings.filterwarnings("ignore", r"`torch\.jit\.script` is ", FutureWarning)
        require("export", "fvcore.nn")
    from fvcore.nn import FlopCountAnalysis

    deployed = reparameterize(copy.deepcopy(network)).eval()
    analysis = FlopCountAnalysis(deployed, example_for(deployed, image_size))
    analysis.clear_op_handles().set_op_handle(**_handles()).unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    try:
        macs = analysis.total()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{type(network).__name__} cannot take an image of {image_size} px: {error}") from error
    return Complexity(sum(parameter.numel() for parameter in deployed.parameters()) / 1e6, macs / 1e6)


def _handles() -> dict[str, Any]:
    from fvcore.nn import jit_handles

    return {"aten::_convolution": jit_handles.conv_flop_jit, "aten::linear": jit_handles.linear_flop_jit,
            "aten::addmm": jit_handles.addmm_flop_jit, "aten::matmul": jit_handles.matmul_flop_jit,
            "aten::mm": jit_handles.matmul_flop_jit, "aten::bmm": jit_handles.bmm_flop_jit,
            "aten::einsum": jit_handles.einsum_flop_jit, "aten::scaled_dot_product_attention": _attention}


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """QKᵀ and its product with V: queries (..., L, E), keys (..., S, E), values (..., S, V)."""
    queries, keys, values = (value.type().sizes() for value in inputs[:3])
    return math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])

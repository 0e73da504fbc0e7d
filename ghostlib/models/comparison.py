"""Whether a network computes what it did, once its sites are `RepConv`s: compared with their first branches alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ghostlib.models.flow import Flow, run, tensors_of
from ghostlib.models.rep_conv import RepConv

# The largest difference, of the largest output, that is rounding. A CPU does the same operations in the same order, so
# that hardly any is left and what a layer scale of 1e-5 leads to is seen; elsewhere kernels may be chosen anew.
_ROUNDING, _ROUNDING_ELSEWHERE = 1e-6, 1e-4


@contextmanager
def disturbed(norms: Sequence[nn.Module], zeros: Sequence[nn.Parameter] = ()) -> Iterator[None]:
    """Gives normalisations that keep statistics others, always the same ones near to theirs; afterwards their own.

    A fresh normalisation hardly changes its input in evaluation mode, so that nobody could see whether what stands
    before it or behind it is used; nor could one see anything behind `zeros`, which are small numbers meanwhile.
    """
    kept = [(tensor, tensor.detach().clone()) for tensor in (*(tensor for norm in norms for tensor in (
        norm.weight, norm.bias, norm.running_mean, norm.running_var) if tensor is not None), *zeros)]
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for norm in norms:
                _disturb(norm, generator)
            for parameter in zeros:
                parameter.copy_(_uniform(0.02, 0.1, parameter, generator))  # positive: some take roots of a gate
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def _disturb(norm: nn.Module, generator: torch.Generator) -> None:
    norm.running_mean.add_(norm.running_var.sqrt() * _uniform(-0.5, 0.5, norm.running_mean, generator))
    norm.running_var.mul_(_uniform(0.5, 2, norm.running_var, generator))
    if norm.affine:
        scale = _uniform(0.5, 1.5, norm.weight, generator)
        norm.weight.copy_(torch.where(norm.weight == 0, scale / 5, norm.weight * scale))
        norm.bias.add_(norm.weight.abs() * _uniform(-0.5, 0.5, norm.bias, generator))


def _uniform(low: float, high: float, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty(like.shape).uniform_(low, high, generator=generator).to(like)


def disturbable(model: nn.Module) -> list[nn.Module]:
    """The normalisations of a network that `disturbed` takes."""
    return [norm for norm in model.modules()
            if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) and norm.running_mean is not None]


def zero_weights(model: nn.Module, norms: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Parameters that are 0 throughout, outside of those normalisations: a fresh head's, or the gate of a residual."""
    inside = {parameter for norm in norms for parameter in norm.parameters(recurse=False)}
    return [parameter for parameter in model.parameters() if parameter not in inside and _is_dense(parameter)
            and parameter.is_floating_point() and parameter.numel() and not parameter.any()]


def _is_dense(parameter: nn.Parameter) -> bool:
    """Whether a parameter's values are there, each in a place of its own: they can then be others for a while."""
    return (not isinstance(parameter, nn.parameter.UninitializedParameter) and not parameter.is_meta
            and parameter.layout == torch.strided
            and all(stride or side == 1 for stride, side in zip(parameter.stride(), parameter.shape, strict=True)))


def answer_in_training(model: nn.Module, example: Any) -> Any:
    """What a network answers while it trains; None where it then wants more than the example, such as targets.

    None also on accelerators whose random generator is not kept: dropout would differ from run to run.
    """
    if any(parameter.device.type not in ("cpu", "cuda") for parameter in model.parameters()):
        return None
    try:
        return run(model, example, training=True)
    except ValueError:
        return None


def difference(model: nn.Module, new: Collection[nn.Module], example: Any, evaluating: Any, training: Any) -> str:
    """How a network with its sites' first branches alone differs from what it was; empty where that is rounding.

    Args:
        model: with its `RepConv`s.
        new: those that are to be judged; others, which had their branches before, keep them.
        example: what it is run on.
        evaluating: what it answered before in evaluation mode, seen by a `Flow`.
        training: the same for training mode; None to compare nothing there.
    """
    sites = {module: name for name, module in model.named_modules() if isinstance(module, RepConv) and module in new}
    for site in sites:
        site.forward = site.branches[0].forward
    try:
        flow = Flow.of(model, example)  # seen by a flow again: a network may run faster, and rounded, without
        for site, name in sites.items():
            if flow.calls[site] != 1:
                return f"{name} runs {flow.calls[site]} times"
        return _between(flow.answer, evaluating) or (
            training is not None and _between(run(model, example, training=True), training, " while training")) or ""
    except ValueError as error:
        cause = error.__cause__ or error
        return f"{type(cause).__name__}: {cause}"
    finally:
        for site in sites:
            del site.forward


def comparable(answer: Any) -> list[Tensor]:
    """The tensors of an answer that can tell a difference."""
    return [tensor for tensor in tensors_of(answer) if tensor.is_floating_point() and tensor.numel()]


def _between(after: Any, before: Any, when: str = "") -> str:
    shapes = [[tuple(tensor.shape) for tensor in tensors_of(answer)] for answer in (after, before)]
    if shapes[0] != shapes[1]:
        return f"outputs of other shapes{when}"
    for a, b in zip(comparable(after), comparable(before), strict=True):
        rounding = _ROUNDING if a.device.type == "cpu" else _ROUNDING_ELSEWHERE
        gap = (a - b).masked_fill(a == b, 0)  # equal infinities, as of masked logits, are no difference
        error = gap.abs().max() / b.masked_fill(b.isinf(), 0).abs().max().clamp(min=torch.finfo(b.dtype).tiny)
        if not error <= rounding:  # written so that NaN is no agreement
            return f"by {error:.2g} of the largest output{when}"
    return ""

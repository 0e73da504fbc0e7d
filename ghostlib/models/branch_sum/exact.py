"""The forward pass of a site's branches in one of the exact forms, and what it does to their running statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from ghostlib import gpu
from ghostlib.models.branch_sum import choice
from ghostlib.models.branch_sum.autocast import autocast_dtype, without_autocast
from ghostlib.models.branch_sum.columns import ColumnSum
from ghostlib.models.branch_sum.function import Branches, BranchSum
from ghostlib.models.branch_sum.statistics import is_lost, statistics
from ghostlib.models.branch_sum.taps import Moments, can_look_at, is_compiling, laid_out_like


class Site(Protocol):
    """What is asked of a `rep_conv.RepConv`; see there."""

    branches: nn.ModuleList
    scale: nn.Module | None
    skip: nn.Module | None
    norms: list[nn.Module]
    form: choice.Form


def forward(site: Site, x: Tensor) -> Tensor | None:
    """(N, C_in, H, W) -> (N, C_out, H', W'), the sum over the branches; None where no exact form is for it.

    That is so in evaluation mode (statistics are constants then), for one branch, for convolutions other than 1×1 ones
    and depth-wise ones of the shapes that `choice` names, and where rounding would decide a branch's variance.
    """
    norms, pairs = site.norms, list(site.branches)
    convs = [pair.conv for pair in pairs]
    if (scale := site.scale) is not None:
        pairs.append(scale)
        convs.append(scale.conv)
    if not _applies(site, x, pairs, convs, norms):
        return None
    image, dtype = x, autocast_dtype(x.device.type)
    with without_autocast(x.device.type):
        x = x if dtype is None else x.to(dtype)
        branches = Branches(len(site.branches), scale is not None, len(norms) > len(pairs), norms[0].affine,
                            convs[0].groups > 1, norms[0].eps)
        parameters = [conv.weight for conv in convs]
        parameters += [norm.weight for norm in norms] + [norm.bias for norm in norms] if branches.affine else []
        found = _sum(convs[0], x, branches, parameters, site.form, _reduction(norms[0]))
    if found is None:
        return None
    total, mean, variance, count = found
    _track(norms, mean, variance * (count / (count - 1)))
    return laid_out_like(total, image)


def _sum(conv: nn.Conv2d, x: Tensor, branches: Branches, parameters: list[Tensor], form: choice.Form,
         reduce: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor, Tensor, float | Tensor] | None:
    """The sum (N, C_out, H', W'), the branches' means and variances (G, B, O) and how many positions these are of."""
    on_gpu = gpu.form_for(conv, x, branches) if reduce is None and not is_compiling() else None
    if on_gpu is not None:
        return on_gpu(x, parameters)
    if x.device.type != "cpu" and form == "auto":
        return None
    taps = choice.taps_for(conv, x, branches.count, form, alone=reduce is None)
    if taps is None:
        return None
    size = taps.output_size(*x.shape[2:])
    if reduce is None and x.shape[0] * math.prod(size) < 2:  # no variance: BN's own error
        return None
    if reduce is None and not branches.depthwise and choice.by_columns(conv, branches.count):
        values = taps.read(x)
        total, mean, variance = ColumnSum.apply(values, branches, *parameters)
        return taps.write(total, *size), mean, variance, len(values)
    can_ask = reduce is None and can_look_at(x)
    with torch.no_grad():
        values = taps.read(x)
        moments = taps.moments(values, centre=not can_ask)
        moments = moments if reduce is None else _over_processes(moments, reduce)
        kernels = branches.kernels(parameters)
        mean, variance = statistics(kernels, moments)
        if can_ask and is_lost(variance, kernels, moments, branches.eps):
            return None
    total = BranchSum.apply(x, values, moments, kernels, mean, variance, taps, branches, reduce, *parameters)
    return taps.write(total, *size), mean, variance, moments.count


def _applies(site: Site, x: Tensor, pairs: list[nn.Module], convs: list[nn.Conv2d], norms: list[nn.Module]) -> bool:
    if type(x) not in (Tensor, nn.Parameter) or _is_observed():  # other tensors, fake ones say, have their own rules
        return False
    if len(norms) == 1 or x.dim() != 4 or convs[0].bias is not None \
            or not (x.device.type in ("cpu", "cuda") or site.form == "exact"):
        return False
    first = norms[0]
    alike = all(norm.training and type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) and (
        norm.eps, norm.momentum, norm.affine, norm.track_running_stats) == (
        first.eps, first.momentum, first.affine, first.track_running_stats) for norm in norms)
    if not alike or not all(type(conv).forward is nn.Conv2d.forward for conv in convs):
        return False
    if any(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
           for module in (*pairs, *convs, *norms)):
        return False
    # Whole networks in half precision, and mixtures that PyTorch refuses, are left to the branches.
    dtype = convs[0].weight.dtype
    if dtype not in (torch.float32, torch.float64) or first.affine and first.weight.dtype != dtype:
        return False
    cast = autocast_dtype(x.device.type)
    return x.dtype == dtype if cast is None else dtype == torch.float32 and x.dtype in (dtype, cast)


def _is_observed() -> bool:
    """Whether a tracer looks, which is to see the branches, or a transform for which the exact forms have no rule."""
    return (torch.jit.is_tracing() or getattr(torch.compiler, "is_exporting", lambda: False)()
            or torch._C._functorch.peek_interpreter_stack() is not None
            or torch.autograd.forward_ad._current_level >= 0)


@torch.no_grad()
def _track(norms: list[nn.Module], mean: Tensor, variance: Tensor) -> None:
    """Takes the branches' statistics (G, B, O) into the running ones, as each normalisation does for itself."""
    if norms[0].running_mean is None:
        return
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
    for name, new in (("running_mean", mean), ("running_var", variance)):
        running = [getattr(norm, name) for norm in norms]
        values = new.to(running[0].dtype).transpose(0, 1).flatten(1).unbind(0)
        if norms[0].momentum is not None:
            torch._foreach_lerp_(running, list(values), norms[0].momentum)
        else:  # the average of all batches
            for norm, tensor, value in zip(norms, running, values, strict=True):
                tensor.lerp_(value, 1 / float(norm.num_batches_tracked))


def _reduction(norm: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What adds up over the processes that share their statistics; None where there are none."""
    distributed = torch.distributed
    if not (isinstance(norm, nn.SyncBatchNorm) and distributed.is_available() and distributed.is_initialized()):
        return None
    group = norm.process_group or distributed.group.WORLD
    if distributed.get_world_size(group) == 1:
        return None

    def add_up(values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total, group=group)
        return total

    return add_up


def _over_processes(moments: Moments, reduce: Callable[[Tensor], Tensor]) -> Moments:
    """The moments of all processes' values together."""
    mean, covariance, count = moments
    total = reduce(torch.full_like(mean[0, 0], count))
    together = reduce(mean * count) / total
    off = mean - together
    return Moments(together, reduce((covariance + off[:, :, None] * off[:, None]) * count) / total, total)

"""Re-parameterisation (§4.1) of any network: one convolution a site, trained as a sum of parallel linear branches.

    network = add_branches(network)     # every site becomes a RepConv; `sites.survey` says which, and why not others
    ...train...
    network = reparameterize(network)   # one convolution a site again; the outputs do not change
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ghostlib.models.comparison import (
    answer_in_training,
    comparable,
    difference,
    disturbable,
    disturbed,
    zero_weights,
)
from ghostlib.models.flow import example_for
from ghostlib.models.plain import load_plain, names_beside, places, plain_pair, plain_state
from ghostlib.models.rep_conv import RepConv
from ghostlib.models.sites import Survey, folding_themselves, own_fold, survey

__all__ = ["RepConv", "add_branches", "load_plain", "plain_state", "reparameterize"]


def add_branches(model: nn.Module, branches: int = 3, scale: bool = True, skip: bool = True,
                 exclude: Sequence[str] | None = None, *, example_input: Any = None, inside: bool = False,
                 preserve: bool = False) -> nn.Module:
    """Turns, in place, every 1×1 or depth-wise convolution into a `RepConv` whose output one batch normalisation takes.

    Which these are is seen by running the network once on an example (`sites.survey`), and before anything is left
    changed the network with one branch a site is compared with the original, in evaluation mode and, where it takes
    the example there too, in training mode. An activation inside the normalisation (timm's `BatchNormAct2d`) keeps its
    place. What is deployed does not change: `reparameterize` gives one convolution a site.

    Args:
        model: any network; it is changed. Frozen parameters stay frozen, and their new branches are, too.
        branches: the paper's re-parameterisation factor N (Table 2).
        scale: the 1×1 depth-wise branch (Tables 2 and 5).
        skip: the BN-only branch of the authors' code.
        exclude: names to leave alone, as shell patterns: of convolutions, or of modules with all that is in them. By
            default nothing, but for GhostNets what the authors leave alone (`sites.GHOSTNET_EXCLUDE`).
        example_input: a batch as the network takes it, or a tuple of all its arguments; see `sites.survey`.
        inside: look also into modules that fold themselves; these keep their own branches and get ours beside them.
        preserve: begin with the function that the network has, as fine-tuning a pretrained one needs: the new
            branches' γ are 0. Otherwise they begin as a fresh normalisation does, and the function changes.

    Returns:
        The same model.

    Raises:
        ValueError: the network holds no such site or cannot be run, `branches` is less than 1, a pattern of `exclude`
            matches nothing, the network is wrapped already (by DistributedDataParallel, say), or one branch would not
            compute what the network does, or nobody could see whether it does. The network is then as it was.
    """
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")
    norms = disturbable(model)
    zeros = zero_weights(model, norms)
    # One draw from the global generator whatever is added: networks of one seed share every weight they both have. And
    # before the runs that are compared, since a network may draw in these.
    seed = int(torch.randint(2**31, ()))
    with disturbed(norms, zeros):
        found = survey(model, exclude, example_input, inside)
    if not found.sites:
        raise ValueError(f"{type(model).__name__} has no 1×1 or depth-wise convolution followed by a BatchNorm2d, "
                         f"and it alone: there is nothing to add branches to (was it expanded or folded before?)"
                         f"\n{found}")
    if not any((tensor.isfinite() & (tensor != 0)).any() for tensor in comparable(found.answer)):
        raise ValueError(f"{type(model).__name__} answers with no floating-point tensor (in tuples, lists and dicts), "
                         "or with zeros and infinities alone, by which its function could be compared; pass another "
                         "example_input, or add branches to a part of it that answers so")
    _warn_of_gaps(model, found)
    replaced = {}
    for number, site in enumerate(found.sites):
        conv, norm = model.get_submodule(site.conv), model.get_submodule(site.norm)
        with _without_group(norm_alone := _without_activation(norm)):
            replaced[conv] = RepConv(conv, norm_alone, branches, scale, skip, seed + number, preserve)
        for synchronised in replaced[conv].modules():
            if isinstance(synchronised, nn.SyncBatchNorm):
                synchronised.process_group = norm_alone.process_group
        replaced[conv].names = names_beside(site.conv, site.norm)
        replaced[norm] = _activation_of(norm)
    example = example_for(model) if example_input is None else example_input
    with disturbed(norms, zeros):
        training = answer_in_training(model, example)
        originals = replace(model, replaced)
        different = "it was interrupted"
        try:
            different = difference(model, replaced.values(), example, found.answer, training)
        finally:
            if different:
                for parent, name, original in originals:
                    setattr(parent, name, original)
    if different:
        raise ValueError(f"{type(model).__name__} with one branch a site computes something else than before "
                         f"({different}): it uses a convolution in a way that running it did not show. Name that one "
                         "in exclude. The network is as it was")
    return model


def reparameterize(model: nn.Module) -> nn.Module:
    """Folds every `RepConv` (and timm's own multi-branch blocks, e.g. MobileOne's) in place; returns the model.

    The outputs in evaluation mode do not change. A folded network does not change. It can be trained on.
    """
    if isinstance(model, RepConv):
        return model.fuse()
    replace(model, _plain_inside(model))
    replace(model, {site: site.fuse() for site in model.modules() if isinstance(site, RepConv)})
    _fold_by_themselves(model, {})
    return model


def _plain_inside(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """The plain convolutions and normalisations for the sites in modules that fold themselves, and then fold these."""
    inside = {inner for module in folding_themselves(model) for inner in module.modules()}
    new: dict[nn.Module, nn.Module] = {}
    if any(isinstance(module, RepConv) for module in inside):
        for place in places(model):
            behind = model.get_submodule(place.norms[0])
            if place.site in inside and isinstance(behind, nn.Identity):
                new[place.site], new[behind] = plain_pair(place.site)
    return new


def _fold_by_themselves(parent: nn.Module, folded: dict[nn.Module, nn.Module]) -> None:
    """Folds what has a way of its own to fold, each once; `folded` are those already met -> what became of them."""
    for name, child in list(parent._modules.items()):
        if child is None:
            continue
        if child not in folded:
            fold = own_fold(child)
            result = fold() if fold else None  # most fold in place, and return nothing
            folded[child] = result if isinstance(result, nn.Module) else child
            _fold_by_themselves(folded[child], folded)
        if folded[child] is not child:
            setattr(parent, name, folded[child])


def replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> list[tuple[nn.Module, str, nn.Module]]:
    """Sets modules in the place of others, wherever these are registered: (parent, name, the other) of each place."""
    old = [(parent, name, child) for parent in model.modules() for name, child in parent._modules.items()
           if child in new]
    for parent, name, child in old:
        setattr(parent, name, new[child])
    return old


def _warn_of_gaps(model: nn.Module, found: Survey) -> None:
    """Tells a user whose network gets branches in few of the places where it could have some."""
    if len(found.unused) > len(found.sites):
        fitting = len(found.sites) + len(found.unused)
        warnings.warn(f"{type(model).__name__} gets branches at {len(found.sites)} of {fitting} 1×1 and depth-wise "
                      f"convolutions. {found}", stacklevel=3)


def _without_activation(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> nn.BatchNorm2d | nn.SyncBatchNorm:
    """The plain normalisation that shares this one's parameters and statistics."""
    if type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return norm
    numbers = norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    plain = (nn.SyncBatchNorm(*numbers, norm.process_group) if isinstance(norm, nn.SyncBatchNorm)
             else nn.BatchNorm2d(*numbers))
    plain.weight, plain.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(plain, name, buffer)
    return plain.train(norm.training)


@contextmanager
def _without_group(norm: nn.Module) -> Iterator[None]:
    """Takes the group of processes from a normalisation for a while, since no group can be copied."""
    group = getattr(norm, "process_group", None)
    if group is not None:
        norm.process_group = None
    try:
        yield
    finally:
        if group is not None:
            norm.process_group = group


def _activation_of(norm: nn.Module) -> nn.Module:
    """What timm's normalisations do after normalising: drop and activation; an identity for a plain one."""
    inner = {name: module for name in ("drop", "act")
             if (module := getattr(norm, name, None)) is not None and not isinstance(module, nn.Identity)}
    if len(inner) == 1 and not any(module.state_dict() for module in inner.values()):
        return next(iter(inner.values()))
    return nn.Sequential(OrderedDict(inner)) if inner else nn.Identity()  # parameters keep their names

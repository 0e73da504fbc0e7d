"""Weights between a branched network and the plain one that it was made from."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ghostlib.models.rep_conv import RepConv


class Place(NamedTuple):
    """A branched site in a network.

    Attributes:
        site: the module.
        convs: every name that it has, and the convolution had.
        norms: every name that its normalisation had; what the normalisation activated with stands there.
    """

    site: RepConv
    convs: tuple[str, ...]
    norms: tuple[str, ...]


def places(model: nn.Module) -> Iterator[Place]:
    """Every branched site.

    Raises:
        ValueError: a site's normalisation is not to be found: the model is a part of the branched network, or one with
            other names.
    """
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[module].append(name)
    modules = {name: module for module, aliases in names.items() for name in aliases}
    for site in [module for module in modules.values() if isinstance(module, RepConv)]:
        # Within the module that holds both, a part of a network or a backbone of timm's has the names that it had.
        conv, norm = site.names
        bases = [name.removesuffix(conv) for name in names[site] if f".{name}".endswith(f".{conv}")]
        behind = next((modules[base + norm] for base in bases if base + norm in modules), None)
        if behind is None:
            raise ValueError(f"{type(model).__name__} has no module {norm!r} beside {names[site][0]!r}, where its "
                             "normalisation belongs: take the network that add_branches changed as a whole")
        yield Place(site, tuple(names[site]), tuple(names[behind]))


def names_beside(conv: str, norm: str) -> tuple[str, str]:
    """The names of a convolution and its normalisation within the smallest module that holds both."""
    convs, norms = conv.split("."), norm.split(".")
    while convs[0] == norms[0]:
        convs, norms = convs[1:], norms[1:]
    return ".".join(convs), ".".join(norms)


@torch.no_grad()
def plain_pair(site: RepConv) -> tuple[nn.Conv2d, nn.Module]:
    """The one convolution of a site, and a normalisation that adds its bias and does nothing else.

    Together they compute in evaluation mode what the site does, and they have the parameters that its convolution and
    normalisation had.
    """
    conv, norm = site.fuse(), site.branches[0].norm
    group = getattr(norm, "process_group", None)
    norm = copy.deepcopy(norm, {id(group): group})  # no group of processes can be copied
    bias = conv.bias.detach().clone()
    if site.branches[0].conv.bias is None:
        conv.bias = None
    else:
        nn.init.zeros_(conv.bias)
    norm.running_var.fill_(1 - norm.eps)  # ε is added to it
    norm.running_mean.zero_()
    if norm.affine:
        nn.init.ones_(norm.weight)
        norm.bias.copy_(bias)
    else:
        norm.running_mean.sub_(bias)
    return conv, norm


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a branched network for the plain one: loaded there, it computes in evaluation mode what this does.

    Each site's one convolution, and a normalisation that adds the bias and does nothing else.

    Args:
        model: as `add_branches` leaves it, or a part of it. It is not changed.

    Raises:
        ValueError: the part lacks the place of a site's normalisation.
    """
    state = model.state_dict()
    for place in places(model):
        branches = tuple(f"{name}." for name in place.convs)
        state = {key: value for key, value in state.items() if not key.startswith(branches)}
        for names, module in zip((place.convs, place.norms), plain_pair(place.site), strict=True):
            state |= {f"{name}.{key}": value for name in names for key, value in module.state_dict().items()}
    return state


def load_plain(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the weights of a plain network into the branched one, in place: it then computes what the plain one does.

    A site's first branch gets them, the others' γ become 0.

    Args:
        model: as `add_branches` leaves it, or a part of it.
        state: the plain network's state dict, or that of the same part.

    Raises:
        RuntimeError: a name is missing or unexpected, or a shape differs; PyTorch's own words.
        ValueError: the part lacks the place of a site's normalisation, branches have no γ, or the state has branches.
    """
    found = list(places(model))
    first, added = {}, {}
    for _, convs, norms in found:
        first |= {name: f"{name}.branches.0.conv" for name in convs}
        first |= {name: f"{convs[0]}.branches.0.norm" for name in norms}  # under its other names it is the same
        given = (f"{convs[0]}.branches.0.", *(f"{name}.branches.0.conv." for name in convs))
        added |= {key: value for key, value in model.state_dict().items()
                  if key.startswith(tuple(f"{name}." for name in convs)) and not key.startswith(given)}
    if branched := sorted(added.keys() & state.keys()):
        raise ValueError(f"this state has branches itself ({branched[0]} and {len(branched) - 1} more tensors of "
                         "them); load it with the network's own load_state_dict")
    renamed = {}
    for key, value in state.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{first.get(module, module)}.{parameter}".lstrip(".")] = value
    model.load_state_dict(renamed | added)
    for site, _, _ in found:
        site.silence_new_branches()

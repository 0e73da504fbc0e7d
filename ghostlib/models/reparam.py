"""Re-parameterisation (§4.1) of any network: one convolution a site, trained as a sum of parallel linear branches.

    network = add_branches(network)     # every site becomes a RepConv; `sites.survey` says which, and why not others
    ...train...
    network = reparameterize(network)   # one convolution a site again; the outputs do not change
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ghostlib.models.rep_conv import RepConv
from ghostlib.models.sites import FOLDS, Survey, example_for, run, survey, tensors_of

# The largest difference, of the largest output, that is rounding: the branches are then added up in another order.
_ROUNDING = 1e-4


def add_branches(model: nn.Module, branches: int = 3, scale: bool = True, skip: bool = True,
                 exclude: Sequence[str] | None = None, *, example_input: Any = None, inside: bool = False,
                 preserve: bool = False) -> nn.Module:
    """Turns, in place, every 1×1 or depth-wise convolution into a `RepConv` whose output one batch normalisation takes.

    Which these are is seen by running the network once on an example (`sites.survey`), and before anything is left
    changed the network with one branch a site is compared with the original. An activation inside the normalisation
    (timm's `BatchNormAct2d`) keeps its place. What is deployed does not change: `reparameterize` gives one convolution
    a site.

    Args:
        model: any network; it is changed. Frozen parameters stay frozen, and their new branches are, too.
        branches: the paper's re-parameterisation factor N (Table 2).
        scale: the 1×1 depth-wise branch (Tables 2 and 5).
        skip: the BN-only branch of the authors' code.
        exclude: names of modules to leave alone, as shell patterns. By default nothing, but for GhostNets what
            the authors leave alone (`sites.GHOSTNET_EXCLUDE`).
        example_input: a batch as the network takes it, or a tuple of all its arguments; see `sites.survey`.
        inside: look also into modules that fold themselves; these keep their own branches and get ours beside them.
        preserve: begin with the function that the network has, as fine-tuning a pretrained one needs: the new
            branches' γ are 0. Otherwise they begin as a fresh normalisation does, and the function changes.

    Returns:
        The same model.

    Raises:
        ValueError: the network holds no such site or cannot be run, `branches` is less than 1, a pattern of `exclude`
            matches nothing, or one branch would not compute what the network does. The network is then as it was.
    """
    if branches < 1:
        raise ValueError(f"branches must be at least 1, got {branches}")
    found = survey(model, exclude, example_input, inside)
    if not found.sites:
        raise ValueError(f"{type(model).__name__} has no 1×1 or depth-wise convolution followed by a BatchNorm2d, "
                         f"and it alone: there is nothing to add branches to (was it expanded or folded before?)"
                         f"\n{found}")
    _warn_of_gaps(model, found)
    # One draw from the global generator whatever is added: networks of one seed share every weight they both have.
    seed = int(torch.randint(2**31, ()))
    replaced = {}
    for number, site in enumerate(found.sites):
        conv, norm = model.get_submodule(site.conv), model.get_submodule(site.norm)
        replaced[site.conv] = RepConv(conv, _without_activation(norm), branches, scale, skip, seed + number, preserve)
        replaced[site.norm] = _activation_of(norm)
        replaced[site.conv].names = site.conv, site.norm
    example = example_for(model) if example_input is None else example_input
    expected = run(model, example)
    originals = {name: model.get_submodule(name) for name in replaced}
    _put(model, replaced)
    if difference := _one_branch_differs(model, expected, example):
        _put(model, originals)
        raise ValueError(f"{type(model).__name__} with one branch a site computes something else than before "
                         f"({difference}): it uses a convolution in a way that running it did not show. Name that one "
                         "in exclude. The network is as it was")
    return model


def reparameterize(model: nn.Module) -> nn.Module:
    """Folds every `RepConv` (and timm's own multi-branch blocks, e.g. MobileOne's) in place; returns the model.

    The outputs in evaluation mode do not change. A folded network does not change. It can be trained on.
    """
    if isinstance(model, RepConv):
        return model.fuse()
    for name, child in model.named_children():
        if isinstance(child, RepConv):
            setattr(model, name, child.fuse())
        elif any(hasattr(child, fold) for fold in FOLDS) and not _holds_branches(child):
            setattr(model, name, _folded_by_itself(child))
        else:
            reparameterize(child)
    return model


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a branched network for the plain one: loaded there, it computes in evaluation mode what this does.

    Each site's one convolution, and a normalisation that adds the bias and does nothing else.

    Args:
        model: as `add_branches` leaves it. It is not changed.
    """
    state = model.state_dict()
    for name, norm_name, site in _rep_convs(model):
        state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
        fused, norm = site.fuse(), site.branches[0].norm
        state[f"{name}.weight"] = fused.weight.detach()
        if site.branches[0].conv.bias is not None:
            state[f"{name}.bias"] = torch.zeros_like(fused.bias)
        one = torch.ones_like(fused.bias)
        if norm.affine:
            state |= {f"{norm_name}.weight": torch.sqrt(one + norm.eps), f"{norm_name}.bias": fused.bias.detach()}
            state[f"{norm_name}.running_mean"] = 0 * one
        else:
            state[f"{norm_name}.running_mean"] = -fused.bias.detach() * torch.sqrt(one + norm.eps)
        state |= {f"{norm_name}.running_var": one, f"{norm_name}.num_batches_tracked": norm.num_batches_tracked}
    return state


def load_plain(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the weights of a plain network into the branched one, in place: it then computes what the plain one does.

    A site's first branch gets them, the others' γ become 0.

    Args:
        model: as `add_branches` leaves it.
        state: the plain network's state dict.

    Raises:
        RuntimeError: a name is missing or unexpected, or a shape differs; PyTorch's own words.
    """
    first, added = {}, {}
    for name, norm_name, _ in _rep_convs(model):
        first |= {name: f"{name}.branches.0.conv", norm_name: f"{name}.branches.0.norm"}
        added |= {key: value for key, value in model.state_dict().items()
                  if key.startswith(f"{name}.") and not key.startswith(f"{name}.branches.0.")}
    renamed = {}
    for key, value in state.items():
        module, _, parameter = key.rpartition(".")
        renamed[f"{first.get(module, module)}.{parameter}".lstrip(".")] = value
    model.load_state_dict(renamed | added)
    for _, _, site in _rep_convs(model):
        site.silence_new_branches()


def _rep_convs(model: nn.Module) -> Iterator[tuple[str, str, RepConv]]:
    """Every `RepConv` with its name and the name of the normalisation that went into it."""
    for name, module in model.named_modules():
        if isinstance(module, RepConv):
            conv_name, norm_name = module.names
            yield name, name.removesuffix(conv_name) + norm_name, module


def _put(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Sets modules by their names, wherever else the one that stood there was registered, too."""
    new = {model.get_submodule(name): module for name, module in modules.items()}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in new:
                setattr(parent, name, new[child])


def _one_branch_differs(model: nn.Module, expected: Any, example: Any) -> str:
    """How the network with the first branches alone differs from the original; empty where that is rounding."""
    sites = [site for _, _, site in _rep_convs(model)]
    for site in sites:
        site.forward = site.branches[0].forward
    try:
        actual = run(model, example)
    finally:
        for site in sites:
            del site.forward
    for a, b in zip(tensors_of(actual), tensors_of(expected), strict=True):
        if a.is_floating_point():
            error = (a - b).abs().max() / b.abs().max().clamp(min=torch.finfo(b.dtype).tiny)
            if not error <= _ROUNDING:  # written so that NaN is no agreement
                return f"by {error:.2g} of the largest output"
    return ""


def _warn_of_gaps(model: nn.Module, found: Survey) -> None:
    """Tells a user whose network gets branches in few of the places where it could have some."""
    if len(found.unused) > len(found.sites):
        fitting = len(found.sites) + len(found.unused)
        warnings.warn(f"{type(model).__name__} gets branches at {len(found.sites)} of {fitting} 1×1 and depth-wise "
                      f"convolutions. {found}", stacklevel=3)


def _holds_branches(module: nn.Module) -> bool:
    return any(isinstance(inner, RepConv) for inner in module.modules())


def _folded_by_itself(module: nn.Module) -> nn.Module:
    from timm.utils import reparameterize_model

    return reparameterize_model(nn.Sequential(module), inplace=True)[0]


def _without_activation(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The plain BatchNorm2d that shares this one's parameters and statistics."""
    if type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm):
        return norm
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    plain.weight, plain.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(plain, name, buffer)
    return plain.train(norm.training)


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """What a timm `BatchNormAct2d` does after normalising: its drop and activation; an identity for a plain norm."""
    inner = [module for module in norm.children() if not isinstance(module, nn.Identity)]
    return inner[0] if len(inner) == 1 else nn.Sequential(*inner) if inner else nn.Identity()

"""One step of the network on two images: what would else show in the middle of a training, or never."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ghostlib.models.flow import run
from ghostlib.models.reparam import reparameterize
from ghostlib.models.sites import FOLDS, folding_themselves
from ghostlib.own.network import example
from ghostlib.runs import synchronised

_FOLDING = 0.1  # of the largest output: more than what many layers make of the rounding of folded weights


def check(network: nn.Module, image_size: int, processes: int = 1, sync_batchnorm: bool = False) -> None:
    """Takes a step's forward and backward pass, after which the network is as it was.

    Args:
        network: in its training form.
        image_size: px.
        processes: that train it together.
        sync_batchnorm: whether normalisations are to be over the batches of all of them.

    Raises:
        ValueError: averages could not follow a buffer, several processes would wait for a gradient that never comes,
            shared normalisation would make it another network, or the network was folded before, or will not fold.
    """
    if sync_batchnorm:
        synchronised.check(network, image_size)
    _check_fold(network, image_size)
    trial = copy.deepcopy(network).train()
    before = _averaged(trial)
    with torch.random.fork_rng(devices=[]):
        try:
            trial(example(image_size).repeat(2, 1, 1, 1)).sum().backward()
        except Exception:  # whatever it needs: more images, say, which its training gives it
            return
    after = _averaged(trial)
    if replaced := [name for name, tensor in before.items() if after.get(name) is not tensor]:
        raise ValueError(f"{replaced[0]}: the network puts another tensor in this place while it trains, so its "
                         "averages would keep the first; change it in place, e.g. self.buffer.copy_(...)")
    without = [name for name, weight in trial.named_parameters() if weight.requires_grad and weight.grad is None]
    if processes > 1 and without:
        raise ValueError(f"{processes} processes cannot train parameters that take no part in the answer: "
                         f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}; leave them out of the "
                         "network, or set their requires_grad to False")


def _check_fold(network: nn.Module, image_size: int) -> None:
    for name, norm in network.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and _was_folded(norm):
            raise ValueError(f"{name}: this normalisation was folded, and only adds its bias: trained on, it would "
                             "normalise again. Begin with weights that are not folded, as those in ema.safetensors, "
                             "which `ghostlib train` leaves beside model.safetensors")
    if not (blocks := sorted({type(module).__name__ for module in folding_themselves(network)})):
        return  # what is folded are our own branches
    told = (f"its {' and '.join(blocks)}, by a method {', '.join(FOLDS[:-1])} or {FOLDS[-1]} without arguments, which "
            "is taken for one that folds a module; rename another one")
    # Both compute in float64, lest they round, too; folded is in float32, in which timm's methods make the new layers.
    image = example(image_size).double()
    try:
        expected = run(copy.deepcopy(network).double(), image)
    except ValueError:  # it computes in float32, whatever its weights
        return
    try:
        folded = run(reparameterize(copy.deepcopy(network).eval()).double(), image)
        gap = (folded - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
    except Exception as error:  # of whatever such a method does
        raise ValueError(f"{type(network).__name__} cannot be folded, as it is to be scored ({type(error).__name__}: "
                         f"{error}): {told}") from error
    if not gap <= _FOLDING:
        raise ValueError(f"{type(network).__name__} computes something else when it is folded, by {gap:.2g} of the "
                         f"largest output: {told}")


def _was_folded(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether a normalisation only adds its bias, as `reparam.plain_pair` leaves it, and no fresh one does."""
    if not norm.affine or norm.running_var is None:
        return False
    left = torch.full_like(norm.running_var, 1 - norm.eps)
    return bool((left < 1).all() and norm.running_var.equal(left) and norm.weight.eq(1).all() and norm.bias.any()
                and not norm.running_mean.any())


def _averaged(network: nn.Module) -> dict[str, Tensor]:
    """The tensors that averages follow."""
    state = network.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}

"""One step of the network on two images: what would else show in the middle of a training, or never."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ghostlib.own.network import example
from ghostlib.runs import synchronised


def check(network: nn.Module, image_size: int, processes: int = 1, sync_batchnorm: bool = False) -> None:
    """Takes a step's forward and backward pass, after which the network is as it was.

    Args:
        network: in its training form.
        image_size: px.
        processes: that train it together.
        sync_batchnorm: whether normalisations are to be over the batches of all of them.

    Raises:
        ValueError: averages could not follow a buffer, several processes would wait for a gradient that never comes, or
            shared normalisation would make it another network.
    """
    if sync_batchnorm:
        synchronised.check(network, image_size)
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


def _averaged(network: nn.Module) -> dict[str, Tensor]:
    """The tensors that averages follow."""
    state = network.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}

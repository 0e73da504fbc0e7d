"""Exponential moving averages of the weights (Eq. 5), several decays in one training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightAverages:
    """W̄ ← β·W̄ + (1-β)·W for several β at once.

    All averages live in one (decays, values) tensor, so an update is one operation however many decays are tracked;
    timm's ModelEmaV3 keeps a copied network a decay, which costs a third of a small network's training step here.
    Parameters and floating-point buffers (BN statistics) are averaged, in float32 at least; a counter is taken as it
    is.

    Args:
        model: whose weights are averaged, on the device where it trains; they must change in place, as optimisers and
            `load_state_dict` change them.
        decays: the β.
    """

    def __init__(self, model: nn.Module, decays: Sequence[float]):
        self.decays = tuple(decays)
        self.tensors = _floating(model)  # parameters themselves, whose memory `Module.to` may exchange
        weights = torch.cat([tensor.detach().reshape(-1) for tensor in self.tensors])  # (values,)
        # In 16 bits a small step towards the weights would be rounded away.
        self.weights = weights.float() if weights.element_size() < 4 else weights
        # Each tensor's place in `weights`, in its shape: all are copied there in one call.
        self.places = [place.view(tensor.shape) for place, tensor in zip(
            self.weights.split([tensor.numel() for tensor in self.tensors]), self.tensors, strict=True)]
        self.rates = torch.tensor([1 - decay for decay in decays])[:, None].to(self.weights)
        self.averages = self.weights.repeat(len(decays), 1)

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the model's weights after one optimiser step."""
        torch._foreach_copy_(self.places, self.tensors)
        self.averages.lerp_(self.weights, self.rates)

    def finite(self) -> bool:
        """Whether the weights of the last update hold neither NaN nor infinity."""
        return bool(self.weights.isfinite().all())

    @torch.no_grad()
    def copy_to(self, model: nn.Module, index: int) -> nn.Module:
        """Writes the average of decay `index` into the model's floating-point state; returns the model."""
        tensors = _floating(model)
        for tensor, mean in zip(tensors, self.averages[index].split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        return model


def _floating(model: nn.Module) -> list[Tensor]:
    return [tensor for tensor in model.state_dict(keep_vars=True).values() if tensor.is_floating_point()]

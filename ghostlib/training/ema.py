"""Exponential moving averages of the weights (Eq. 5), several decays in one training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightAverages:
    """W̄ ← β·W̄ + (1-β)·W for several β at once.

    All averages live in one (decays, values) tensor, so an update is one operation however many decays are tracked;
    timm's ModelEmaV3 keeps a copied network a decay, which costs a third of a small network's training step here.
    Parameters and floating-point buffers (BN statistics) are averaged; a counter is taken as it is.
    """

    def __init__(self, model: nn.Module, decays: Sequence[float]):
        self.decays = tuple(decays)
        start = self._values(model)
        self.rates = torch.tensor([1 - decay for decay in decays])[:, None].to(start)
        self.averages = start.repeat(len(decays), 1)

    def update(self, model: nn.Module) -> None:
        """Takes in the weights after one optimiser step."""
        self.averages.lerp_(self._values(model), self.rates)

    @torch.no_grad()
    def copy_to(self, model: nn.Module, index: int) -> nn.Module:
        """Writes the average of decay `index` into the model's floating-point state; returns the model."""
        tensors = _floating(model)
        for tensor, mean in zip(tensors, self.averages[index].split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))
        return model

    @staticmethod
    def _values(model: nn.Module) -> Tensor:
        return torch.cat([tensor.detach().reshape(-1) for tensor in _floating(model)])


def _floating(model: nn.Module) -> list[Tensor]:
    return [tensor for tensor in model.state_dict(keep_vars=True).values() if tensor.is_floating_point()]

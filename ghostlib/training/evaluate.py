"""How good networks are on images: top-1 and top-5, folded as they would be deployed."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ghostlib.models.reparam import reparameterize


class Hits:
    """Counts what networks get right, batch by batch.

    Args:
        networks: any names -> networks in evaluation mode.
        device: where they are.
    """

    def __init__(self, networks: Mapping[Hashable, nn.Module], device: torch.device):
        self.networks, self.images = networks, 0
        self.hits = {name: torch.zeros(2, dtype=torch.long, device=device) for name in networks}

    @torch.no_grad()
    def add(self, views: Tensor, labels: Tensor) -> None:
        """Takes in views (N, 3, H, W) and their labels (N,)."""
        self.images += len(labels)
        for name, network in self.networks.items():
            logits = network(views)
            ranked = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels[:, None]
            self.hits[name] += torch.stack([ranked[:, 0].sum(), ranked.sum()])

    def scores(self) -> dict[str, dict[Hashable, float]]:
        """Metric ("top1", "top5" in %) -> name of the network -> value. With five classes or fewer top5 is 100."""
        scores = {name: (100 * hits / self.images).tolist() for name, hits in self.hits.items()}
        return {metric: {name: score[i] for name, score in scores.items()} for i, metric in enumerate(("top1", "top5"))}


def evaluate(networks: Mapping[Hashable, nn.Module], loader: DataLoader,
             device: torch.device) -> dict[str, dict[Hashable, float]]:
    """Scores several networks in one pass over the data, see `Hits.scores`."""
    hits = Hits({name: network.eval() for name, network in networks.items()}, device)
    for views, labels in loader:
        hits.add(*on_device(views, labels, device))
    return hits.scores()


def on_device(views: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Views and labels as the networks take them."""
    return views.to(device).contiguous(memory_format=torch.channels_last), labels.to(device)


def deployed(network: nn.Module) -> nn.Module:
    """A folded copy: what is measured is what would be shipped."""
    return reparameterize(copy.deepcopy(network)).eval()

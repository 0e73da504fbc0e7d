"""How good networks are on images: top-1 and top-5, folded as they would be deployed."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ghostlib.models.reparam import reparameterize


@torch.no_grad()
def evaluate(networks: Mapping[str, nn.Module], loader: DataLoader,
             device: torch.device) -> dict[str, dict[str, float]]:
    """Scores several networks in one pass over the data.

    Returns:
        metric ("top1", "top5" in %) -> name of the network -> value. With five classes or fewer top5 is 100.
    """
    hits = {name: torch.zeros(2, dtype=torch.long, device=device) for name in networks}
    images = 0
    for network in networks.values():
        network.eval()
    for views, labels in loader:
        views = views.to(device).contiguous(memory_format=torch.channels_last)
        labels = labels.to(device)
        images += len(labels)
        for name, network in networks.items():
            hits[name] += _hits(network(views), labels)
    scores = {name: (100 * hit / images).tolist() for name, hit in hits.items()}
    return {metric: {name: score[i] for name, score in scores.items()} for i, metric in enumerate(("top1", "top5"))}


def deployed(network: nn.Module) -> nn.Module:
    """A folded copy: what is measured is what would be shipped."""
    return reparameterize(copy.deepcopy(network)).eval()


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of the labels (N,) are the first, and among the first five, of the logits (N, K); (2,)."""
    ranked = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels[:, None]
    return torch.stack([ranked[:, 0].sum(), ranked.sum()])

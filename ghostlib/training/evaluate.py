"""How good networks are on images: top-1, top-5 and log-loss, folded as they would be deployed."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ghostlib.models.reparam import reparameterize
from ghostlib.training.bits import packed
from ghostlib.training.views import on_device

if TYPE_CHECKING:
    from accelerate import Accelerator


class Hits:
    """What networks get right, batch by batch.

    Args:
        networks: any names -> networks in evaluation mode.
        device: where they are.
    """

    def __init__(self, networks: Mapping[Hashable, nn.Module], device: torch.device):
        self.networks, self.images = networks, 0
        self.first: dict[Hashable, list[Tensor]] = {name: [] for name in networks}  # a batch of booleans each
        self.sums = {name: torch.zeros(2, dtype=torch.float64, device="cpu" if device.type == "mps" else device)
                     for name in networks}  # of hits among the first five, and of log-losses

    @torch.no_grad()
    def add(self, views: Tensor, labels: Tensor) -> None:
        """Takes in views (N, 3, H, W) and their labels (N,)."""
        self.images += len(labels)
        for name, network in self.networks.items():
            logits = network(views).float()
            ranked = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels[:, None]
            self.first[name].append(ranked[:, 0])
            sums = torch.stack([ranked.sum(), F.cross_entropy(logits, labels, reduction="sum")])
            self.sums[name] += sums.to(self.sums[name])

    def gather(self, accelerator: Accelerator) -> None:
        """Adds what other processes have taken in, in their order: theirs are the images before and after these."""
        if accelerator.num_processes == 1:
            return
        from accelerate.utils import gather_object  # not there where networks are only scored

        first = {name: torch.cat(batches).cpu() if batches else torch.zeros(0, dtype=torch.bool)
                 for name, batches in self.first.items()}
        own = self.images, first, {name: sums.cpu() for name, sums in self.sums.items()}
        images, first, sums = zip(*gather_object([own]), strict=True)
        self.images = sum(images)
        self.first = {name: [of[name] for of in first] for name in self.first}
        self.sums = {name: sum(of[name] for of in sums) for name in self.sums}

    def scores(self) -> dict[str, dict[Hashable, float]]:
        """Metric -> name of the network -> value: "top1" and "top5" in %, "loss" the mean log-loss in nats.

        With five classes or fewer top5 is 100.
        """
        scores: dict[str, dict[Hashable, float]] = {"top1": {}, "top5": {}, "loss": {}}
        for name, (five, loss) in ((name, sums.tolist()) for name, sums in self.sums.items()):
            first = int(sum(batch.sum() for batch in self.first[name]))
            for metric, value in zip(scores, (100 * first, 100 * five, loss), strict=True):
                scores[metric][name] = value / self.images
        return scores

    def correct(self) -> dict[Hashable, str]:
        """Which images each network gets right, in the data's order: `packed` booleans."""
        return {name: packed(torch.cat(batches).cpu().numpy()) for name, batches in self.first.items()}


def evaluate(networks: Mapping[Hashable, nn.Module], loader: DataLoader,
             device: torch.device) -> dict[str, dict[Hashable, float]]:
    """Scores several networks in one pass over the data, see `Hits.scores`."""
    hits = Hits({name: network.eval() for name, network in networks.items()}, device)
    for batch in loader:
        hits.add(*on_device(batch, device))
    return hits.scores()


def deployed(network: nn.Module) -> nn.Module:
    """A folded copy: what is measured is what would be shipped."""
    return reparameterize(copy.deepcopy(network).eval()).eval()  # some modules of timm fold in evaluation mode only

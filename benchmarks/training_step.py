"""Times the training step (forward, loss, backward) of GhostNetV3, and counts what it keeps for the backward pass.

Beside ghostlib's V3 with its branches as one convolution are the same network branch by branch, timm's V3 and timm's
V2, of which the ratios are. Rounds over the networks are interleaved in one process, so that a slow moment of the
machine meets them all; the first call of a round is discarded; the ratios are of medians.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from timm import create_model
from torch import Tensor, nn
from tqdm import tqdm

from ghostlib.deploy.latency import measure
from ghostlib.machine import cpu_name
from ghostlib.models import zoo
from ghostlib.models.rep_conv import RepConv

BASE = "timm ghostnetv2_100"


def networks(classes: int = 1000) -> dict[str, nn.Module]:
    """V2, timm's V3, and ours in its two forms with the same weights, all in training mode."""
    torch.manual_seed(0)
    ours, plain = (zoo.create("ghostnetv3_100", classes) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    set_form(plain, "branches")
    found = {BASE: create_model("ghostnetv2_100", num_classes=classes),
             "timm ghostnetv3_100": create_model("ghostnetv3_100", num_classes=classes),
             "ghostlib's, branch by branch": plain, "ghostlib's": ours}
    return {name: network.to(memory_format=torch.channels_last).train() for name, network in found.items()}


def set_form(network: nn.Module, form: str) -> None:
    """Makes every site compute the sum of its branches so; see `RepConv.form`."""
    for module in network.modules():
        if isinstance(module, RepConv):
            module.form = form


def batch(images: int, size: int, classes: int = 1000, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Noise (N, 3, S, S), channels last, and labels."""
    views = torch.randn(images, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    return views, torch.randint(classes, (images,), device=device)


def saved_bytes(network: nn.Module, views: Tensor, labels: Tensor) -> int:
    """Bytes of the distinct storages that the forward pass keeps for the backward pass, parameters left out."""
    parameters = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(network(views), labels)  # held, so that no storage is freed and its address reused
    del loss
    return sum(size for address, size in kept.items() if address not in parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["8x224", "16x112", "64x33"],
                        help="images a step × side of the image (px)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds over the networks")
    parser.add_argument("--calls", type=int, default=3, help="timed steps of a network in a round")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    print(f"{cpu_name()}, {options.threads} thread(s), torch {torch.__version__}")
    for setting in options.settings:
        images, size = map(int, setting.split("x"))
        views, labels = batch(images, size)
        found = networks()
        kept = {name: saved_bytes(network, views, labels) for name, network in found.items()}
        with tqdm(total=options.rounds * len(found) * (options.calls + 1), unit="step", leave=False) as bar:
            times = measure({name: partial(_step, network, views, labels) for name, network in found.items()},
                            options.rounds, options.calls, report=bar.update)
        print(f"\n{images} × {size} px")
        for name, taken in times.items():
            p10, median, p90 = np.percentile(taken, [10, 50, 90])
            print(f"{name:29} {median:8.1f} ms  (p10 {p10:.1f}, p90 {p90:.1f}), "
                  f"{median / np.median(times[BASE]):.2f} × {BASE}; keeps {kept[name] / 1e6:6.1f} MB, "
                  f"{kept[name] / kept[BASE]:.2f} ×")


def _step(network: nn.Module, views: Tensor, labels: Tensor) -> None:
    network.zero_grad()
    F.cross_entropy(network(views), labels).backward()


if __name__ == "__main__":
    main()

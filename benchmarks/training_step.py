"""Times the training step (forward, loss, backward) of ghostlib's ghostnetv3_100 beside timm's V3 and V2.

Rounds over the networks are interleaved in one process, so that a slow moment of the machine meets them all; the first
call of a round is discarded; the ratios are of medians.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from timm import create_model
from tqdm import tqdm

from ghostlib.deploy.latency import measure
from ghostlib.machine import cpu_name
from ghostlib.models import zoo

BASE = "timm ghostnetv2_100"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="images a step")
    parser.add_argument("--size", type=int, default=224, help="side of the image (px)")
    parser.add_argument("--rounds", type=int, default=8, help="rounds over the networks")
    parser.add_argument("--calls", type=int, default=3, help="timed steps of a network in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    networks = {BASE: create_model("ghostnetv2_100"), "timm ghostnetv3_100": create_model("ghostnetv3_100"),
                "ghostlib ghostnetv3_100": zoo.create("ghostnetv3_100")}
    for network in networks.values():
        network.to(options.device, memory_format=torch.channels_last).train()
    views = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
    views = views.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (options.batch,), device=options.device)

    def step(network: torch.nn.Module) -> None:
        F.cross_entropy(network(views), labels).backward()
        if options.device != "cpu":
            torch.cuda.synchronize()

    with tqdm(total=options.rounds * len(networks) * (options.calls + 1), unit="step") as bar:
        times = measure({name: partial(step, network) for name, network in networks.items()}, options.rounds,
                        options.calls, report=bar.update)

    device = torch.cuda.get_device_name() if options.device != "cpu" else cpu_name()
    print(f"{device}, {options.threads} thread(s), torch {torch.__version__}, {options.batch} × {options.size} px")
    for name, taken in times.items():
        p10, median, p90 = np.percentile(taken, [10, 50, 90])
        print(f"{name:25} {median:8.1f} ms  (p10 {p10:.1f}, p90 {p90:.1f})  "
              f"{median / np.median(times[BASE]):.2f} × {BASE}")


if __name__ == "__main__":
    main()

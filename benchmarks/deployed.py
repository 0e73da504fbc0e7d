"""Times what is deployed: ghostlib's folded ghostnetv3_100 beside timm's own, both exported to ONNX Runtime."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from timm import create_model
from timm.utils import reparameterize_model
from tqdm import tqdm

from ghostlib.deploy import export
from ghostlib.deploy.latency import measure, prepare
from ghostlib.machine import cpu_name
from ghostlib.models import zoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds over the networks")
    parser.add_argument("--calls", type=int, default=15, help="timed calls of a network in a round")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    networks = {"timm ghostnetv3_100": reparameterize_model(create_model("ghostnetv3_100")),
                "ghostlib ghostnetv3_100": zoo.create("ghostnetv3_100"), "ghostnetv2_100": zoo.create("ghostnetv2_100")}
    with tempfile.TemporaryDirectory() as folder:
        calls = {name: prepare("ONNX Runtime", network, export.onnx(network, Path(folder, f"{name}.onnx")), 224,
                               options.threads) for name, network in networks.items()}
        with tqdm(total=options.rounds * len(calls) * (options.calls + 1), unit="call") as bar:
            times = measure(calls, options.rounds, options.calls, report=bar.update)
    print(f"{cpu_name()}, {options.threads} thread(s), 1 × 224 px")
    for name, taken in times.items():
        p10, median, p90 = np.percentile(taken, [10, 50, 90])
        print(f"{name:25} {median:8.2f} ms  (p10 {p10:.2f}, p90 {p90:.2f})")


if __name__ == "__main__":
    main()

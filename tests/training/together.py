"""Trains a run in one process of several: `test_processes` starts it by torchrun."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

from ghostlib.training import loop


def main(run: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    run = pickle.loads(run.read_bytes())
    network = run.network()
    metrics = loop.train(network, run, folder)
    rank = torch.distributed.get_rank()
    torch.save({"metrics": metrics, "network": network.state_dict()}, folder / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

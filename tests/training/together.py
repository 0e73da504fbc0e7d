"""Trains runs, and then two grids, in one process of several: `test_processes` starts it by torchrun."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

from ghostlib.runs import engines
from ghostlib.runs.store import Store
from ghostlib.training import loop


def main(root: Path) -> None:
    torch.set_num_threads(1)
    for path in sorted(root.glob("*/run.pickle")):
        run, network = pickle.loads(path.read_bytes()), None
        try:
            network = run.network()
            found = {"metrics": loop.train(network, run, path.parent), "network": network.state_dict()}
        except ArithmeticError as error:
            found = {"error": str(error)}
        torch.save(found, path.parent / f"rank-{torch.distributed.get_rank()}.pt")
    try:
        jobs = pickle.loads((root / "grid.pickle").read_bytes())
        found = engines.run(jobs[:1], store=Store(root / "store"), last=False)
        found |= engines.run(jobs[1:], store=Store(root / "store"), last=False)
        engines.dismiss()
        torch.save(found, root / f"grid-{torch.distributed.get_rank()}.pt")
    finally:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

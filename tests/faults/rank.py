"""Trains the tiny training in one process of several, which torchrun starts: `python -m tests.faults.rank STORE`."""

from __future__ import annotations

import sys

import torch

from ghostlib.runs import engines
from ghostlib.runs.store import Store
from ghostlib.training import checkpoint
from tests.faults.children import tiny_run

if __name__ == "__main__":
    torch.set_num_threads(1)
    checkpoint.SECONDS_BETWEEN = checkpoint.SECONDS_WITHIN = 0
    try:
        engines.run([tiny_run()], store=Store(sys.argv[1]))
    finally:
        torch.distributed.destroy_process_group()

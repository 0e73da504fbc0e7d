"""Addressed randomness: what is random about a thing is a function of its address, such as (seed, epoch, sample).

No stream is consumed, so a view does not depend on the worker that made it, on the arm of an experiment or on where a
run was resumed, and there is no generator state to save.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*address: int | str) -> int:
    """A 64-bit seed for an address; a word in it (e.g. "order") keeps the uses of one number apart."""
    # The length goes in too: NumPy takes a missing part for a zero.
    entropy = [len(address), *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in address)]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])


@contextmanager
def addressed(*address: int | str) -> Iterator[None]:
    """Within the block, `random`, NumPy and PyTorch draw what belongs to the address; then they go on as before.

    But that of two normal numbers, which NumPy makes at a time, it forgets a second one that was not drawn yet.
    """
    state = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()
    seed = seed_of(*address)
    random.seed(seed)
    np.random.set_bit_generator(np.random.PCG64(seed))  # seeding and restoring NumPy's own takes ten times as long
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_bit_generator(state[1])
        torch.set_rng_state(state[2])


def permutation(n: int, *address: int | str) -> list[int]:
    """The order 0..n-1 that belongs to the address."""
    return np.random.default_rng(seed_of(*address)).permutation(n).tolist()

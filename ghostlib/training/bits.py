"""Booleans as text: which test images a network gets right, as results are kept. It needs no torch to be read."""

from __future__ import annotations

import base64

import numpy as np


def packed(booleans: np.ndarray) -> str:
    """Eight a byte, the first one the highest bit, in base64."""
    return base64.b64encode(np.packbits(booleans).tobytes()).decode()


def unpacked(text: str, count: int) -> np.ndarray:
    """The first `count` booleans of what `packed` gave."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)

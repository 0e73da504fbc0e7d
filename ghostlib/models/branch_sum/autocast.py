"""Autocast by hand: convolutions in half precision, their inputs' moments in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast_dtype(device: str) -> torch.dtype | None:
    """What autocast makes of a convolution's input on this type of device; None where it is off."""
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if device == "cpu":  # torch < 2.4
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def without_autocast(device: str) -> AbstractContextManager:
    """Within, operations take the types that they are given."""
    return nullcontext() if autocast_dtype(device) is None else torch.autocast(device, enabled=False)

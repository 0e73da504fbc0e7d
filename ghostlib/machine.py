"""The machine that something is computed on, and what is installed there."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path


def require(extra: str, *modules: str) -> None:
    """Imports modules that only an extra of this package installs.

    Raises:
        ModuleNotFoundError: one is not there; the message names it and what installs it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"this needs {module.split('.')[0]} ({error}): pip install 'ghostlib[{extra}]'",
                                      name=error.name) from error


def cpu_name() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def device_name(device_type: str) -> str:
    """What a device of PyTorch's, "cpu", "cuda" or another, is called by its maker."""
    if device_type != "cuda":
        return cpu_name()
    import torch

    return torch.cuda.get_device_name()


def all_threads() -> int:
    """The CPUs this process may use, a container's quota included."""
    import joblib

    return joblib.cpu_count()


def world_size() -> int:
    """How many processes torchrun or `accelerate launch` started together with this one, itself included.

    Raises:
        ValueError: the environment says something else than a number.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal():
        raise ValueError(f"WORLD_SIZE = {size!r} is no number; unset it")
    return int(size)

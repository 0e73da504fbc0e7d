"""Resumable state on disk: a file is whole or it does not count."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import torch

from ghostlib.files import write_atomic

# At the end of an epoch, if the last state is so old: writing a small network's takes a tenth of a short epoch.
SECONDS_BETWEEN = 60.0
# Within an epoch, so that no interruption costs more.
SECONDS_WITHIN = 300.0
_DIGEST_BYTES = 32
_KEEP = 2


class CheckpointError(RuntimeError):
    """A checkpoint that must not be used."""


def save(folder: Path, key: str, step: int, state: dict[str, Any]) -> Path:
    """Writes the state after `step` steps of the run `key`; keeps it, the one before it and no other.

    A state of a later step is one that `load_newest` passed over as torn.
    """
    buffer = io.BytesIO()
    torch.save({"key": key, "step": step, **state}, buffer)
    payload = buffer.getvalue()
    path = folder / f"state-{step:08d}.pt"
    write_atomic(path, hashlib.sha256(payload).digest() + payload)
    states = _newest_first(folder)
    keep = states[states.index(path):][:_KEEP]
    for other in set(states) - set(keep):
        other.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, key: str, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The newest whole state in the folder, None where there is none.

    A torn file is passed over for the one before it, which the standard error tells.

    Raises:
        CheckpointError: the state belongs to another configuration.
    """
    for path in _newest_first(folder):
        state = _read(path, device)
        if state is None:
            print(f"{path} is torn (its digest does not fit); going on from the state before it", file=sys.stderr)
            continue
        if state["key"] != key:
            raise CheckpointError(f"{path} belongs to configuration {state['key']}, not {key}; remove it or train in "
                                  "another folder")
        return state
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*.pt"), reverse=True)


def _read(path: Path, device: torch.device | str) -> dict[str, Any] | None:
    content = path.read_bytes()
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    return torch.load(io.BytesIO(payload), map_location=device, weights_only=True)

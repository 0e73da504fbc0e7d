"""The states that a training resumes from: MMEngine's checkpoints with digests, so that no damaged one is used."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

from mmengine.fileio import register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ghostlib.files import write_atomic
from ghostlib.mmdet import AtomicBackend

SECONDS = 60  # at least, from one state to the next: an epoch of a small profile takes less than ten


@HOOKS.register_module(force=True)
class StateHook(CheckpointHook):
    """Writes a state after an epoch, unless `SECONDS` have not gone by since the last one or the start.

    Of several processes each looks at its own clock: only the first one writes, and for that it needs no other.
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.written = time.monotonic()

    def after_train_epoch(self, runner: Runner) -> None:
        if time.monotonic() - self.written >= SECONDS:
            super().after_train_epoch(runner)
            self.written = time.monotonic()


@register_backend("StateBackend", force=True)
class StateBackend(AtomicBackend):
    """Writes the SHA-256 of every file beside it, for `newest_whole` to compare."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        # The digest comes first: wherever the process is killed, no whole state is without its digest.
        write_atomic(_digest_file(Path(filepath)), hashlib.sha256(obj).hexdigest())
        super().put(obj, filepath)

    def remove(self, filepath: str | Path) -> None:
        super().remove(filepath)
        _digest_file(Path(filepath)).unlink(missing_ok=True)


def newest_whole(folder: Path) -> Path | None:
    """The newest state in the folder that is as it was written; None where there is none.

    A damaged state is passed over with a warning that names it.
    """
    states = sorted(folder.glob("epoch_*.pth"), key=epoch_of)
    while states:
        state = states.pop()
        if not (damage := _damage(state)):
            return state
        print(f"warning: {state} {damage} and is passed over; training goes on from {states[-1].name}" if states else
              f"warning: {state} {damage} and is passed over; no older state is left, so training begins again",
              file=sys.stderr)
    return None


def epoch_of(state: Path) -> int:
    """The number of epochs that a state holds."""
    return int(state.stem.rpartition("_")[2])


def _digest_file(state: Path) -> Path:
    return state.with_name(f"{state.name}.sha256")


def _damage(state: Path) -> str:
    """What is wrong with a state; empty if it is whole."""
    digest = _digest_file(state)
    if not digest.is_file():
        return f"has no digest {digest.name}"
    if hashlib.sha256(state.read_bytes()).hexdigest() != digest.read_text(encoding="utf-8", errors="replace"):
        return f"is damaged (its SHA-256 differs from the one in {digest.name})"
    return ""

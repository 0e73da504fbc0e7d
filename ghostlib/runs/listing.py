"""What lies in a run store, whatever asked for it: listed, removed, and taken over from another store."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ghostlib.files import sweep
from ghostlib.runs.store import STATES, Store, StoreError

_KEY = re.compile(r"[0-9a-f]{16}")
FINISHED, DIVERGED, UNFINISHED, TRAINING = "finished", "diverged", "unfinished", "in training"
_RESULTS = {"metrics.json": FINISHED, "diverged.txt": DIVERGED}  # either is a result
_OURS = (STATES, ".lock", ".*.tmp")  # what is of no use in another store


@dataclass(frozen=True)
class Stored:
    """A folder of the store.

    Attributes:
        folder: its name is the run's key.
        state: `FINISHED`, `DIVERGED`, `UNFINISHED`, or `TRAINING` where a process holds its lock.
        done: what the newest state of an unfinished one holds, "400 steps" or "3 epochs"; empty without any.
        described: what run.json says; empty where it is absent or torn.
        cost: what cost.json says; the same.
        date: of its end or, if it is unfinished, of its last change (ISO, UTC).
        size: bytes on disk.
    """

    folder: Path
    state: str
    done: str
    described: dict[str, Any]
    cost: dict[str, Any]
    date: str
    size: int

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.state in _RESULTS.values()

    @property
    def label(self) -> str:
        """What run.json calls it."""
        return self.described.get("label", "")


def stored(store: Store) -> list[Stored]:
    """All runs of a store, the oldest first."""
    return sorted(map(_stored, _folders(store.root)), key=lambda run: (run.date, run.label, run.key))


def remove(runs: Iterable[Stored]) -> list[Stored]:
    """Removes whole folders; returns those that stay, because a process trains them now."""
    runs, kept = list(runs), []
    for root in {run.folder.parent for run in runs}:
        sweep(root, ".*.removed")
    for run in runs:
        with _unlocked(run.folder) as ours:
            if not ours:
                kept.append(run)
                continue
            # Renamed first: whoever wants the run now finds all of it or nothing.
            gone = run.folder.with_name(f".{run.key}.{uuid4().hex[:8]}.removed")
            os.replace(run.folder, gone)
            shutil.rmtree(gone)
    return kept


def adopt(folder: Path, store: Store) -> tuple[list[str], list[str], list[str]]:
    """Copies the finished runs of another store's folder; what is finished or in training here stays as it is.

    Returns:
        The keys of those that were copied, of those that were here, and why others cannot be used, a sentence each.

    Raises:
        StoreError: the folder holds no runs.
    """
    found = list(_folders(folder))
    if not found:
        raise StoreError(f"{folder} holds no runs; name the folder of a store, such as another copy's .runs")
    sweep(store.root, ".*.adopted")
    copied, here, refused = [], [], []
    for theirs in found:
        target = store.root / theirs.name
        if _ended(target):
            here.append(theirs.name)
        elif not _ended(theirs):
            continue
        elif why := _unusable(theirs):
            refused.append(why)
        else:
            half = store.root / f".{theirs.name}.{uuid4().hex[:8]}.adopted"
            try:
                shutil.copytree(theirs, half, ignore=shutil.ignore_patterns(*_OURS))
                if _ended(target):  # meanwhile
                    here.append(theirs.name)
                    continue
                if target.exists() and remove([_stored(target)]):  # what has begun here is less than what has ended
                    refused.append(f"{theirs} is in training here; stop that and adopt again, or let it end")
                    continue
                os.replace(half, target)
            finally:
                shutil.rmtree(half, ignore_errors=True)  # of a full disk
            copied.append(theirs.name)
    return copied, here, refused


def _ended(folder: Path) -> bool:
    return any((folder / file).exists() for file in _RESULTS)


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in sorted(root.iterdir()) if path.is_dir() and _KEY.fullmatch(path.name))


def _stored(folder: Path) -> Stored:
    cost, files, changed, size = _read(folder / "cost.json"), [], 0.0, 0
    for parent, _, names in os.walk(folder):  # unlike Path.rglob it bears that a training's end removes its states
        for file in names:
            with suppress(FileNotFoundError):  # a training replaces them meanwhile
                status = os.stat(os.path.join(parent, file))
                changed, size = max(changed, status.st_mtime), size + status.st_size
                files.append(file)
    state, done = next((state for file, state in _RESULTS.items() if (folder / file).exists()), None), ""
    if state is None:
        with _unlocked(folder) as ours:
            state, done = UNFINISHED if ours else TRAINING, _done(files)
    date = cost.get("date", time.strftime("%Y-%m-%d", time.gmtime(changed)))
    return Stored(folder, state, done, _read(folder / "run.json"), cost, date, size)


def _done(files: Iterable[str]) -> str:
    """From the names of states: those of a classifier count steps, those of a detector epochs."""
    found = [re.fullmatch(r"(state-|epoch_)(\d+)\.pth?", file) for file in files]
    done, unit = max(((int(state[2]), state[1]) for state in found if state), default=(0, ""))
    return f"{done} {'epochs' if unit == 'epoch_' else 'steps'}" if unit else ""


def _unusable(folder: Path) -> str:
    """Why a finished run of another store cannot be taken over; empty where it can."""
    described = folder / "run.json"
    for file in (folder / "metrics.json", described):
        if file.exists() and not _read(file):
            return f"{file} is torn; copy {folder} again from where it is whole"
    if (key := _read(described).get("key")) != folder.name:
        return f"{described} names run {key}; rename {folder} to its run's key, or copy it again"
    return ""


def _read(file: Path) -> dict[str, Any]:
    """What a file of JSON says; nothing where it is absent or torn."""
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextmanager
def _unlocked(folder: Path) -> Iterator[bool]:
    """Holds a run's lock, if no process does; makes no file."""
    from filelock import FileLock, Timeout

    if not (folder / ".lock").exists():
        yield True
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()

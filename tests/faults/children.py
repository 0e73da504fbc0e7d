"""What runs in children: a tiny training, a command that trains it, and the faults that strike them from within."""

from __future__ import annotations

import builtins
import errno
import io
import multiprocessing
import os
import pwd
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NoReturn

from ghostlib import cli, files
from ghostlib.runs import engines, local
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.store import Store
from ghostlib.training import checkpoint
from ghostlib.training.profile import Profile

BEGUN = "begun"  # what a command says once it can be interrupted


def tiny_run() -> ClassifierRun:
    """48 digits, a small network with branches, 2 epochs of 3 steps, and all that is drawn: views, mixing, dropout."""
    profile = Profile.parse(dict(
        name="faults", scale="48 digits", data="digits", num_classes=10, image_size=33, width_scale=0.1,
        train_images=48, val_images=20, test_images=40, crop_pct=1.0, device="cpu", pass_images=8,
        recipe=dict(network="resnet10", branches=1, teacher=None, batch_size=16, epochs=2, lr_scale=22.6,
                    rand_magnitude=5, hflip=0, mixup=0.2, dropout=0.2, ema_decay=0.99999, ema_decays=(0.99999,))))
    return ClassifierRun(profile.resolve(), profile, seed=0)


def train(run: ClassifierRun, root: Path, said: Path, strike: Callable[[], None] = lambda: None) -> None:
    """Trains the run in a store, with a state after every step; what it says is in a file."""
    sys.stderr = open(said, "a", buffering=1, encoding="utf-8")
    checkpoint.SECONDS_BETWEEN = checkpoint.SECONDS_WITHIN = 0
    strike()
    try:
        Store(root).ensure(run)
    except Exception as error:
        sys.exit(f"error: {error}")


def command(run: ClassifierRun, root: Path, said: Path) -> None:
    """A command of ghostlib's that trains the run in a process of its own, at the head of a session."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    sys.stderr = open(said, "a", buffering=1, encoding="utf-8")
    checkpoint.SECONDS_BETWEEN = checkpoint.SECONDS_WITHIN = 0
    # A server of forks would import PyTorch anew; this process is a young fork of one.
    local.context = lambda: multiprocessing.get_context("fork")
    sys.argv = ["ghostlib", "measure", "classifiers", run.profile.name]
    cli.app = lambda: (print(BEGUN, file=sys.stderr), engines.run([run], workers=1, store=Store(root)))
    cli.main()


# -- faults; each is called in a child before it trains


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Fail:
    """What the system says when it cannot do something; without the file's name, as `write` does."""

    number: int

    def __call__(self) -> NoReturn:
        raise OSError(self.number, os.strerror(self.number))


@dataclass(frozen=True)
class AtFile:
    """Acts at a place in the writing of the nth file and of every later one."""

    nth: int
    place: str  # one of PLACES
    act: Callable[[], None]

    PLACES = ("half", "whole", "renamed")  # half is written; all is written, not renamed; renamed, not written through

    def __call__(self) -> None:
        begun = 0

        def opened(path: Path, mode: str) -> BinaryIO:
            nonlocal begun
            begun += 1
            file = builtins.open(path, mode)
            return _Half(file, self.act) if begun >= self.nth and self.place == "half" else file

        def acting(place: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def acted(*arguments: Any) -> Any:
                if begun >= self.nth and self.place == place:
                    self.act()
                return call(*arguments)
            return acted

        files.open = opened
        files.os = SimpleNamespace(**vars(os) | {"replace": acting("whole", os.replace),
                                                 "open": acting("renamed", os.open)})


class _Half(io.RawIOBase):
    """A file whose content is written by half before something happens."""

    def __init__(self, file: BinaryIO, act: Callable[[], None]):
        self.file, self.act = file, act

    def write(self, content: bytes) -> int:
        self.file.write(content[:len(content) // 2])
        self.file.flush()
        self.act()
        return len(content)

    def close(self) -> None:
        self.file.close()
        super().close()


@dataclass(frozen=True)
class ReadOnly:
    """Nothing in a folder can be made, changed or removed, as on a disk that is mounted so. (Root minds no mode.)"""

    folder: Path

    def __call__(self) -> None:
        def refusing(call: Callable[..., Any], writes: Callable[..., bool] = lambda *arguments, **options: True,
                     ) -> Callable[..., Any]:
            def refused(path: Any, *arguments: Any, **options: Any) -> Any:
                inside = isinstance(path, str | Path) and self.folder in (Path(path), *Path(path).parents)
                if inside and writes(*arguments, **options):
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
                return call(path, *arguments, **options)
            return refused

        def by_mode(mode: str = "r", *arguments: Any, **options: Any) -> bool:
            return not mode.startswith("r") or "+" in mode

        def by_flags(flags: int, *arguments: Any, **options: Any) -> bool:
            return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

        builtins.open = io.open = refusing(open, by_mode)
        os.open = refusing(os.open, by_flags)
        for name in ("mkdir", "replace", "rename", "unlink", "remove", "rmdir"):
            setattr(os, name, refusing(getattr(os, name)))


@dataclass(frozen=True)
class JumpingClock:
    """The time of day jumps by days, also backwards; the other clocks jump forwards, as of a machine that slept."""

    seed: int

    def __call__(self) -> None:
        rng, slept, of_day = random.Random(self.seed), [0.0], time.time

        def jumping(clock: Callable[[], float]) -> Callable[[], float]:
            def read() -> float:
                slept[0] += rng.choice((0, 0, 0, rng.uniform(0, 1e5)))
                return clock() + slept[0]
            return read

        time.time = lambda: of_day() + rng.uniform(-1e6, 1e6)
        time.monotonic, time.perf_counter = jumping(time.monotonic), jumping(time.perf_counter)


def nobody() -> None:
    """No home and no name, as of a user whom a container does not know."""
    for variable in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        os.environ.pop(variable, None)

    def unknown(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")
    pwd.getpwuid = unknown

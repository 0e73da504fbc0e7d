"""A tiny training in a folder of its own, the undisturbed one it is compared with, and what became of it."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from ghostlib.runs import local
from tests.faults import children
from tests.faults.children import AtFile

FILES = ("weights.safetensors", "ema.safetensors", "metrics.json")  # of a finished training, all that results come from


@dataclass
class Outcome:
    """What became of a training that a fault struck."""

    kind: str
    seed: int
    survived: bool = False  # the command, or the same one started again, ended well
    equal: bool = False  # in the same bits as an undisturbed one
    told: bool | None = None  # whether it said what had happened; None where nobody was left to say it
    tidy: bool = False  # no half-written file and no process is left
    note: str = ""

    @property
    def good(self) -> bool:
        return self.survived and self.equal and self.told is not False and self.tidy


class Whole:
    """The undisturbed training, and one that was killed with two states on disk."""

    def __init__(self, folder: Path):
        self.run = children.tiny_run()
        case = Case(self, folder / "whole")
        case.end()  # the first child waits for its server's imports
        self.content = case.content()
        case.clear()
        start = time.perf_counter()
        assert case.end() == 0 and case.content() == self.content, f"undisturbed: {case.heard()}"
        self.seconds = time.perf_counter() - start
        begun = Case(self, folder / "begun")
        begun.train(AtFile(6, "whole", children.kill))
        self.begun = begun.root
        assert len(begun.states()) == 2
        self.of_two: dict[str, bytes] = {}  # processes, by the first that asks


class Case:
    """A training in a folder of its own."""

    def __init__(self, whole: Whole, folder: Path, seed: str = ""):
        self.whole, self.run, self.rng = whole, whole.run, random.Random(seed)
        self.root, self.said = folder / "runs", folder / "said.txt"
        folder.mkdir(parents=True)

    def start(self, target: Callable[..., None] = children.train, *arguments: object) -> BaseProcess:
        child = local.context().Process(target=target, args=(self.run, self.root, self.said, *arguments))
        child.start()
        return child

    def train(self, strike: Callable[[], None]) -> int:
        """Trains with a fault; returns the exit status."""
        child = self.start(children.train, strike)
        child.join()
        return child.exitcode

    def end(self) -> int:
        """The same command, undisturbed."""
        child = self.start()
        child.join()
        return child.exitcode

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.said.unlink(missing_ok=True)

    def begin(self) -> None:
        """As killed earlier, with two states on disk."""
        shutil.copytree(self.whole.begun, self.root)

    def states(self) -> list[Path]:
        return sorted((self.root / self.run.key / "states").glob("state-*.pt"))

    def content(self) -> dict[str, bytes]:
        folder = self.root / self.run.key
        return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}

    def half_written(self) -> list[Path]:
        return list(self.root.rglob(".*.tmp"))

    def heard(self) -> str:
        return self.said.read_text(encoding="utf-8", errors="replace") if self.said.exists() else ""

    def command(self) -> BaseProcess:
        """A command that trains it, at a random moment after its beginning."""
        child = self.start(children.command)
        while children.BEGUN not in self.heard() and child.is_alive():
            time.sleep(0.01)
        time.sleep(self.rng.random() * self.whole.seconds)
        return child

"""A process on a node of a cluster: it trains what the command would have trained, and tells it how far it is."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ghostlib.runs.job import Job
from ghostlib.runs.store import StoreError, name
from ghostlib.runs.worker import News

SECONDS = 1.0  # between two looks at what tasks say, and between two reports of a job


def settle(jobs: Iterable[Job], folder: Path, settings: Mapping[str, str]) -> None:
    """Puts this process into the folder and under the settings (environment variables) of the command.

    Raises:
        StoreError: this node would train another job under a job's key.
    """
    os.chdir(folder)
    os.environ.update(settings)
    for job in jobs:
        if (ours := replace(job)).key != job.key:  # a copy knows no key and computes its own
            raise StoreError(f"{platform.node()} would train {name(ours)} in place of {name(job)}: its libraries, its "
                             "data or its device are not those of where the command was started")


class Board:
    """What tasks told last of their jobs, until the command takes it: an actor, which tasks tell without waiting."""

    def __init__(self) -> None:
        self.told: dict[str, News] = {}

    def tell(self, news: News) -> None:
        self.told[news[0]] = news

    def take(self) -> list[News]:
        told, self.told = self.told, {}
        return list(told.values())


class Reports:
    """Tells a board how far jobs are, once in a while."""

    def __init__(self, board: Any):
        self.board, self.told = board, {}

    def __call__(self, news: News) -> None:
        if time.monotonic() - self.told.get(news[0], -math.inf) >= SECONDS:
            self.told[news[0]] = time.monotonic()
            self.board.tell.remote(news)

"""What a worker of any engine does: it trains jobs of one cohort, keeps their logs, and tells how far each is."""

from __future__ import annotations

import errno
import io
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from enum import Enum
from typing import Any, BinaryIO

from ghostlib.runs.job import Job
from ghostlib.runs.store import Held, Store
from ghostlib.training.progress import NonFiniteLoss

LOG = "log.txt"  # what a run says, in its folder


class End(Enum):
    """How a job ended in a worker."""

    FINISHED = "finished"
    DIVERGED = "diverged"  # a result, which the store keeps
    HELD = "is trained by another command"
    NO_SPACE = "could not be kept: the disk is full or read-only"
    FAILED = "failed"

    @classmethod
    def by(cls, error: Exception | None) -> End:
        """What the store's error says."""
        if error is None:
            return cls.FINISHED
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return cls.NO_SPACE
        return {Held: cls.HELD, NonFiniteLoss: cls.DIVERGED}.get(type(error), cls.FAILED)


# A job's key, its progress or its end, and the last lines of its log where it failed.
News = tuple[str, Any, str]


class Logs:
    """The logs of a worker's jobs, and where in each of them this start begins."""

    def __init__(self, jobs: Iterable[Job], store: Store):
        self.paths = {job.key: store.folder(job) / LOG for job in jobs}
        self.earlier = {key: log.stat().st_size if log.exists() else 0 for key, log in self.paths.items()}  # bytes

    def tail(self, key: str, exit_status: int | None = None) -> str:
        """The last lines that this start wrote.

        Args:
            key: whose.
            exit_status: of the process, if it ended before the job did.
        """
        log = self.paths[key]
        content = log.read_bytes()[self.earlier[key]:] if log.exists() else b""
        written = content.decode(errors="replace")
        if exit_status is not None and exit_status < 0:
            written += f"\n(killed by signal {-exit_status}; the same command goes on from its last state)"
        return tail(written) or f"    (nothing said, exit status {exit_status})"


def tail(text: str, lines: int = 15) -> str:
    """The last lines, as a report shows them; empty where there are none."""
    return "\n".join("    " + line for line in text.strip("\n").splitlines()[-lines:])


def train(jobs: Sequence[Job], store: Store, logs: Logs, tell: Callable[[News], None]) -> None:
    """Trains jobs of one cohort in this process; what it says meanwhile is in the logs of those that have not ended.

    Args:
        jobs: of one cohort.
        store: where they live.
        logs: theirs.
        tell: called with each job's progress, and with its end.

    Raises:
        SystemExit: something stopped all of them; the logs say what.
    """
    with ExitStack() as stack:
        files = {}
        try:
            for key, log in logs.paths.items():
                log.parent.mkdir(parents=True, exist_ok=True)
                files[key] = stack.enter_context(open(log, "ab", buffering=0))
        except OSError as error:  # a store that cannot be written
            for key in logs.paths:
                tell((key, End.by(error), tail(str(error))))
            return
        everywhere = _Everywhere(files)
        stack.enter_context(redirect_stdout(everywhere))
        stack.enter_context(redirect_stderr(everywhere))
        try:
            for job, error in store.ensure_together(
                    jobs, lambda job, progress: tell((job.key, progress, "")), wait=False):
                file, end = files.pop(job.key), End.by(error)  # what is said from here on does not concern it
                if error is not None and end is not End.HELD:
                    _write(file, "".join(traceback.format_exception(error)))
                told = {End.FAILED: logs.tail(job.key), End.NO_SPACE: tail(str(error))}.get(end, "")
                tell((job.key, end, told))
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None


class _Everywhere(io.TextIOBase):
    """Writes to all of some files."""

    def __init__(self, files: Mapping[str, BinaryIO]):
        self.files = files

    def write(self, text: str) -> int:
        for file in self.files.values():
            _write(file, text)
        return len(text)


def _write(file: BinaryIO, text: str) -> None:
    """Writes what the disk takes: what a run says must not end it."""
    with suppress(OSError):
        file.write(text.encode(errors="backslashreplace"))

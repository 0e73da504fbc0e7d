"""Which errors the command line ends with in words, and with which; all others keep their traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import FrameType

# Modules whose projects, by which pip knows them, have other names.
_PROJECTS = {"bs4": "beautifulsoup4", "mmcv": "onedl-mmcv", "mmdet": "onedl-mmdetection", "mmengine": "onedl-mmengine",
             "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}

_FULL = "make room, and start the same command again"
_REMEDIES = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL,
             errno.EROFS: "make it writable, or choose another folder (of trainings: GHOSTLIB_RUNS=FOLDER)"}
# A socket's path has 104 bytes on macOS, 108 on Linux; Python's is TMPDIR/pymp-xxxxxxxx/listener-xxxxxxxx.
_LONGEST_TMPDIR = 70
_WITH_PROCESSES = ("measure", "plan", "train", "evaluate", "execute")  # which talk through sockets


def words(error: Exception) -> str:
    """What a foreseen error says: a bad argument, file or missing package; empty for one that nobody foresaw.

    Of an error in a process that loads data it is without the traceback that PyTorch writes into it.
    """
    foreseen = isinstance(error, ValueError | OSError | ModuleNotFoundError)
    if _is_of_a_script(error) or not foreseen and not type(error).__module__.startswith("ghostlib."):
        return ""
    text = getattr(error, "command", str(error))  # a remedy in Python is none on the command line
    if isinstance(error, ModuleNotFoundError) and "pip install" not in text:
        extra = _extra_of(error.name or "")
        return f"{text}: pip install 'ghostlib[{extra}]'" if extra else text
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return f"{text}; {_REMEDIES[error.errno]}"
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text


@contextmanager
def of_folder(folder: Path) -> Iterator[None]:
    """Tells the classes of a folder from a classifier's, where weights are opened for as many as the folder has.

    Raises:
        ValueError: the classifier has another number.
    """
    try:
        yield
    except ValueError as error:
        if not (classes := getattr(error, "classes", None)):
            raise
        theirs, ours = classes
        raise ValueError(f"{folder} has {ours} classes (one a folder in it) and the file's classifier {theirs}: score "
                         f"it on images of its own classes, in {theirs} folders that sort as they did when it was "
                         "trained") from error


@contextmanager
def interruptible(arguments: Sequence[str]) -> Iterator[None]:
    """Ends a command at Ctrl-C or SIGTERM as at an error, so that files close and processes end, and says what is next.

    A second one ends it at once. A signal that whoever started it ignores (nohup, a shell's background) stays ignored.

    Args:
        arguments: of the command line.

    Raises:
        SystemExit: with 130 or 143, as a shell has it, once all is closed.
    """
    ours, received = os.getpid(), []

    def stop(number: int, frame: FrameType | None) -> None:
        in_fork = os.getpid() != ours  # such as loads data
        for handled, handler in before.items():
            signal.signal(handled, handler if in_fork else signal.SIG_DFL)
        if in_fork:
            os.kill(os.getpid(), number)
            return
        received.append(number)
        raise SystemExit(128 + number)  # Click has words of its own for KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    except BaseException:
        if not received:
            raise
        with suppress(OSError):  # the terminal may be gone
            print(f"interrupted{_next(arguments)}", file=sys.stderr)
        raise SystemExit(128 + received[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_sockets(arguments: Sequence[str]) -> None:
    """Refuses a folder of temporary files where processes cannot talk: they would wait for each other for ever.

    Args:
        arguments: of the command line; what starts no process takes any folder.

    Raises:
        ValueError: its path is too long for a socket.
    """
    folder = tempfile.gettempdir()
    length = len(os.fsencode(folder))
    if arguments and arguments[0] in _WITH_PROCESSES and length > _LONGEST_TMPDIR:
        raise ValueError(f"{folder}, the folder of temporary files, has a path of {length} bytes, too long for the "
                         f"sockets that processes talk through: set TMPDIR to one of at most {_LONGEST_TMPDIR}, such "
                         "as /tmp")


# What is begun anew.
_AT_ONCE = {"counts", "latencies", "bottleneck", "notebooks/complexity.ipynb", "notebooks/latency.ipynb"}


def _next(arguments: Sequence[str]) -> str:
    """What whoever interrupted a command may do."""
    command = "".join(arguments[:1])
    trains = command in ("train", "measure", "execute") and not _AT_ONCE.intersection(arguments)
    if not trains and "--published" not in arguments:
        return ""
    return f": {'without --fresh ' if '--fresh' in arguments else ''}the same command goes on from the last state"


def _is_of_a_script(error: Exception) -> bool:
    """Whether a script that `ghostlib mmdet run` ran raised it: whoever wrote that needs the traceback."""
    return any(frame.f_globals.get("__name__") == "runpy" for frame, _ in traceback.walk_tb(error.__traceback__))


def _extra_of(module: str) -> str:
    """The first extra that brings a module; empty if none does."""
    name = module.partition(".")[0]
    project = re.escape(_PROJECTS.get(name, name.replace("_", "-")))
    try:
        requirements = metadata.requires("ghostlib") or []
    except metadata.PackageNotFoundError:  # it runs from a clone
        return ""
    found = (re.match(rf"{project}(?![-.\w]).*\bextra == [\"']([\w-]+)", text, re.IGNORECASE) for text in requirements)
    return next((match[1] for match in found if match), "")

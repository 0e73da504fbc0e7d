"""Which errors the command line ends with in words, and with which; all others keep their traceback."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

# Modules whose projects, by which pip knows them, have other names.
_PROJECTS = {"bs4": "beautifulsoup4", "mmcv": "onedl-mmcv", "mmdet": "onedl-mmdetection", "mmengine": "onedl-mmengine",
             "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}


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

"""Files that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from torch import nn

_DAY = 86_400  # seconds


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Replaces a file's content at once: after a crash the old or the new content is there, never a part.

    Args:
        path: the file; its folder is made if need be.
        content: text is written in UTF-8.

    Raises:
        OSError: it names the file and says that what was there before is untouched, or, where only the folder could not
            be written through, that the new content may not outlive a power cut.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")  # others may be in containers, of one number
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # a read-only disk refuses even this
            temporary.unlink(missing_ok=True)
        of_folder = f" ({error.filename})" if error.filename and Path(error.filename) in path.parents else ""
        raise OSError(error.errno, f"{error.strerror}{of_folder}; what was at {path} before is untouched",
                      str(path)) from error
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; what is at {path} is new and whole, but a power cut may bring "
                                   "back what was there before", str(path)) from error


def sweep(folder: Path, pattern: str) -> None:
    """Removes the folders in a folder whose names match and that nobody has touched for a day: a killed command's.

    Whether its process lives is not asked, as it may be another machine's.
    """
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # another command sweeps, too
            if time.time() - path.stat().st_ctime > _DAY:
                shutil.rmtree(path, ignore_errors=True)


def read_json(path: Path) -> Any:
    """A file's content.

    Raises:
        ValueError: it is torn; the message names it.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is torn ({error}); take it from git, or run `dvc repro`, whose stage writes it "
                         "again") from error


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Writes a network's weights, in the form it has, as safetensors: the whole file or, if that fails, nothing."""
    from safetensors.torch import save
    from torch import contiguous_format

    # Copied, as safetensors takes no tensor twice: modules that a network shares have a name for each place.
    state = {name: tensor.detach().cpu().clone(memory_format=contiguous_format)
             for name, tensor in network.state_dict().items()}
    write_atomic(path, save(state))

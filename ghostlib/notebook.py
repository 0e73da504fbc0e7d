"""Executing a notebook: checked before, streamed meanwhile, and stored without what changes by itself."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ghostlib.files import write_atomic
from ghostlib.runs.store import Store


class NotebookError(RuntimeError):
    """A notebook that cannot be executed as it is or with these parameters."""


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Runs a notebook with papermill and stores it without what changes from one execution to the next.

    What its cells write to stderr (progress bars, logs) goes to this process's stderr as it comes, and is not kept.

    Raises:
        NotebookError: the notebook does not exist or has no such parameter (before a kernel starts), or a cell
            failed (the notebook up to there is kept, and the message says where).
    """
    # nbformat's checker of schemas builds a grammar of URIs with this, a second in every process, where it is there.
    sys.modules.setdefault("rfc3987_syntax", None)
    import nbformat
    import papermill
    from traitlets.config import Config

    _check_parameters(notebook, parameters)
    scratch = Store().root / "notebooks" / "-".join(output.relative_to(output.anchor).parts)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _relay_output()
    with TemporaryDirectory() as sockets:
        # On sockets in a folder of its own no other user can talk to the kernel; on TCP it would warn that any can.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"},
                         # A kernel that is shut down calls its own interruption an error.
                         "NotebookClient": {"extra_arguments": ["--IPKernelApp.log_level=50"]}})
        try:
            papermill.execute_notebook(notebook, scratch, parameters, cwd=".", kernel_name="python3",
                                       log_output=True, progress_bar=False, config=config)
        except papermill.PapermillExecutionError as error:
            raise NotebookError(f"{notebook} failed; as far as it came: {scratch}\n{_plain(str(error))}") from error
    write_atomic(output, nbformat.writes(stable(nbformat.read(scratch, as_version=4))) + "\n")
    scratch.unlink()


def stable(notebook: Any) -> Any:
    """The executed notebook without timings, random ids, stderr and the kernel's version."""
    from nbstripout import strip_output

    notebook = strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=[
        "metadata.papermill", "metadata.language_info", "metadata.widgets", "cell.metadata.papermill",
        "cell.metadata.execution"])
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    return notebook


def enter_repository() -> Path:
    """Makes the repository's root the working directory, from any folder in it, as a notebook opened by hand needs.

    Raises:
        NotebookError: neither the working directory nor one above it holds a params.yaml.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), None)
    if root is None:
        raise NotebookError(f"no params.yaml in {here} or above it; start from the repository")
    os.chdir(root)
    return root


def _check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    import papermill

    if not notebook.exists():
        raise NotebookError(f"{notebook} does not exist")
    known = papermill.inspect_notebook(notebook)
    if unknown := set(parameters) - set(known):
        raise NotebookError(f"{notebook} has no parameter {', '.join(map(repr, sorted(unknown)))}; it has: "
                            f"{', '.join(known) or 'none'}")


def _relay_output() -> None:
    """Papermill logs what cells print; a progress bar needs it as it is, carriage returns and all."""
    class Raw(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:  # papermill's level for a cell's stderr
                sys.stderr.write(record.getMessage())
                sys.stderr.flush()

    logger = logging.getLogger("papermill")
    logger.handlers, logger.propagate = [Raw()], False
    logger.setLevel(logging.WARNING)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)

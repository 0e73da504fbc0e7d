"""Executing a notebook: checked before, streamed meanwhile, and stored with its answer first.

One that is run by hand reads and writes a copy of the results, so that looking changes nothing.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ghostlib.files import write_atomic
from ghostlib.measures import places
from ghostlib.runs.store import Store

OPENING = "opening"  # the tag of the cell whose Markdown an executed notebook begins with
_NEVER_READ = {"notebooks", "site"}  # by a notebook, of results/<profile>


class NotebookError(RuntimeError):
    """A notebook that cannot be executed as it is or with these parameters."""


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Runs a notebook with papermill and stores it, its answer first, without what changes between two executions.

    What its cells write to stderr (progress bars, logs) goes to this process's stderr as it comes, and is not kept.
    Its cells read and write results/ itself, as the pipeline needs it.

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
    os.environ.setdefault(places.FOLDER, str(places.RESULTS))  # for the kernel: see `enter_repository`
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
    write_atomic(output, nbformat.writes(opened(stable(nbformat.read(scratch, as_version=4)))) + "\n")
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


def opened(notebook: Any) -> Any:
    """The executed notebook with what its cell tagged `OPENING` shows, Markdown, right below its title.

    So a reader meets what came out before any code. Where that Markdown begins with a title, this one takes the place
    of the source's; the rest of the source's first cell stands below. Without such a cell nothing changes.
    """
    for cell in notebook.cells:
        if OPENING in cell.metadata.get("tags", []):
            shown = [output.data["text/markdown"] for output in cell.outputs if _is_markdown(output)]
            cell.outputs = [output for output in cell.outputs if not _is_markdown(output)]
            heading, _, below = notebook.cells[0].source.partition("\n")
            is_titled = "".join(shown).startswith("# ")
            notebook.cells[0].source = "\n\n".join(filter(None, ["" if is_titled else heading, *shown, below.strip()]))
    return notebook


def enter_repository() -> Path:
    """Makes the repository's root the working directory, from any folder in it, as a notebook opened by hand needs.

    Whoever runs its cells by hand must not change the committed results by it: unless the environment names a folder of
    results, as `execute` does, the notebook has .runs/scratch, a copy of results/. What it measures or draws there
    stays until results/ holds something newer.

    Raises:
        NotebookError: neither the working directory nor one above it holds a params.yaml.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), None)
    if root is None:
        raise NotebookError(f"no params.yaml in {here} or above it; start from the repository")
    os.chdir(root)
    if places.FOLDER not in os.environ:
        scratch = Store().root / "scratch"
        _refresh(scratch)
        os.environ[places.FOLDER] = str(scratch)
        print(f"Run by hand, this notebook reads a copy of {places.RESULTS}/ and writes to {scratch}/.")
    return root


def _refresh(scratch: Path) -> None:
    """Copies from results/ what a notebook may read and what is not there or is older; removes copies of what is gone.

    Beside the scratch lies a folder of empty files, each as old as a copy: a file that a notebook wrote since is none,
    and stays.
    """
    copied = scratch.with_name(f"{scratch.name}.copied")
    for path in places.RESULTS.rglob("*"):
        name = path.relative_to(places.RESULTS)
        if not path.is_file() or any(part in _NEVER_READ or part.startswith(".") for part in name.parts):
            continue
        copy, mark, time = scratch / name, copied / name, path.stat().st_mtime
        for target in (copy, mark):
            target.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.stat().st_mtime < time:
            shutil.copy2(path, copy)
        if copy.stat().st_mtime == time:
            mark.touch()
            shutil.copystat(copy, mark)
    for mark in [path for path in copied.rglob("*") if path.is_file()]:
        name = mark.relative_to(copied)
        if not (places.RESULTS / name).exists():
            copy = scratch / name
            if copy.exists() and copy.stat().st_mtime == mark.stat().st_mtime:
                copy.unlink()
            mark.unlink()


def _is_markdown(output: Any) -> bool:
    return "text/markdown" in output.get("data", {})


def _check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    import papermill

    if not notebook.exists():
        raise NotebookError(f"{notebook} does not exist")
    try:
        known = papermill.inspect_notebook(notebook)
    except ValueError as error:
        raise NotebookError(f"{notebook} cannot be read as a notebook of Python's: {error}") from error
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

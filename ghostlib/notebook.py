"""What the stages of dvc.yaml run: `python -m ghostlib.notebook --help`."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from traitlets.config import Config

from ghostlib.runs.store import Store
from ghostlib.training.profile import load_params, load_profile


class PipelineError(RuntimeError):
    """A stage that cannot run as asked."""


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Runs a notebook with papermill and stores it without what changes from one execution to the next.

    What its cells write to stderr (progress bars, logs) goes to this process's stderr as it comes, and is not kept.

    Raises:
        PipelineError: the notebook does not exist or has no such parameter (before a kernel starts), or a cell
            failed (the notebook up to there is kept, and the message says where).
    """
    import nbformat
    import papermill

    _check_parameters(notebook, parameters)
    scratch = Store().root / "notebooks" / "-".join(output.parts)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _relay_output()
    with TemporaryDirectory() as sockets:
        # On sockets in a folder of its own no other user can talk to the kernel; on TCP it would warn that any can.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        try:
            papermill.execute_notebook(notebook, scratch, parameters, cwd=".", kernel_name="python3",
                                       log_output=True, progress_bar=False, config=config)
        except papermill.PapermillExecutionError as error:
            raise PipelineError(f"{notebook} failed; as far as it came: {scratch}\n{_plain(str(error))}") from error
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(stable(nbformat.read(scratch, as_version=4)), output)
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


def train(profile_name: str) -> None:
    """Trains all runs of a profile; writes results/<profile>/teachers.csv and each stand-in teacher's weights.

    The notebooks would train their runs themselves; in one grid no core waits for the last run of a table.
    """
    import pandas as pd

    from ghostlib.experiments import train_all

    params, store = load_params(), Store()
    profile = load_profile(profile_name, params)
    runs = train_all(profile, params, store)
    weights = Path("results", profile.name, "teachers")
    weights.mkdir(parents=True, exist_ok=True)
    records = []
    for name, run in runs.items():
        top1 = store.metrics(run)["test"]["top1"][str(run.recipe.ema_decay)]
        records.append((name, run.recipe.network, run.recipe.epochs, run.seed, run.key, top1, run.data))
        shutil.copyfile(store.folder(run) / "ema.safetensors", weights / f"{name}.safetensors")
    columns = ["stands_in_for", "network", "epochs", "seed", "run", "test_top1", "data"]
    pd.DataFrame(records, columns=columns).to_csv(weights.with_suffix(".csv"), index=False, float_format="%.4f")


def choose_profile(name: str, path: Path = Path("params.yaml")) -> None:
    """Sets the `profile:` line of params.yaml, and nothing else in it."""
    from ghostlib.files import write_atomic

    load_profile(name, load_params(path))  # an unknown or broken profile is an error before anything changes
    text, lines = re.subn(r"^profile:.*$", f"profile: {name}", path.read_text(encoding="utf-8"), count=1,
                          flags=re.MULTILINE)
    if not lines:
        raise PipelineError(f"{path} has no line that begins with 'profile:'; add `profile: {name}`")
    write_atomic(path, text.encode())


def enter_repository() -> Path:
    """Makes the repository's root the working directory, from any folder in it, as a notebook opened by hand needs.

    Raises:
        PipelineError: neither the working directory nor one above it holds a params.yaml.
    """
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), None)
    if root is None:
        raise PipelineError(f"no params.yaml in {here} or above it; start from the repository")
    os.chdir(root)
    return root


def _check_parameters(notebook: Path, parameters: dict[str, Any]) -> None:
    import papermill

    if not notebook.exists():
        raise PipelineError(f"{notebook} does not exist")
    known = papermill.inspect_notebook(notebook)
    if unknown := set(parameters) - set(known):
        raise PipelineError(f"{notebook} has no parameter {', '.join(map(repr, sorted(unknown)))}; it has: "
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


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ghostlib.notebook", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="run a notebook and store it without volatile metadata")
    run.add_argument("notebook", type=Path)
    run.add_argument("output", type=Path)
    run.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    trained = commands.add_parser("train", help="train all runs that a profile's experiments ask for")
    trained.add_argument("profile")
    choose = commands.add_parser("profile", help="set the profile in params.yaml")
    choose.add_argument("profile")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "execute":
            execute(chosen.notebook, chosen.output, {name: yaml.safe_load(text) for name, text in chosen.parameter})
        elif chosen.command == "train":
            train(chosen.profile)
        else:
            choose_profile(chosen.profile)
    except KeyboardInterrupt:
        sys.exit(130)  # what was finished is kept; the same command goes on
    except Exception as error:
        # Our own errors say what to do; the traceback of anything else is what a report of a bug needs.
        ours = isinstance(error, (PipelineError, OSError)) or type(error).__module__.startswith("ghostlib.")
        if not ours:
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""What the stages of dvc.yaml run: `python -m ghostlib.pipeline --help`."""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any


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
    scratch = Path(".runs/notebooks") / output.name
    scratch.parent.mkdir(parents=True, exist_ok=True)
    _relay_output()
    try:
        papermill.execute_notebook(notebook, scratch, parameters, cwd=".", kernel_name="python3", log_output=True,
                                   progress_bar=False)
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


def train_teachers(profile_name: str) -> None:
    """Trains a profile's stand-in teachers: results/<profile>/teachers.csv and, for each, its weights."""
    import pandas as pd

    from ghostlib.experiment import train_stand_ins
    from ghostlib.training.profile import load_params, load_profile
    from ghostlib.training.store import Store

    profile, store = load_profile(profile_name, load_params()), Store()
    runs = train_stand_ins(profile, store=store)
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
    from ghostlib.training.profile import load_params, load_profile

    load_profile(name, load_params(path))  # an unknown or broken profile is an error before anything changes
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^profile:.*$", f"profile: {name}", text, count=1, flags=re.MULTILINE), encoding="utf-8")


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
    parser = argparse.ArgumentParser(prog="python -m ghostlib.pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="run a notebook and store it without volatile metadata")
    run.add_argument("notebook", type=Path)
    run.add_argument("output", type=Path)
    run.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    teachers = commands.add_parser("teachers", help="train a profile's stand-in teachers")
    teachers.add_argument("profile")
    choose = commands.add_parser("profile", help="set the profile in params.yaml")
    choose.add_argument("profile")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "execute":
            execute(chosen.notebook, chosen.output, dict(chosen.parameter))
        elif chosen.command == "teachers":
            train_teachers(chosen.profile)
        else:
            choose_profile(chosen.profile)
    except (PipelineError, ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""The command line, `ghostlib --help`: what a library user does with a network, and what the pipeline runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ghostlib import __version__, errors, library, reproduction

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
                  help="Train any compact network with GhostNetV3's strategy; list, count, time, convert, export and "
                       "evaluate the paper's; and the steps of the reproduction that `make repro` runs.")
mmdet = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The networks in MMDetection.")
app.add_typer(library.app)
app.add_typer(reproduction.app)
app.add_typer(mmdet, name="mmdet")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ghostlib {__version__}")
        raise typer.Exit


@app.callback()
def options(version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True,
                                                  help="show the version and end")] = False) -> None:
    pass


# Whatever stands behind the script is the script's, --help too.
@mmdet.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True,
                                        "allow_interspersed_args": False})
def run_script(context: typer.Context,
               script: Annotated[Path, typer.Argument(help="a script of MMDetection's, e.g. tools/test.py")]) -> None:
    """Run a script, with its own arguments behind it, where MMCV has no compiled operators."""
    from ghostlib.mmdet.stand_in import run_script as run

    run([str(script), *context.args])


@mmdet.command()
def check(config: Annotated[Path, typer.Argument(help="a configuration of MMDetection's")]) -> None:
    """Look for every annotation file, category and image that a configuration names."""
    from ghostlib.mmdet.coco import check_config

    check_config(config)
    typer.echo(f"{config}: every annotation file, category and image is there")


def main() -> None:
    """Ends with the words of a bad argument, file or missing package; a traceback is for what nobody foresaw."""
    try:
        with errors.interruptible(sys.argv[1:]):
            errors.check_sockets(sys.argv[1:])
            app()
    except Exception as error:
        if not (told := errors.words(error)):
            raise
        sys.exit(f"error: {told}")


if __name__ == "__main__":
    main()

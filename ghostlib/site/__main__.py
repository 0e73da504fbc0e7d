"""`python -m ghostlib.site.build PROFILE` builds results/PROFILE/site/ and prints where it begins."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ghostlib.site.build import build


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ghostlib.site.build", description=__doc__)
    parser.add_argument("profile", help="the name of a folder of results/")
    try:
        print(build(Path("results", parser.parse_args(arguments).profile)))
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

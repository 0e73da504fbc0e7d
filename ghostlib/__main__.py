"""`python -m ghostlib` is `ghostlib`, the command line; without the package that reads it, both end with words."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line.

    The base install has none: then this says which extra brings it.
    """
    try:
        from ghostlib.cli import main as command_line
    except ModuleNotFoundError as error:
        sys.exit(f"error: the command line needs {error.name}: pip install 'ghostlib[cli]'")
    except KeyboardInterrupt:  # nothing has begun
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()

"""`python -m ghostlib` is `ghostlib`."""

from ghostlib.cli import main

main()

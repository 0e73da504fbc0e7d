"""Fixtures of the pages' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghostlib.site import build
from tests.site import tiny


@pytest.fixture
def folder(tmp_path) -> Path:
    """The results of a tiny profile."""
    folder = tmp_path / "results" / "tiny"
    tiny.write(folder)
    return folder


@pytest.fixture
def pages(folder) -> dict[str, tiny.Page]:
    """By the address in the site."""
    root = build.build(folder).parent
    return {path.relative_to(root).as_posix(): tiny.Page(path) for path in sorted(root.rglob("*.html"))}

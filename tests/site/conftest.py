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


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The pages of the tiny profile, which tests only read."""
    folder = tmp_path_factory.mktemp("results") / "tiny"
    tiny.write(folder)
    return build.build(folder).parent


@pytest.fixture(scope="session")
def pages(site) -> dict[str, tiny.Page]:
    """By the address in the site."""
    return {path.relative_to(site).as_posix(): tiny.Page(path) for path in sorted(site.rglob("*.html"))}

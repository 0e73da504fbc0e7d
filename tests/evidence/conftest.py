"""A folder of results for each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(tmp_path) -> Path:
    """results/<profile>, in a folder of its own: sessions of latencies lie beside it."""
    folder = tmp_path / "profile"
    folder.mkdir()
    return folder

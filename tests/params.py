"""params.yaml and experiments.yaml for a test: one mapping, written as the two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PARAMS = ("profile", "recipe", "latency")  # what stands in params.yaml; the rest is in experiments.yaml


def write_params(folder: str | Path, params: dict[str, Any]) -> None:
    """Writes both files into a folder."""
    for file, keys in (("params", set(PARAMS)), ("experiments", set(params) - set(PARAMS))):
        values = {key: value for key, value in params.items() if key in keys}
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        Path(folder, f"{file}.yaml").write_text(text, encoding="utf-8")

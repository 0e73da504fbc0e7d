"""Where the paper disagrees with itself: errata.yaml, with what numbers.yaml already says filled in."""

from __future__ import annotations

from importlib import resources

import pandas as pd
import yaml

from ghostlib.paper import numbers


def errata() -> pd.DataFrame:
    """One row per inconsistency: place, sentence.

    Raises:
        ValueError: a `note` is the beginning of no note of its table, or of several.
    """
    entries = yaml.safe_load(resources.files(__package__).joinpath("errata.yaml").read_text(encoding="utf-8"))
    return pd.DataFrame([(entry["place"], _sentence(entry)) for entry in entries], columns=["place", "sentence"])


def _sentence(entry: dict[str, str]) -> str:
    if "says" in entry:
        return entry["says"]
    found = [note for note in numbers.entry(entry["table"])["notes"] if note.startswith(entry["note"])]
    if len(found) != 1:
        raise ValueError(f"errata.yaml: {entry['place']}: note: {len(found)} notes of {entry['table']} begin with "
                         f"{entry['note']!r}; it must be one")
    return found[0]

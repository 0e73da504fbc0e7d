"""Where the paper disagrees with itself: errata.yaml, with what numbers.yaml already says filled in."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from ghostlib.config import read_yaml
from ghostlib.paper import numbers


def errata() -> pd.DataFrame:
    """One row per inconsistency: place, sentence.

    Raises:
        ValueError: numbers.yaml has no note with an id that errata.yaml names.
    """
    entries = read_yaml(resources.files(__package__).joinpath("errata.yaml"))
    sentences = [entry.get("says") or numbers.note(entry["table"], entry["note"]) for entry in entries]
    return pd.DataFrame({"place": [entry["place"] for entry in entries], "sentence": sentences})

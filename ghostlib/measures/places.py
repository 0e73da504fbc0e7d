"""Where a profile's measured files lie, and whether they answer the settings of now."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Hashable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

    from ghostlib.training.profile import Profile

RESULTS = Path("results")
# The environment variable that names another folder in its place: a notebook that is run by hand has a copy of its own.
FOLDER = "GHOSTLIB_RESULTS"
# The counted quantities, called as in the paper, whose FLOPs are multiply-accumulates.
PARAMS, MACS = "Params (M)", "FLOPs (M)"
SETTINGS = "settings"  # the column that holds, for each row, a digest of the settings it was measured with
DIVERGED = "diverged"  # the metric, 1, of a training that diverged, which has no other
# Read as text: 0.05 is a label, None too, and 12e4567890123456 a digest.
_TEXT = dict.fromkeys(["row", "column", "kind", "backbone", "stands_in_for", "run", "data", SETTINGS], str)


def folder(profile_name: str) -> Path:
    """All results of a profile, to read and to write: results/<profile>, unless the environment says otherwise."""
    return Path(os.environ.get(FOLDER) or RESULTS, profile_name)


def runs_file(profile_name: str, name: str) -> Path:
    """The measured values of an experiment (`table_1`), the counts (`complexity`) or the latencies (`latency`)."""
    return folder(profile_name) / "runs" / f"{name}.csv"


def curves_file(profile_name: str, experiment: str) -> Path:
    """The learning curves of classifiers: experiment, row, column, seed, epoch, loss, accuracy (%)."""
    return folder(profile_name) / "curves" / f"{experiment}.csv"


def correct_file(profile_name: str, experiment: str) -> Path:
    """Which test images each training gets right: experiment, row, column, seed, images, correct (packed, base64)."""
    return folder(profile_name) / "correct" / f"{experiment}.csv"


def losses_file(profile_name: str, experiment: str) -> Path:
    """The learning curves of detectors: experiment, row, column, seed, epoch, loss."""
    return folder(profile_name) / "losses" / f"{experiment}.csv"


def rates_file(profile_name: str) -> Path:
    """The trainings that a profile's learning rates are chosen by; see `rates`."""
    return folder(profile_name) / "tuning" / "rates.csv"


def rates_curves_file(profile_name: str) -> Path:
    """Their learning curves: kind, lr_scale, seed, epoch, loss, accuracy (%)."""
    return folder(profile_name) / "tuning" / "curves.csv"


def detector_rates_file(profile_name: str) -> Path:
    """The trainings that the detectors' learning rate is chosen by; see `detector_rates`."""
    return folder(profile_name) / "tuning" / "detectors.csv"


def profile_file(profile_name: str) -> Path:
    """What experiments.yaml says of the profile: rendered pages repeat it, so they depend on it."""
    return folder(profile_name) / "profile.json"


def costs_file(profile_name: str, kind: str) -> Path:
    """What the trainings cost that a module here (`classifiers`, ...) asks for: run, kind, seconds, device, date."""
    return folder(profile_name) / "costs" / f"{kind}.csv"


def teachers_file(profile_name: str) -> Path:
    """The stand-in teachers; their weights lie in the folder of the same name."""
    return folder(profile_name) / "teachers.csv"


def figure_2_file(profile_name: str) -> Path:
    """The traced graphs of Figure 2's blocks."""
    return folder(profile_name) / "runs" / "figure_2.json"


def detections_folder(profile_name: str) -> Path:
    """Three images, and detections.json with what is there and what each detector finds; see `detectors`."""
    return folder(profile_name) / "detections"


def digest(*decides: Any) -> str:
    """12 hexadecimal digits of what JSON can hold: the value of the column `settings`.

    Take the settings after resolution, never the code, the data or the libraries, which need torch or files.
    """
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]


def scale_of(profile: Profile) -> dict[str, Any]:
    """What of a profile decides its results, as it is written: no `device: auto` is looked up, so without torch."""
    return {**profile.model_copy(update={"device": "cpu"}).decides_results, "device": profile.device}


def lacking(path: Path, wanted: Iterable[tuple[Hashable, ...]], columns: Sequence[str] = ("row", "column", SETTINGS),
            asked: str = "what params.yaml and experiments.yaml ask for") -> str:
    """Why a measured file is not what is asked for; empty where it is.

    Args:
        path: of the file.
        wanted: of everything that must be in it what `columns` hold; nothing else may be.
        columns: that tell.
        asked: what is wanted, in words.
    """
    if not path.exists():
        return "does not exist"
    found = read_csv(path)
    if absent := [column for column in columns if column not in found]:
        return f"has no column {absent[0]!r}"
    there = set(found[list(columns)].itertuples(index=False, name=None))
    return "" if there == set(wanted) else f"does not hold {asked}"


def undiverged(results: pd.DataFrame, by: Sequence[str] = ("row", "column")) -> pd.DataFrame:
    """Results without the cells of which a seed diverged: of the seeds that did not, a mean would be too good.

    Args:
        results: in long format, with the columns `metric` and `by`.
        by: what a cell is.
    """
    lost = results.loc[results["metric"] == DIVERGED, list(by)].apply(tuple, axis=1)
    return results[~results[list(by)].apply(tuple, axis=1).isin(set(lost))]


def announce(path: Path, why: str) -> None:
    """Says on stderr that something is measured, and why (as `lacking` gives it)."""
    print(f"{path} {why}: measuring", file=sys.stderr, flush=True)


def read_csv(path: Path) -> pd.DataFrame:
    """A measured file, its labels as text.

    Raises:
        ValueError: it is torn, by a copy that broke off, say; the message names it.
    """
    import pandas as pd

    content = path.read_bytes()
    try:
        if content and not content.endswith(b"\n"):
            raise pd.errors.ParserError("its last line is not whole")
        return pd.read_csv(BytesIO(content), dtype=_TEXT, keep_default_na=False, na_values=[""])
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is torn ({str(error).strip()}); take it from git or from where it was copied. If it "
                         "is removed, what it holds has to be measured again") from error


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a measured file at once: four decimals, no index."""
    write_atomic(path, frame.to_csv(index=False, float_format="%.4f"))

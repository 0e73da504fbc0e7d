"""Table 9 at full scale without training: the public weights of its rows, scored on ImageNet's validation images.

    find_images(), validation_images()   the 50,000 images, with ImageNet's own labels
    score()                              row by row, in chunks; what is done is kept in .runs/published.csv
    measure()                            what is kept of all 50,000 images, into runs/published.csv of a profile

The accuracies are of the networks at their full size, so they do not depend on the profile.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.files import write_atomic
from ghostlib.measures import places, pretrained
from ghostlib.measures.pretrained import FOLDER, NoWeights
from ghostlib.models import catalog
from ghostlib.runs.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from ghostlib.training.images import Images

IMAGES = 50_000  # ImageNet's validation images: of fewer there is no number to stand beside the paper's
CHUNK = 2_000  # images that an interruption costs at most; a minute or two on two cores
COMMAND = "ghostlib evaluate --published --data FOLDER"
# top1 and top5 are in %, settings is a digest of the weights, data of the images.
COLUMNS = ["row", "weights", places.SETTINGS, "data", "images", "top1", "top5", "device", "date"]
# As it is kept: `right1` and `right5` of the first `seen` images are right.
_KEPT = ["row", "weights", places.SETTINGS, "data", "images", "seen", "right1", "right5", "device", "date"]
_KEY = ["row", places.SETTINGS, "data"]


def find_images(folder: Path | None = None) -> Path:
    """Where ImageNet's validation images lie, in one folder a class.

    Args:
        folder: that folder, or one above it that has it as `val`; by default $IMAGENET_DIR or data/imagenet.

    Raises:
        FileNotFoundError: it is not there; the message says where was looked, and what to do.
    """
    root = folder or Path(os.environ.get("IMAGENET_DIR") or "data/imagenet")
    if (found := root / "val" if (root / "val").is_dir() else root).is_dir():
        return found
    raise FileNotFoundError(f"no validation images of ImageNet: {root} does not exist; name the folder that has them, "
                            "in one folder a class (n01440764, ...), with --data or the environment variable "
                            "IMAGENET_DIR")


def validation_images(folder: Path) -> Images:
    """The images of a folder with the labels that ImageNet's classifiers have, whichever classes are there.

    Raises:
        DataError: the folder has none, or a folder in it is no class of ImageNet's.
    """
    import numpy as np
    from timm.data import ImageNetInfo

    from ghostlib.training.folders import folder_images
    from ghostlib.training.images import DataError, Images

    images, classes = folder_images(folder)
    numbers = {name: number for number, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    if unknown := [name for name in classes if name not in numbers]:
        raise DataError(f"{folder}: {', '.join(unknown[:3])} is no class of ImageNet's; the images lie in one folder a "
                        "class, called as in ImageNet (n01440764, ...)")
    labels = np.array([numbers[name] for name in classes])[images.labels]
    return Images(labels, images.read, images.digest)


def find_rows(names: Sequence[str] = ()) -> list[str]:
    """Rows of Table 9 by their labels or their networks' names; by default all that have public weights.

    Raises:
        ValueError: there is no such row, or nobody published its weights.
    """
    sources = pretrained.sources()
    if not names:
        return [row for row, source in sources.items() if source.name]
    networks = {network: row for row, network in reversed(catalog.rows().items())}  # the plain row before "+ ours"
    found = []
    for name in names:
        row = networks.get(name, name)
        if row not in sources:
            near = difflib.get_close_matches(name, [*sources, *networks], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"Table 9 has no row {name!r}{hint} Known: {', '.join(sources)}")
        if none := sources[row].none:
            raise ValueError(f"{row}: there are no public weights: {none}")
        found.append(row)
    return list(dict.fromkeys(found))


def score(images: Images, rows: Sequence[str], weights: Path = FOLDER, device: str = "cpu", batch_size: int = 64,
          workers: int = 0) -> list[str]:
    """Scores rows that are not scored yet, folded as deployed, and goes on with one that was interrupted.

    Args:
        images: as `validation_images` gives them.
        rows: as `find_rows` gives them.
        weights: a folder with weights, see `pretrained.open_row`.
        device: of PyTorch's.
        batch_size: of images.
        workers: processes that read images.

    Returns:
        Why rows could not be scored, a sentence each; the others are.
    """
    failed = []
    for row in rows:
        try:
            network, transform, digest = pretrained.open_row(row, weights)
        except NoWeights as error:
            if scored([row], images).empty:
                failed.append(str(error))
        else:
            _score(row, network, transform, digest, images, device, batch_size, workers)
    return failed


def scored(rows: Collection[str], images: Images | None = None) -> pd.DataFrame:
    """What is kept of whole passes: one row each, with the columns `COLUMNS`; of several the last.

    Rows whose weights are not those of published.yaml any more are left out.

    Args:
        rows: which.
        images: over these; by default over as many as ImageNet has.
    """
    sources, kept = pretrained.sources(), _kept()
    kept = kept[(kept["seen"] == kept["images"]) & kept["row"].isin(rows)]
    kept = kept[kept["data"] == _short(images) if images else kept["images"] == IMAGES]
    kept = kept[kept["weights"] == kept["row"].map(lambda row: sources[row].name)]
    kept = kept.drop_duplicates("row", keep="last").sort_values("row", key=lambda of: of.map([*sources].index))
    return kept.assign(**{f"top{k}": 100 * kept[f"right{k}"] / kept["images"] for k in (1, 5)})[COLUMNS]


def measure(profile_name: str) -> None:
    """Scores every row with public weights, where ImageNet is; writes what is scored into runs/published.csv.

    Without ImageNet, or without a row's weights, it says so on stderr and leaves the row as it is on file, if it is: it
    may have been scored on another machine.
    """
    import pandas as pd

    from ghostlib.training.images import DataError

    rows = find_rows()
    try:
        images = validation_images(find_images())
        if len(images) != IMAGES:
            raise DataError(f"{find_images()} holds {len(images)} images and not {IMAGES}")
        _say(score(images, rows, device=_device(), workers=workers()))
    except (FileNotFoundError, DataError) as error:
        _say([f"published weights are not scored: {error}"])
    path, found, sources = places.runs_file(profile_name, "published"), scored(rows), pretrained.sources()
    if path.exists() and not (filed := places.read_csv(path)).empty:
        same = filed["weights"] == filed["row"].map(lambda row: sources[row].name if row in sources else None)
        kept = filed[same & ~filed["row"].isin(found["row"])]
        found = pd.concat([found, kept]) if len(found) else kept  # nothing has no types
        found = found.sort_values("row", key=lambda of: of.map([*sources].index))
    places.write_csv(found, path)


def read(profile_name: str) -> pd.DataFrame:
    """What `measure` wrote, with the columns `COLUMNS`; no rows where nothing was scored."""
    path = places.runs_file(profile_name, "published")
    if not path.exists():
        places.announce(path, "does not exist")
        measure(profile_name)
    return places.read_csv(path)


def workers() -> int:
    """How many processes read images, if nobody says: reading takes longer than a small network does on a GPU."""
    from ghostlib.machine import all_threads

    return all_threads() - 1


def _score(row: str, network: nn.Module, transform: Any, digest: str, images: Images, device: str, batch_size: int,
           workers: int) -> None:
    """One row, from the last chunk that is kept; what is right is counted, so that the sum is the same either way."""
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from ghostlib.machine import device_name
    from ghostlib.models.reparam import reparameterize
    from ghostlib.training.evaluate import evaluate
    from ghostlib.training.views import Views

    state = _begun(row, digest, images)
    if state["seen"] == len(images):
        return
    views, place = Views(images, transform, seed=0), torch.device(device)
    network = reparameterize(network).to(place)
    with tqdm(total=len(images), initial=state["seen"], desc=row, unit="image") as bar:
        for start in range(state["seen"], len(images), CHUNK):
            chunk = [(0, image) for image in range(start, min(start + CHUNK, len(images)))]
            loader = DataLoader(views, batch_size, sampler=chunk, num_workers=workers)
            scores = evaluate({row: network}, _counted(loader, bar), place)
            for metric in ("1", "5"):
                state[f"right{metric}"] += round(scores[f"top{metric}"][row] * len(chunk) / 100)
            _keep(state | {"seen": start + len(chunk), "device": device_name(place.type),
                           "date": datetime.now(UTC).date().isoformat()})


def _counted(batches: Any, bar: Any) -> Iterator[Any]:
    for batch in batches:
        yield batch
        bar.update(len(batch[0]))


def _begun(row: str, digest: str, images: Images) -> dict[str, Any]:
    """What is kept of a row, or nothing seen."""
    new = {"row": row, "weights": pretrained.sources()[row].name, places.SETTINGS: digest, "data": _short(images),
           "images": len(images), "seen": 0, "right1": 0, "right5": 0}
    kept = _kept()
    found = kept[(kept[_KEY] == [new[key] for key in _KEY]).all(axis=1)].to_dict("records")
    return new | (found[0] if found else {})


def _keep(state: dict[str, Any]) -> None:
    """Puts a row's state, the last, into the file; read again, since another process may have kept others."""
    import pandas as pd
    from filelock import FileLock

    _file().parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_file().with_suffix(".lock")):
        kept = pd.DataFrame([*_kept().to_dict("records"), state], columns=_KEPT).drop_duplicates(_KEY, keep="last")
        write_atomic(_file(), kept.to_csv(index=False))


def _kept() -> pd.DataFrame:
    import pandas as pd

    return places.read_csv(_file()) if _file().exists() else pd.DataFrame(columns=_KEPT)


def _short(images: Images) -> str:
    return images.digest[:16]


def _file() -> Path:
    return Store().root / "published.csv"


def _device() -> str:
    import torch

    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"


def _say(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        print(sentence, file=sys.stderr, flush=True)

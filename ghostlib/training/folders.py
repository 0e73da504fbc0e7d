"""Images in folders, one a class, as ImageNet has them: found, compared and read once before a training begins."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ghostlib.files import write_atomic
from ghostlib.training.images import DataError, FileReader, Images, read_image

_AT_A_TIME = 10_000  # images between two writings of what was found whole
_SHOWN = 50  # bad images in a message; all are in a file


def class_folders(root: Path) -> tuple[Images, Images]:
    """The images under root/train/<class>/ and under root/val/<class>/.

    Raises:
        DataError: a folder is absent or not sorted into classes, a class is empty, or the two have different ones.
    """
    (train, classes), (val, val_classes) = folder_images(root / "train"), folder_images(root / "val")
    if classes != val_classes:
        lacking = {"val": sorted(set(classes) - set(val_classes)), "train": sorted(set(val_classes) - set(classes))}
        told = "; ".join(f"{part} lacks {_few(names)}" for part, names in lacking.items() if names)
        raise DataError(f"{root / 'val'} and {root / 'train'} hold different classes: {told}. A class is a folder of "
                        "one name in both; unpack or rename what is missing, or remove what is too much")
    return train, val


def folder_images(root: Path) -> tuple[Images, list[str]]:
    """The images under root/<class>/, and the classes' names in the order of their labels; what is hidden is none.

    The digest is of the files' names and sizes: reading 150 GB at every start would cost an hour.

    Raises:
        DataError: the folder is absent or not sorted into classes, or a class in it is empty.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, has_file_allowed_extension

    def shown(path: str) -> bool:  # not what Jupyter copies into .ipynb_checkpoints, nor macOS's ._ files
        return f"{os.sep}." not in path.removeprefix(str(root))

    class Visible(ImageFolder):
        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            names = [name for name in find_classes(directory)[0] if not name.startswith(".")]
            return names, {name: label for label, name in enumerate(names)}

    if root.is_dir() and not any(path.is_dir() and not path.name.startswith(".") for path in root.iterdir()):
        flat = sum(path.suffix.lower() in IMG_EXTENSIONS for path in root.iterdir())
        raise DataError(
            f"{root} holds {flat} images and no folder for each class. Sort them into folders that bear the classes' "
            "names. If these are ImageNet's validation images, Kaggle's LOC_val_solution.csv has the class of each; or "
            f"torchvision.datasets.ImageNet({str(root.parent)!r}, 'val') makes the folders, in place of this one, from "
            "ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz beside it")
    try:
        folder = Visible(str(root), is_valid_file=lambda path: shown(path) and has_file_allowed_extension(
            path, IMG_EXTENSIONS))
    except FileNotFoundError as error:
        raise DataError(f"{root}: {str(error).strip()} Images end with {', '.join(IMG_EXTENSIONS)}") from error
    paths = tuple(path for path, _ in folder.samples)
    listing = "\n".join(f"{Path(path).relative_to(root).as_posix()} {os.path.getsize(path)}" for path in paths)
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return Images(np.asarray(folder.targets, np.int64), FileReader(paths), digest), folder.classes


def check_whole(parts: Sequence[Images], cache: Path) -> None:
    """Reads every file of folders of images that was not read before, on all cores: none may end a training later.

    Args:
        parts: as `folder_images` gives them.
        cache: the file that remembers which were whole, by path, size and time of change. A check that is killed goes
            on from there.

    Raises:
        DataError: some cannot be read; all are named, or are in a file beside the cache where they are many.
    """
    from tqdm.contrib.concurrent import thread_map  # Pillow decodes without holding Python's lock

    paths = [path for part in parts for path in part.read.paths]
    whole = np.load(cache) if cache.exists() else np.empty(0, np.uint64)
    states = np.array([_state(path) for path in paths], np.uint64)
    unknown = np.flatnonzero(~np.isin(states, whole))
    faults = {}
    for start in range(0, len(unknown), _AT_A_TIME):
        chunk = unknown[start:start + _AT_A_TIME]
        told = thread_map(_fault, [paths[i] for i in chunk], max_workers=os.cpu_count(), unit="image",
                          desc=f"reading all images once, {start + len(chunk)} of {len(unknown)}")
        faults |= {paths[i]: fault for i, fault in zip(chunk, told, strict=True) if fault}
        whole = np.concatenate([whole, states[[i for i in chunk if paths[i] not in faults]]])
        content = io.BytesIO()
        np.save(content, whole)
        write_atomic(cache, content.getvalue())
    if faults:
        listed = "\n".join(faults.values())
        write_atomic(everything := cache.with_suffix(".txt"), f"{listed}\n")
        shown = "\n".join([*list(faults.values())[:_SHOWN]])
        rest = f"\nand {len(faults) - _SHOWN} more, all in {everything}" if len(faults) > _SHOWN else ""
        raise DataError(f"{len(faults)} of {len(paths)} images cannot be read; nothing was trained:\n{shown}{rest}")


def _fault(path: str) -> str:
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


def _state(path: str) -> int:
    """64 bits of a file's path, size and time of change."""
    status = os.stat(path)
    text = f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _few(names: list[str], shown: int = 10) -> str:
    return f"{names[:shown]}" + (f" and {len(names) - shown} more" if len(names) > shown else "")

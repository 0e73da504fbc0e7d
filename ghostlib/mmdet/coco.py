"""Checks that the data of an MMDetection configuration is there, before a training and not hours into it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


PARTS = ("train", "val", "test")


class DetectionError(ValueError):
    """A configuration of a detector that cannot be trained."""


def check_data(config: Config, parts: Iterable[str] = PARTS) -> None:
    """Looks for every annotation file, image and category that a configuration names.

    Args:
        config: it.
        parts: of which of its data loaders.

    Raises:
        DetectionError: an annotation file or an image is missing, a file is no COCO annotation, or the configuration
            names a category that the file does not have, a loader without its data set, or an evaluator with another.
    """
    for part in parts:
        loader = config.get(f"{part}_dataloader")
        if loader:
            if not loader.get("dataset"):
                raise DetectionError(f"{part}_dataloader has no dataset")
            images = _check_dataset(f"{part}_dataloader.dataset", loader["dataset"], part)
            if not loader["dataset"].get("indices"):  # else it is of a part of the images, as its evaluator may be
                _check_evaluators(f"{part}_evaluator", config.get(f"{part}_evaluator"), images)


def check_config(file: str | Path) -> None:
    """Checks the data of a configuration file of MMDetection's; see `check_data`.

    Raises:
        FileNotFoundError: there is no such file.
        DetectionError: see `check_data`; or the file is no configuration, or one that names no data.
    """
    from mmengine.config import Config

    if not Path(file).is_file():
        raise FileNotFoundError(f"{file} does not exist; name a configuration file of MMDetection's")
    try:
        config = Config.fromfile(file)
    except Exception as error:  # it is Python, and can fail in any way
        raise DetectionError(f"{file} cannot be read as a configuration: {type(error).__name__}: {error}") from error
    if not any(config.get(f"{part}_dataloader") for part in PARTS):
        raise DetectionError(f"{file} names no data: it has no train_dataloader, val_dataloader or test_dataloader")
    check_data(config)


def _check_evaluators(key: str, evaluators: Any, images: dict[Path, set[Any]]) -> None:
    """Sees that each evaluator's annotations have the data set's images: an inherited file may be of another set."""
    known = set().union(*images.values())
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators or {}]:
        file = Path(evaluator.get("ann_file") or "")
        if file.suffix != ".json" or "://" in str(evaluator.get("ann_file")) or file.resolve() in images:
            continue
        if absent := known - {image["id"] for image in read_annotations(file, f"{key}.ann_file", False)["images"]}:
            raise DetectionError(f"{key}.ann_file: {file} lacks {len(absent)} of the {len(known)} images that the data "
                                 f"set has ({', '.join(map(str, images))}); name the file of the data set")


def _check_dataset(key: str, dataset: Any, part: str) -> dict[Path, set[Any]]:
    """The ids of a data set's images, by the file of annotations."""
    if "dataset" in dataset:
        return _check_dataset(f"{key}.dataset", dataset["dataset"], part)
    if "datasets" in dataset:
        return dict(item for number, one in enumerate(dataset["datasets"])
                    for item in _check_dataset(f"{key}.datasets[{number}]", one, part).items())
    place, named, prefix = dataset.get("data_root") or "", dataset.get("ann_file") or "", dataset.get("data_prefix")
    if not named.endswith(".json") or "img" not in (prefix or {}) or "://" in f"{place}{named}":
        raise DetectionError(f"{key}: this {dataset.get('type')} cannot be checked: it needs ann_file, a .json on this "
                             "machine, and data_prefix.img, as a data set in COCO's format has. A training without "
                             "CheckDataHook takes any")
    root = Path(place)
    file = root / named
    content = read_annotations(file, f"{key}.ann_file", annotated=part != "test")
    known = {category["name"] for category in content["categories"]}
    wanted = (dataset.get("metainfo") or {}).get("classes") or _classes_of(dataset["type"], key)
    if isinstance(wanted, str):  # MMEngine reads them from a file
        wanted = _lines_of(wanted, f"{key}.metainfo.classes")
    if unknown := [name for name in wanted if name not in known]:
        raise DetectionError(f"{key}.metainfo.classes: {file} has no category {', '.join(map(repr, unknown))}; it has "
                             f"{', '.join(sorted(known))}")
    folder = root / prefix["img"]
    missing = list(_missing(folder, content["images"], file, getattr(dataset["type"], "__name__", dataset["type"])))
    if missing:
        raise DetectionError(f"{key}: {len(missing)} of the {len(content['images'])} images that {file} names are "
                             f"missing in {folder}, e.g. {missing[0]}; correct {key}.data_prefix, or fetch them")
    return {file.resolve(): {image["id"] for image in content["images"]}}


def _missing(folder: Path, images: list[dict[str, Any]], file: Path, dataset_type: str) -> Iterator[str]:
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for image in images:
        # LVIS v1 has addresses, v0.5 longer names, of which MMDetection takes the end.
        name = image.get("file_name") or image.get("coco_url", "").removeprefix("http://images.cocodataset.org/")
        if not name:
            raise DetectionError(f"{file}: image {image.get('id')} has neither a file_name nor a coco_url")
        if dataset_type in ("LVISDataset", "LVISV05Dataset") and name.startswith("COCO"):
            name = name[-16:]
        # One listing serves all 118,000 images of a folder; a name that holds a folder is looked up by itself.
        if name not in present and not ("/" in name and (folder / name).is_file()):
            yield name


def _lines_of(file: str, key: str) -> list[str]:
    from mmengine.fileio import list_from_file

    try:
        return list_from_file(file)
    except (OSError, ValueError) as error:
        raise DetectionError(f"{key} = {file!r} cannot be read ({error}); name a file with a category a line, or all "
                             "categories in parentheses") from None


def _classes_of(dataset_type: str | type, key: str) -> tuple[str, ...]:
    from mmdet.registry import DATASETS

    found = dataset_type if isinstance(dataset_type, type) else DATASETS.get(dataset_type)
    if found is None:
        raise DetectionError(f"{key}.type: MMDetection knows no data set {dataset_type!r}; correct it, or name what "
                             "registers it in custom_imports, or the classes in metainfo")
    return getattr(found, "METAINFO", {}).get("classes", ())


def read_annotations(file: Path, key: str, annotated: bool = True) -> dict[str, Any]:
    """The content of a file in COCO's format.

    Args:
        file: the annotations.
        key: where the configuration names the file; an error begins with it.
        annotated: whether it must have annotations; COCO's files of test images have none.

    Raises:
        DetectionError: the file is missing, torn or no COCO annotation.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectionError(f"{key}: {file} is missing. COCO belongs in data/coco (annotations/, train2017/, "
                             "val2017/), in a folder or a link of that name") from None
    except ValueError as error:
        raise DetectionError(f"{key}: {file} is torn or no JSON ({error}); fetch it again") from None
    if not isinstance(content, dict):
        raise DetectionError(f"{key}: {file} is no COCO annotation but a list, as results of a detector are")
    if absent := {"images", "categories", *(["annotations"] if annotated else [])} - set(content):
        raise DetectionError(f"{key}: {file} is no COCO annotation: it has no {', '.join(sorted(absent))}")
    for part, field in (("images", "id"), ("categories", "id"), ("categories", "name")):
        if lacking := sum(field not in one for one in content[part]):
            raise DetectionError(f"{key}: {file} is no COCO annotation: {lacking} of its {part} have no {field}")
    for part, field in (("images", "image_id"), ("categories", "category_id")) if annotated else ():
        listed = {one["id"] for one in content[part]}
        # Panoptic annotations and captions have no category of their own.
        if foreign := {one[field] for one in content["annotations"] if field in one} - listed:
            raise DetectionError(f"{key}: {file} has annotations of {part} that it does not list, e.g. {field} = "
                                 f"{min(foreign, key=str)}")
    return content

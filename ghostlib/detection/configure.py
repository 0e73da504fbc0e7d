"""A row of Table 10 as MMDetection's configuration, at a profile's scale, and whether its data is there.

    python -m ghostlib.detection.configure CONFIG    checks the data of any configuration for data in COCO's format
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.detection.scale import Scale

if TYPE_CHECKING:
    from mmengine.config import Config

CONFIGS = Path(__file__).parents[2] / "detection" / "configs"


class DetectionError(ValueError):
    """A configuration of a detector that cannot be trained."""


def config_file(arch: str, side: int) -> Path:
    """The configuration of a row of Table 10."""
    return CONFIGS / f"yolov3_{arch}_{side}.py"


def configure(file: Path, scale: Scale, arch: str, width: float, data: Path | None = None) -> Config:
    """The configuration of a file at a scale.

    Args:
        file: MMDetection's YOLOv3 with any backbone.
        scale: what differs.
        arch: the network of the zoo to put in as the backbone.
        width: its width.
        data: the folder of the scenes, where the scale has some.
    """
    from mmengine.config import Config

    from ghostlib.mmdet import GhostBackbone

    config = Config.fromfile(file)
    backbone = dict(arch=arch, width=width, out_indices=(2, 3, 4))
    # Assigned, not merged: MMDetection's own backbone in the file has other arguments.
    config.model.backbone = dict(type="GhostBackbone", **backbone)
    config.model.neck.in_channels = list(GhostBackbone(**backbone).channels[::-1])
    if scale.resize != 1:
        _resize(config, scale.resize)
    if data is not None:
        _put_scenes(config, data)
    images = _innermost(config.train_dataloader.dataset)
    images.pipeline = [transform for transform in images.pipeline if transform["type"] not in scale.without]
    config.merge_from_dict(scale.options)
    return config


def check_data(config: Config) -> None:
    """Looks for what a training would miss hours later.

    Raises:
        DetectionError: an annotation file or an image is not there, a file is no COCO annotation, or the
            configuration and the file name different categories.
    """
    for part in ("train", "val", "test"):
        loader = config.get(f"{part}_dataloader")
        if loader:
            _check_dataset(f"{part}_dataloader", loader["dataset"])


def _resize(config: Config, factor: float) -> None:
    """Every resolution, to multiples of 32 px (the coarsest stride), and the anchors."""
    def side(length: float) -> int:
        return max(1, round(length * factor / 32)) * 32

    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for transform in _innermost(loader.dataset).pipeline:
            if "scale" in transform:
                scale = transform["scale"]
                transform["scale"] = ([tuple(map(side, one)) for one in scale] if isinstance(scale[0], (list, tuple))
                                      else tuple(map(side, scale)))
    anchors = config.model.bbox_head.anchor_generator
    anchors.base_sizes = [[(width * factor, height * factor) for width, height in level]
                          for level in anchors.base_sizes]


def _put_scenes(config: Config, data: Path) -> None:
    train = _read(data / "annotations" / "train.json", "the scenes")
    classes = tuple(category["name"] for category in train["categories"])
    for loader, part in ((config.train_dataloader, "train"), (config.val_dataloader, "val"),
                         (config.test_dataloader, "val")):
        _innermost(loader.dataset).update(
            data_root=f"{data}/", ann_file=f"annotations/{part}.json", data_prefix=dict(img=f"{part}/"),
            metainfo=dict(classes=classes), filter_cfg=None)
    # Repeated ten times, an epoch of COCO takes hours; one of the scenes takes seconds.
    config.train_dataloader.dataset = _innermost(config.train_dataloader.dataset)
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = f"{data}/annotations/val.json"
    config.model.bbox_head.num_classes = len(classes)


def _innermost(dataset: Any) -> Any:
    """The data set itself, without what repeats it."""
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def _check_dataset(key: str, dataset: Any) -> None:
    depth = ".dataset"
    while "dataset" in dataset:
        dataset, depth = dataset["dataset"], depth + ".dataset"
    key, root = key + depth, Path(dataset.get("data_root") or "")
    if "ann_file" not in dataset or "img" not in (dataset.get("data_prefix") or {}):
        raise DetectionError(f"{key}: only a data set in COCO's format, with ann_file and data_prefix.img, can be "
                             f"checked, and this {dataset.get('type')} has not both")
    file = root / dataset["ann_file"]
    content = _read(file, f"{key}.ann_file")
    known = {category["name"] for category in content["categories"]}
    wanted = (dataset.get("metainfo") or {}).get("classes") or _classes_of(dataset["type"])
    if unknown := [name for name in wanted if name not in known]:
        raise DetectionError(f"{key}.metainfo.classes: {file} has no category {', '.join(map(repr, unknown))}; it has "
                             f"{', '.join(sorted(known))}")
    folder = root / dataset["data_prefix"]["img"]
    missing = list(_missing(folder, content["images"]))
    if missing:
        raise DetectionError(f"{key}: {len(missing)} of the {len(content['images'])} images that {file} names are not "
                             f"in {folder}, e.g. {missing[0]}; correct {key}.data_prefix, or fetch them")


def _missing(folder: Path, images: list[dict[str, Any]]) -> Iterator[str]:
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for image in images:
        name = image["file_name"]
        # One listing answers for a folder of 118,000; a name with folders in it is looked for by itself.
        if name not in present and not ("/" in name and (folder / name).is_file()):
            yield name


def _classes_of(dataset_type: str) -> tuple[str, ...]:
    from mmdet.registry import DATASETS

    return getattr(DATASETS.get(dataset_type), "METAINFO", {}).get("classes", ())


def _read(file: Path, key: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectionError(f"{key}: {file} is not there. COCO belongs in data/coco (annotations/, train2017/, "
                             "val2017/) or a link there") from None
    except ValueError as error:
        raise DetectionError(f"{key}: {file} is torn or no JSON ({error}); fetch it again") from None
    if absent := {"images", "annotations", "categories"} - set(content):
        raise DetectionError(f"{key}: {file} is no COCO annotation: it has no {', '.join(sorted(absent))}")
    return content


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ghostlib.detection.configure",
                                     description="Look for every annotation file, category and image of a detector.")
    parser.add_argument("config", type=Path, help="a configuration of MMDetection's")
    file = parser.parse_args(arguments).config
    if not file.is_file():
        sys.exit(f"error: {file} does not exist")
    from mmengine.config import Config

    from ghostlib import mmcv_ops

    mmcv_ops.install()
    try:
        check_data(Config.fromfile(file))
    except DetectionError as error:
        sys.exit(f"error: {error}")
    print(f"{file}: every annotation file, category and image is there")


if __name__ == "__main__":
    main()

"""A row of Table 10 as MMDetection's configuration, at a profile's scale."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError, hint, short
from ghostlib.detection.scale import Scale
from ghostlib.models import catalog

if TYPE_CHECKING:
    from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / "mmdet" / "configs"
# The weights of a classifier that its detector starts from: the averaged ones, which the classifier's accuracy is of.
CLASSIFIER_WEIGHTS = "ema.safetensors"
WHERE = "experiments.yaml: detection.scales.<profile>"
# What MMEngine takes and no configuration in the folder states.
_UNSTATED = {"optim_wrapper": ("accumulative_counts", "paramwise_cfg"),
             "train_cfg": ("dynamic_intervals",),
             "train_dataloader": ("drop_last", "pin_memory", "prefetch_factor"),
             "val_dataloader": ("pin_memory", "prefetch_factor"), "test_dataloader": ("pin_memory", "prefetch_factor")}

# What `loop.train` sets itself, whatever a configuration says.
_OURS = ("work_dir", "log_level", "randomness", "resume", "load_from", "visualizer", "optim_wrapper.constructor",
         "train_cfg.val_begin", "default_hooks.checkpoint", "val_evaluator.outfile_prefix")


def config_file(arch: str, side: int) -> Path:
    """The configuration file of a backbone at a resolution (px) of Table 10."""
    return CONFIGS / f"yolov3_{arch}_{side}.py"


def configure(file: Path, scale: Scale, arch: str, width_scale: float, scenes: Path | None = None,
              classifier: Path | None = None) -> Config:
    """The configuration in a file, changed to a scale.

    Args:
        file: MMDetection's YOLOv3 with any backbone.
        scale: what differs.
        arch: the network of the zoo that becomes the backbone.
        width_scale: multiplies the network's own width.
        scenes: the folder of the scenes; None for the data that the file names.
        classifier: the folder of the trained classifier that the backbone starts from; None for random weights.

    Raises:
        ConfigError: the scale leaves out what the file has not, or changes what it does not state.
    """
    from mmengine.config import Config

    from ghostlib.mmdet import GhostBackbone

    # MMEngine puts the text of the whole into every state, and to format it takes half a second.
    config = Config(Config.fromfile(file).to_dict(), filename=str(file), format_python_code=False)
    backbone = dict(arch=arch, width=catalog.default_width(arch) * width_scale, out_indices=(2, 3, 4))
    # Assigned, not merged: MMDetection's own backbone in the file has other arguments.
    config.model.backbone = dict(type="GhostBackbone", **backbone)
    config.model.neck.in_channels = list(GhostBackbone(**backbone).channels[::-1])
    if classifier is not None:
        config.model.backbone.weights = str(classifier / CLASSIFIER_WEIGHTS)
    if scale.resize != 1:
        _resize(config, scale)
    if scenes is not None:
        _put_scenes(config, scenes, scale.part or "val")
    change(config, scale, file)
    return config


def change(config: Config, scale: Scale, file: Path) -> None:
    """Leaves out what the scale leaves out and sets its options; see `configure` for errors."""
    images = _innermost(config.train_dataloader.dataset)
    present = [transform["type"] for transform in images.pipeline]
    if unknown := [name for name in scale.without if name not in present]:
        raise ConfigError(f"{WHERE}.without = {unknown[0]!r} is none of the transforms in {file.name}; "
                          f"{hint(unknown[0], present)}")
    images.pipeline = [transform for transform in images.pipeline if transform["type"] not in scale.without]
    for option, value in scale.options.items():
        _check_option(config, option.split("."), value, (), file)
    config.merge_from_dict(copy.deepcopy(scale.options))  # it takes `_delete_` out
    if scale.lr is not None:
        config.optim_wrapper.optimizer.lr = scale.lr


def _check_option(section: Any, keys: list[str], value: Any, path: tuple[str, ...], file: Path) -> None:
    """Refuses a change of what a configuration does not state, and a number's to true or false."""
    key, *rest = keys
    name = ".".join((*path, *keys))
    told = f"{WHERE}.options: {name} = {short(value)}"
    if ours := [one for one in _OURS if f"{name}.".startswith(f"{one}.")]:
        raise ConfigError(f"{told}: remove it; the training sets {ours[0]} itself")
    if isinstance(section, list):  # MMEngine counts its items by their keys
        known = [str(i) for i in range(len(section))]
    elif hasattr(section, "keys"):
        known = [*section, *_UNSTATED.get(".".join(path), ()), "_delete_"]
    else:
        known = []
    if key not in known:
        raise ConfigError(f"{told}: {file.name} has no {key!r}{' in ' + '.'.join(path) if path else ''}; "
                          f"{hint(key, known)}")
    stated = section[int(key)] if isinstance(section, list) else section.get(key)
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        if isinstance(value, bool):
            raise ConfigError(f"{told}: true and false are no numbers, and {file.name} has {stated!r} there")
        if isinstance(value, str):
            raise ConfigError(f"{told}: that is a text, and {file.name} has the number {stated!r} there; 1e-3 is a "
                              "text in YAML, 0.001 and 1.0e-3 are numbers")
    if rest:
        _check_option(stated, rest, value, (*path, key), file)
    elif isinstance(value, dict) and isinstance(stated, dict) and not value.get("_delete_"):
        for name, inner in value.items():
            _check_option(stated, [str(name)], inner, (*path, key), file)


def _resize(config: Config, scale: Scale) -> None:
    """Brings every resolution and every anchor to a scale."""
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        for transform in _innermost(loader.dataset).pipeline:
            if "scale" in transform:
                sides = transform["scale"]
                transform["scale"] = ([tuple(map(scale.side, one)) for one in sides]
                                      if isinstance(sides[0], (list, tuple)) else tuple(map(scale.side, sides)))
    anchors = config.model.bbox_head.anchor_generator
    anchors.base_sizes = [[(width * scale.resize, height * scale.resize) for width, height in level]
                          for level in anchors.base_sizes]


def _put_scenes(config: Config, folder: Path, evaluated: str) -> None:
    """Names the scenes as the data; `evaluated` is the part of them that is evaluated on."""
    from ghostlib.mmdet.coco import read_annotations

    train = read_annotations(folder / "annotations" / "train.json", "the scenes")
    classes = tuple(category["name"] for category in train["categories"])
    for loader, part in ((config.train_dataloader, "train"), (config.val_dataloader, evaluated),
                         (config.test_dataloader, evaluated)):
        _innermost(loader.dataset).update(
            data_root=f"{folder}/", ann_file=f"annotations/{part}.json", data_prefix=dict(img=f"{part}/"),
            metainfo=dict(classes=classes), filter_cfg=None)
    # An epoch of COCO, repeated ten times, takes hours; one of the scenes takes seconds and is not repeated.
    config.train_dataloader.dataset = _innermost(config.train_dataloader.dataset)
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = f"{folder}/annotations/{evaluated}.json"
    config.model.bbox_head.num_classes = len(classes)


def _innermost(dataset: Any) -> Any:
    """The data set itself, without the wrapper that repeats it."""
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset

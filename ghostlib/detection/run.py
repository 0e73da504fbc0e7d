"""The training of a detector as a job: a row of Table 10 at a profile's scale with a seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.detection import configure
from ghostlib.detection.scale import Scale, backbone_recipes, load_scale
from ghostlib.files import save_weights, write_atomic
from ghostlib.models import catalog
from ghostlib.runs.classifier import ClassifierRun
from ghostlib.runs.digest import code_of, code_of_device, library_versions, meaning
from ghostlib.runs.job import Report
from ghostlib.runs.store import Store, name
from ghostlib.training.profile import Profile, load_params, load_profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    from mmengine.config import Config

CODE = code_of("ghostlib.detection.configure", "ghostlib.detection.loop", "ghostlib.detection.scenes")
COCO = Path("data/coco")
# What MMDetection's configuration trains on without scenes: the 118,287 images of instances_train2017.json
# (cocodataset.org), which its RepeatDataset shows ten times in each of 30 epochs (yolov3_mobilenetv2_8xb24-*.py).
COCO_IMAGES, COCO_REPEATS, COCO_EPOCHS = 118_287, 10, 30
# The original's name first: an environment that has both, one in front of the other, imports the original.
_LIBRARIES = (("mmdet", "onedl-mmdetection"), ("mmengine", "onedl-mmengine"), ("mmcv", "mmcv-lite", "onedl-mmcv"),
              ("torch",), ("torchvision",), ("timm",), ("pycocotools",), ("numpy",), ("pillow",),
              ("opencv-python-headless", "opencv-python"))


@dataclass(frozen=True)
class DetectorRun:
    """A row of Table 10 with a seed; see `job.Job`.

    Attributes:
        row: the paper's name of the row.
        arch: its backbone.
        side: the paper's resolution (px).
        scale: what differs from the configuration of that row.
        backbone: the training of the classifier whose weights the detector starts from.
    """

    row: str
    arch: str
    side: int
    scale: Scale
    backbone: ClassifierRun
    label: str = field(default="", compare=False)
    code: str = CODE

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of all that decides the result."""
        decides = {"config": meaning(self.file.read_text(encoding="utf-8")),
                   "scale": self.scale.decides_results, "backbone": self.backbone.key, "data": self.data,
                   "code": self.code, "libraries": library_versions(*_LIBRARIES),
                   **code_of_device(self.backbone.profile.device_type)}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def work(self) -> float:
        """Pixels that pass, once for each branch they pass."""
        layout, epochs = self.scale.scenes, self.scale.options.get("train_cfg.max_epochs", COCO_EPOCHS)
        images = layout.train if layout else COCO_IMAGES * COCO_REPEATS
        return epochs * images * (self.side * self.scale.resize)**2 * (1 + self.backbone.recipe.branches)

    @property
    def requires(self) -> tuple[ClassifierRun, ...]:
        """The training of its backbone."""
        return (self.backbone,)

    @property
    def seed(self) -> int:
        """Its backbone's, too."""
        return self.backbone.seed

    @property
    def profile(self) -> Profile:
        """Its backbone's, too."""
        return self.backbone.profile

    @classmethod
    def current_code(cls) -> str:
        """The digest of the code that this process has imported."""
        return CODE

    @property
    def file(self) -> Path:
        """The configuration file that it starts from."""
        return configure.config_file(self.arch, self.side)

    @cached_property
    def data(self) -> str:
        """The digest of the images it is trained and tested on."""
        if layout := self.scale.scenes:
            return hashlib.sha256(f"{self.backbone.data} {layout!r}".encode()).hexdigest()[:16]
        files = sorted((COCO / "annotations").glob("instances_*2017.json"))  # captions and keypoints are not read
        sizes = [(path.name, path.stat().st_size) for path in files]
        return hashlib.sha256(str(sizes).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """The row and its backbone's run, the scale, the data's digest and the libraries' versions."""
        return {"row": self.row, "backbone": self.backbone.key, "scale": self.scale.model_dump(mode="json"),
                "data": self.data, "libraries": library_versions(*_LIBRARIES)}

    def train(self, folder: Path, store: Store, report: Report) -> dict[str, Any]:
        """Trains, or goes on; leaves config.py, detector.safetensors and detections.bbox.json in the folder.

        Of several processes the first one writes them; `loop.train` says how they share the training.

        Returns:
            The metrics, see `loop.train`.
        """
        import torch
        from mmengine.dist import is_main_process

        from ghostlib.detection import loop, processes

        processes.join(self.profile.device_type)  # first: it may set the number of threads, too
        torch.set_num_threads(self.profile.threads)
        config = self.config(store)
        if is_main_process():
            write_atomic(folder / "config.py", config.pretty_text)
        named = replace(self, label=self.label or f"{self.row}, seed {self.seed}")
        detector, metrics = loop.train(config, name(named), self.seed, self.profile.device_type, folder, report)
        if is_main_process():
            save_weights(detector, folder / "detector.safetensors")
        return metrics

    def config(self, store: Store) -> Config:
        """The whole configuration."""
        return configure.configure(self.file, self.scale, self.arch, self.profile.width_scale, self.scenes(store),
                                   store.folder(self.backbone))

    def scenes(self, store: Store) -> Path | None:
        """The folder of its scenes, which are drawn if need be; None for COCO."""
        from ghostlib.detection import scenes

        return scenes.write(self.profile, self.scale.scenes, store.root / "scenes") if self.scale.scenes else None

    def evaluated(self, store: Store) -> tuple[Path, Path]:
        """The annotations and the folder of the images that it is evaluated on."""
        if scenes := self.scenes(store):
            part = self.scale.part or "val"
            return scenes / "annotations" / f"{part}.json", scenes / part
        return COCO / "annotations" / "instances_val2017.json", COCO / "val2017"


def runs(profile_name: str, params: dict[str, Any] | None = None) -> list[DetectorRun]:
    """A run for every row of Table 10 and seed of the profile's scale.

    Raises:
        ConfigError: experiments.yaml has no scale or no recipe for one of them, or an impossible one.
    """
    profile, scale, recipes = _settings(profile_name, params or load_params())
    return [DetectorRun(row, arch, side, scale, _backbone(recipes[arch], arch, profile, seed),
                        f"table_10 ({row}), seed {seed}")
            for row, (arch, side) in catalog.backbones().items() for seed in scale.seeds_of(profile)]


def trials(profile_name: str, params: dict[str, Any] | None = None) -> list[DetectorRun]:
    """The runs that the detectors' learning rate is chosen by: every backbone, rate and seed of the scale's `tune`.

    At the lower resolution alone, and none where the scale has no `tune`.

    Raises:
        ConfigError: see `runs`.
    """
    profile, scale, recipes = _settings(profile_name, params or load_params())
    if scale.tune is None:
        return []
    rows = catalog.backbones()
    lowest = min(side for _, side in rows.values())
    return [DetectorRun(row, arch, side, scale.at(lr), _backbone(recipes[arch], arch, profile, seed),
                        f"rates ({row}), lr {lr:g}, seed {seed}")
            for row, (arch, side) in rows.items() if side == lowest
            for lr in scale.tune.rates for seed in scale.tune.seeds]


def _settings(profile_name: str, params: dict[str, Any]) -> tuple[Profile, Scale, dict[str, Recipe]]:
    """The profile, its scale, and the recipes of its backbones by their names."""
    profile = load_profile(profile_name, params)
    return profile, load_scale(profile, params), backbone_recipes(profile, params)


def _backbone(recipe: Recipe, arch: str, profile: Profile, seed: int) -> ClassifierRun:
    return ClassifierRun(recipe, profile, seed, f"table_10 (backbone {arch}), seed {seed}").canonical

"""One training of a detector, stored and resumed like a classifier's."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.detection import configure, scenes
from ghostlib.detection.scale import Scale, backbone_recipes, load_scale
from ghostlib.experiments import COLUMNS
from ghostlib.files import write_atomic
from ghostlib.machine import cpu_name
from ghostlib.mmdet import coco
from ghostlib.models import catalog
from ghostlib.runs.store import Run, Store
from ghostlib.training.profile import Profile, load_params, load_profile
from ghostlib.training.recipe import Recipe

if TYPE_CHECKING:
    from mmengine.config import Config

# The original's name first: an environment that has both, one in front of the other, imports the original.
_PACKAGES = (("mmdet", "onedl-mmdetection"), ("mmengine", "onedl-mmengine"), ("mmcv", "mmcv-lite", "onedl-mmcv"))


def _code() -> str:
    """Changes with any source file that decides what a detector learns, besides those of `Run.code`."""
    here = Path(__file__)
    sources = [*sorted(here.parent.glob("*.py")), here.parents[1] / "mmdet.py", here.parents[1] / "mmcv_ops.py"]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


# Taken when the code is imported, like `store.CODE`.
CODE = _code()


@dataclass(frozen=True)
class DetectionRun:
    """A row of Table 10 with a seed.

    Attributes:
        row: the paper's.
        arch: its backbone.
        side: the paper's resolution (px).
        scale: what differs from the configuration of that row.
        backbone: the training of the classifier whose weights it begins with.
        detection_code: what `code` is for the backbone.
    """

    row: str
    arch: str
    side: int
    scale: Scale
    backbone: Run
    detection_code: str = CODE

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits of all that decides the result."""
        decides = {"config": self.file.read_text(encoding="utf-8"), "scale": self.scale.model_dump(exclude={"scale"}),
                   "backbone": self.backbone.key, "data": self.data, "code": self.detection_code,
                   "libraries": _versions()}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def file(self) -> Path:
        """The configuration it starts from."""
        return configure.config_file(self.arch, self.side)

    @cached_property
    def data(self) -> str:
        """The digest of the images it is trained and tested on."""
        if layout := self.scale.scenes:
            return hashlib.sha256(f"{self.backbone.data} {layout!r}".encode()).hexdigest()[:16]
        sizes = [(path.name, path.stat().st_size) for path in sorted(Path("data/coco/annotations").glob("*2017.json"))]
        return hashlib.sha256(str(sizes).encode()).hexdigest()[:16]

    @property
    def seed(self) -> int:
        return self.backbone.seed

    @property
    def profile(self) -> Profile:
        return self.backbone.profile

    @property
    def recipe(self) -> Recipe:
        """Its backbone's."""
        return self.backbone.recipe

    @property
    def code(self) -> str:
        return self.backbone.code

    @property
    def steps(self) -> int:
        """Its work relative to the other rows', which is all that is asked for: pixels."""
        return self.side**2

    teacher_run = None


class DetectionStore(Store):
    """The run store, with detectors in it."""

    def _train(self, asked: DetectionRun, folder: Path, report: Callable[[Any], None]) -> None:
        import torch

        from ghostlib.detection import loop
        from ghostlib.models import weights

        if asked.detection_code != CODE:
            raise RuntimeError(f"ghostlib's source changed since run {asked.key} was asked for; run again")
        torch.set_num_threads(asked.profile.threads)
        Store(self.root).ensure(asked.backbone)
        config = self.config(asked)
        description = {"key": asked.key, "row": asked.row, "seed": asked.seed, "backbone": asked.backbone.key,
                       "data": asked.data, "libraries": _versions()}
        write_atomic(folder / "run.json", json.dumps(description, indent=1, ensure_ascii=False).encode())
        write_atomic(folder / "config.py", config.pretty_text.encode())
        start = time.perf_counter()
        detector, metrics = loop.train(config, asked.seed, asked.profile.device_type, folder, report)
        weights.save(detector, folder / "detector.safetensors")
        on_gpu = next(detector.parameters()).is_cuda
        cost = {"seconds": round(time.perf_counter() - start, 1),
                "device": torch.cuda.get_device_name() if on_gpu else cpu_name()}
        write_atomic(folder / "cost.json", json.dumps(cost).encode())
        write_atomic(folder / "metrics.json", json.dumps(metrics, indent=1).encode())
        loop.clear(folder)

    def config(self, run: DetectionRun) -> Config:
        """The run's whole configuration."""
        width = catalog.default_width(run.arch) * run.profile.width_scale
        config = configure.configure(run.file, run.scale, run.arch, width, self.scenes(run))
        config.model.backbone.weights = str(self.folder(run.backbone) / "ema.safetensors")
        return config

    def scenes(self, run: DetectionRun) -> Path | None:
        """The folder of the run's scenes; None for COCO."""
        layout = run.scale.scenes
        return scenes.write(run.profile, layout, self.root / "scenes") if layout else None


def runs(profile_name: str, params: dict[str, Any] | None = None) -> list[DetectionRun]:
    """A run for every row of Table 10 and seed of the profile."""
    params = params or load_params()
    profile = load_profile(profile_name, params)
    scale, recipes = load_scale(profile, params), backbone_recipes(profile, params)
    return [DetectionRun(row, arch, side, scale, Run(recipes[arch], profile, seed).canonical)
            for row, (arch, side) in catalog.backbones().items() for seed in profile.seeds]


def train_all(wanted: list[DetectionRun], store: DetectionStore | None = None) -> None:
    """Trains what is not in the store yet, the backbones first, several runs at a time.

    Raises:
        DetectionError: an annotation, image or category is missing; before anything is trained.
        GridError: after all the others have finished, with each failed run's log.
    """
    from ghostlib.runs import engines

    store = store or DetectionStore()
    todo = {run.row: run for run in wanted if store.metrics(run) is None}
    for run in todo.values():  # of each row one seed, the data being the same; the scenes are written here, too
        coco.check_data(store.config(run))
    engines.run([run.backbone for run in wanted], store=Store(store.root), title="backbones")
    engines.run(wanted, store=store, title="detectors")


def results(wanted: list[DetectionRun], store: DetectionStore | None = None) -> Any:
    """Long format, one row per run and metric (%), as of other experiments; `untrained ...` are before training."""
    import pandas as pd

    store = store or DetectionStore()
    records = [("table_10", run.row, "mAP", run.seed, run.key, prefix + name, value, run.data)
               for run in wanted for prefix, part in (("", "trained"), ("untrained ", "untrained"))
               for name, value in store.metrics(run)[part].items()]
    return pd.DataFrame(records, columns=COLUMNS)


def curves(wanted: list[DetectionRun], store: DetectionStore | None = None) -> Any:
    """The mean loss of an image, one row per run and epoch."""
    import pandas as pd

    store = store or DetectionStore()
    return pd.DataFrame([{"row": run.row, "seed": run.seed, **epoch} for run in wanted
                         for epoch in store.metrics(run)["history"]])


def evaluated(wanted: list[DetectionRun], store: DetectionStore | None = None) -> tuple[Path, Path, dict[str, Path]]:
    """The annotations and images evaluated on, and the first seed's detections at the higher resolution, by row."""
    store = store or DetectionStore()
    data, part = (store.scenes(wanted[0]), "val") if wanted[0].scale.scenes else (Path("data/coco"), "val2017")
    annotations = data / "annotations" / ("val.json" if part == "val" else "instances_val2017.json")
    side = max(run.side for run in wanted)
    found = {run.row: store.folder(run) / "detections.bbox.json" for run in wanted
             if (run.side, run.seed) == (side, wanted[0].seed)}
    return annotations, data / part, found


def _versions() -> dict[str, str]:
    """Of the packages that train, whichever of their names they were installed by."""
    found = {}
    for names in (*_PACKAGES, ("torch",), ("torchvision",), ("timm",), ("pycocotools",)):
        for name in names:
            try:
                found[name] = version(name)
                break
            except PackageNotFoundError:
                continue
    return found

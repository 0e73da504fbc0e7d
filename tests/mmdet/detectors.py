"""What the tests of MMDetection share: small networks, three detectors, and a training of seconds."""

from __future__ import annotations

from pathlib import Path

import mmdet
import torch
from mmengine.config import Config
from torch import nn

import ghostlib
from ghostlib.mmdet import GhostBackbone
from ghostlib.models.reparam import RepConv

CONFIGS = Path(ghostlib.__file__).parent / "mmdet" / "configs"
TOOLS = Path(mmdet.__file__).parent / ".mim" / "tools"
THEIRS = TOOLS.parent / "configs"
FAMILIES = ["ghostnetv1_100", "ghostnetv2_100", "ghostnetv3_100", "mobilenetv2_100", "mobilenext_100",
            "shufflenetv2_100", "resnet10"]
OF_TIMM = ["mobilenetv3_large_100", "efficientnet_b0", "mobileone_s0", "mobilevit_xxs", "mobilenetv1_100"]


def backbone(arch: str = "ghostnetv3_100", **options) -> GhostBackbone:
    sized = {} if arch in OF_TIMM else {"width": 0.25}
    return GhostBackbone(arch, **{**sized, **options})


def branches(network: nn.Module) -> int:
    return sum(isinstance(module, RepConv) for module in network.modules())


def trained_a_little(network: nn.Module) -> nn.Module:
    """With statistics and affine parameters that are no longer their initial ones."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return network


def on_ghostnet(file: Path | str, out_indices: tuple[int, ...], **model) -> Config:
    """A configuration whose detector has a narrow GhostNetV3 and needs no download.

    Args:
        file: the configuration, in MMDetection's folder of them or with its path.
        out_indices: the maps of the backbone; its neck takes them all, or the last if it takes one.
        **model: what else differs, keys of `model` with "__" for a dot.
    """
    config = Config.fromfile(THEIRS / file)
    config.model.backbone = dict(type="GhostBackbone", arch="ghostnetv3_100", width=0.25, out_indices=out_indices)
    channels = list(backbone(out_indices=out_indices).channels)
    takes_one = isinstance(config.model.neck.in_channels, int)
    config.model.neck.in_channels = channels[-1] if takes_one else channels
    config.merge_from_dict({f"model.{key.replace('__', '.')}": value for key, value in model.items()})
    return config


def yolo() -> Config:
    config = on_ghostnet(CONFIGS / "yolov3_ghostnetv3_100_320.py", (2, 3, 4))
    config.model.neck.in_channels.reverse()
    return config


def training(data_set: Path, work_dir: Path, **overrides) -> Config:
    """Two epochs of two steps on four scenes of digits of 96 px, evaluated with CocoMetric after each."""
    from ghostlib.detection import scenes

    config = yolo()
    classes = scenes.CATEGORIES["digits"]
    for loader, part in ((config.train_dataloader, "train"), (config.val_dataloader, "val")):
        dataset = loader.dataset.dataset if part == "train" else loader.dataset
        dataset.update(data_root=f"{data_set}/", ann_file=f"annotations/{part}.json", data_prefix=dict(img=f"{part}/"),
                       metainfo=dict(classes=classes))
        for transform in dataset.pipeline:
            if transform.type == "Resize":
                transform.scale = (96, 96)  # a ninth of the pixels: what is tested does not depend on them
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    config.train_dataloader.dataset = config.train_dataloader.dataset.dataset
    config.test_dataloader = config.val_dataloader
    config.val_evaluator.ann_file = config.test_evaluator.ann_file = f"{data_set}/annotations/val.json"
    config.merge_from_dict({
        "model.bbox_head.num_classes": len(classes), "train_cfg.max_epochs": 2, "work_dir": str(work_dir),
        "default_hooks.logger.interval": 1, "log_level": "WARNING", **overrides})
    return config

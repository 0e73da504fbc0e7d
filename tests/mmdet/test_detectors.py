"""Detectors of every kind, from MMDetection's own configurations: they learn, and detect the same when folded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads import fcn_mask_head
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.structures import InstanceData

from ghostlib.mmdet import fold
from tests.mmdet.detectors import backbone, branches, on_ghostnet, trained_a_little, yolo

SIDE = 96  # px
FPN = dict(neck__out_channels=32, bbox_head__in_channels=32, bbox_head__feat_channels=32, bbox_head__num_classes=4)
TWO_STAGES = dict(neck__out_channels=32, rpn_head__in_channels=32, rpn_head__feat_channels=32,
                  roi_head__bbox_roi_extractor__out_channels=32, roi_head__bbox_head__in_channels=32,
                  roi_head__bbox_head__fc_out_channels=64, roi_head__bbox_head__num_classes=4,
                  test_cfg__rcnn__score_thr=0.0, test_cfg__rpn__max_per_img=50)
EVERY_MAP = (1, 2, 3, 4)


def ssdlite() -> Config:
    channels = [*backbone(out_indices=(3, 4)).channels, 64, 32, 32, 32]
    return on_ghostnet("ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py", (3, 4), neck__out_channels=channels,
                       bbox_head__in_channels=channels, bbox_head__num_classes=4)


def mask_rcnn() -> Config:
    return on_ghostnet("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", EVERY_MAP, **TWO_STAGES,
                       roi_head__mask_roi_extractor__out_channels=32, roi_head__mask_head__in_channels=32,
                       roi_head__mask_head__conv_out_channels=32, roi_head__mask_head__num_classes=4)


def yolox() -> Config:
    config = on_ghostnet("yolox/yolox_s_8xb8-300e_coco.py", (2, 3, 4), **FPN)
    # Its own augmentation changes the size of all images every ten steps, here to 64 px after the first.
    config.model.data_preprocessor.batch_augments[0].update(random_size_range=(64, 64), interval=1)
    return config


def detr() -> Config:
    config = on_ghostnet("detr/detr_r50_8xb2-150e_coco.py", (4,), num_queries=10, neck__out_channels=32,
                         positional_encoding__num_feats=16, bbox_head__embed_dims=32, bbox_head__num_classes=4,
                         test_cfg__max_per_img=10)
    for part in (config.model.encoder, config.model.decoder):
        part.num_layers = 1
        part.layer_cfg.self_attn_cfg.embed_dims = part.layer_cfg.ffn_cfg.embed_dims = 32
        part.layer_cfg.ffn_cfg.feedforward_channels = 64
    config.model.decoder.layer_cfg.cross_attn_cfg.embed_dims = 32
    return config


DETECTORS = {
    "YOLOv3": yolo,
    "SSDLite": ssdlite,
    "RetinaNet": lambda: on_ghostnet("retinanet/retinanet_r50_fpn_1x_coco.py", EVERY_MAP, **FPN),
    "FCOS": lambda: on_ghostnet("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", EVERY_MAP, **FPN),
    "ATSS": lambda: on_ghostnet("atss/atss_r50_fpn_1x_coco.py", EVERY_MAP, **FPN),
    "GFL": lambda: on_ghostnet("gfl/gfl_r50_fpn_1x_coco.py", EVERY_MAP, **FPN),
    # As its larger sizes: sides that are no exponentials may all be negative before training, and no box then is one.
    "RTMDet": lambda: on_ghostnet("rtmdet/rtmdet_tiny_8xb32-300e_coco.py", (2, 3, 4), bbox_head__exp_on_reg=True,
                                  **FPN),
    "YOLOX": yolox,
    "CenterNet": lambda: on_ghostnet(  # with a modulated deformable convolution in its neck
        "centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py", (4,), neck__num_deconv_filters=(32, 32, 16),
        bbox_head__in_channels=16, bbox_head__feat_channels=16, bbox_head__num_classes=4),
    "VFNet": lambda: on_ghostnet("vfnet/vfnet_r50_fpn_1x_coco.py", EVERY_MAP, **FPN),  # deformable convolutions
    "DETR": detr,
    "Faster R-CNN": lambda: on_ghostnet("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", EVERY_MAP, **TWO_STAGES),
    "Mask R-CNN": mask_rcnn,
}


def batch(masks: bool) -> dict:
    """Two images with an object each, with its mask or without, as MMDetection's own pipelines give them."""
    samples = []
    for _ in range(2):
        shape = (SIDE, SIDE)
        sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0),
                                             batch_input_shape=shape, pad_shape=shape,
                                             border=np.array([0, SIDE, 0, SIDE])))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[16.0, 16, 60, 70]]), labels=torch.tensor([3]))
        if masks:
            mask = np.zeros((1, *shape), dtype=np.uint8)
            mask[:, 16:70, 16:60] = 1
            sample.gt_instances.masks = BitmapMasks(mask, *shape)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return {"inputs": [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in samples],
            "data_samples": samples}


@pytest.fixture
def masks_of_double(monkeypatch):
    """MMDetection puts masks into the image in float32, for which it takes boxes in float32 only."""
    paste = fcn_mask_head._do_paste_mask
    monkeypatch.setattr(fcn_mask_head, "_do_paste_mask", lambda masks, boxes, *args, **options:
                        paste(masks, boxes.float(), *args, **options))


@pytest.mark.usefixtures("masks_of_double")
@pytest.mark.parametrize("make", DETECTORS.values(), ids=DETECTORS.keys())
def test_every_detector_learns_and_detects_the_same_when_folded(make):
    config = make().model
    detector = revert_sync_batchnorm(MODELS.build(config))  # as MMEngine's runner does with one process
    MessageHub.get_current_instance().update_info("iter", 0)  # as its runner does, too
    detector.init_weights()
    masks = config.type == "MaskRCNN"
    for _ in range(2):  # the second batch as the augmentation of the first one left the size
        data = detector.data_preprocessor(batch(masks), training=True)
    losses = detector.train()(**data, mode="loss")
    loss, _ = detector.parse_losses(losses)
    loss.backward()
    assert loss.isfinite() and all(parameter.grad is not None for parameter in detector.backbone.parameters())

    trained_a_little(detector.backbone)
    if "score_thr" in (config.test_cfg or {}):
        detector.bbox_head.test_cfg.update(score_thr=0.0)
    # In float64, where no rounding decides which of two boxes with nearly the same score comes first.
    data = detector.data_preprocessor(batch(masks))
    data["inputs"] = data["inputs"].double()
    folded = fold(detector.double())
    assert branches(folded) == 0 and branches(detector) > 0
    with torch.no_grad():
        before = [sample.pred_instances for sample in detector.eval()(**copy.deepcopy(data), mode="predict")]
        after = [sample.pred_instances for sample in folded(**copy.deepcopy(data), mode="predict")]
    for one, other in zip(before, after, strict=True):
        assert masks == ("masks" in one)
        assert len(one) == len(other) > 0
        assert torch.equal(one.labels, other.labels)
        assert torch.allclose(one.scores, other.scores, atol=1e-6)
        assert torch.allclose(one.bboxes, other.bboxes, atol=1e-4)
        if masks:
            assert one.masks.any() and (one.masks != other.masks).float().mean() < 1e-3

# Table 10, GhostNetV2 1.0× at 320 px: MMDetection's YOLOv3 on MobileNetV2 with another backbone.
# Start from ImageNet weights, --cfg-options model.backbone.weights=FILE: the authors', timm's or ghostlib's.
_base_ = "mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py"

custom_imports = dict(imports=["ghostlib.mmdet"], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type="GhostBackbone", arch="ghostnetv2_100", out_indices=(2, 3, 4)),
    neck=dict(in_channels=[160, 112, 40]),
)

# Table 10, GhostNetV1 1.1× at 416 px: MMDetection's YOLOv3 on MobileNetV2 with another backbone.
# Start from ImageNet weights, --cfg-options model.backbone.weights=FILE; nobody has published any of this width.
_base_ = "mmdet::yolo/yolov3_mobilenetv2_8xb24-ms-416-300e_coco.py"

custom_imports = dict(imports=["ghostlib.mmdet"], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type="GhostBackbone", arch="ghostnetv1_110", out_indices=(2, 3, 4)),
    neck=dict(in_channels=[176, 124, 44]),
)

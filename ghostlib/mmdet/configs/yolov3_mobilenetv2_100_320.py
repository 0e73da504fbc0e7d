# Table 10, MobileNetV2 at 320 px: MMDetection's own configuration, whose result the paper quotes.
_base_ = "mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py"

custom_imports = dict(imports=["ghostlib.mmdet"], allow_failed_imports=False)

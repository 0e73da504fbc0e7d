"""The metrics of a detector: COCO's, under the names of our tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One of COCO's metrics.

    Attributes:
        name: in our files and tables.
        coco: in the result of MMDetection's CocoMetric.
        of_one_size: whether it averages over the objects of one size only.
    """

    name: str
    coco: str
    of_one_size: bool = False


# The sizes are COCO's: small is below 32² px, medium below 96², large above.
METRICS = (Metric("mAP", "coco/bbox_mAP"), Metric("AP50", "coco/bbox_mAP_50"), Metric("AP75", "coco/bbox_mAP_75"),
           Metric("AP small", "coco/bbox_mAP_s", of_one_size=True),
           Metric("AP medium", "coco/bbox_mAP_m", of_one_size=True),
           Metric("AP large", "coco/bbox_mAP_l", of_one_size=True))


def scores(result: Mapping[str, float]) -> dict[str, float | None]:
    """The value of each metric in %, None where the images hold no object of its size.

    Args:
        result: CocoMetric's. It is empty where nothing was detected; then the sizes are unknown, too.
    """
    if not result:
        return {metric.name: None if metric.of_one_size else 0.0 for metric in METRICS}
    # CocoMetric's −1 says that there is no object of that size.
    return {metric.name: None if result[metric.coco] < 0 else 100 * result[metric.coco] for metric in METRICS}

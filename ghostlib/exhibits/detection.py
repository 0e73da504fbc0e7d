"""Table 10: backbones in a detector, the paper's numbers beside ours, and what the detectors see."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ghostlib.exhibits.complexity import MACS
from ghostlib.exhibits.figures import STYLE
from ghostlib.paper import numbers

METRIC = "mAP"
UNTRAINED = "untrained AP50"
_DETAILS = ["AP50", "AP75", "AP small", "AP medium", "AP large"]


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """One row per row of Table 10 and quantity: row, quantity, paper, measured (mean over seeds), sd, seeds.

    Args:
        results: in long format, as `detection.run.results` gives it, for every row of Table 10.
    """
    values = results.dropna(subset="value").groupby(["row", "metric"])["value"]
    measured = values.agg(measured="mean", sd="std", seeds="count").rename_axis(index={"metric": "quantity"})
    published = numbers.table("table_10")[METRIC]
    order = pd.MultiIndex.from_product([published.index, [METRIC, *_DETAILS, UNTRAINED]], names=["row", "quantity"])
    compared = measured.reindex(order).reset_index().fillna({"seeds": 0}).astype({"seeds": int})
    compared.insert(2, "paper", compared["row"].map(published).where(compared["quantity"] == METRIC))
    return compared


def wide(comparison: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """The table a reader looks at.

    Args:
        comparison: as `compare` gives it.
        counted: as `complexity.compare` gives it.
    """
    macs = counted.query("table == 'table_10' and quantity == @MACS").set_index("row")
    cells = comparison.set_index(["quantity", "row"])
    table = {(MACS, "paper"): macs["paper"].map("{:g}".format), (MACS, "ours"): macs["measured"].map("{:.1f}".format),
             (METRIC, "paper, COCO"): cells.loc[METRIC, "paper"].map("{:g}".format)}
    for quantity in comparison["quantity"].unique():
        if cells.loc[quantity, "seeds"].any():  # else the images hold no object of that size
            table[quantity, "ours"] = [_text(cell) for cell in cells.loc[quantity].itertuples()]
    return pd.DataFrame(table)


def by_resolution(frame: pd.DataFrame) -> pd.DataFrame:
    """With the backbone as the row and the resolution as the column, as `figures.compare` draws it."""
    parts = frame["row"].str.rsplit(" @", n=1, expand=True)
    return frame.assign(row=parts[0], column=parts[1] + " px")


def pictures(annotations: Path, images: Path, detections: Mapping[str, Path], count: int = 3) -> Figure:
    """The first images with objects: what is there, and as many detections, the most certain ones, of each detector.

    Args:
        annotations: in COCO's format.
        images: the folder of the images.
        detections: what to call a detector -> its results in COCO's format.
        count: number of images, one a row.
    """
    truth = json.loads(annotations.read_text(encoding="utf-8"))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in detections.items()}
    with_objects = {annotation["image_id"] for annotation in truth["annotations"]}
    chosen = [image for image in truth["images"] if image["id"] in with_objects][:count]
    columns = 1 + len(found)
    with plt.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = plt.subplots(len(chosen), columns, figsize=(2.1 * columns, 2.2 * len(chosen)), squeeze=False,
                                    layout="constrained")
        for image, line in zip(chosen, axes, strict=True):
            pixels = Image.open(images / image["file_name"]).convert("RGB")
            there = [box for box in truth["annotations"] if box["image_id"] == image["id"]]
            _draw(line[0], pixels, there, names)
            for axis, boxes in zip(line[1:], found.values(), strict=True):
                here = sorted((box for box in boxes if box["image_id"] == image["id"]), key=lambda box: -box["score"])
                _draw(axis, pixels, here[:len(there)][::-1], names)  # the most certain on top
        for axis, title in zip(axes[0], ["ground truth", *found], strict=True):
            axis.set_title(title, loc="left", fontsize=8)
    plt.close(figure)
    return figure


def notes(scale: str, others: Sequence[str]) -> list[str]:
    """What stands below the table: at which scale, how to read it, and what else there is to say."""
    return [f"Measured at: {scale}.",
            "FLOPs are the backbone's at the paper's full size, counted here; neck and head are not in them.",
            "The paper's mAP is COCO's and is not comparable with ours; what can be compared is the order of the rows.",
            "Each detector begins with the weights of its backbone's own classifier, trained at the same scale, as the "
            f"paper's begin with ImageNet's. `{UNTRAINED}` is the same detector before its training.",
            "The detector on GhostNetV3 trains with branches and is evaluated folded.", *others]


def _text(cell) -> str:
    return "—" if not cell.seeds else f"{cell.measured:.1f}" + ("" if pd.isna(cell.sd) else f" ± {cell.sd:.1f}")


def _draw(axis: Axes, pixels: Image.Image, boxes: list[dict], names: dict[int, str]) -> None:
    axis.imshow(pixels)
    axis.set(xticks=[], yticks=[])
    for box in boxes:
        x, y, width, height = box["bbox"]
        label = names[box["category_id"]] + (f" {box['score']:.2f}" if "score" in box else "")
        color = "tab:orange" if "score" in box else "tab:green"
        axis.add_patch(plt.Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.2))
        axis.text(x, y, label, fontsize=6, color="white", va="bottom", bbox=dict(facecolor=color, pad=0.6, linewidth=0))

"""Table 10: backbones in a detector, the paper's numbers beside ours, and what the detectors see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ghostlib.detection.scale import scale_of
from ghostlib.exhibits.story import Story
from ghostlib.exhibits.style import STYLE, abridged
from ghostlib.exhibits.summarise import in_words, of_cells, text
from ghostlib.measures import detector_rates
from ghostlib.measures.detectors import UNTRAINED
from ghostlib.models import catalog
from ghostlib.paper import numbers
from ghostlib.paper.numbers import MACS, MAP

_BEFORE = f"{UNTRAINED}AP50"
_SCORE = 0.1  # from which on a detection is drawn: what so few steps of training make rarely scores 0.5
_OVERLAP = 0.5  # above which two boxes are taken for the same object, as AP50 takes them
_DETAILS = ["AP50", "AP75", "AP small", "AP medium", "AP large"]


def load_story(profile_name: str) -> Story:
    """Table 10's words, at the scale of the profile's detectors."""
    scale = scale_of(profile_name).scale
    story = Story.load("table_10", profile_name)
    return replace(story, scale=scale, notes=tuple(notes(scale, story.notes[1:])))


def compare(results: pd.DataFrame) -> pd.DataFrame:
    """One row per row of Table 10 and quantity: row, quantity, paper, measured (mean over seeds), sd, seeds, diverged.

    A row of which a seed diverged, which `diverged` counts, has none of ours.

    Args:
        results: as `measures.detectors.read` gives it, for every row of Table 10.
    """
    published, quantities = numbers.table("table_10")[MAP], [MAP, *_DETAILS, _BEFORE]
    order = pd.MultiIndex.from_product([published.index, quantities], names=["row", "quantity"])
    compared = of_cells(results, dict(zip(quantities, quantities, strict=True))).reindex(order).reset_index()
    compared.insert(2, "paper", compared["row"].map(published).where(compared["quantity"] == MAP))
    return compared.fillna({"seeds": 0, "diverged": 0}).astype({"seeds": int, "diverged": int})


def table_of_detectors(comparison: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """The table a reader looks at.

    Args:
        comparison: as `compare` gives it.
        counted: as `complexity.compare` gives it.
    """
    macs = counted.query("table == 'table_10' and quantity == @MACS").set_index("row")
    cells = comparison.set_index(["quantity", "row"])
    table = {(MACS, "paper"): macs["paper"].map("{:g}".format), (MACS, "ours"): macs["measured"].map("{:.1f}".format),
             (MAP, "paper, COCO"): cells.loc[MAP, "paper"].map("{:g}".format)}
    for quantity in comparison["quantity"].unique():
        of_rows = cells.loc[quantity]
        if of_rows["seeds"].any() or quantity == MAP and of_rows["diverged"].any():  # else no object is of that size
            table[quantity, "ours"] = [in_words(cell, "{:.1f}") for cell in of_rows.itertuples()]
    return pd.DataFrame(table)


def sides_here(profile_name: str) -> dict[str, str]:
    """The columns of `by_resolution` -> what to call them where the profile's images are smaller than the paper's."""
    scale = scale_of(profile_name)
    sides = sorted({side for _, side in catalog.backbones().values()}) if scale.resize != 1 else []
    return {f"{side} px": f"{side} px, here {scale.side(side)}" for side in sides}


def by_resolution(frame: pd.DataFrame) -> pd.DataFrame:
    """With the backbone as the row and the resolution as the column, as `figures.compare` draws it."""
    sides = frame["row"].map({row: side for row, (_, side) in catalog.backbones().items()})
    backbones = [row.removesuffix(f" @{side}") for row, side in zip(frame["row"], sides, strict=True)]
    return frame.assign(row=backbones, column=sides.map("{} px".format))


def rate(profile_name: str) -> str:
    """How the detectors came by their learning rate: what each backbone reached at those that were tried, in Markdown.

    One sentence where the rate is given. See `measures.detector_rates` for how it is chosen, and for errors.
    """
    trained, scale = detector_rates.read(profile_name), scale_of(profile_name)
    if scale.tune is None:
        return f"{detector_rates.given(profile_name)} REPRODUCIBILITY.md says how it came about."
    shown = detector_rates.table(trained, scale)
    reached = shown.columns.difference(["rate", "best", "frozen"])
    shown[reached] = shown[reached].apply(lambda column: column.map(lambda value: text(value, "{:.1f}")))
    shown[["best", "frozen"]] = shown[["best", "frozen"]].replace({True: "yes", False: ""})
    table = shown.rename(columns={"frozen": "in experiments.yaml"}).to_markdown(index=False, disable_numparse=True)
    return ("mAP (%) on scenes of validation images, at the lower resolution. The rate of the highest mean over the "
            f"backbones is taken for all of them.\n\n{table}")


def pictures(folder: Path) -> Figure:
    """Images with objects: what is there, and what each detector finds, by one threshold for all.

    Of detections that overlap, of whatever category, the most certain one is drawn, so that no box hides another.

    Args:
        folder: as `measures.detectors.read_detections` gives it.
    """
    content = json.loads((folder / "detections.json").read_text(encoding="utf-8"))
    scenes = content["images"]
    detectors = list(scenes[0]["detections"])
    size = (2.1 * (1 + len(detectors)), 2.12 * len(scenes) + 0.55)
    with plt.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = plt.subplots(len(scenes), 1 + len(detectors), figsize=size, squeeze=False, layout="constrained")
        for scene, line in zip(scenes, axes, strict=True):
            pixels = plt.imread(folder / scene["file"])
            _draw(line[0], pixels, scene["objects"], scene["objects"])
            for axis, name in zip(line[1:], detectors, strict=True):
                _draw(axis, pixels, apart(scene["detections"][name])[::-1], scene["objects"])  # the most certain on top
        for axis, title in zip(axes[0], ["what is there", *detectors], strict=True):
            axis.set_title(title, loc="left", fontsize=8)
        figure.suptitle(
            f"The same {len(scenes)} images for every backbone, first seed; detections that score {_SCORE:g} or more, "
            "the best of those that overlap. Green: the right object at the right place. Orange, dashed: not.\n"
            f"Measured at: {abridged(content['measured_at'], 130)}", x=0.01, ha="left", fontsize=8)
    plt.close(figure)
    return figure


def apart(detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of detections, the most certain first, those of the drawn scores that overlap none before them."""
    kept: list[dict[str, Any]] = []
    for box in detections:
        if box["score"] >= _SCORE and all(overlap(box["bbox"], other["bbox"]) <= _OVERLAP for other in kept):
            kept.append(box)
    return kept


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width, height = (max(0.0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def notes(scale: str, others: Sequence[str]) -> list[str]:
    """What stands below the table: at which scale, how to read it, and what else there is to say."""
    return [f"Measured at: {scale}.",
            "FLOPs are the backbone's at the paper's full size, counted here; neck and head are not in them.",
            "The paper's mAP is COCO's and is not comparable with ours; what can be compared is the order of the rows.",
            "Each detector begins with the weights of its backbone's own classifier, trained at the same scale, as the "
            f"paper's begin with ImageNet's. `{_BEFORE}` is the same detector before its training.",
            "The detector on GhostNetV3 trains with branches and is evaluated folded.", *others]


def _draw(axis: Axes, pixels: Any, boxes: list[dict[str, Any]], objects: list[dict[str, Any]]) -> None:
    axis.imshow(pixels)
    axis.set(xticks=[], yticks=[])
    for box in boxes:
        x, y, width, height = box["bbox"]
        right = any(box["category"] == there["category"] and overlap(box["bbox"], there["bbox"]) >= _OVERLAP
                    for there in objects)
        color, line = ("tab:green", "-") if right else ("tab:orange", (0, (3, 1.5)))
        label = box["category"] + (f" {box['score']:.2f}" if "score" in box else "")
        axis.add_patch(plt.Rectangle((x, y), width, height, fill=False, edgecolor=color, linewidth=1.2, linestyle=line))
        axis.text(x, y, label, fontsize=6, color="white" if right else "black", va="bottom",
                  bbox=dict(facecolor=color, pad=0.6, linewidth=0))

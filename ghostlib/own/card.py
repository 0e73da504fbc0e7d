"""What stands beside the weights: how they are loaded, tried before it is said, and a model card as Hugging Face's."""

from __future__ import annotations

import json
from typing import Any

import timm
import torch
import yaml

from ghostlib.files import write_atomic
from ghostlib.models.flow import run
from ghostlib.own import weights
from ghostlib.own.network import example
from ghostlib.own.normalisation import IMAGENET
from ghostlib.own.plan import Plan

_ZOO = "import ghostlib.models.zoo  # which tells timm of its networks\n"


def contents(plan: Plan) -> dict[str, Any]:
    """What the metadata of the weights keeps; see `weights.load`."""
    return {"network": str(plan.source), "options": plan.recipe.options, "image_size": plan.recipe.image_size,
            "label_names": plan.classes, "crop_pct": plan.recipe.crop_pct, "code": plan.source.code,
            **plan.normalisation._asdict()}


def write(plan: Plan, rows: list[tuple[str, str]], scores: dict[str, float]) -> str:
    """Writes README.md, config.json where timm by itself builds the network, and classes.txt, beside the weights.

    Args:
        plan: the training, whose folder holds model.safetensors.
        rows: of the plan.
        scores: "top1" and "top5" in %.

    Returns:
        The lines of Python that load the weights.
    """
    name, lines = loading(plan)
    if name and name.startswith("ghostlib_"):
        name = None  # timm knows it only where ghostlib.models.zoo is imported, so config.json alone would not load
    write_atomic(plan.folder / "classes.txt", "".join(f"{name}\n" for name in plan.classes))
    if name:
        write_atomic(plan.folder / "config.json", json.dumps(config(plan, name), indent=2))
    write_atomic(plan.folder / "README.md", text(plan, lines, bool(name), rows, scores))
    return lines


def loading(plan: Plan) -> tuple[str | None, str]:
    """The network's name in timm, None where that does not build it, and the lines that load model.safetensors."""
    file, options = plan.folder / weights.FILE, plan.recipe.options
    image = example(plan.recipe.image_size)
    wanted = run(weights.load(file), image)
    names = {"zoo": (("", plan.source.name), (_ZOO, f"ghostlib_{plan.source.name}")),
             "timm": (("", plan.source.name),)}.get(plan.source.kind, ())
    for imports, name in names:
        try:
            network = timm.create_model(name, num_classes=len(plan.classes), checkpoint_path=str(file), **options)
        except Exception:  # timm has no such network, or another one of this name, which fails in any way
            continue
        if torch.allclose(run(network, image), wanted, rtol=1e-4):
            given = "".join(f", {key}={value!r}" for key, value in options.items())
            return name, (f"import timm\n{imports}network = timm.create_model({name!r}, "
                          f"num_classes={len(plan.classes)}{given}, checkpoint_path={str(file)!r})")
    return None, f"from ghostlib.own.weights import load\nnetwork = load({str(plan.folder)!r})"


def config(plan: Plan, name: str) -> dict[str, Any]:
    """timm's description of the network, with which it loads the folder or what is made of it on the Hub.

    That is `timm.create_model("local-dir:FOLDER", pretrained=True)`; without `pretrained` weights are random.
    """
    side, known = plan.recipe.image_size, timm.get_pretrained_cfg(name)
    # The names of the layers that a network of other classes or channels begins afresh.
    layers = {key: getattr(known, key) for key in ("classifier", "first_conv") if getattr(known, key, None)}
    return {"architecture": name.partition(".")[0], "num_classes": len(plan.classes), "model_args": plan.recipe.options,
            "pretrained_cfg": {**layers, "input_size": [3, side, side], **plan.normalisation._asdict(),
                               "interpolation": "bicubic", "crop_pct": plan.recipe.crop_pct,
                               "num_classes": len(plan.classes), "label_names": plan.classes}}


def text(plan: Plan, lines: str, of_timm: bool, rows: list[tuple[str, str]], scores: dict[str, float]) -> str:
    """The model card."""
    head = yaml.safe_dump({
        "library_name": "timm" if of_timm else "ghostlib", "pipeline_tag": "image-classification",
        "tags": ["image-classification", "ghostnetv3", *(["timm"] if of_timm else [])],
        "datasets": [plan.place.resolve().name], "metrics": ["accuracy"]}, sort_keys=False)
    recipe = "\n".join(f"| {name} | {value.replace('|', '/')} |" for name, value in rows if name != "out")
    part = "test" if plan.data.tested else "validation"
    side, (mean, std) = plan.recipe.image_size, plan.normalisation
    by = f", mean={mean}, std={std}" * (plan.normalisation != IMAGENET)
    return f"""---
{head}---

# {plan.source} on {plan.place.resolve().name}

Trained by `ghostlib train` with the strategy of GhostNetV3 (https://arxiv.org/abs/2404.11202) as the table says.

| | |
|---|---|
{recipe}

All settings are in recipe.yaml, which `ghostlib train --recipe` takes.

## Results

On the {len(plan.splits.test)} {part} images: top-1 {scores["top1"]:.2f} %, top-5 {scores["top5"]:.2f} %, of the
{'averaged' if plan.averaged_share else 'last'} weights, branches folded. No state was chosen on these images.

## How to load it

```python
{lines}
network.eval()
```

Images: RGB, resized to {int(side / plan.recipe.crop_pct)} px (bicubic), the middle {side} × {side} px, normalised
with mean {mean} and standard deviation {std}:

```python
from timm.data import create_transform
transform = create_transform({side}, crop_pct={plan.recipe.crop_pct}, interpolation="bicubic"{by})
```

The training read images turned as their EXIF data says, transparent ones on white, and of greys of 16 bits the eight
highest. Output i is the class in line i + 1 of classes.txt.

The branches are folded into the convolutions, and each normalisation behind one only adds its bias: these weights are
for inference. To train on take ema.safetensors, in the network with branches.
"""

"""What a training leaves: the trained network under the names of the plain one, and what one needs to know to load it.

    network = load("trained/own")  # in evaluation mode; network.classes are the classes' names by label
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from ghostlib.files import write_atomic
from ghostlib.models.reparam import plain_state
from ghostlib.own.network import find

FILE = "model.safetensors"
KEY = "ghostlib"  # in the file's metadata: all that `load` needs, as JSON


def save_model(network: nn.Module, path: Path, card: dict[str, Any]) -> None:
    """Writes a network, its branches folded, so that the plain network can load it.

    A site is one convolution and a normalisation that adds its bias and does nothing else (`reparam.plain_state`).

    Args:
        network: in training form, or without branches.
        path: the file.
        card: what the metadata keeps, see `load`.
    """
    state = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
             for name, tensor in plain_state(network).items()}
    write_atomic(path, save(state, {"format": "pt", KEY: json.dumps(card)}))


def load(place: str | Path) -> nn.Module:
    """The network that `ghostlib train` left in a folder, or its model.safetensors, in evaluation mode.

    Images are to be normalised with ImageNet's mean and standard deviation, as in training.

    Raises:
        ValueError: the file is of nothing that `ghostlib train` wrote.
        FileNotFoundError: there is no such file.
    """
    file = find_file(Path(place))
    card = read_card(file)
    network = find(card["network"]).build(len(card["label_names"]), card["options"], card["image_size"])
    network.load_state_dict(load_file(file))
    network.classes = card["label_names"]
    return network.eval()


def own_card(file: Path) -> dict[str, Any] | None:
    """What the metadata of a file of weights keeps; None of somebody else's, and of a training's other files."""
    try:
        return read_card(file)
    except ValueError:
        return None


def evaluated_as(file: Path, classes: list[str]) -> dict[str, Any]:
    """How `ghostlib train` scored the network of its model.safetensors, for timm's `resolve_data_config`.

    Args:
        file: that one.
        classes: names of those that the network is to be scored on, by label.

    Raises:
        ValueError: the network knows other classes.
    """
    card = read_card(file)
    if card["label_names"] != classes:
        raise ValueError(f"{file} knows the classes {some(card['label_names'])}, the images have {some(classes)}")
    crop = {"crop_pct": card["crop_pct"]} if "crop_pct" in card else {}  # older files have none
    return {"input_size": (3, card["image_size"], card["image_size"]), "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, **crop}


def some(names: list[str]) -> str:
    """The first names of classes, and how many there are."""
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"


def find_file(place: Path) -> Path:
    """The file of weights in a folder, or the file itself.

    Raises:
        FileNotFoundError: there is none.
    """
    file = place / FILE if place.is_dir() else place
    if not file.exists():
        raise FileNotFoundError(f"{place} holds no {FILE}: no training of `ghostlib train` ended there")
    return file


def read_card(file: Path) -> dict[str, Any]:
    """What the metadata of a file of weights keeps.

    Raises:
        ValueError: it is no file that `ghostlib train` wrote.
    """
    try:
        with safe_open(file, "pt") as content:
            return json.loads((content.metadata() or {})[KEY])
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(f"{file} says nothing of the network that it is of: it is not the {FILE} that `ghostlib "
                         "train` writes, or torn") from error

"""What a training leaves: the trained network under the names of the plain one, and what one needs to know to load it.

    network = load("trained/own")  # in evaluation mode; network.classes are the classes' names by label
"""

from __future__ import annotations

import json
import warnings
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
_CARD = "ghostlib"  # in its metadata: what is said of the network
_TRAINING = ("ema.safetensors", "weights.safetensors")  # what a training leaves beside it, in training form


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
    write_atomic(path, save(state, {"format": "pt", _CARD: json.dumps(card)}))


def load(place: str | Path) -> nn.Module:
    """The network that `ghostlib train` left in a folder, or its model.safetensors, in evaluation mode.

    Its `pretrained_cfg` says how images were scored: `timm.data.create_transform(**timm.data.resolve_model_data_config(
    network))` does the same. Warns where the module of a function that builds the network has changed since.

    Raises:
        ValueError: the file is of nothing that `ghostlib train` wrote, or of a network that is built otherwise now.
        FileNotFoundError: there is no such file.
    """
    file = find_file(Path(place))
    card = read_card(file)
    source = find(card["network"])
    if "code" in card and card["code"] != source.code:  # older files have none
        warnings.warn(f"{source} was changed since {file} was written; it may compute something else now",
                      stacklevel=2)
    network = source.build(len(card["label_names"]), card["options"], card["image_size"])
    try:
        network.load_state_dict(load_file(file))
    except RuntimeError as error:  # PyTorch's, with a line for each tensor
        told = str(error).splitlines()[-1].strip()
        raise ValueError(f"{file} does not fit the network that {source} builds now ({told}); bring back the code that "
                         "it was trained with") from error
    network.classes = card["label_names"]
    names = {name: value for name, value in (getattr(network, "pretrained_cfg", None) or {}).items()
             if name in ("classifier", "first_conv")}
    network.pretrained_cfg = {**names, **_images(card), "num_classes": len(card["label_names"]),
                              "label_names": card["label_names"]}
    return network.eval()


def own_card(file: Path) -> dict[str, Any] | None:
    """What the metadata of a file of weights keeps; None of somebody else's, and of a training's other files."""
    try:
        return read_card(file)
    except ValueError:
        return None


def card_for(name: str, file: Path, ema: bool = False, width: float | None = None, num_classes: int | None = None,
             ) -> dict[str, Any] | None:
    """What a file of weights says of itself, where a command names the network, too; None of somebody else's file.

    Args:
        name: of the network.
        file: a model.safetensors or any other file of weights.
        ema: whether averaged weights are asked for.
        width: that is asked for.
        num_classes: that are asked for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another network, answers itself what is asked for, or is in training form.
    """
    if not file.is_file():
        inside = f"; give {file / FILE}" if (file / FILE).is_file() else ""
        raise FileNotFoundError(f"{file} is no file of weights{inside}")
    if card := own_card(file):
        if card["network"] != name:
            raise ValueError(f"{file} is of {card['network']}, not of {name}")
        if ema or width is not None or num_classes:
            raise ValueError(f"{file} says how it was trained and holds its averaged weights: give neither --ema nor "
                             "--width nor --num-classes")
        return card
    if file.name in _TRAINING and (deployed := file.with_name(FILE)).exists():
        raise ValueError(f"{file} is the network as it trains, and says nothing of its images; give {deployed}, which "
                         "holds the averaged weights, folded")
    if ":" in name or "/" in name:
        raise ValueError(f"{file} says nothing of its network: of {name} give the {FILE} that `ghostlib train` wrote, "
                         "or name a network of `ghostlib zoo`")
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
    return _images(card)


def _images(card: dict[str, Any]) -> dict[str, Any]:
    """How images were scored, in timm's words."""
    told = {name: card[name] for name in ("crop_pct", "mean", "std") if name in card}  # older files have not all
    return {"input_size": (3, card["image_size"], card["image_size"]), "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, **told}


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
            return json.loads((content.metadata() or {})[_CARD])
    except (SafetensorError, KeyError, OSError) as error:
        raise ValueError(f"{file} says nothing of the network that it is of: it is not the {FILE} that `ghostlib "
                         "train` writes, or torn") from error

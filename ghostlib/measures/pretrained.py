"""The public weights of Table 9's rows: which there are (published.yaml), and a network with them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from ghostlib.config import Config, read_yaml
from ghostlib.models import catalog

if TYPE_CHECKING:
    from torch import nn

FOLDER = Path("data/weights")  # where files lie that are not to be downloaded
_ENDINGS = (".safetensors", ".pth", ".pth.tar", ".pt", ".bin")


class NoWeights(ValueError):
    """Weights of a row that are not there or cannot be read; the message says what to do."""


class Source(Config):
    """An entry of published.yaml, which says there what each key means."""

    timm: str = ""
    torchvision: str = ""
    file: str = ""
    none: str = ""
    ema: bool = False
    config: str = ""
    source: str = ""
    authors: bool = False
    training: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if sum(map(bool, (self.timm, self.torchvision, self.file, self.none))) != 1:
            raise ValueError("a row has exactly one of timm, torchvision, file, none")
        if bool(self.none) == bool(self.training) or bool(self.file) != bool(self.config and self.source):
            raise ValueError("weights have `training`, and a file `config` and `source`, too")
        return self

    @property
    def name(self) -> str:
        """What the weights are called; empty where there are none."""
        return self.timm or self.torchvision or self.file


@functools.cache
def sources() -> dict[str, Source]:
    """Every row of Table 9, in the paper's order, and where its public weights are.

    Raises:
        ConfigError: an entry that cannot be meant as written; it names the row.
    """
    entries = read_yaml(resources.files(__package__).joinpath("published.yaml"))
    return {row: Source.parse(entry, f"published.yaml: {row}") for row, entry in entries.items()}


def open_row(row: str, folder: Path = FOLDER) -> tuple[nn.Module, Callable[..., Any], str]:
    """A row's network with its public weights: from a folder if they are there, else downloaded.

    Args:
        row: of Table 9; it has weights.
        folder: with files that are called as timm (`mobilenetv2_100.ra_in1k.safetensors`), torchvision or the authors
            call them.

    Returns:
        The network in the form that its weights have, what makes (3, H, W) of an image as they want it, and 16
        hexadecimal digits that change with any weight.

    Raises:
        NoWeights: they are not there, cannot be downloaded, or do not fit.
    """
    source = sources()[row]
    path, called = _find(source, folder)
    try:
        network, transform = _OPEN["timm" if source.timm else "torchvision" if source.torchvision else "file"](
            source, catalog.rows()[row], path)
    except Exception as error:  # each library, and each way of being offline, has errors of its own
        if path:
            raise NoWeights(f"{row}: {path} cannot be used ({_first_line(error)}); fetch it again") from error
        if source.file:
            raise NoWeights(f"{row}: {folder / source.file} does not exist; fetch it from {source.source}, or name the "
                            "folder it is in with --weights") from error
        raise NoWeights(f"{row}: {source.name} could not be downloaded ({_first_line(error)}); put it into a folder as "
                        f"{called} and name that with --weights (by default {FOLDER})") from error
    return network.eval(), transform, _digest(network)


def _find(source: Source, folder: Path) -> tuple[Path | None, str]:
    """The file with the weights, if it is there, and how it would be called."""
    if source.timm:
        names = [f"{source.timm}{ending}" for ending in _ENDINGS]
        names.append(f"{source.timm}/model.safetensors")  # as Hugging Face's own command downloads it
    elif source.torchvision:
        from torchvision.models import get_weight

        names = [Path(get_weight(source.torchvision).url).name]
    else:
        names = [source.file]
    return next((folder / name for name in names if (folder / name).is_file()), None), names[0]


def _of_timm(source: Source, name: str, path: Path | None) -> tuple[nn.Module, Callable[..., Any]]:
    import timm

    overlay = {"file": str(path)} if path else None
    network = timm.create_model(source.timm, pretrained=True, pretrained_cfg_overlay=overlay)
    return network, _transform(network.pretrained_cfg)


def _of_torchvision(source: Source, name: str, path: Path | None) -> tuple[nn.Module, Callable[..., Any]]:
    import torch
    from torchvision.models import get_weight

    from ghostlib.models import zoo

    weights, network = get_weight(source.torchvision), zoo.create(name)
    state = torch.load(path, map_location="cpu", weights_only=True) if path else weights.get_state_dict(progress=True)
    network.load_state_dict(state)
    return network, weights.transforms()


def _of_a_file(source: Source, name: str, path: Path | None) -> tuple[nn.Module, Callable[..., Any]]:
    import timm

    from ghostlib.models import weights

    if path is None:
        raise FileNotFoundError(source.file)
    network, _ = weights.open_network(name, path, ema=source.ema)
    return network, _transform(timm.get_pretrained_cfg(source.config).to_dict())


_OPEN = {"timm": _of_timm, "torchvision": _of_torchvision, "file": _of_a_file}


def _transform(config: dict[str, Any]) -> Callable[..., Any]:
    from timm.data import create_transform, resolve_data_config

    return create_transform(**resolve_data_config(pretrained_cfg=config))


def _digest(network: nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode() + tensor.cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

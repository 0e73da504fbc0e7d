"""What `--set` and `--recipe` may say: the paper's recipe, and how it is scaled to what somebody has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from ghostlib.config import ConfigError
from ghostlib.own.network import Source
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe

# The paper's 2048 take several GPUs; with fewer images than that there is no such batch. See `batch_for`.
LARGEST_BATCH = 256
LEAST_STEPS = 4  # an epoch


class Settings(Recipe):
    """The recipe with the paper's values as defaults, but for its teacher and its batch, and what it leaves to you."""

    teacher: str | None = Field(None, description="timm's name of a pretrained network, or what an earlier training "
                                "wrote: its folder, or the model.safetensors in it")
    image_size: int = Field(224, ge=8, description="px")
    crop_pct: float = Field(0.875, gt=0, le=1, description="share of the side that evaluation keeps")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of each class for validation, where there is no part "
                            "for it")
    seed: int = Field(0, ge=0)
    validate_epochs: int | None = Profile.model_fields["validate_epochs"]
    precision: Literal["no", "bf16", "fp16"] = "no"
    pass_images: int | None = Profile.model_fields["pass_images"]
    sync_batchnorm: bool = Profile.model_fields["sync_batchnorm"]
    compile: bool = Profile.model_fields["compile"]
    workers: int | None = Field(None, ge=0, description="processes that read images; null for one a CPU, at most 8, "
                                "on an accelerator, and none on a CPU. They change no result")
    options: dict[str, Any] = Field({}, description="arguments of whatever builds the network, e.g. {width: 0.5}")
    pretrained: bool = Field(False, description="begin with the weights that timm downloads, and with their function")
    preserve: bool | None = Field(None, description="branches begin with the function that the network is built with; "
                                  "null for where it is pretrained")
    exclude: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, description="convolutions or modules that get no branches, as shell patterns")
    inside: bool = Field(False, description="branches inside blocks that fold themselves (MobileOne's), too")

    @property
    def keeps_function(self) -> bool:
        """Whether the branches leave what the network computes as it is when the training begins."""
        return self.pretrained if self.preserve is None else self.preserve


def parse(source: Source, layers: dict[str, dict[str, Any]], train_images: int) -> Settings:
    """The settings of a training.

    Args:
        source: of the network.
        layers: where values come from, e.g. "--set" -> key -> value; what comes later counts.
        train_images: so many there are.

    Raises:
        ConfigError: an unknown key or a value out of range; the message names it, what is known, and whose it is.
    """
    values: dict[str, Any] = {}
    for where, layer in layers.items():
        if "network" in layer:
            raise ConfigError(f"{where}: network = {layer['network']!r}: the network is the command's first argument")
        values |= layer
    try:
        return _parse(source, values, " and ".join(layers) or "the recipe", train_images)
    except ConfigError:
        for where, layer in layers.items():
            _parse(source, layer, where, train_images)  # whose error names one layer, if that is wrong by itself
        raise


def _parse(source: Source, values: dict[str, Any], where: str, train_images: int) -> Settings:
    # Tracked is what is reported, unless more is asked for: each average costs memory and is scored.
    decay = values.get("ema_decay", Settings.model_fields["ema_decay"].default)
    given = {"batch_size": batch_for(train_images), "ema_decays": (decay,), **values}
    if source.kind == "zoo":  # a recipe knows these names, and refuses V3's, which V2 has without branches
        Settings.parse({"network": source.name}, "NETWORK")  # an error blames the right place
        given["network"] = source.name
    return Settings.parse(given, where).model_copy(update={"network": str(source)})


def batch_for(images: int) -> int:
    """The largest power of two that is at most `LARGEST_BATCH` and leaves an epoch of so many images a few steps."""
    return 2**min(LARGEST_BATCH.bit_length() - 1, max(1, (images // LEAST_STEPS).bit_length() - 1))


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys and values of a file in YAML, such as the recipe.yaml that a training leaves.

    Raises:
        ConfigError: it is not there, or is no mapping in YAML.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"--recipe {path} does not exist") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--recipe {path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"--recipe {path} holds no keys; write one a line, as `epochs: 100`")
    return values


def read_pairs(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE of the command line, the value in YAML.

    Raises:
        ConfigError: one is no such pair.
    """
    values = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not (found and key.isidentifier()):
            raise ConfigError(f"--set {pair}: write KEY=VALUE, e.g. epochs=100")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: the value is not valid YAML ({error}); quote it") from None
    return values

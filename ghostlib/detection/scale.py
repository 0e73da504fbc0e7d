"""The scale that a profile measures Table 10 at: the section `detection` of experiments.yaml."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ghostlib.config import Config, ConfigError, check_keys, mapping
from ghostlib.detection.layout import Layout
from ghostlib.models import catalog
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe


class Scale(Config):
    """What differs from the configurations in detection/configs/; by default nothing, which is COCO."""

    scale: str = Field(description="one sentence for tables: at which scale the numbers were measured")
    resize: float = Field(1.0, gt=0, description="multiplies 320 and 416 px, and the anchors")
    scenes: Layout | None = Field(None, description="how scenes are drawn; null for COCO in data/coco")
    without: tuple[str, ...] = Field((), description="the augmentations of MMDetection's pipeline to leave out")
    options: dict[str, Any] = Field(default_factory=dict, description="changes, written as MMDetection's --cfg-options")
    seeds: int | None = Field(None, ge=1, description="how many, from 0 on; null for the profile's own")

    @property
    def decides_results(self) -> dict[str, Any]:
        """What of it a detector's result depends on besides its seed, as JSON can hold it."""
        return self.model_dump(mode="json", exclude={"scale", "seeds"})


def load_scale(profile: Profile, params: dict[str, Any]) -> Scale:
    """The profile's scale.

    Raises:
        ConfigError: experiments.yaml has none for this profile, or one with an unknown key or an impossible value.
    """
    scales = read_scales(params)
    if profile.name not in scales:
        raise ConfigError(f"experiments.yaml: detection.scales has no {profile.name!r}; known: {', '.join(scales)}")
    return Scale.parse(scales[profile.name], f"experiments.yaml: detection.scales.{profile.name}")


def read_scales(params: dict[str, Any]) -> dict[str, Any]:
    """What experiments.yaml says of detection, by profile; a profile may have none.

    Raises:
        ConfigError: the section has an unknown key, or a scale belongs to no profile.
    """
    scales = _section(params, "scales")
    check_keys(scales, params.get("profiles", scales), "experiments.yaml: detection.scales")
    return scales


def backbone_recipes(profile: Profile, params: dict[str, Any]) -> dict[str, Recipe]:
    """For each backbone of Table 10, by name, the recipe of the classifier whose weights its detectors start from.

    Raises:
        ConfigError: experiments.yaml has no recipe for one of them, or an impossible one.
    """
    overrides, recipes = _section(params, "backbones"), {}
    names = [name for name, _ in catalog.backbones().values()]
    check_keys(overrides, names, "experiments.yaml: detection.backbones")
    for name in names:
        where = f"experiments.yaml: detection.backbones.{name}"
        if name not in overrides:
            raise ConfigError(f"{where} is missing")
        # V3 is V2 with branches, and that is how a recipe says it.
        network = name.replace("ghostnetv3", "ghostnetv2")
        recipes[name] = profile.resolve({**mapping(overrides[name], where), "network": network}, where=where)
    return recipes


def _section(params: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of the section `detection`; empty where there is none."""
    detection = params.get("detection", {})
    check_keys(detection, ("backbones", "scales"), "experiments.yaml: detection")
    return mapping(detection.get(name, {}), f"experiments.yaml: detection.{name}")

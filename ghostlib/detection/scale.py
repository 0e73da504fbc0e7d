"""The scale that a profile measures Table 10 at: the section `detection` of experiments.yaml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ghostlib.config import Config, ConfigError, check_keys, mapping
from ghostlib.detection.layout import Layout
from ghostlib.models import catalog
from ghostlib.training.profile import Factor, Profile, Tune, load_params, load_profile
from ghostlib.training.recipe import Recipe

_STRIDE = 32  # px
LAID_OUT = ("digits", "fashion")  # the data sets whose images are objects that scenes can be made of


class Scale(Config):
    """What differs from the configurations in detection/configs/; by default nothing, which is COCO."""

    scale: str = Field(description="one sentence for tables: at which scale the numbers were measured")
    resize: float = Field(1.0, gt=0, description="multiplies 320 and 416 px, and the anchors")
    scenes: Layout | None = Field(None, description="how scenes are drawn; null for COCO in data/coco")
    without: tuple[str, ...] = Field((), description="the augmentations of MMDetection's pipeline to leave out")
    options: dict[str, Any] = Field(default_factory=dict, description="changes, written as MMDetection's --cfg-options")
    lr: Factor | None = Field(None, description="the optimiser's learning rate, which `tune` chose; null for options'")
    seeds: int | None = Field(None, ge=1, description="how many, from 0 on; null for the profile's own")
    tune: Tune | None = Field(None, description="the values of lr that every backbone is tried at, and the seeds for "
                                                "it; null where the rate is given")
    part: Literal["tune"] | None = Field(None, description="of a trial: it is evaluated on scenes of validation images")

    @model_validator(mode="after")
    def _scenes_to_tune_on(self) -> Scale:
        if self.tune and self.scenes is None:
            raise ValueError("tune needs scenes: it chooses on a part of them that COCO does not have")
        return self

    def at(self, lr: float) -> Scale:
        """The same with another learning rate, evaluated on the scenes that rates are chosen on."""
        return self.model_copy(update={"lr": lr, "part": "tune"})

    def side(self, length: float) -> int:
        """A resolution (px) resized, a multiple of the detectors' coarsest stride."""
        return max(1, round(length * self.resize / _STRIDE)) * _STRIDE

    def seeds_of(self, profile: Profile) -> tuple[int, ...]:
        """The seeds of the detectors that are reported."""
        return tuple(range(self.seeds)) if self.seeds else profile.seeds

    @property
    def decides_results(self) -> dict[str, Any]:
        """What of it a detector's result depends on besides its seed, as JSON can hold it."""
        decides = self.model_dump(mode="json", exclude={"scale", "seeds", "tune"})
        return {name: value for name, value in decides.items() if value is not None}

    @property
    def decides_time(self) -> dict[str, Any]:
        """What of it the time of a step depends on: trials at several rates take as long."""
        return {name: value for name, value in self.decides_results.items() if name not in ("lr", "part")}


def load_scale(profile: Profile, params: dict[str, Any]) -> Scale:
    """The profile's scale.

    Raises:
        ConfigError: experiments.yaml has none for this profile, or one with an unknown key or an impossible value, or
            its rates are chosen with seeds that measure something.
    """
    scales = read_scales(params)
    if profile.name not in scales:
        raise ConfigError(f"experiments.yaml: detection.scales has no {profile.name!r}, so this profile has no "
                          f"detectors; give it one ({', '.join(scales)} have), or leave out what needs them")
    where = f"experiments.yaml: detection.scales.{profile.name}"
    scale = Scale.parse(scales[profile.name], where)
    if scale.scenes and profile.data not in LAID_OUT:
        raise ConfigError(f"{where}.scenes: {profile.data!r} are photographs, which cannot be laid out as objects, as "
                          f"{' and '.join(LAID_OUT)} can; remove scenes to train on COCO in data/coco, or the whole "
                          "scale to leave detectors out")
    if scale.part:
        raise ConfigError(f"{where}.part: remove it; what is reported is evaluated on scenes of test images")
    if scale.tune and (shared := set(scale.tune.seeds) & set(scale.seeds_of(profile))):
        raise ConfigError(f"{where}: tune.seeds shares {', '.join(map(str, sorted(shared)))} with those of the "
                          "detectors; a rate is chosen with seeds that measure nothing else")
    return scale


def scale_of(profile_name: str) -> Scale:
    """The same by the profile's name, of the experiments.yaml of the working directory."""
    params = load_params()
    return load_scale(load_profile(profile_name, params), params)


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

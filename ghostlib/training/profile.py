"""Profiles: how large a reproduction is. experiments.yaml holds them; this reads and checks them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ghostlib.config import Config, ConfigError, check_keys, hint, mapping, read_yaml
from ghostlib.models import catalog
from ghostlib.training.recipe import Recipe, Share

Seeds = tuple[Annotated[int, Field(ge=0)], ...]
Factor = Annotated[float, Field(gt=0)]


class Teacher(Config):
    """A teacher of §5.2: a pretrained network of timm's, or a stand-in that the profile trains on its own data."""

    timm: str | None = Field(None, description="timm's name of a pretrained network, e.g. resnet101.tv_in1k")
    stand_in: dict[str, Any] | None = Field(None, description="the recipe of a small network trained in its place")
    train_images: int | None = Field(None, ge=1, description="the stand-in's, where not the profile's")
    width_scale: float | None = Field(None, gt=0, description="the same")

    @model_validator(mode="after")
    def _one_of(self) -> Teacher:
        if (self.timm is None) == (self.stand_in is None):
            raise ValueError("a teacher has either `timm` or `stand_in`")
        if self.timm and (self.train_images or self.width_scale):
            raise ValueError("train_images and width_scale are a stand-in's; `timm` names a trained network")
        return self


class Tune(Config):
    """How a profile's learning rates are chosen on its validation images; see ghostlib.measures.rates."""

    seeds: Seeds = Field(min_length=1, description="used for nothing else")
    rates: tuple[Factor, ...] = Field(min_length=4, description="the values of lr_scale that every kind is trained at")

    @model_validator(mode="after")
    def _a_grid(self) -> Tune:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds = {self.seeds} holds a seed twice; it would count as two measurements")
        if list(self.rates) != sorted(set(self.rates)):
            raise ValueError(f"rates = {self.rates} must ascend, each once")
        return self


class Profile(Config):
    """The data, sizes and seeds that recipes are run at."""

    name: str
    scale: str = Field(description="one sentence for tables: at which scale the numbers were measured")
    data: Literal["digits", "fashion", "cifar100", "imagenet", "folder"]
    data_dir: str | None = Field(None, description="where the data lies; each data set knows its usual places, but a "
                                 "folder of one's own, which has train/<class>/* and val/<class>/*, as ImageNet's")
    num_classes: int = Field(ge=2)
    image_size: int = Field(ge=33, description="px; GhostNetV2's DFC attention fails at 32 px and below")
    patch_size: int = Field(16, ge=1, description="px; of transformers")
    width_scale: float = Field(1.0, gt=0, description="multiplies every network's width; ratios stay")
    train_images: int | None = Field(None, ge=1, description="a stratified subset; null for all")
    val_images: int = Field(ge=1, description="held out of the training images, for choosing")
    test_images: int | None = Field(None, ge=1, description="a stratified subset; null for all")
    validate_epochs: int | None = Field(1, ge=1, description="score the validation images every so many epochs; null "
                                        "for the end only")
    crop_pct: Share = Field(0.875, description="share of the side that evaluation keeps")
    seeds: Seeds = Field((0,), min_length=1)
    workers: int = Field(0, ge=0, description="data loader processes a run")
    threads: int = Field(1, ge=1, description="CPU threads a run; sums, and so results, depend on it in the last bit")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["no", "bf16", "fp16"] = "no"
    pass_images: int | None = Field(None, ge=1, description="the most images of a forward pass; a larger part of a "
                                    "batch takes several, whose gradients add up. Null for what a GPU's memory holds; "
                                    "64 on a CPU")
    sync_batchnorm: bool = Field(False, description="normalise over the batches of all GPUs that train together")
    compile: bool = Field(False, description="whether torch.compile compiles the network")
    recipe: dict[str, Any] = Field(default_factory=dict, description="what differs from the paper's recipe")
    networks: dict[str, dict[str, Any]] = Field(default_factory=dict, description="what differs further, by network")
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict, description="the same, by optimiser")
    rates: dict[str, Factor] = Field(default_factory=dict, description="lr_scale by kind of recipe, see `kind_of`; "
                                     "what `tune` chose, or by hand")
    tune: Tune | None = Field(None, description="how `rates` are chosen; null where they are given")
    teachers: dict[str, Teacher] = Field(default_factory=dict)
    base: dict[str, Any] = Field(default_factory=dict, description="params.yaml's recipe, which all of this changes")

    @model_validator(mode="after")
    def _distinct_seeds(self) -> Profile:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds = {self.seeds} holds a seed twice; it would count as two measurements")
        if self.tune and (shared := set(self.seeds) & set(self.tune.seeds)):
            raise ValueError(f"tune.seeds shares {', '.join(map(str, sorted(shared)))} with seeds; rates are chosen "
                             "with seeds that measure nothing else")
        return self

    @model_validator(mode="after")
    def _a_folder_has_a_place(self) -> Profile:
        if self.data == "folder" and not self.data_dir:
            raise ValueError("data = 'folder' needs data_dir, the folder with train/<class>/* and val/<class>/*")
        return self

    @property
    def decides_results(self) -> dict[str, Any]:
        """What of a profile a training's result depends on besides its recipe, seed, teacher and data's digest."""
        return self.model_dump(exclude={"name", "scale", "seeds", "recipe", "networks", "optimizers", "rates",
                                        "tune", "teachers", "base", "workers", "data_dir"}
                               ) | {"device": self.device_type}

    def of_stand_in(self, teacher: str) -> Profile:
        """The profile that a teacher's stand-in is trained at."""
        own = self.teachers[teacher].model_dump(include={"train_images", "width_scale"}, exclude_none=True)
        return self.model_copy(update=own)

    @property
    def device_type(self) -> str:
        """The device that a run gets: "cpu", "cuda" or "mps"."""
        if self.device != "auto":
            return self.device
        import torch

        return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"

    def resolve(self, *overrides: dict[str, Any], where: str = "recipe") -> Recipe:
        """The paper's recipe, changed by params.yaml's, this profile, its network and optimiser, then the overrides.

        Where the overrides leave lr_scale alone, it is the rate of the recipe's kind, if `rates` has one.
        """
        asked = {key: value for layer in overrides for key, value in layer.items()}
        scaled = {**self.base, **self.recipe}
        network = asked.get("network", scaled.get("network", Recipe.model_fields["network"].default))
        optimizer = asked.get("optimizer", scaled.get("optimizer", Recipe.model_fields["optimizer"].default))
        recipe = Recipe.parse({**scaled, **self.networks.get(network, {}), **self.optimizers.get(optimizer, {}),
                               **asked}, where)
        if "lr_scale" not in asked and (rate := self.rates.get(kind_of(recipe))):
            recipe = recipe.model_copy(update={"lr_scale": rate})
        if self.width_scale != 1 and catalog.find(recipe.network).width is None:
            raise ConfigError(f"{where}: network = {recipe.network!r} comes in its own sizes only, and profile "
                              f"{self.name!r} scales widths by {self.width_scale}")
        if catalog.find(recipe.network).family == "deit" and (rest := self.image_size % self.patch_size):
            raise ConfigError(f"experiments.yaml: profiles.{self.name}.patch_size = {self.patch_size} does not divide "
                              f"image_size = {self.image_size}: {recipe.network} ({where}) would not see the last "
                              f"{rest} px")
        if recipe.teacher is not None and recipe.teacher not in self.teachers:
            raise ConfigError(f"{where}: teacher = {recipe.teacher!r} is not one of profile {self.name!r}'s teachers: "
                              f"{', '.join(self.teachers) or 'it has none'}")
        return recipe


def kind_of(recipe: Recipe) -> str:
    """What a learning rate is chosen for: network family, optimiser, with branches or not, with a teacher or not.

    For example "ghostnetv2, lamb, branches, teacher", or "mobilenetv2, rmsproptf".
    """
    family = catalog.find(recipe.network).family
    return ", ".join([recipe.network if family == "timm" else family, recipe.optimizer,
                      *(["branches"] if recipe.branches else []), *(["teacher"] if recipe.teacher is not None else [])])


def load_params(path: str | Path = "params.yaml") -> dict[str, Any]:
    """The whole params.yaml, and experiments.yaml beside it.

    Raises:
        ConfigError: a file is absent, is not YAML, lacks a section, has an unknown one, a key twice or one of the
            other file; or no stage of the pipeline beside them measures an experiment. The message names the place.
    """
    path = Path(path)
    other = path.with_name("experiments.yaml")
    params, experiments = _read(path, "profile", "recipe"), _read(other, "profiles", "experiments")
    if twice := params.keys() & experiments.keys():
        raise ConfigError(f"{path} and {other} both have {', '.join(sorted(twice))}; remove it from one of them")
    check_keys(params, ("profile", "recipe", "latency"), str(path))
    check_keys(experiments, ("profiles", "experiments", "detection"), str(other))
    for section in ("profiles", "experiments"):
        for name, values in mapping(experiments[section], f"{other}: {section}").items():
            if not isinstance(name, str) or section == "profiles" and not re.fullmatch(r"\w[\w.-]*", name):
                raise ConfigError(f"{other}: {section}: {name!r} is no name: a folder gets it, so it is of letters, "
                                  "digits, '_', '-' and '.' and begins with none of the last two")
            if section == "profiles" and not _stays_text(name):
                raise ConfigError(f"{other}: profiles: {name!r} is no name: DVC reads it as a number, a date, yes, no "
                                  "or nothing; choose another")
            mapping(values, f"{other}: {section}.{name}")
    _check_measured(experiments["experiments"], path.with_name("dvc.yaml"), str(other))
    return {**params, **experiments}


def _stays_text(name: str) -> bool:
    import yaml

    try:
        float(name)  # as papermill does
        return False
    except ValueError:
        pass
    try:
        return isinstance(yaml.safe_load(name), str)
    except ValueError:  # a date that there is none of
        return False


def _read(path: Path, *wanted: str) -> dict[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict) or (missing := [key for key in wanted if not values.get(key)]):
        raise ConfigError(f"{path} lacks {', '.join(missing) if isinstance(values, dict) else 'everything'}: it needs "
                          f"the keys {', '.join(wanted)}")
    return values


def _check_measured(experiments: Iterable[str], pipeline: Path, where: str) -> None:
    """Refuses an experiment whose results are no output of the pipeline: nobody would read them."""
    if not pipeline.exists():  # a folder where one works without it
        return
    measured = dict.fromkeys(re.findall(r"/runs/([\w.-]+)\.csv:", pipeline.read_text(encoding="utf-8")))
    for name in experiments:
        if name not in measured:
            raise ConfigError(f"{where}: experiments.{name}: no stage of {pipeline.name} writes runs/{name}.csv, so "
                              f"nothing reads its results; {hint(name, measured)}")


def load_profile(name: str, params: dict[str, Any]) -> Profile:
    """The named profile of what `load_params` read, checked together with its teachers' recipes."""
    profiles = params["profiles"]
    if name not in profiles:
        raise ConfigError(f"experiments.yaml: profiles: unknown profile {name!r}; known: {', '.join(profiles)}")
    where = f"experiments.yaml: profiles.{name}"
    values = mapping(profiles[name], where)
    if taken := [key for key in ("name", "base") if key in values]:
        raise ConfigError(f"{where}: unknown key {taken[0]!r}; a profile's name is the key that it stands under, and "
                          "what all share is params.yaml's recipe")
    Recipe.parse(params.get("recipe", {}), "params.yaml: recipe")  # by itself: its faults are no profile's
    profile = Profile.parse({"name": name, "base": params.get("recipe", {}), **values}, where)
    profile.resolve(where=f"{where}.recipe")
    for network, overrides in profile.networks.items():
        profile.resolve({"network": network, "teacher": None, **overrides}, where=f"{where}.networks.{network}")
    for optimizer, overrides in profile.optimizers.items():
        profile.resolve({"optimizer": optimizer, **overrides}, where=f"{where}.optimizers.{optimizer}")
    for teacher, how in profile.teachers.items():
        if how.stand_in:
            profile.of_stand_in(teacher).resolve(how.stand_in, where=f"{where}.teachers.{teacher}.stand_in")
    return profile

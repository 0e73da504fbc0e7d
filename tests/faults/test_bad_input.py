"""Input that cannot be meant: every key of the configuration misspelt, of a wrong type, out of range; paths, files."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest
from PIL import Image
from pydantic.fields import FieldInfo
from safetensors.torch import load_file
from torch import nn

from ghostlib.config import Config, ConfigError
from ghostlib.detection.layout import Layout
from ghostlib.detection.scale import Scale, backbone_recipes, load_scale
from ghostlib.experiments import Experiment, Grid
from ghostlib.files import save_weights
from ghostlib.models import catalog
from ghostlib.training.folders import check_whole, class_folders, folder_images
from ghostlib.training.images import DataError, read_image
from ghostlib.training.profile import Profile, Teacher, Tune, load_params, load_profile
from ghostlib.training.recipe import Recipe
from tests.params import write_params

Place = tuple[str, ...]
STAND_IN = {"network": "resnet10", "branches": 0, "teacher": None}
VALID = {
    "profile": "p", "recipe": {"lr": 0.005},
    "profiles": {"p": {
        "scale": "none", "data": "digits", "num_classes": 10, "image_size": 33, "patch_size": 11, "val_images": 20,
        "seeds": [0],
        "recipe": {"epochs": 3}, "networks": {"deit_tiny": {"epochs": 4}}, "optimizers": {"sgd": {"epochs": 4}},
        "tune": {"seeds": [9], "rates": [1, 2, 4, 8]}, "teachers": {"BEiTv2-B": {"stand_in": STAND_IN}}}},
    "experiments": {"table_1": {"base": {"alpha": 0.4}, "rows": {"a": {"tau": 2.0}}, "columns": {"b": {"skip": True}}}},
    "detection": {"backbones": {name: {} for name, _ in catalog.backbones().values()},
                  "scales": {"p": {"scale": "none", "scenes": {"train": 4}}}},
}
# Where the records stand: all keys of each are tried there.
RECORDS: dict[Place, type[Config]] = {
    ("profiles", "p"): Profile, ("profiles", "p", "recipe"): Recipe, ("profiles", "p", "tune"): Tune,
    ("profiles", "p", "teachers", "BEiTv2-B"): Teacher, ("experiments", "table_1"): Grid,
    ("detection", "scales", "p"): Scale, ("detection", "scales", "p", "scenes"): Layout}
# Where else a recipe, or a part of one, may stand: one key is tried.
RECIPES: list[Place] = [
    ("recipe",), ("profiles", "p", "networks", "deit_tiny"), ("profiles", "p", "optimizers", "sgd"),
    ("profiles", "p", "teachers", "BEiTv2-B", "stand_in"), ("experiments", "table_1", "base"),
    ("experiments", "table_1", "rows", "a"), ("experiments", "table_1", "columns", "b"),
    ("detection", "backbones", "ghostnetv2_100")]


def check(params: dict[str, Any]) -> None:
    """All that is read of the two files before a training."""
    profile = load_profile("p", params)
    Experiment.load("table_1", "p", params)
    load_scale(profile, params)
    backbone_recipes(profile, params)


def refused(path: Place, key: str, value: Any) -> str:
    params = copy.deepcopy(VALID)
    record = params
    for name in path:
        record = record[name]
    record[key] = value
    with pytest.raises(ConfigError) as error:
        check(params)
    return str(error.value)


# -- values that a field cannot have


def bounds(field: FieldInfo) -> Iterator[float]:
    """Numbers just outside of its range, or of the range of what it is a list of."""
    metadata = [*field.metadata]
    for argument in get_args(field.annotation):
        if get_origin(argument) is Annotated:
            metadata += [bound for constraint in get_args(argument)[1:]
                         for bound in getattr(constraint, "metadata", [constraint])]
    for constraint in metadata:
        for name, step in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            if (bound := getattr(constraint, name, None)) is not None:
                yield bound + step


def is_list(field: FieldInfo) -> bool:
    return "tuple" in str(field.annotation)


def of_wrong_type(field: FieldInfo) -> Any:
    annotation = str(field.annotation)
    if is_list(field):
        return {"a": 1}
    if "dict" in annotation or any(name in annotation for name in ("Tune", "Layout")):
        return "text"
    return ["a", "list"] if "str" in annotation or "Literal" in annotation else "many"


def in_its_form(number: float, field: FieldInfo) -> Any:
    """A number, or as many of it as a list takes."""
    if not is_list(field):
        return number
    parts = get_args(field.annotation)
    return [number] * (4 if Ellipsis in parts else len(parts))


def wrong(field: FieldInfo) -> Iterator[tuple[str, Any]]:
    yield "of a wrong type", of_wrong_type(field)
    for number in bounds(field):
        yield f"{number}", in_its_form(number, field)
    if any(get_origin(part) is Literal for part in (field.annotation, *get_args(field.annotation))):
        yield "of no such name", "nothing_of_the_kind"
    numbers = any(kind in str(field.annotation) for kind in ("int", "float"))
    if numbers and "dict" not in str(field.annotation):
        yield "true", in_its_form(True, field)
        yield "infinite", in_its_form(float("inf"), field)
    if type(None) not in get_args(field.annotation):
        yield "nothing", None


KEYS = [(path, name, field) for path, record in RECORDS.items() for name, field in record.model_fields.items()
        if (record, name) not in ((Profile, "name"), (Profile, "base"))]  # which are no keys of the file's


def test_what_is_changed_below_is_valid():
    check(copy.deepcopy(VALID))


@pytest.mark.parametrize(("path", "key", "field"), KEYS, ids=lambda value: str(value) if isinstance(value, str) else "")
def test_a_misspelt_key_is_named_with_the_right_one(path, key, field):
    told = refused(path, f"{key}e", 1)
    assert told.startswith("experiments.yaml: ") and path[1] in told
    assert f"{key}e'; did you mean '{key}'" in told


CASES = [(path, name, what, value) for path, name, field in KEYS for what, value in wrong(field)]
# Looked up in `networks` and `optimizers` before the recipe is checked.
UNHASHABLE = pytest.mark.xfail(raises=TypeError, strict=True, reason="a list ends with a traceback and not with words")


@pytest.mark.parametrize(("path", "key", "value"), [
    pytest.param(path, key, value, id=f"{path[-1]}.{key} {what}", marks=[UNHASHABLE] * (
        what == "of a wrong type" and key in ("network", "optimizer"))) for path, key, what, value in CASES])
def test_an_impossible_value_is_named_with_its_key_and_place(path, key, value):
    told = refused(path, key, value)
    assert "experiments.yaml: " in told and path[1] in told and key in told
    assert len(told.splitlines()) <= 3


@pytest.mark.parametrize("path", RECIPES, ids=".".join)
@pytest.mark.parametrize(("key", "value", "told"), [
    ("lrr", 1, "unknown key 'lrr'; did you mean 'lr'"), ("lr", "fast", "lr = 'fast': "), ("lr", 0, "lr = 0: "),
    ("lr", True, "lr = True: ")])
def test_a_recipe_is_checked_wherever_one_stands(path, key, value, told):
    assert told in refused(path, key, value)


@pytest.mark.parametrize("name", ["Größe 1×", "two words", "a.b: c", "~", "1"])
def test_names_of_any_letters_are_read_back(name, tmp_path):
    params = copy.deepcopy(VALID)
    params["experiments"]["table_1"]["rows"] = {name: {"tau": 2.0}}
    write_params(tmp_path, params)
    loaded = load_params(tmp_path / "params.yaml")
    assert [cell.row for cell in Experiment.load("table_1", "p", loaded).cells] == [name]


# -- files


def test_folders_with_spaces_and_other_letters_hold_images_and_weights(tmp_path):
    root = tmp_path / "größe 1×" / "ä b"
    for part in ("train", "val"):
        (root / part / "eine klasse").mkdir(parents=True)
        Image.new("L", (5, 4)).save(root / part / "eine klasse" / "日本 1.png")
    train, val = class_folders(root)
    assert train.read(0).size == (5, 4) and len(val) == 1
    check_whole([train, val], root / "whole.npy")
    save_weights(nn.Linear(1, 1), root / "w ü.safetensors")
    assert load_file(root / "w ü.safetensors").keys() == {"weight", "bias"}


@pytest.mark.filterwarnings("ignore:Image size")
def test_an_image_larger_than_pillow_thinks_harmless_is_read_up_to_twice_that(tmp_path, monkeypatch):
    Image.new("L", (15, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(tmp_path / "a.png").size == (15, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70)
    with pytest.raises(DataError, match="more pixels than the 140 that Pillow takes for harmless; scale it down"):
        read_image(tmp_path / "a.png")


class Rogue:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["pickle", "array"])
def test_what_remembers_whole_images_runs_no_code(form, tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (5, 4)).save(tmp_path / "a" / "0.png")
    whole, trace = tmp_path / "whole.npy", tmp_path / "ran"
    if form == "pickle":
        whole.write_bytes(pickle.dumps(Rogue(trace)))
    else:
        np.save(whole, np.array([Rogue(trace)], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle="):
        check_whole([folder_images(tmp_path)[0]], whole)
    assert not trace.exists()


def test_the_command_line_needs_neither_a_home_nor_a_language(tmp_path):
    folder = tmp_path / "größe 1×"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-m", "ghostlib", "zoo", "mobilenetv2_100"], cwd=folder, capture_output=True,
                          env={"PATH": os.environ["PATH"], "LC_ALL": "C",
                               "PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == 0, done.stderr
    assert "MobileNetV2 1.0×" in done.stdout.decode("utf-8")

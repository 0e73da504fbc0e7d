"""Profiles: params.yaml as it is, and as it may not be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ghostlib.config import ConfigError
from ghostlib.models import zoo
from ghostlib.training.build import build_network
from ghostlib.training.profile import Profile, Teacher, Tune, kind_of, load_params, load_profile
from ghostlib.training.recipe import Recipe
from tests.params import write_params

PARAMS = Path(__file__).parents[2] / "params.yaml"
PROFILES = ["digits", "fashion", "cifar100", "imagenet"]
TEACHERS = ["ResNet-101", "DeiT-B", "BEiTv2-B"]

SMALL = dict(name="small", scale="a few images", data="digits", num_classes=10, image_size=33, patch_size=11,
             val_images=20, teachers={"BEiTv2-B": {"timm": "beitv2"}})


@pytest.fixture(scope="module")
def params():
    return load_params(PARAMS)


def profile(**values) -> Profile:
    return Profile.parse({**SMALL, **values})


# -- params.yaml


def test_params_yaml_holds_its_profiles_and_chooses_one(params):
    assert list(params["profiles"]) == PROFILES and params["profile"] in PROFILES


def test_the_base_recipe_of_params_yaml_is_the_papers(params):
    assert Recipe.parse(params["recipe"]) == Recipe()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_resolves_the_base_recipe(params, name):
    loaded = load_profile(name, params)
    recipe = loaded.resolve()
    assert loaded.name == name
    changed = {key for key, value in recipe if value != getattr(Recipe(), key)}
    assert changed <= set(params["profiles"][name].get("recipe", {}))
    assert recipe.teacher == "BEiTv2-B" and recipe.optimizer == "lamb"


@pytest.mark.parametrize("name", PROFILES)
def test_every_cell_of_every_experiment_resolves_in_every_profile(params, name):
    loaded = load_profile(name, params)
    for experiment, grid in params["experiments"].items():
        seen = {}
        for row, of_row in grid["rows"].items():
            for column, of_column in grid["columns"].items():
                where = f"{experiment}: {row}, {column}"
                recipe = loaded.resolve(grid.get("base", {}), of_row, of_column, where=where)
                assert recipe not in seen.values(), f"{where} is the same as another cell"
                assert recipe.network in zoo.names()
                seen[where] = recipe


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_the_papers_teachers(params, name):
    loaded = load_profile(name, params)
    assert list(loaded.teachers) == TEACHERS
    for teacher in loaded.teachers.values():
        if teacher.stand_in is not None:
            recipe = loaded.resolve(teacher.stand_in)
            assert recipe.teacher is None and recipe.network in zoo.names()


def test_the_imagenet_profile_is_the_papers_scale(params):
    loaded = load_profile("imagenet", params)
    assert loaded.resolve() == Recipe()
    assert (loaded.num_classes, loaded.image_size, loaded.width_scale, loaded.train_images) == (1000, 224, 1.0, None)


# -- resolving


def test_a_profile_overrides_the_base_and_an_experiment_overrides_both():
    small = profile(base={"epochs": 100, "lr": 0.1, "tau": 3}, recipe={"epochs": 50, "lr": 0.2})
    recipe = small.resolve({"epochs": 25})
    assert (recipe.epochs, recipe.lr, recipe.tau, recipe.alpha) == (25, 0.2, 3, 0.5)


def test_later_overrides_win():
    assert profile().resolve({"epochs": 2, "alpha": 0.1}, {}, {"epochs": 3}).epochs == 3


def test_what_differs_by_network_comes_between_profile_and_experiment():
    small = profile(recipe={"epochs": 3, "lr": 0.1, "tau": 2},
                    networks={"deit_tiny": {"epochs": 12, "lr": 0.2}, "resnet10": {"epochs": 7}})
    recipe = small.resolve({"network": "deit_tiny", "lr": 0.3})
    assert (recipe.epochs, recipe.lr, recipe.tau) == (12, 0.3, 2)
    assert small.resolve({"network": "resnet10"}).epochs == 7
    assert small.resolve({"network": "mobilenetv2_100"}).epochs == 3


@pytest.mark.parametrize("layer", ["base", "recipe"])
def test_what_differs_by_network_applies_to_the_network_of_the(layer):
    small = profile(networks={"resnet10": {"epochs": 7}}, **{layer: {"network": "resnet10"}})
    assert small.resolve().epochs == 7


def test_what_differs_by_network_applies_to_the_recipes_default_network():
    small = profile(networks={"ghostnetv2_130": {"epochs": 7}})
    assert small.resolve().epochs == small.resolve({"network": "ghostnetv2_130"}).epochs == 7


def test_resolving_changes_nothing_in_the_profile():
    small, override = profile(recipe={"epochs": 3}, base={"lr": 0.1}), {"tau": 2}
    before = small.model_copy(deep=True)
    small.resolve(override)
    assert small == before and override == {"tau": 2}


def test_a_wrong_override_says_where_it_stands():
    with pytest.raises(ConfigError, match="^table_1: w/ ReP: unknown key 'brances'; did you mean 'branches'"):
        profile().resolve({"brances": 3}, where="table_1: w/ ReP")


def test_a_teacher_the_profile_lacks_is_named_with_those_it_has():
    small = profile(teachers={"A": {"timm": "a"}, "B": {"timm": "b"}})
    with pytest.raises(ConfigError, match="teacher = 'C' is not one of profile 'small'.* teachers: A, B"):
        small.resolve({"teacher": "C"})
    with pytest.raises(ConfigError, match="it has none"):
        profile(teachers={}).resolve()
    assert small.resolve({"teacher": None}).teacher is None


# -- checks


def test_a_transformer_sees_all_of_an_image():
    own = profile(image_size=40, patch_size=11)
    with pytest.raises(ConfigError, match=r"small\.patch_size = 11 .* = 40: deit_tiny \(there\) .* last 7 px"):
        own.resolve({"network": "deit_tiny", "teacher": None, "branches": 0}, where="there")
    assert own.resolve().network != "deit_tiny"
    assert profile(image_size=44, patch_size=11).resolve({"network": "deit_tiny", "teacher": None, "branches": 0})


def test_33_px_is_the_least_and_32_px_is_refused():
    assert profile(image_size=33).image_size == 33
    with pytest.raises(ConfigError, match="image_size = 32: .* greater than or equal to 33"):
        profile(image_size=32)


@pytest.mark.parametrize(("key", "value"), [
    ("data", "mnist"), ("num_classes", 1), ("width_scale", 0), ("val_images", 0), ("train_images", 0), ("seeds", []),
    ("crop_pct", 1.5), ("precision", "fp8"), ("device", "gpu"), ("threads", 0), ("workers", -1),
    ("patch_size", 0), ("test_images", 0)])
def test_an_impossible_value_is_named(key, value):
    with pytest.raises(ConfigError, match=f"^Profile: {key} = "):
        profile(**{key: value})


@pytest.mark.parametrize(("seeds", "told"), [([0, 1, 0], "holds a seed twice"), ([1, -1], "greater than or equal")])
def test_seeds_are_distinct_and_not_negative(seeds, told):
    with pytest.raises(ConfigError, match=told):
        profile(seeds=seeds)


def test_an_unknown_profile_lists_the_known_ones(params):
    with pytest.raises(ConfigError, match="unknown profile 'mnist'; known: digits, fashion, cifar100, imagenet"):
        load_profile("mnist", params)


def test_an_unknown_key_of_a_profile_says_which_profile():
    raw = {key: value for key, value in SMALL.items() if key != "name"}
    with pytest.raises(ConfigError, match=r"^experiments.yaml: profiles.p: unknown key 'seed'; did you mean 'seeds'"):
        load_profile("p", {"profiles": {"p": {**raw, "seed": 1}}})


@pytest.mark.parametrize("key", ["name", "base"])
def test_a_profile_has_no_other_name_than_its_key_and_no_base_of_its_own(key):
    raw = {name: value for name, value in SMALL.items() if name != "name"}
    with pytest.raises(ConfigError, match=rf"^experiments.yaml: profiles.p: unknown key '{key}'; a profile's name is"):
        load_profile("p", {"profiles": {"p": {**raw, key: SMALL.get(key, {"epochs": 1})}}})


def test_a_fault_of_params_yaml_is_not_called_a_profile_s(params):
    with pytest.raises(ConfigError, match=r"^params.yaml: recipe: unknown key 'weight_decy'; did you mean"):
        load_profile("digits", {**params, "recipe": {**params["recipe"], "weight_decy": 0.05}})


def test_a_folder_of_one_s_own_needs_its_place():
    with pytest.raises(ConfigError, match="data = 'folder' needs data_dir, the folder with train/<class>/"):
        profile(data="folder")
    assert profile(data="folder", data_dir="photos").data_dir == "photos"


@pytest.mark.parametrize("values", [{}, {"timm": "resnet18", "stand_in": {}}], ids=["neither", "both"])
def test_a_teacher_is_either_timms_or_a_stand_in(values):
    with pytest.raises(ConfigError, match="either `timm` or `stand_in`"):
        Teacher.parse(values)
    with pytest.raises(ConfigError, match=r"teachers\.T"):
        profile(teachers={"T": values})


def test_a_stand_in_may_be_wider_and_see_more_images():
    stand_in = {"network": "resnet10", "branches": 0, "teacher": None}
    small = profile(width_scale=0.35, train_images=100, teachers={
        "weak": {"stand_in": stand_in}, "strong": {"stand_in": stand_in, "train_images": 900, "width_scale": 1.0}})
    assert small.of_stand_in("weak").decides_results == small.decides_results
    strong = small.of_stand_in("strong")
    assert (strong.train_images, strong.width_scale, strong.val_images) == (900, 1.0, small.val_images)
    with pytest.raises(ConfigError, match="are a stand-in's"):
        Teacher.parse({"timm": "resnet18", "width_scale": 1.0})


@pytest.mark.parametrize("wrong", [
    {"teachers": {"BEiTv2-B": {"stand_in": {"network": "resnet10", "teacher": None, "epoch": 3}}}},
    {"networks": {"resnet10": {"epoch": 3}}}, {"recipe": {"epoch": 3}}], ids=["stand-in", "network", "recipe"])
def test_loading_a_profile_checks_its_recipes(wrong):
    raw = {key: value for key, value in {**SMALL, **wrong}.items() if key != "name"}
    with pytest.raises(ConfigError, match=r"^experiments.yaml: profiles.p\..*: unknown key 'epoch'; did you mean"):
        load_profile("p", {"profiles": {"p": raw}})


def test_what_differs_by_optimiser_comes_between_profile_and_experiment():
    small = profile(recipe={"lr_scale": 20}, optimizers={"rmsproptf": {"lr_scale": 8, "epochs": 7}})
    assert small.resolve().lr_scale == 20
    plain = small.resolve({"optimizer": "rmsproptf", "teacher": None, "epochs": 3})
    assert (plain.lr_scale, plain.epochs) == (8, 3)


def test_a_kind_is_family_optimiser_branches_and_teacher():
    small = profile()
    kinds = {kind_of(small.resolve(overrides)): overrides for overrides in (
        {}, {"branches": 0}, {"teacher": None}, {"branches": 0, "teacher": None}, {"optimizer": "sgd"},
        {"network": "mobilenetv2_100", "optimizer": "rmsproptf", "branches": 0, "teacher": None},
        {"network": "mixnet_s", "branches": 0, "teacher": None})}
    assert list(kinds) == [
        "ghostnetv2, lamb, branches, teacher", "ghostnetv2, lamb, teacher", "ghostnetv2, lamb, branches",
        "ghostnetv2, lamb", "ghostnetv2, sgd, branches, teacher", "mobilenetv2, rmsproptf", "mixnet_s, lamb"]
    assert kind_of(small.resolve({"network": "ghostnetv2_050", "branches": 1, "lr": 0.1})) == next(iter(kinds))


def test_the_rate_of_a_kind_replaces_what_the_profile_says_and_an_experiment_says_the_last_word():
    plain = {"branches": 0, "teacher": None}
    small = profile(recipe={"lr_scale": 20}, networks={"deit_tiny": {"lr_scale": 3}},
                    optimizers={"rmsproptf": {"lr_scale": 8}}, rates={"ghostnetv2, lamb": 5, "deit, lamb": 6,
                                                                      "ghostnetv2, rmsproptf": 7})
    assert small.resolve(plain).lr_scale == 5
    assert small.resolve({**plain, "network": "deit_tiny"}).lr_scale == 6
    assert small.resolve({**plain, "optimizer": "rmsproptf"}).lr_scale == 7
    assert small.resolve().lr_scale == 20  # with branches and a teacher: another kind
    assert small.resolve(plain, {"lr_scale": 1}).lr_scale == 1
    same = profile(recipe={"lr_scale": 5}).resolve(plain)
    assert small.resolve(plain) == same


@pytest.mark.parametrize(("values", "told"), [
    (dict(rates={"ghostnetv2, lamb": 0}), "rates.ghostnetv2, lamb = 0: .* greater than 0"),
    (dict(tune={"seeds": [1], "rates": [1, 2, 3]}), "tune.rates = .* at least 4 items"),
    (dict(tune={"seeds": [1], "rates": [0, 1, 2, 3]}), r"tune.rates.0 = 0"),
    (dict(tune={"seeds": [1], "rates": [1, 2, 4, 3]}), "must ascend, each once"),
    (dict(tune={"seeds": [1], "rates": [1, 2, 2, 3]}), "must ascend, each once"),
    (dict(tune={"seeds": [], "rates": [1, 2, 3, 4]}), "tune.seeds = "),
    (dict(tune={"seeds": [7, 7], "rates": [1, 2, 3, 4]}), "holds a seed twice"),
    (dict(tune={"seeds": [7, 1, 2], "rates": [1, 2, 3, 4]}, seeds=[0, 1, 2]),
     "tune.seeds shares 1, 2 with seeds; rates are chosen with seeds that measure nothing else"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_rates_and_how_they_are_chosen_are_checked(values, told):
    assert profile(tune={"seeds": [7], "rates": [1, 2, 3, 4]}).tune == Tune(seeds=(7,), rates=(1, 2, 3, 4))
    with pytest.raises(ConfigError, match=told):
        profile(**values)


def test_a_network_of_one_size_runs_at_full_width_and_nowhere_else():
    asked = {"network": "mobilenetv3_small_100", "branches": 0, "teacher": None}
    full = profile(width_scale=1.0).resolve(asked)
    assert build_network(full, 5).num_classes == 5
    with pytest.raises(ConfigError, match="'mobilenetv3_small_100' comes in its own sizes only.*scales widths by 0.5"):
        profile(width_scale=0.5).resolve(asked)


def test_loading_a_profile_checks_its_optimisers_names():
    raw = profile().model_dump(exclude={"name", "base"})
    with pytest.raises(ConfigError, match="profiles.p.optimizers.rmsprop: .*rmsprop"):
        load_profile("p", {"profiles": {"p": {**raw, "optimizers": {"rmsprop": {"epochs": 3}}}}})


def test_loading_a_profile_checks_its_networks_names():
    raw = {key: value for key, value in SMALL.items() if key != "name"}
    with pytest.raises(ConfigError, match="profiles.p.networks.resnet_10: .*'resnet_10' is unknown"):
        load_profile("p", {"profiles": {"p": {**raw, "networks": {"resnet_10": {"epochs": 3}}}}})


def test_a_loaded_profile_stands_on_the_recipe_of_params_yaml():
    raw = {key: value for key, value in SMALL.items() if key != "name"}
    loaded = load_profile("p", {"recipe": {"tau": 3}, "profiles": {"p": {**raw, "recipe": {"lr": 0.1}}}})
    assert (loaded.resolve().tau, loaded.resolve().lr, loaded.resolve().epochs) == (3, 0.1, 600)


# -- what a result depends on


@pytest.mark.parametrize("change", [
    {"data": "fashion"}, {"num_classes": 9}, {"image_size": 40}, {"patch_size": 8}, {"width_scale": 0.5},
    {"train_images": 100}, {"val_images": 30}, {"test_images": 30}, {"crop_pct": 1.0}, {"precision": "bf16"},
    {"threads": 2}, {"pass_images": 8}, {"sync_batchnorm": True}, {"compile": True}], ids=str)
def test_a_result_depends_on(change):
    assert profile(**change).decides_results != profile().decides_results


@pytest.mark.parametrize("change", [
    {"name": "other"}, {"scale": "other words"}, {"seeds": [1, 2]}, {"workers": 4}, {"data_dir": "/elsewhere"},
    {"recipe": {"epochs": 3}}, {"base": {"epochs": 3}}, {"teachers": {}}, {"networks": {"resnet10": {}}},
    {"optimizers": {"sgd": {}}}, {"rates": {"ghostnetv2, lamb": 5}},
    {"tune": {"seeds": [7], "rates": [1, 2, 3, 4]}}], ids=str)
def test_a_result_does_not_depend_on(change):
    assert profile(**change).decides_results == profile().decides_results


def test_a_result_depends_on_the_device_it_gets_and_not_on_how_that_was_asked_for():
    auto = profile(device="auto")
    assert auto.device_type == ("cuda" if torch.cuda.is_available() else auto.device_type) in ("cpu", "cuda", "mps")
    assert profile(device=auto.device_type).decides_results == auto.decides_results
    assert profile(device="cuda").decides_results != profile(device="cpu").decides_results


# -- the file


def test_an_absent_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist; run from the repository's root"):
        load_params(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("recipe: {lr: 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"params\.yaml is not valid YAML"):
        load_params(path)


@pytest.mark.parametrize(("file", "text", "told"), [
    ("params", "", "lacks everything"), ("experiments", "- a list", "lacks everything"),
    ("params", "latency: {rounds: 5}", "lacks profile, recipe: it needs the keys profile, recipe"),
    ("experiments", "profiles:\nexperiments: {a: 1}", "lacks profiles: it needs the keys profiles, experiments"),
    ("experiments", "recipe: {lr: 1}\nprofiles: {a: 1}\nexperiments: {a: 1}", "both have recipe; remove it from one"),
    ("params", "profile: a\nrecipe: {lr: 1}\nlatncy: {}", ": unknown key 'latncy'; did you mean 'latency'"),
    ("params", "profile: a\nrecipe: {lr: 1}\nlatency:", ": latency holds nothing"),
    ("experiments", "profiles: {a: {}}\nexperiments: {b: {}}\ndetections: {}", ": unknown key .* mean 'detection'"),
    ("experiments", "profiles: {a: {}}\nexperiments: {b: {}}\ndetection:", ": detection holds nothing"),
    ("experiments", "profiles: {a: }\nexperiments: {b: {}}", ": profiles.a holds nothing"),
    ("experiments", "profiles: {a: {}}\nexperiments: {b: }", ": experiments.b holds nothing"),
    ("experiments", "profiles: {2024: {}}\nexperiments: {b: {}}", ": profiles: 2024 is no name"),
    *(("experiments", f"profiles: {{'{name}': {{}}}}\nexperiments: {{b: {{}}}}", f": profiles: '{name}' is no name")
      for name in ("2024", "1e3", "no", "2024-01-02", "2024-13-01", "null")),
    ("experiments", "profiles: {a: {}, ..: {}}\nexperiments: {b: {}}", r": profiles: '\.\.' is no name: a folder"),
    ("experiments", "profiles: [a]\nexperiments: {b: {}}", r": profiles holds \['a'\]"),
    ("experiments", "profiles: {a: {}}\nprofiles: {a: {}}\nexperiments: {b: {}}", ", line 2: key 'profiles' stands")])
def test_a_file_without_the_parts_it_needs_or_with_the_other_s_names_them(tmp_path, file, text, told):
    write_params(tmp_path, {"profile": "a", "recipe": {"lr": 1}, "profiles": {"a": {}}, "experiments": {"b": {}}})
    assert set(load_params(tmp_path / "params.yaml")) == {"profile", "recipe", "profiles", "experiments"}
    (tmp_path / f"{file}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{file}\.yaml ?{told}"):
        load_params(tmp_path / "params.yaml")


def test_an_experiment_that_no_stage_measures_is_refused_with_the_nearest_that_one_does(tmp_path):
    values = {"profile": "a", "recipe": {"lr": 1}, "profiles": {"a": {}}, "experiments": {"tabel_1": {}}}
    write_params(tmp_path, values)
    assert load_params(tmp_path / "params.yaml") == values  # there is no pipeline to compare with
    outs = "- results/${item.profile}/runs/table_1.csv: {cache: false}"
    (tmp_path / "dvc.yaml").write_text(outs, encoding="utf-8")
    with pytest.raises(ConfigError, match="experiments.tabel_1: no stage of dvc.yaml writes .*mean 'table_1'"):
        load_params(tmp_path / "params.yaml")

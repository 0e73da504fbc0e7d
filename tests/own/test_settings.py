"""Settings: the paper's by default, scaled, and refused with words where they cannot be."""

from __future__ import annotations

import pytest

from ghostlib.config import ConfigError
from ghostlib.own import settings
from ghostlib.own.network import Source
from ghostlib.training.recipe import Recipe

ZOO = Source("zoo", "ghostnetv2_100")


def parse(images=200, source=ZOO, **layers):
    return settings.parse(source, {f"--{name}": layer for name, layer in layers.items()}, images)


def test_all_but_teacher_batch_and_averages_is_the_paper_s():
    found, paper = parse(), Recipe()
    same = {key: value for key, value in paper.model_dump().items()
            if key not in ("network", "teacher", "batch_size", "ema_decays")}
    assert {key: getattr(found, key) for key in same} == same
    assert found.teacher is None and found.ema_decays == (paper.ema_decay,) and str(found.network) == "ghostnetv2_100"
    assert found.effective_lr == pytest.approx(5e-3 * (found.batch_size / 2048)**0.5)


@pytest.mark.parametrize(("images", "batch"), [(8, 2), (160, 32), (1000, 128), (1024, 256), (10**6, 256)])
def test_the_batch_leaves_an_epoch_some_steps(images, batch):
    assert settings.batch_for(images) == batch and images // batch >= settings.LEAST_STEPS


def test_later_layers_count_and_networks_of_others_are_known():
    found = parse(source=Source("function", "net:network"), recipe={"epochs": 3, "ema_decays": [0.5]},
                  set={"epochs": 5, "ema_decay": 0.5})
    assert (found.epochs, found.network, found.ema_decay) == (5, "net:network", 0.5)


@pytest.mark.parametrize(("layers", "told"), [
    ({"set": {"epoch": 5}}, "^--set: unknown key 'epoch'; did you mean 'epochs'"),
    ({"set": {"nothing_like_it": 5}}, "--set: unknown key .*known keys: alpha, .*image_size"),
    ({"recipe": {"epochs": 0}, "set": {"seed": 1}},
     "^--recipe: epochs = 0: Input should be greater than or equal to 1"),
    ({"set": {"epochs": None}}, "epochs = None"),
    ({"set": {"network": "x"}}, "the network is the command's first argument")])
def test_a_setting_that_cannot_be_is_refused_with_its_layer(layers, told):
    with pytest.raises(ConfigError, match=told):
        parse(**layers)


def test_v3_is_v2_with_branches():
    with pytest.raises(ConfigError, match="name the network that is deployed, 'ghostnetv2_100'"):
        parse(source=Source("zoo", "ghostnetv3_100"))


def test_pairs_and_files_are_yaml(tmp_path):
    assert settings.read_pairs(["a=1", "b=null", "c=[0.5, 1]", "d={width: 0.5}", "e=x=y"]) == {
        "a": 1, "b": None, "c": [0.5, 1], "d": {"width": 0.5}, "e": "x=y"}
    file = tmp_path / "recipe.yaml"
    file.write_text("epochs: 3\nlr: 5e-3\n")
    assert parse(recipe=settings.read_recipe(file)).lr == 5e-3
    for text, told in (("epochs", "holds no keys"), ("a: [", "is not valid YAML")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=told):
            settings.read_recipe(file)
    with pytest.raises(ConfigError, match="does not exist"):
        settings.read_recipe(tmp_path / "absent")
    for pair, told in (("epochs", "write KEY=VALUE"), ("=1", "write KEY=VALUE"), ("a=[", "not valid YAML")):
        with pytest.raises(ConfigError, match=told):
            settings.read_pairs([pair])

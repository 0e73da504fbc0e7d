"""What is written into experiments.yaml: one key, and no other line changes."""

from __future__ import annotations

import pytest
import yaml

from ghostlib.config import ConfigError
from ghostlib.detection.scale import Scale
from ghostlib.measures import frozen
from ghostlib.training.profile import load_params, load_profile


@pytest.mark.parametrize("text", [
    "profiles:\n  p: {tune: {seeds: [1]}, rates: {a: 1}}\n", "profiles: {p: {tune: {}}}\n",
    "profiles:\n  p:\n    tune: {a: 1}\n    rates:\n      {a: 1,\n       b: 2}\nx: 1\n",
    "profiles:\n  p:\n    rates:\n      a: 1\n\n    # of what follows\n    tune:\n      seeds:\n        - 1\nx: 1\n",
    "profiles:\n  p:\n    tune:\n      seeds:\n        - 1  # one\n\n  # another\n  q: {}\n",
    "profiles:\n  o: &o\n    tune: {a: 1}\n  p:\n    <<: *o\n    seeds: [1]\n  q: {}\n",
    "profiles:\n  p:\n    tune: {a: 1}"])
def test_a_value_is_written_right_or_not_at_all(text):
    wanted = yaml.safe_load(text)
    wanted["profiles"]["p"]["rates"] = {"b, c": 2.5}
    try:
        changed = frozen.with_value(text, ("profiles", "p"), "rates", {"b, c": 2.5})
    except ConfigError as error:
        assert "profiles.p: write it as a block" in str(error) and "p: {tune" in text
    else:
        assert yaml.safe_load(changed) == wanted and changed.count("#") == text.count("#")


@pytest.mark.parametrize("given", ["", "      lr: 0.008\n"], ids=["absent", "given"])
def test_a_key_of_a_deeper_section_is_put_below_tune_or_in_its_own_place(given):
    text = ("detection:\n  scales:\n    one: &one\n      seeds: 2\n    two:\n      <<: *one\n"
            f"      tune: {{seeds: [1]}}  # a word\n{given}    three: {{}}\n")
    changed = frozen.with_value(text, ("detection", "scales", "two"), "lr", 0.004)
    assert changed.splitlines() == [*text.splitlines()[:7], "      lr: 0.004", "    three: {}"]


def test_a_copy_of_a_section_may_have_its_anchors():
    section = "    recipe: {{epochs: &epochs {epochs}}}\n    tune: {{a: 1}}\n"
    text = f"profiles:\n  o:\n{section.format(epochs=8)}  p:\n{section.format(epochs=9)}"
    changed = frozen.with_value(text, ("profiles", "p"), "rates", {"a": 2})
    assert changed == f"{text}    rates:\n      a: 2\n"


def test_what_cannot_be_written_leaves_the_file(tmp_path):
    file = tmp_path / "experiments.yaml"
    file.write_text("profiles: {p: {tune: {}}}\n")
    with pytest.raises(ConfigError, match=r"profiles\.p: write it as a block"):
        frozen.write(("profiles", "p"), "rates", {}, file)
    assert file.read_text() == "profiles: {p: {tune: {}}}\n"


def test_a_profile_that_chooses_its_rates_lacks_those_that_it_has_not():
    tuned = load_profile("cifar100", load_params()).model_copy(update={"rates": {"a": 2.0}})
    assert "has no rate for 'b', 'c'," in (told := frozen.lacking(tuned, ["c", "a", "b", "b"]))
    assert "`ghostlib measure rates cifar100`, then `ghostlib rates cifar100 --freeze`" in told
    assert frozen.lacking(tuned, ["a"]) == frozen.lacking(tuned.model_copy(update={"tune": None}), ["b"]) == ""


def test_detectors_that_choose_their_rate_lack_it_until_it_is_frozen():
    scale = Scale.parse(load_params()["detection"]["scales"]["fashion"] | {"lr": None}, "x")
    assert "`ghostlib rates p --detectors --freeze`" in frozen.lacking_detectors(scale, "p")
    chosen, given = (scale.model_copy(update=values) for values in ({"lr": 0.004}, {"tune": None}))
    assert frozen.lacking_detectors(chosen, "p") == frozen.lacking_detectors(given, "p") == ""

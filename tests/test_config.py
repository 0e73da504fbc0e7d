"""Checked configuration: what cannot be meant as written is refused, and the message says what could."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from ghostlib.config import Config, ConfigError


class Oven(Config):
    temperature: int = Field(180, ge=50, le=250)
    minutes: float = Field(gt=0)
    racks: tuple[int, ...] = (1,)


def problems(**values) -> list[str]:
    with pytest.raises(ConfigError) as error:
        Oven.parse(values)
    return str(error.value).splitlines()


def test_values_and_defaults_become_a_record():
    assert Oven.parse({"minutes": 3, "racks": [1, 2]}) == Oven(temperature=180, minutes=3.0, racks=(1, 2))


def test_a_record_cannot_be_changed():
    oven = Oven(minutes=3)
    with pytest.raises(ValidationError):
        oven.minutes = 4.0


def test_an_unknown_key_proposes_the_nearest_known_one():
    assert problems(minutes=3, temprature=200) == ["Oven: unknown key 'temprature'; did you mean 'temperature'?"]


def test_a_key_like_no_other_lists_the_known_ones():
    assert problems(minutes=3, zzz=1) == ["Oven: unknown key 'zzz'; known keys: minutes, racks, temperature"]


def test_a_missing_key_is_named():
    assert problems() == ["Oven: key 'minutes' is missing"]


@pytest.mark.parametrize(("key", "value", "bound"), [
    ("temperature", 300, "less than or equal to 250"), ("temperature", 49, "greater than or equal to 50"),
    ("minutes", 0, "greater than 0"), ("minutes", "long", "number"), ("temperature", 180.5, "integer"),
    ("minutes", None, "number")])
def test_an_impossible_value_names_the_key_the_value_and_the_range(key, value, bound):
    (line,) = problems(**{"minutes": 3, key: value})
    assert line.startswith(f"Oven: {key} = {value!r}: ") and bound in line


def test_a_value_inside_a_list_is_addressed():
    (line,) = problems(minutes=3, racks=[1, "top"])
    assert line.startswith("Oven: racks.1 = 'top': ")


def test_all_problems_are_told_at_once():
    assert len(problems(temperature=10, time=3)) == 3


def test_a_default_out_of_range_is_found():
    class Broken(Config):
        share: float = Field(2, le=1)

    with pytest.raises(ConfigError, match="share = 2: .* less than or equal to 1"):
        Broken.parse({})


def test_the_error_says_whose_values_they_are():
    with pytest.raises(ConfigError, match=r"^kitchen\.yaml: ovens\.left: unknown key 'x'"):
        Oven.parse({"minutes": 3, "x": 1}, "kitchen.yaml: ovens.left")


def test_a_configuration_error_is_a_value_error():
    with pytest.raises(ValueError):
        Oven.parse({})

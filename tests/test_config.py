"""Checked configuration: what cannot be meant as written is refused, and the message says what could."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, ValidationError

from ghostlib.config import Config, ConfigError, check_keys, mapping, read_yaml


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


class Kitchen(Config):
    oven: Oven | None = None
    lit: bool = False
    name: str = "ours"
    racks: tuple[float, ...] = ()
    notes: dict[str, Any] = {}


@pytest.mark.parametrize(("key", "value"), [("temperature", True), ("minutes", False), ("racks", [1, True])])
def test_true_is_no_number(key, value):
    (line,) = problems(**{"minutes": 3, key: value})
    assert line == f"Oven: {key} = {value!r}: true and false are no values of it; a word is written in quotes"


def test_true_is_none_in_a_record_inside_and_stays_where_it_may_be_meant():
    with pytest.raises(ConfigError, match=r"^Kitchen: oven.minutes = True: true and false are no values of it"):
        Kitchen.parse({"oven": {"minutes": True}})
    assert Kitchen.parse({"lit": True, "notes": {"done": [True]}}).lit


def test_an_unknown_key_in_a_record_inside_is_compared_with_that_record_s():
    with pytest.raises(ConfigError, match="unknown key 'oven.minute'; did you mean 'minutes'"):
        Kitchen.parse({"oven": {"minutes": 1, "minute": 3}})


def test_what_a_key_means_stands_behind_its_wrong_value():
    class Bread(Config):
        weight: int = Field(ge=1, description="g, baked")

    with pytest.raises(ConfigError, match=r"weight = 0: .* equal to 1 \(g, baked\)$"):
        Bread.parse({"weight": 0})


def test_an_error_is_three_lines_of_no_more_than_the_value_s_beginning():
    lines = problems(minutes=3, a=1, b=2, c=3, racks=["x" * 1000])
    assert len(lines) == 3 and lines[2] == "and 2 more" and max(map(len, lines)) < 200


@pytest.mark.parametrize(("values", "holds"), [(None, "nothing"), ([1], r"\[1\]"), ("x", "'x'")])
def test_what_is_no_mapping_is_refused(values, holds):
    with pytest.raises(ConfigError, match=f"^k.yaml: ovens holds {holds}, where keys with values are meant"):
        mapping(values, "k.yaml: ovens")
    with pytest.raises(ConfigError, match=f"^Oven holds {holds}"):
        Oven.parse(values)


def test_a_section_that_is_unknown_or_holds_nothing_is_refused():
    with pytest.raises(ConfigError, match="^k.yaml: unknown key 'ovns'; did you mean 'ovens'"):
        check_keys({"ovns": 1}, ("ovens", "name"), "k.yaml")
    with pytest.raises(ConfigError, match="^k.yaml: ovens holds nothing; fill it in or remove it"):
        check_keys({"ovens": None}, ("ovens", "name"), "k.yaml")


# -- files


def read(folder: Path, content: bytes) -> Any:
    path = folder / "k.yaml"
    path.write_bytes(content)
    return read_yaml(path)


def test_a_file_is_read_as_dvc_reads_it(tmp_path):
    assert read(tmp_path, b"a: &x {b: 1e-5, c: no}\nd: {<<: *x, b: 2}") == {"a": {"b": 1e-5, "c": "no"},
                                                                         "d": {"c": "no", "b": 2}}


@pytest.mark.parametrize(("content", "told"), [
    (b"a: 1\nb: 2\na: 3", "k.yaml, line 3: key 'a' stands twice in one place; remove one of them"),
    (b"x:\n  y: {z: 1}\n  y: {z: 2}", "k.yaml, line 3: key 'y' stands twice"),
    ("a: 1\nb: \xe9".encode("latin-1"), "k.yaml, line 2: byte 0xe9 is not UTF-8; save the file in that encoding"),
    (b"a: {b: 1", "k.yaml is not valid YAML: line 1, "), (b"a: \x00", "k.yaml is not valid YAML: ")])
def test_a_file_that_cannot_be_meant_is_named_with_the_line(tmp_path, content, told):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, content)
    assert told in str(error.value) and len(str(error.value).splitlines()) == 1

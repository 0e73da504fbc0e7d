"""One meaning, one colour and one shape."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import yaml
from matplotlib.colors import to_rgb

from ghostlib.exhibits import panels, style
from ghostlib.models import catalog


def luminance(color):
    """WCAG 2's relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_family_has_a_shape_of_its_own_and_a_colour_that_shows_on_white():
    assert set(style.FAMILIES) == {panels.family(row)[0] for row in catalog.rows()}
    for a, b in combinations(style.FAMILIES.values(), 2):
        assert a.color != b.color and a.marker != b.marker
    assert all(1.05 / (luminance(mark.color) + 0.05) >= 3 for mark in style.FAMILIES.values())


@pytest.mark.parametrize(("label", "mark"), [
    ("w/ ReP", style.STRATEGY), ("w/ ReP&KD", style.STRATEGY), ("GhostNetV3 1.0×", style.STRATEGY),
    ("w/o ReP&KD", style.PLAIN), ("GhostNetV2 1.0×", style.PLAIN), ("MobileNetV2", style.FAMILIES["MobileNet"]),
    ("DeiT-tiny", style.FAMILIES["transformer"])])
def test_what_means_the_same_looks_the_same_in_every_exhibit(label, mark):
    assert style.meaning(label) == style.marks([label, "another"])[label] == mark


def test_what_has_no_meaning_of_its_own_deepens_in_order():
    drawn = style.marks(["α=0.5", "w/ ReP", "α=0.9", "α=1.0"])
    assert list(drawn) and drawn["w/ ReP"] == style.STRATEGY
    tones = [luminance(drawn[label].color) for label in ("α=0.5", "α=0.9", "α=1.0")]
    assert tones == sorted(tones, reverse=True) and len({mark.marker for mark in drawn.values()}) >= 3
    assert style.shades("#123456", 1) == ["#123456"] and style.shades("#123456", 3)[1] == "#123456"


def test_every_scale_tells_its_seeds_however_short():
    read = yaml.safe_load((Path(__file__).parents[2] / "experiments.yaml").read_text(encoding="utf-8"))
    scales = {**read["profiles"], **read["detection"]["scales"]}.values()
    assert all("seed" in style.abridged(scale["scale"], 60) for scale in scales)


def test_an_abridged_scale_keeps_its_beginning_seeds_and_test_images():
    scale = "1,297 digits, 33 px, width × 0.25, 10 epochs, six seeds, top-1 on 360 held-out digits"
    assert style.abridged(scale, 200) == scale
    assert style.abridged(scale, 64) == "1,297 digits, 33 px, …, six seeds, top-1 on 360 held-out digits"
    assert style.abridged(f"{scale}; rates × 10, no mirroring", 64) == style.abridged(scale, 64)
    assert style.abridged("a scale " * 20, 60) == "a scale " * 20

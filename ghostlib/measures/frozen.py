"""Rates that were chosen and frozen in experiments.yaml: whether they are there, and writing them, and nothing else.

Whoever writes the whole file again, as ruamel.yaml does, breaks its lines in other places.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghostlib.config import ConfigError
from ghostlib.files import write_atomic

if TYPE_CHECKING:
    from ghostlib.detection.scale import Scale
    from ghostlib.training.profile import Profile


def lacking(profile: Profile, kinds: Iterable[str]) -> str:
    """Why recipes of these kinds cannot be trained yet at a profile that chooses its rates; empty where they can."""
    if profile.tune is None or not (absent := sorted(set(kinds) - profile.rates.keys())):
        return ""
    name = profile.name
    return (f"experiments.yaml: profiles.{name}.rates has no rate for {', '.join(map(repr, absent))}, and the profile "
            f"chooses its rates (tune); run `ghostlib measure rates {name}`, then `ghostlib rates {name} --freeze`")


def lacking_detectors(scale: Scale, name: str) -> str:
    """The same of the detectors of a profile of this name."""
    if scale.tune is None or scale.lr is not None:
        return ""
    return (f"experiments.yaml: detection.scales.{name}.lr is not set, and the detectors choose their rate (tune); run "
            f"`ghostlib measure detector_rates {name}`, then `ghostlib rates {name} --detectors --freeze`")


def write(place: tuple[str, ...], key: str, value: Any, path: Path = Path("experiments.yaml")) -> None:
    """Sets a key of the section at `place`; see `with_value` for errors, after which nothing has changed."""
    write_atomic(path, with_value(path.read_text(encoding="utf-8"), place, key, value))


def with_value(text: str, place: tuple[str, ...], key: str, value: Any) -> str:
    """The text of experiments.yaml with another value of a key; all other lines stay as they are.

    Args:
        text: it.
        place: the keys that lead to the section, e.g. ("profiles", "fashion").
        key: where the section lacks it, it is put below the section's `tune`, or at its end where that is another's.
        value: what the key shall hold.

    Raises:
        ConfigError: the section is not written as a block.
    """
    import yaml
    from ruamel.yaml import YAML
    from ruamel.yaml.error import ReusedAnchorWarning, YAMLError

    warnings.simplefilter("ignore", ReusedAnchorWarning)  # of a section that was copied
    ruamel = YAML(typ="safe", pure=True)  # as everything else reads the file; PyYAML takes no anchor of one name twice
    node = ruamel.compose(text)
    for name in place:
        node = next(inner for of_key, inner in node.value if of_key.value == name)
    keys = {of_key.value: (of_key, inner) for of_key, inner in node.value}
    found, holds = keys.get(key) or keys.get("tune") or node.value[-1]
    text = text.rstrip("\n") + "\n"
    lines, end = text.splitlines(keepends=True), _last_line(holds) + 1
    start = found.start_mark.line if key in keys else end
    block = textwrap.indent(yaml.safe_dump({key: value}, sort_keys=False), " " * found.start_mark.column)
    changed = "".join([*lines[:start], block, *lines[end:]])
    wanted = ruamel.load(text)
    section = wanted
    for name in place:
        section = section[name]
    section[key] = value
    with suppress(YAMLError):
        if ruamel.load(changed) == wanted:
            return changed
    raise ConfigError(f"experiments.yaml: {'.'.join(place)}: write it as a block, each key on a line of its own")


def _last_line(node: Any) -> int:
    """The line that a node of YAML ends in; a block's own mark stands at what follows it."""
    if isinstance(node.value, list) and node.value and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    return node.end_mark.line

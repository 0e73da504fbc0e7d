"""pyproject.toml, requirements.lock, environment.yml and what is installed say the same thing."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import tomllib
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())

# An entry is a requirement at the line's start and the indented lines (hashes, comments) below it.
ENTRIES = {
    canonicalize_name(requirement.name): (requirement, below)
    for requirement, below in (
        (Requirement(head), below)
        for head, below in re.findall(r"^([^\s#-].*?)(?: \\)?\n((?:[ \t].*\n)*)", LOCK, flags=re.MULTILINE)
    )
}

DIRECT = list({
    requirement.name: requirement
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, group)
    if requirement.name != PROJECT["name"]  # an extra that holds others
}.values())

each_direct = pytest.mark.parametrize("dependency", DIRECT, ids=lambda dependency: dependency.name)


def locked_version(dependency: Requirement) -> str:
    requirement, _ = ENTRIES[canonicalize_name(dependency.name)]
    (pin,) = requirement.specifier
    return pin.version


@each_direct
def test_the_lock_pins_a_version_that_pyproject_admits(dependency):
    assert dependency.specifier.contains(locked_version(dependency), prereleases=True)


@each_direct
def test_the_installed_version_is_the_locked_one(dependency):
    assert version(dependency.name) == locked_version(dependency)


def test_the_lock_was_made_for_these_direct_dependencies():
    made_for = {name for name, (_, below) in ENTRIES.items() if "ghostlib (pyproject.toml)" in below}
    assert made_for == {canonicalize_name(dependency.name) for dependency in DIRECT}


def test_the_lock_has_one_entry_a_package():
    heads = [line for line in LOCK.splitlines() if re.match(r"[^\s#-]", line)]
    assert len(heads) == len(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_locked_package_has_one_exact_version_and_a_hash(name):
    requirement, below = ENTRIES[name]
    assert requirement.url is None
    assert [pin.operator for pin in requirement.specifier] == ["=="]
    assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", below)


def test_the_lock_names_no_index_and_no_place_on_a_machine():
    assert "://" not in LOCK
    assert not re.search(r"[\s=](?:/|~/|[A-Za-z]:\\)", LOCK)
    assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", LOCK.replace("#   -c (workspace)", ""))) == {"--hash"}


def test_conda_gets_a_python_that_pyproject_admits_and_the_lock_was_made_for():
    (python,) = (entry for entry in ENVIRONMENT["dependencies"] if str(entry).startswith("python="))
    (made_for,) = set(re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text()))
    assert made_for in SpecifierSet(PROJECT["requires-python"]) and python == f"python={made_for}"


def test_the_base_install_is_small_and_bounds_nothing_from_above():
    assert {requirement.name for requirement in map(Requirement, PROJECT["dependencies"])} == {
        "safetensors", "timm", "torch", "torchvision"}
    ranges = [PROJECT["requires-python"], *PROJECT["dependencies"],
              *(line for group in PROJECT["optional-dependencies"].values() for line in group)]
    assert not [line for line in ranges if re.search(r"[<=~!]=?\d|===", line.replace(">=", ""))]


def test_what_the_evidence_was_made_with_is_pinned_together():
    constraints = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    for requirement in map(Requirement, constraints):
        assert requirement.specifier == ENTRIES[requirement.name][0].specifier


def test_conda_installs_the_lock_and_nothing_else():
    assert [str(entry).partition("=")[0] for entry in ENVIRONMENT["dependencies"]] == ["python", "pip"]
    assert "#   pip install --no-deps --require-hashes -r requirements.lock\n" in (ROOT / "environment.yml").read_text()

"""The package as a user meets it: its metadata, what an import loads, the command line with and without its extra."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

import ghostlib

LIBRARY = {"gpu", "models", "mmdet", "deploy", "files", "machine"}
# What the reproduction alone needs, and so no user of the library.
REPRODUCTION = {"pydantic", "sklearn", "pandas", "accelerate", "dvc", "matplotlib", "papermill", "joblib", "typer"}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def installed() -> Distribution:
    """What is installed, whatever older metadata a build has left in the folder of the sources."""
    found, = distributions(name="ghostlib", path=[sysconfig.get_path("purelib")])
    return found


def loaded(module: str, missing: set[str] = frozenset()) -> set[str]:
    """All modules that importing one brings along, where some packages are not installed."""
    done = python(f"import sys; sys.modules.update(dict.fromkeys({sorted(missing)})); import {module}; "
                  "print('\\n'.join(['', *(name for name, found in sys.modules.items() if found)]))")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


# -- what an import loads


def test_importing_ghostlib_imports_nothing_heavy():
    assert not loaded("ghostlib") & {"torch", "timm", "mmcv", "mmengine", "mmdet", *REPRODUCTION}


PARTS = ("ghostlib.models.zoo", "ghostlib.models.reparam", "ghostlib.models.weights", "ghostlib.deploy.export",
         "ghostlib.deploy.count", "ghostlib.deploy.latency", "ghostlib.own.weights")


def test_a_part_of_the_library_loads_nothing_of_the_reproduction():
    assert not loaded(", ".join(PARTS)) & REPRODUCTION


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_library_does_without_the_reproduction_s_packages(part, without_them):
    assert part in without_them[part] and of_ghostlib(without_them[part]) <= LIBRARY | {"own"}


def test_the_backbones_do_without_them_too():
    pytest.importorskip("mmdet")
    # MMDetection, not this package, loads some of them where they are there, and always matplotlib.
    assert of_ghostlib(loaded("ghostlib.mmdet", REPRODUCTION - {"matplotlib"})) <= LIBRARY


def of_ghostlib(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("ghostlib.")}


@pytest.fixture(scope="module")
def without_them() -> dict[str, set[str]]:
    """What each part brings along where the reproduction's packages are not installed.

    Each is imported in a fork of one process that has imported what the library depends on.
    """
    done = python(f"""
import importlib, json, os, sys
sys.modules.update(dict.fromkeys({sorted(REPRODUCTION)}))
import torch, timm
for part in {PARTS}:
    if not os.fork():
        importlib.import_module(part)
        print(json.dumps([part, [name for name, found in sys.modules.items() if found]]), flush=True)
        os._exit(0)
    os.wait()
""")
    brought = {part: set(found) for part, found in map(json.loads, done.stdout.splitlines())}
    assert brought.keys() == set(PARTS), done.stderr
    return brought


# -- metadata


def test_the_metadata_says_what_it_is_and_needs():
    metadata = installed().metadata
    assert metadata["Version"] == ghostlib.__version__ and metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = metadata.get_payload() or metadata["Description"]
    assert description.startswith("# ") and "## The strategy on your own network" in description
    assert any("arxiv.org/abs/2404.11202" in url for url in metadata.get_all("Project-URL"))
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)} <= {
        *metadata.get_all("Classifier")}
    base = {line.partition(">=")[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert base == {"safetensors", "timm", "torch", "torchvision"}
    assert {*metadata.get_all("Provides-Extra")} >= {
        "cli", "export", "mobile", "mmdet", "mmdet-onedl", "repro", "train", "dev"}


def test_the_configurations_are_in_the_package_and_mmengine_reads_them():
    names = sorted(path.stem for path in Path(ghostlib.__file__).parent.glob("mmdet/configs/*.py"))
    assert len(names) == 8
    pytest.importorskip("mmdet")
    from mmengine.config import Config

    from ghostlib.mmdet import config_file

    for name in names:
        config = Config.fromfile(config_file(name))  # with its `_base_`, which MMDetection brings
        assert config.model.bbox_head.type == "YOLOV3Head"


# -- the command line


def test_without_its_extra_the_command_line_ends_with_the_word_that_installs_it():
    done = python("import sys; sys.modules['typer'] = None; from ghostlib.__main__ import main; main()", "zoo")
    assert done.returncode == 1
    assert done.stderr == "error: the command line needs typer: pip install 'ghostlib[cli]'\n"


def test_the_console_script_is_the_command_line():
    script, = (entry for entry in installed().entry_points if entry.group == "console_scripts")
    assert (script.name, script.value) == ("ghostlib", "ghostlib.__main__:main")
    pytest.importorskip("typer")
    done = subprocess.run([Path(sys.executable).with_name("ghostlib"), "--version"], capture_output=True, text=True)
    assert done.stdout == f"ghostlib {ghostlib.__version__}\n"


def test_the_extra_for_the_command_line_is_all_that_a_network_needs_to_be_listed_converted_and_scored(
        tmp_path, monkeypatch):
    for package in ("typer", "tabulate", "pydantic", "tqdm"):
        pytest.importorskip(package)
    from PIL import Image
    from typer.testing import CliRunner

    from ghostlib import cli
    from ghostlib.models import weights, zoo

    monkeypatch.chdir(tmp_path)

    weights.save(zoo.create("ghostnetv3_050", 2), tmp_path / "trained.safetensors")
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (40, 50)).save(tmp_path / "images" / name / "1.png")
    for arguments, told in [
            (["zoo", "ghostnetv3_100"], "GhostNetV3 1.0×"), (["export", "--help"], "Usage"),
            (["convert", "ghostnetv3_050", "trained.safetensors", "folded.safetensors", "--fold", "--num-classes", "2"],
             "tensors fit")]:
        done = CliRunner().invoke(cli.app, arguments)
        assert done.exit_code == 0 and told in done.output, done.output
    others = sorted(REPRODUCTION - {"pydantic", "typer"})
    done = python(f"import sys; sys.modules.update(dict.fromkeys({others}))\n"
                  "from ghostlib.__main__ import main; main()",
                  "evaluate", "ghostnetv3_050", "folded.safetensors", "images")
    assert done.returncode == 0 and "on 2 images of 2 classes: top1 50.00 %" in done.stdout, done.stderr

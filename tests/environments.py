"""The wheel as its users meet it: installed into clean environments, old and new, where the library's tests run.

    python tests/environments.py [NAME ...]     # all by default; environments are kept in .venv-library/

An environment whose Python is not there is passed over with a word. Whatever else fails ends this with 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
SECONDS, MEGABYTES = 30, 5  # what an install may take beside PyTorch and timm, and how large the wheel may be


@dataclass(frozen=True)
class Environment:
    """What is there before the wheel is installed, and which tests then run.

    Attributes:
        python: its version.
        packages: of the user.
        tests: folders of tests/.
        extras: of the wheel.
        helpers: what only the tests need.
    """

    python: str
    packages: tuple[str, ...]
    tests: tuple[str, ...]
    extras: str = ""
    helpers: tuple[str, ...] = ("pytest",)


OLDEST = ("torch==2.1.2", "torchvision==0.16.2", "timm==1.0.12", "safetensors==0.4.2", "numpy<2")
LIBRARY = ("tests/models", "tests/deploy")
# What the tests of MMDetection train on is drawn by the reproduction.
SCENES = ("pytest", "pydantic", "scikit-learn", "pycocotools", "onnx", "onnxruntime")
ENVIRONMENTS = {
    "oldest": Environment("3.10", OLDEST, LIBRARY),
    "oldest-export": Environment("3.10", OLDEST, LIBRARY, "[cli,export]"),
    "newest": Environment("3.13", ("torch", "torchvision", "timm", "safetensors"), LIBRARY),
    "mmdet": Environment("3.10", (*OLDEST, "mmdet==3.3.0", "mmengine==0.10.7", "mmcv-lite==2.1.0"), ("tests/mmdet",),
                         "[mmdet]", SCENES),
    "mmdet-onedl": Environment("3.11", ("torch==2.15.0", "torchvision==0.29.2", "timm==1.0.31", "safetensors",
                                        "opencv-python-headless"), ("tests/mmdet",), "[mmdet-onedl]", SCENES),
}


def main(names: list[str]) -> None:
    """Tries the named environments."""
    if unknown := set(names) - set(ENVIRONMENTS):
        sys.exit(f"no environment {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = built(Path(scratch))
        shutil.copytree(ROOT / "tests", Path(scratch, "elsewhere", "tests"))
        results = {name: tried(name, wheel, Path(scratch, "elsewhere")) for name in names or ENVIRONMENTS}
    for name, result in results.items():
        print(f"{name}: {result}")
    if any(result.startswith("FAILED") for result in results.values()):
        sys.exit(1)


def built(folder: Path) -> Path:
    """The wheel of a copy of the sources, so that building leaves nothing behind."""
    sources = folder / "sources"
    sources.mkdir()
    for name in ("pyproject.toml", "README.md", "ghostlib"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)
    run(UV, "build", "--quiet", "--no-config", "--wheel", "--out-dir", folder, sources)
    (wheel,) = folder.glob("*.whl")
    size = wheel.stat().st_size / 1e6
    print(f"{wheel.name}: {size:.2f} MB")
    assert size < MEGABYTES
    return wheel


def tried(name: str, wheel: Path, tests: Path) -> str:
    """Installs the wheel into an environment and runs its tests; what came out in a line."""
    environment, folder = ENVIRONMENTS[name], ROOT / ".venv-library" / name
    if python_of(environment.python) is None:
        return f"passed over: there is no Python {environment.python}"
    python = folder / "bin" / "python"
    run(UV, "venv", "--quiet", "--no-config", "--clear", "--python", python_of(environment.python), folder)
    install(python, *environment.packages)
    before, start = installed(python), time.monotonic()
    install(python, f"ghostlib{environment.extras} @ {wheel.as_uri()}", *environment.packages)
    seconds, after = time.monotonic() - start, installed(python)
    replaced = {package for package, version in before.items() if after.get(package) != version}
    added = sorted(after.keys() - before.keys() - {"ghostlib"})
    install(python, *environment.helpers, *environment.packages)
    done = subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".",
                           "-W", "ignore", *environment.tests], cwd=tests, env={**os.environ, "OMP_NUM_THREADS": "1"})
    faults = [*([f"it replaced {', '.join(sorted(replaced))}"] if replaced else []),
              *([f"it took {seconds:.0f} s"] if seconds > SECONDS and not environment.extras else []),
              *([f"pytest ended with {done.returncode}"] if done.returncode else [])]
    shown = ("torch", "timm", "numpy", "mmdet", "onedl-mmdetection")
    facts = ", ".join(f"{package} {after[package]}" for package in shown if package in after)
    what = f"Python {environment.python}, {facts}; installed in {seconds:.1f} s, adding {', '.join(added) or 'nothing'}"
    return f"FAILED, {'; '.join(faults)} ({what})" if faults else f"passed ({what})"


def install(python: Path, *packages: str) -> None:
    """Installs packages; those of the user stay in the bounds that he set."""
    run(UV, "pip", "install", "--quiet", "--no-config", "--python", python, *packages)


def installed(python: Path) -> dict[str, str]:
    """The packages of an environment and their versions."""
    lines = run(UV, "pip", "freeze", "--no-config", "--python", python).splitlines()
    return dict(line.split(" @ " if " @ " in line else "==", 1) for line in lines)


def python_of(version: str) -> str | None:
    """An interpreter of a version, on the path or among pyenv's; None where there is none."""
    for candidate in (f"python{version}", *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))):
        try:
            command = [candidate, "-c", "import sys; print(sys.executable)"]
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def run(*command: str | Path) -> str:
    """What a command prints; it ends this with its own words where it fails."""
    done = subprocess.run([str(part) for part in command], cwd=tempfile.gettempdir(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])

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

import tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
UV = Path(sys.executable).with_name("uv")
SECONDS, MEGABYTES = 30, 5  # what an install may take beside PyTorch and timm, and how large the wheel may be


@dataclass(frozen=True)
class Environment:
    """What is there before the wheel is installed, and which tests then run.

    Attributes:
        python: its version.
        packages: of the user.
        tests: folders of tests/.
        extras: of the wheel; without any, it may add no package.
        bounds: versions that the extras' packages are held to.
        helpers: what only the tests need.
    """

    python: str
    packages: tuple[str, ...]
    tests: tuple[str, ...]
    extras: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    helpers: tuple[str, ...] = ("pytest",)


def lowest(*extras: str) -> tuple[str, ...]:
    """The lower bounds of pyproject.toml as versions, of the base install or of extras."""
    project = PYPROJECT["project"]
    groups = [project["optional-dependencies"][extra] for extra in extras] or [project["dependencies"]]
    return tuple(requirement.replace(">=", "==") for group in groups for requirement in group)


OLDEST = (*lowest(), "numpy<2")  # which PyTorch was compiled with before 2.3
NEWEST = ("torch", "torchvision", "timm", "safetensors")
LIBRARY = ("tests/models", "tests/deploy", "tests/test_package.py")
DETECTORS = ("tests/mmdet", "tests/test_package.py")
# What the tests of MMDetection train on is drawn by the reproduction.
SCENES = ("pytest", "pydantic", "scikit-learn", "pycocotools", "onnx", "onnxruntime")
# Training brings a newer timm than the library needs, and the command line's packages.
TRAINING = (*lowest("cli"), *(bound for bound in lowest("train") if "[" not in bound))
ENVIRONMENTS = {
    "oldest": Environment("3.10", OLDEST, LIBRARY),
    "oldest-export": Environment("3.10", OLDEST, LIBRARY, ("cli", "export"), lowest("cli", "export")),
    "newest": Environment("3.13", NEWEST, LIBRARY),
    "newest-export": Environment("3.13", NEWEST, LIBRARY, ("cli", "export", "mobile")),
    "oldest-train": Environment("3.10", tuple(package for package in OLDEST if not package.startswith("timm")),
                                ("tests/own",), ("train",), TRAINING),
    "mmdet": Environment("3.10", (*OLDEST, "mmdet==3.3.0", "mmengine==0.10.7", "mmcv-lite==2.1.0"), DETECTORS,
                         ("mmdet",), helpers=(*SCENES, "setuptools<81")),  # the original MMEngine needs pkg_resources
    "mmdet-onedl": Environment("3.12", NEWEST, DETECTORS, ("mmdet-onedl",), helpers=SCENES),
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
    interpreter = python_of(environment.python)
    if interpreter is None:
        return f"passed over: there is no Python {environment.python}"
    print(f"-- {name}", flush=True)
    python, extras = folder / "bin" / "python", ",".join(environment.extras)
    headless = "mmdet-onedl" in environment.extras  # which with pip alone would bring both builds
    run(UV, "venv", "--quiet", "--no-config", "--clear", "--python", interpreter, folder)
    install(python, *environment.packages)
    install(python, *environment.packages, *(bound for bound in environment.bounds  # those that he has, too
                                             if bound.partition("==")[0] in installed(python)))
    before, start = installed(python), time.monotonic()
    install(python, f"ghostlib{extras and f'[{extras}]'} @ {wheel.as_uri()}", *environment.bounds, headless=headless)
    seconds, after = time.monotonic() - start, installed(python)
    install(python, *environment.helpers, *(f"{package}=={after[package]}" for package in before),
            headless=headless)
    passed, counts = tested(python, environment.tests, tests)
    replaced = sorted(package for package, version in before.items() if after.get(package) != version)
    added = sorted(after.keys() - before.keys() - {"ghostlib"})
    # An extra's own packages may be large; the library alone is not.
    faults = [*([f"it replaced {', '.join(replaced)}"] if replaced else []),
              *([f"it added {', '.join(added)}"] if added and not environment.extras else []),
              *([f"it took {seconds:.0f} s"] if seconds > SECONDS and not environment.extras else []),
              *(["it has two builds of OpenCV"] if {"opencv-python", "opencv-python-headless"} <= after.keys() else []),
              *([] if passed else ["a test failed"])]
    shown = ("torch", "torchvision", "timm", "numpy", "onnxruntime", "openvino", "executorch", "ncnn", "mmdet",
             "onedl-mmdetection", "typer")
    facts = ", ".join(f"{package} {after[package]}" for package in shown if package in after)
    what = f"{counts}; Python {environment.python}, {facts}; installed in {seconds:.1f} s, {len(added)} packages added"
    return f"FAILED, {'; '.join(faults)} ({what})" if faults else f"passed ({what})"


def tested(python: Path, which: tuple[str, ...], folder: Path) -> tuple[bool, str]:
    """Whether a copy of the tests passes, and pytest's last line."""
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-rs", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore",
         "-c", os.devnull, "--rootdir", ".", *which], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    return done.returncode == 0, done.stdout.splitlines()[-1]


def install(python: Path, *packages: str, headless: bool = False) -> None:
    """Installs packages, where it is asked for without the build of OpenCV that pyproject.toml leaves out."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
        overrides.write("\n".join(PYPROJECT["tool"]["uv"]["override-dependencies"]))
        overrides.flush()
        options = ("--overrides", overrides.name) if headless else ()
        run(UV, "pip", "install", "--quiet", "--no-config", "--python", python, *options, *packages)


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

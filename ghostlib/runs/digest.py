"""What a key covers of code and libraries: the meaning of the one, the versions of the others.

Of code it is the modules that decide a job's result and what they import, directly or not, within `ROOMS`; the ground
floor (atomic files, checked records, the machine's name) decides nothing. A comment or a docstring changes no meaning,
a constant does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ROOMS = ("models", "training", "mmdet", "detection")
GPU = ("gpu",)  # decides what is computed on one, and nothing elsewhere


@functools.cache
def code_of(*modules: str, package: Path = PACKAGE, rooms: tuple[str, ...] = ROOMS) -> str:
    """16 hexadecimal digits of the meaning of the modules and of all that they import within the rooms.

    It is read once in a process: a file that is saved during a training is not the code that trains.

    Args:
        modules: their full names, e.g. "ghostlib.training.loop".
        package: the folder of the package that their names begin with.
        rooms: of the package, whose code counts.

    Raises:
        FileNotFoundError: there is no such module.
    """
    digest = hashlib.sha256()
    for module in sorted(_reachable(modules, package, rooms)):
        digest.update(f"{module}\0{meaning(_file(module, package).read_text(encoding='utf-8'))}\0".encode())
    return digest.hexdigest()[:16]


def code_of_device(device_type: str) -> dict[str, str]:
    """What a key covers further on a type of PyTorch's devices: nothing on a CPU, else what only a GPU runs."""
    modules = (f"{PACKAGE.name}.gpu", f"{PACKAGE.name}.training.replay")
    return {} if device_type == "cpu" else {"gpu": code_of(*modules, rooms=GPU)}


def meaning(source: str) -> str:
    """Python source without what does not run: comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def imports(module: str, package: Path = PACKAGE) -> set[str]:
    """The modules of the package that a module imports, at its top or inside its functions, packages' own included."""
    named = set(_named(ast.parse(_file(module, package).read_text(encoding="utf-8")), package.name))
    with_parents = {name.rsplit(".", up)[0] for name in named for up in range(name.count(".") + 1)}
    return {name for name in with_parents - {package.name, module} if _exists(name, package)}


def library_versions(*libraries: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each library, under the first of its packages' names that is installed."""
    found = {}
    for names in libraries:
        for package in names:
            try:
                found[package] = version(package)
                break
            except PackageNotFoundError:
                continue
    return found


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    """Every dotted name that import statements mention; `from a import b` may mean the module a.b or a name in a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{package}."))
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{package}."):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _reachable(modules: Iterable[str], package: Path, rooms: tuple[str, ...]) -> set[str]:
    found, waiting = set(), list(modules)
    while waiting:
        if (module := waiting.pop()) not in found:
            found.add(module)
            waiting += [name for name in imports(module, package) if name.split(".")[1] in rooms]
    return found


def _exists(module: str, package: Path) -> bool:
    try:
        return bool(_file(module, package))
    except FileNotFoundError:
        return False


def _file(module: str, package: Path) -> Path:
    path = package.parent.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    raise FileNotFoundError(f"no module {module} in {package}")

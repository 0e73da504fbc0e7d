"""dvc.yaml held against the code: a stage depends on all that it imports, and measuring on nothing that renders."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from ghostlib.paper import exhibits
from ghostlib.training.profile import load_params

ROOT = Path(__file__).parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = load_params(ROOT / "params.yaml")
STAGES = PIPELINE["stages"]
MEASURING = [name for name, stage in STAGES.items() if " measure " in stage["cmd"]]
RENDERING = [name for name in STAGES if name not in MEASURING]


def entry(name: str) -> str:
    """The source that a stage begins with: imports of the cells of its notebook, or of one module."""
    command = STAGES[name]["cmd"]
    if notebook := re.search(r"execute (\S+)", command):
        cells = nbformat.read(ROOT / notebook[1], as_version=4).cells
        return "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    if what := re.search(r"measure (\w+)", command):
        return f"import ghostlib.measures.{what[1]}"
    if " verdicts " in command:
        return "import ghostlib.evidence.report"
    return "import ghostlib.site.build"


def imported(source: str) -> Iterator[str]:
    """Every dotted name that runs as an import; what only type checkers import does not."""
    waiting = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def reached(source: str) -> set[Path]:
    """The files of ghostlib that a source imports, directly or not, with the __init__.py above them."""
    found, waiting = set(), list(imported(source))
    while waiting:
        parts = waiting.pop().split(".")
        if parts[0] != "ghostlib":
            continue
        for length in range(1, len(parts) + 1):
            place = Path(*parts[:length])
            for file in (place.with_suffix(".py"), place / "__init__.py"):
                if (ROOT / file).is_file() and file not in found:
                    found.add(file)
                    waiting += imported((ROOT / file).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_it_imports(name):
    declared = [Path(dep) for dep in STAGES[name]["deps"]]
    missing = {str(file) for file in reached(entry(name))
               if not any(file == dep or dep in file.parents for dep in declared)}
    assert missing <= {"ghostlib/__init__.py"}, f"{name} lacks {sorted(missing)}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_no_room_it_does_not_use(name):
    files = reached(entry(name))

    def is_used(dep: Path) -> bool:
        if (ROOT / dep).is_file() and dep.suffix != ".py":  # data, which a file beside it names
            return any(dep.name in (ROOT / file).read_text(encoding="utf-8") for file in files
                       if file.parent == dep.parent)
        return any(file == dep or dep in file.parents for file in files)

    idle = [dep for dep in STAGES[name]["deps"] if dep.startswith("ghostlib/") and not is_used(Path(dep))]
    assert not idle, f"{name} depends on {idle} and imports nothing of it"


def test_a_stage_depends_on_the_data_that_its_code_reads():
    for name, stage in STAGES.items():
        read = {str(file.with_suffix(".yaml")) for file in reached(entry(name)) if file.with_suffix(".yaml").exists()}
        missing = {data for data in read if not any(data == dep or data.startswith(f"{dep}/") for dep in stage["deps"])}
        assert not missing, f"{name} lacks {missing}"


@pytest.mark.parametrize("name", MEASURING)
def test_measuring_depends_on_nothing_that_renders(name):
    rooms = {dep.split("/")[1] for dep in STAGES[name]["deps"] if dep.startswith("ghostlib/")}
    assert not rooms & {"exhibits", "evidence", "site", "paper", "notebook.py"}
    assert not any("notebooks" in dep for dep in STAGES[name]["deps"])
    assert not {room for file in reached(entry(name)) for room in file.parts[1:2]} & {"exhibits", "evidence", "site"}


@pytest.mark.parametrize("name", RENDERING)
def test_a_notebook_that_concludes_depends_on_the_verdicts_and_no_number_on_a_notebook(name):
    deps, verdicts = set(STAGES[name]["deps"]), "results/${item.profile}/report.json"
    assert verdicts in deps or Path("ghostlib/evidence/conclusions.py") not in reached(entry(name))
    assert name == "site" or not any(dep.startswith("results/") and "notebooks" in dep for dep in deps)


def test_the_verdicts_are_written_before_anything_is_rendered():
    assert {"report.json", "report.md", "metrics.json", "tables/claims.csv"} <= outs("verdicts")
    rendered = {path for name in RENDERING if name != "verdicts" for path in outs(name)}
    read = {dep.removeprefix("results/${item.profile}/") for dep in STAGES["verdicts"]["deps"]}
    assert not read & (rendered | {"tables", "figures", "notebooks"})


def test_every_dependency_on_code_exists():
    deps = {dep for stage in STAGES.values() for dep in stage["deps"] if "${" not in dep}
    assert not [dep for dep in deps if not (ROOT / dep).exists()]


def outs(name: str) -> set[str]:
    """The paths of a stage's outputs, without the folder of the profile."""
    paths = (next(iter(out)) if isinstance(out, dict) else out for out in STAGES[name]["outs"])
    return {path.removeprefix("results/${item.profile}/") for path in paths}


def test_what_was_measured_stays_where_measuring_again_is_refused():
    """DVC removes what a stage writes before the stage begins, unless it is told to leave it."""
    removed = [out for name in MEASURING for out in STAGES[name]["outs"]
               if not (isinstance(out, dict) and next(iter(out.values())).get("persist"))]
    assert not removed


def test_every_experiment_is_measured():
    measured = {f"{folder}/{name}.csv" for folder in ("runs", "curves") for name in PARAMS["experiments"]}
    assert outs("classifiers") == measured | {"correct", "costs/classifiers.csv", "profile.json", "teachers.csv",
                                                "teachers"}


def test_every_exhibit_is_rendered_by_its_stage():
    for exhibit in exhibits.load().values():
        written = {f"figures/{exhibit.name}.png", f"figures/{exhibit.name}.svg", f"notebooks/{exhibit.notebook}.ipynb"}
        if exhibit.name in PARAMS["experiments"] or exhibit.name == "table_10":
            written |= {f"tables/{exhibit.name}.{ending}" for ending in ("csv", "json", "md", "tex")}
        if exhibit.name == "table_9":  # Figures 1 and 5 draw it
            written = {path for path in written if not path.startswith("figures/")}
        assert written <= outs(exhibit.stage), f"{exhibit.stage} lacks {sorted(written - outs(exhibit.stage))}"


def test_the_stage_of_the_ablations_renders_each_of_them():
    ablations = {name for name, exhibit in exhibits.load().items() if exhibit.stage == "ablation"}
    listed = re.search(r"printf '%s\\n' ([\w ]+) \|", STAGES["ablation"]["cmd"])[1].split()
    assert sorted(listed) == sorted(ablations)
    read = {f"results/${{item.profile}}/{folder}/{name}.csv" for folder in ("runs", "curves") for name in ablations}
    assert read <= set(STAGES["ablation"]["deps"])
    assert len(outs("ablation")) == 8 * len(ablations)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_short_stripped_and_titled_as_the_exhibit(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 12
    assert [cell for cell in code if "parameters" in cell.metadata.get("tags", [])] == code[:1]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    nodes = [node for cell in code for node in ast.walk(ast.parse(cell.source))]
    assert all(node.end_lineno - node.lineno < 5 for node in nodes if isinstance(node, ast.FunctionDef))
    titles = re.findall(r"^# (.+)$", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
    parameters = dict(re.findall(r'^(\w+) = "(\w+)"', code[0].source, re.MULTILINE))
    name = parameters.get("experiment", path.stem)  # one notebook for ten exhibits is titled for the one it is set to
    shown = [exhibit.heading for exhibit in exhibits.load().values() if exhibit.notebook == name]
    assert notebook.cells[0].source.startswith("# ") and len(titles) == 1
    assert not shown or titles == shown[:1]

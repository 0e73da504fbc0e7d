"""What the stages run: notebooks are checked before, streamed during and stable after execution."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ghostlib import notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook with one parameter that prints to both streams."""
    monkeypatch.chdir(tmp_path)
    parameters = new_code_cell("number = 1", metadata={"tags": ["parameters"]})
    body = new_code_cell("import sys\nprint('result', number)\nprint('a bar', file=sys.stderr)\n1 / int(number)")
    path = tmp_path / "source.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[parameters, body], metadata=kernel), path)
    return path


def test_an_unknown_parameter_fails_before_a_kernel_starts(notebook, monkeypatch):
    import papermill

    monkeypatch.setattr(papermill, "execute_notebook", lambda *a, **k: pytest.fail("a kernel would have started"))
    with pytest.raises(notebook.PipelineError, match="no parameter 'numbr'; it has: number"):
        notebook.execute(notebook, Path("out.ipynb"), {"numbr": 2})
    with pytest.raises(notebook.PipelineError, match="nowhere.ipynb does not exist"):
        notebook.execute(Path("nowhere.ipynb"), Path("out.ipynb"), {})


def test_two_executions_are_the_same_file_and_stderr_goes_to_the_terminal_only(notebook, capsys):
    for name in ("first", "second"):
        notebook.execute(notebook, Path(f"{name}.ipynb"), {"number": "2"})
    assert Path("first.ipynb").read_bytes() == Path("second.ipynb").read_bytes()
    text = Path("first.ipynb").read_text()
    assert "result 2" in text and "a bar" not in text.replace("print('a bar'", "")
    assert "a bar" in capsys.readouterr().err
    nbformat.validate(nbformat.read("first.ipynb", as_version=4))


def test_a_failing_cell_is_an_error_and_keeps_the_notebook_so_far(notebook):
    with pytest.raises(notebook.PipelineError, match="ZeroDivisionError") as failure:
        notebook.execute(notebook, Path("out.ipynb"), {"number": "0"})
    assert not Path("out.ipynb").exists()
    kept = Path(".runs/notebooks/out.ipynb")
    assert str(kept) in str(failure.value) and "result 0" in kept.read_text()


def test_choosing_a_profile_changes_its_line_and_nothing_else(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    before = path.read_text().splitlines()
    notebook.choose_profile("fashion", path)
    after = path.read_text().splitlines()
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [("profile: digits", "profile: fashion")]
    with pytest.raises(ValueError, match="unknown profile 'fashon'"):
        notebook.choose_profile("fashon", path)
    assert path.read_text().splitlines() == after


def test_the_command_line_ends_with_an_error_not_a_traceback(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as end:
        notebook.main(["execute", "notebooks/ablation.ipynb", "out.ipynb", "-p", "experimnt", "table_1"])
    assert "no parameter 'experimnt'" in str(end.value.code)
    with pytest.raises(SystemExit) as end:
        notebook.main(["--help"])
    assert end.value.code == 0 and "execute" in capsys.readouterr().out


def test_data_that_is_not_there_is_an_error_that_says_how_to_point_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with pytest.raises(SystemExit) as end:
        notebook.main(["train", "imagenet"])
    assert str(tmp_path / "data/imagenet") in str(end.value.code) and "IMAGENET_DIR" in str(end.value.code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_source_notebook_is_short_and_holds_no_output(path):
    cells = nbformat.read(path, as_version=4).cells
    assert len(cells) <= 12
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


def test_stable_keeps_what_a_cell_shows():
    cell = new_code_cell("x", execution_count=3, outputs=[
        nbformat.v4.new_output("stream", name="stdout", text="kept"),
        nbformat.v4.new_output("stream", name="stderr", text="dropped")])
    notebook = new_notebook(cells=[new_markdown_cell("words"), cell], metadata={"papermill": {"duration": 1.0}})
    stable = notebook.stable(notebook)
    assert [output["text"] for output in stable.cells[1].outputs] == ["kept"]
    assert "papermill" not in stable.metadata and stable.cells[0].source == "words"

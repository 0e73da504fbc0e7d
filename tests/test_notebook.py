"""What the stages run: notebooks are checked before, streamed during and stable after execution."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ghostlib import notebook as notebooks

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
    with pytest.raises(notebooks.NotebookError, match="no parameter 'numbr'; it has: number"):
        notebooks.execute(notebook, Path("out.ipynb"), {"numbr": 2})
    with pytest.raises(notebooks.NotebookError, match="nowhere.ipynb does not exist"):
        notebooks.execute(Path("nowhere.ipynb"), Path("out.ipynb"), {})


def test_two_executions_are_the_same_file_and_stderr_goes_to_the_terminal_only(notebook, capsys):
    for name in ("first", "second"):
        notebooks.execute(notebook, Path(f"{name}.ipynb"), {"number": "2"})
    assert Path("first.ipynb").read_bytes() == Path("second.ipynb").read_bytes()
    text = Path("first.ipynb").read_text()
    assert "result 2" in text and "a bar" not in text.replace("print('a bar'", "")
    assert "a bar" in capsys.readouterr().err
    nbformat.validate(nbformat.read("first.ipynb", as_version=4))


def test_an_absolute_path_leaves_nothing_but_what_was_wanted(notebook, tmp_path):
    before = set(Path("/").iterdir())
    notebooks.execute(notebook, tmp_path / "deep" / "out.ipynb", {})
    assert (tmp_path / "deep" / "out.ipynb").exists() and not list(Path(".runs/notebooks").iterdir())
    assert set(Path("/").iterdir()) == before


def test_a_failing_cell_is_an_error_and_keeps_the_notebook_so_far(notebook):
    with pytest.raises(notebooks.NotebookError, match="ZeroDivisionError") as failure:
        notebooks.execute(notebook, Path("out.ipynb"), {"number": "0"})
    assert not Path("out.ipynb").exists()
    kept = Path(".runs/notebooks/out.ipynb")
    assert str(kept) in str(failure.value) and "result 0" in kept.read_text()


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
    stable = notebooks.stable(notebook)
    assert [output["text"] for output in stable.cells[1].outputs] == ["kept"]
    assert "papermill" not in stable.metadata and stable.cells[0].source == "words"

"""What the stages run: notebooks are checked before, streamed during and stable after execution."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ghostlib import notebook as notebooks
from ghostlib.measures import places

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook with one parameter that prints to both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(places.FOLDER, "")  # so that it is as before afterwards, whatever sets it
    monkeypatch.delenv(places.FOLDER)
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


# -- the answer first

def test_what_the_opening_cell_shows_stands_in_place_of_the_source_s_title():
    shown = nbformat.v4.new_output("display_data", {"text/markdown": "# Table 2\n\nDecided."})
    printed = nbformat.v4.new_output("stream", name="stdout", text="kept")
    cells = [new_markdown_cell("# Table 1\n\nWhat is below."), new_code_cell("x", metadata={"tags": ["parameters"]}),
             new_code_cell("y", outputs=[printed, shown], metadata={"tags": [notebooks.OPENING]})]
    opened = notebooks.opened(new_notebook(cells=cells))
    assert opened.cells[0].source == "# Table 2\n\nDecided.\n\nWhat is below."
    assert [output.get("text") for output in opened.cells[2].outputs] == ["kept"] and opened.cells[2].source == "y"


def test_an_opening_without_a_title_leaves_the_source_s_and_without_an_opening_nothing_changes():
    shown = nbformat.v4.new_output("display_data", {"text/markdown": "Decided."})
    cells = [new_markdown_cell("# Table 1\n\nWhat is below."), new_code_cell("y", outputs=[shown])]
    assert notebooks.opened(new_notebook(cells=cells)).cells == cells
    cells[1].metadata["tags"] = [notebooks.OPENING]
    assert notebooks.opened(new_notebook(cells=cells)).cells[0].source == "# Table 1\n\nDecided.\n\nWhat is below."


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_one_opening_right_after_its_parameters(path):
    cells = nbformat.read(path, as_version=4).cells
    assert [notebooks.OPENING in cell.metadata.get("tags", []) for cell in cells] == [False, False, True] + [
        False] * (len(cells) - 3)
    assert cells[2].source.splitlines()[-1].startswith("Markdown(")


# -- run by hand

@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a result, and in it the folder of an executed notebook as the working directory."""
    for variable in (places.FOLDER, "GHOSTLIB_RUNS"):
        monkeypatch.setenv(variable, "")  # so that it is as before afterwards, whatever sets it
        monkeypatch.delenv(variable)
    (tmp_path / "params.yaml").touch()
    for path in ("runs/table_1.csv", "notebooks/table_1.ipynb", "site/index.html", ".site.tmp/index.html"):
        (tmp_path / "results/digits" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results/digits" / path).write_text("committed")
    monkeypatch.chdir(tmp_path / "results/digits/notebooks")
    return tmp_path


def test_by_hand_a_notebook_reads_a_copy_and_writes_there(repository, capsys):
    assert notebooks.enter_repository() == repository == Path.cwd()
    assert places.folder("digits") == Path(".runs/scratch/digits") and ".runs/scratch" in capsys.readouterr().out
    assert places.runs_file("digits", "table_1").read_text() == "committed"
    places.runs_file("digits", "table_1").write_text("by hand")
    assert Path("results/digits/runs/table_1.csv").read_text() == "committed"
    assert not (places.folder("digits") / "notebooks").exists() and not (places.folder("digits") / "site").exists()


def test_by_hand_what_was_measured_stays_until_the_results_are_newer(repository, monkeypatch):
    notebooks.enter_repository()
    copy, committed = places.runs_file("digits", "table_1"), Path("results/digits/runs/table_1.csv")
    copy.write_text("by hand")
    for newer, text in ((-10, "by hand"), (10, "again")):
        committed.write_text("again")
        os.utime(committed, (time := copy.stat().st_mtime + newer, time))
        monkeypatch.delenv(places.FOLDER)
        notebooks.enter_repository()
        assert copy.read_text() == text


@pytest.mark.parametrize("edited", [False, True])
def test_by_hand_what_the_results_hold_no_longer_goes_unless_it_was_measured_there(edited, repository, monkeypatch):
    notebooks.enter_repository()
    copy = places.runs_file("digits", "table_1")
    assert copy.exists() and (Path("results/digits/.site.tmp/index.html").exists(), (
        places.folder("digits") / ".site.tmp").exists()) == (True, False)
    if edited:
        copy.write_text("by hand")
        os.utime(copy, (1, 1))
    Path("results/digits/runs/table_1.csv").unlink()
    for _ in range(2):
        monkeypatch.delenv(places.FOLDER)
        notebooks.enter_repository()
        assert copy.exists() == edited


def test_where_the_environment_names_a_folder_nothing_is_copied(repository, monkeypatch):
    monkeypatch.setenv(places.FOLDER, "results")
    notebooks.enter_repository()
    assert places.folder("digits") == Path("results/digits") and not Path(".runs").exists()


def test_the_pipeline_s_kernel_writes_to_the_results_themselves(notebook):
    read = nbformat.read(notebook, as_version=4)
    read.cells[1].source = f"import os\nprint('folder', os.environ['{places.FOLDER}'])"
    nbformat.write(read, notebook)
    notebooks.execute(notebook, Path("out.ipynb"), {})
    assert "folder results" in Path("out.ipynb").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_asks_where_to_write(path):
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert "RESULTS" not in code and '"results' not in code


def test_jupyterlab_saves_nothing_under_results(tmp_path):
    """The configuration of `make browse`: a read-only file is not saved by itself, and a notebook's source is."""
    from traitlets.config import Config

    config = Config()
    exec((ROOT / "notebooks" / "jupyter_server_config.py").read_text(encoding="utf-8"), {"get_config": lambda: config})
    for path in ("results/digits/notebooks/table_1.ipynb", "notebooks/ablation.ipynb"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    contents = config.ServerApp.contents_manager_class(root_dir=str(tmp_path))
    assert not contents.is_writable("results/digits/notebooks/table_1.ipynb")
    assert contents.is_writable("notebooks/ablation.ipynb")

"""Figure 2's graphs: measured once, read as they were traced, and drawn without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ghostlib
from ghostlib.exhibits.figure_2 import diagram
from ghostlib.measures import bottleneck, places
from ghostlib.measures.trace import graph
from ghostlib.models import zoo


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with what `measure` wrote for a profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("results"))
        bottleneck.measure("digits")
        yield places.figure_2_file("digits").resolve()


@pytest.fixture
def here(results, monkeypatch):
    monkeypatch.chdir(results.parents[3])


def content(form):
    """Nodes and edges in their order, with all that is known of them."""
    return list(form.nodes(data=True)), list(form.edges(data=True))


def test_what_is_read_is_what_was_traced(here):
    forms = bottleneck.read("digits")
    assert [title.replace("\n", " ") for title in forms] == [
        "(a) GhostNetV2 as deployed", "(b) GhostNetV3 while training", "(c) GhostNetV3 after folding"]
    for name, form in zip(("ghostnetv2_100", "ghostnetv3_100"), forms.values(), strict=False):
        traced = graph(zoo.create(name).get_submodule(bottleneck.BLOCK), torch.zeros(bottleneck.INPUT))
        assert content(form) == content(traced)


def test_every_kind_is_drawn(here):
    kinds = {kind for form in bottleneck.read("digits").values() for _, kind in form.nodes(data="kind")}
    assert kinds == set(diagram.KINDS) and set(diagram.CONVOLUTIONS) < kinds


def test_measuring_again_writes_the_same(here, results):
    before = results.read_bytes()
    bottleneck.measure("digits")
    assert results.read_bytes() == before


def test_the_notebook_reads_and_draws_without_torch(here):
    notebook = Path(ghostlib.__file__).parents[1] / "notebooks" / "architecture.ipynb"
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    code = [source.replace("enter_repository()", "") for source in code]  # the results are in this folder
    code.append("import sys; print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("False", "")
    assert Path("results/digits/figures/figure_2.png").exists()


def test_what_is_absent_is_measured_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(bottleneck.read("fashion")) == 3
    assert "figure_2.json does not exist: measuring" in capsys.readouterr().err
    assert len(bottleneck.read("fashion")) == 3
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damaged", ["[{", "[]x", '{"nodes": []}', '[{"title": "a"}]'])
def test_a_damaged_file_is_named(tmp_path, monkeypatch, damaged):
    monkeypatch.chdir(tmp_path)
    places.figure_2_file("digits").parent.mkdir(parents=True)
    places.figure_2_file("digits").write_text(damaged, encoding="utf-8")
    with pytest.raises(ValueError, match="figure_2.json is damaged .*; remove it, and it is measured again"):
        bottleneck.read("digits")

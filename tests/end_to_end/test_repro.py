"""`dvc repro` on a copy of the repository with tiny runs: it does everything, then nothing, then what a change asks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from ghostlib.deploy import latency
from ghostlib.measures import counts
from ghostlib.models import catalog
from ghostlib.paper import claims, numbers
from ghostlib.training.profile import load_params
from tests.params import write_params

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ("table_6", "figure_4")
MEASURING = {"classifiers@digits", "bottleneck@digits", "published@digits"}
RENDERING = {"verdicts@digits", "ablation@digits", "comparison@digits", "architecture@digits", "report@digits",
             "site@digits"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """What git would clone, with three experiments of nine-step runs, and made-up counts and latencies."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout.splitlines()
    for name in listed:
        made = name.startswith(("results/", "dvc.lock")) and not name.startswith("results/sessions/")
        if not made and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    params = load_params(folder / "params.yaml")
    stand_in = {"network": "resnet10", "branches": 0, "teacher": None, "epochs": 1}
    params["profiles"]["digits"] |= {
        "train_images": 48, "val_images": 20, "test_images": 40, "width_scale": 0.1, "networks": {},
        "rates": {}, "tune": None,
        "recipe": {"batch_size": 16, "epochs": 3, "lr_scale": 22.6, "rand_magnitude": 5, "hflip": 0},
        "teachers": {name: {"stand_in": stand_in} for name in params["profiles"]["digits"]["teachers"]}}
    table_9 = params["experiments"]["table_9"]
    table_9["rows"] = {row: table_9["rows"][row] for row in ("GhostNetV2 1.0×", "GhostNetV3 1.0×")}
    rivals = params["experiments"]["rivals"]
    rivals["rows"] = {"GhostNetV2 1.0×": rivals["rows"]["GhostNetV2 1.0×"]}
    params["experiments"] = {name: params["experiments"][name] for name in (*EXPERIMENTS, "table_9", "rivals")}
    write_params(folder, params)
    runs = folder / "results/digits/runs"
    runs.mkdir(parents=True)
    counted().to_csv(runs / "complexity.csv", index=False)
    timed().to_csv(runs / "latency.csv", index=False)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(shortened(
        yaml.safe_load((folder / "dvc.yaml").read_text()), set(params["experiments"])), allow_unicode=True,
        sort_keys=False))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def shortened(pipeline: dict, experiments: set[str]) -> dict:
    """The pipeline without stages that take minutes and are tested by themselves, and without the other experiments."""
    for stage in ("rates", "counts", "latencies", "detector_rates", "detectors", "tuning", "complexity", "latency",
                  "detection", "causes", "pretrained"):
        del pipeline["stages"][stage]

    def is_left(path: str | dict) -> bool:
        name = Path(path if isinstance(path, str) else next(iter(path))).stem.removesuffix("_narrow")
        return not re.fullmatch(rf"(table|figure_[34])_?\d*|{'|'.join(claims.OWN)}", name) or name in experiments

    for name in ("classifiers", "ablation"):
        for key in ("deps", "outs"):
            pipeline["stages"][name][key] = list(filter(is_left, pipeline["stages"][name][key]))
    ablation = pipeline["stages"]["ablation"]
    ablation["cmd"] = re.sub(r"\b(table|figure)_\d+ ", lambda found: found[0] * (found[0].strip() in EXPERIMENTS),
                             ablation["cmd"])
    del pipeline["plots"], pipeline["metrics"]
    return pipeline


def counted() -> pd.DataFrame:
    """As the stage `counts` writes it, all counts the paper's."""
    published = {table: numbers.table(table) for table in ("table_9", "table_10")}
    rows = [*(("table_9", row, name, catalog.find(name).image_size) for row, name in catalog.rows().items()),
            *(("table_10", row, name, side) for row, (name, side) in catalog.backbones().items())]
    return pd.DataFrame([(*row, quantity, published[row[0]].loc[row[1], quantity]) for row in rows
                         for quantity in published[row[0]].columns.intersection([numbers.PARAMS, numbers.MACS])],
                        columns=counts.COLUMNS)


def timed() -> pd.DataFrame:
    """As the stage `latencies` writes it, a network the slower the later it stands in Table 9."""
    names = dict.fromkeys(catalog.deployed().values())
    return pd.DataFrame([(name, 224, engine, threads, place + 1.0, place + 0.9, place + 1.1, 84)
                         for engine in latency.ENGINES for threads in (1, 2) for place, name in enumerate(names)],
                        columns=latency.COLUMNS).assign(**latency.machine())


def command() -> tuple[list[str], dict[str, str]]:
    """`dvc repro` with the interpreter of the tests, and the copy's ghostlib before the installed one."""
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": ".",
                   "DVC_NO_ANALYTICS": "1"}
    return [str(binaries / "dvc"), "repro"], environment


def repro(folder: Path, *options: str) -> str:
    arguments, environment = command()
    done = subprocess.run([*arguments, *options], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def executed(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def test_the_pipeline(copy):
    """One story, since each chapter needs the one before; every chapter costs kernels, so there is one."""
    arguments, environment = command()

    # Interrupted in the middle of its trainings, nothing is lost.
    running = subprocess.Popen(arguments, cwd=copy, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(copy.glob(".runs/*/metrics.json")):
        assert running.poll() is None, "dvc repro ended before its first run did"
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    finished = {path: path.stat().st_mtime_ns for path in copy.glob(".runs/*/metrics.json")}

    # Run again, it goes on: what was finished is not trained again.
    first = repro(copy)
    assert executed(first) == MEASURING | RENDERING
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    results = copy / "results/digits"
    for name in EXPERIMENTS:
        tables = (f"tables/{name}.{ending}" for ending in ("csv", "json", "md", "tex"))
        for path in (f"runs/{name}.csv", f"curves/{name}.csv", *tables, f"figures/{name}.png", f"figures/{name}.svg",
                     f"notebooks/{name}.ipynb"):
            assert (results / path).stat().st_size > 0
    assert all((results / f"figures/figure_{number}.png").stat().st_size > 0 for number in (1, 2, 5))
    compared = pd.read_csv(results / "tables/table_9.csv").query("quantity == 'Top-1 (%)'").dropna(subset="measured")
    assert list(compared["row"]) == ["GhostNetV2 1.0×", "GhostNetV3 1.0×"] and (compared["seeds"] == 1).all()
    table = pd.read_csv(results / "tables/table_6.csv")
    assert list(table["paper"]) == [78.40, 79.13, 78.97] and table["measured"].between(0, 100).all()
    notebook = nbformat.read(results / "notebooks/table_6.ipynb", as_version=4)
    assert "papermill" not in notebook.metadata
    shown = [output.metadata.get("figure") for cell in notebook.cells for output in cell.get("outputs", [])
             if "image/png" in output.get("data", {})]
    assert "**Inconclusive:**" in notebook.cells[0].source  # what came out, before any code
    assert shown == [None, "table_6"]  # the learning curves, and the figure that is written
    verdicts = pd.read_csv(results / "tables/claims.csv").set_index("id")["verdict"]
    assert (verdicts["cosine-to-zero"], verdicts["detection-v3-beats-v2"]) == ("inconclusive", "not attempted")
    assert verdicts["v3-counts"] == "exact"
    assert f"{len(verdicts)} claims" in (results / "answer.md").read_text()
    assert (results / "site/notebooks/table_6.html").stat().st_size > 0
    assert set(pd.read_csv(results / "runs/table_6.csv")["run"]) <= {path.name for path in (copy / ".runs").iterdir()}

    # With nothing changed nothing is done.
    assert executed(repro(copy)) == set()

    # A note under a table, or any other code that renders: nothing is measured. What was rendered once is enough.
    files = [copy / "ghostlib" / place for place in ("exhibits/tables.py", "evidence/report.py", "site/build.py")]
    code = {file: file.read_text() for file in files}
    for file, before in code.items():
        file.write_text(before + "# Another comment.\n")
    assert executed(repro(copy, "--dry")) == RENDERING
    for file, before in code.items():
        file.write_text(before)

    # One value of one experiment: only the runs that differ, and other notebooks only if their verdicts do. That these
    # would be executed is enough.
    judged = (results / "report.json").read_bytes()
    text = (copy / "experiments.yaml").read_text()
    (copy / "experiments.yaml").write_text(text.replace("min_lr: 1.0e-05", "min_lr: 2.0e-05"))
    runs_before = set((copy / ".runs").iterdir())
    assert executed(repro(copy, "verdicts@digits")) == {"classifiers@digits", "verdicts@digits"}
    assert len(set((copy / ".runs").iterdir()) - runs_before) == 1
    unchanged = {"comparison@digits"} if (results / "report.json").read_bytes() == judged else set()
    left = RENDERING - {"verdicts@digits", "architecture@digits"} - unchanged
    assert executed(repro(copy, "--dry")) == left

    # A value that makes no sense is an error that names it.
    (copy / "experiments.yaml").write_text(text.replace("min_lr: 1.0e-05", "min_lr: -1"))
    done = subprocess.run(arguments, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "min_lr = -1" in done.stdout + done.stderr

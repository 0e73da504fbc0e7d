"""The command line: each command does its work, explains itself and ends with words where it cannot."""

from __future__ import annotations

import pkgutil
import re
import shutil
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import ghostlib
from ghostlib import cli, library, measures, reproduction
from ghostlib.config import ConfigError
from ghostlib.deploy import export, latency
from ghostlib.measures import places, rates
from ghostlib.models import weights, zoo
from ghostlib.models.reparam import add_branches, reparameterize
from ghostlib.own.weights import save_model
from ghostlib.runs import engines
from ghostlib.training.profile import load_params, load_profile
from ghostlib.training.progress import NonFiniteLoss

ROOT = Path(__file__).parents[1]
COMMANDS = ("zoo", "count", "time", "convert", "export", "train", "evaluate", "measure", "rates", "execute",
            "verdicts", "profile", "site", "readme", "plan", "runs", "mmdet")


def invoke(*arguments) -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """With which words, and the exit status 1 that they have, the command ends."""
    monkeypatch.setattr(sys, "argv", ["ghostlib", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, str) and end.value.code.startswith("error: ")
    return end.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    assert command in invoke("--help")
    assert "Usage" in invoke(command, "--help")


def test_the_formats_are_those_that_can_be_exported():
    assert [form.value for form in library.Format] == list(export.FORMATS)


def test_what_can_be_measured_are_the_modules_that_measure():
    modules = [module.name for module in pkgutil.iter_modules(measures.__path__)]
    measuring = [name for name in modules if hasattr(import_module(f"ghostlib.measures.{name}"), "measure")]
    assert sorted(reproduction.What) == sorted(measuring)


def test_zoo_lists_names_with_their_rows():
    assert len(invoke("zoo").splitlines()) == 2 + len(zoo.names())
    line, = invoke("zoo", "mobilenetv2_100").splitlines()[2:]
    assert "MobileNetV2 1.0×, MobileNetV2 1.0× + ours" in line
    assert [line.split()[0] for line in invoke("zoo", "PiT").splitlines()[2:]] == ["pit_ti", "pit_xs"]


def test_count_counts_the_folded_network():
    line = invoke("count", "ghostnetv3_100").splitlines()[-1]
    assert line.split() == ["ghostnetv3_100", "224", "6.15", "167.0"]


def test_networks_of_others_and_of_ones_own_are_counted_beside_them(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("""
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))
""", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = invoke("count", "mine:net", "timm/mobilenetv3_small_050", "torchvision/shufflenet_v2_x0_5").splitlines()
    assert [line.split()[:3] for line in lines[2:]] == [
        ["mine:net", "224", "0.00502"], ["timm/mobilenetv3_small_050", "224", "1.59"],
        ["torchvision/shufflenet_v2_x0_5", "224", "1.37"]]


def test_convert_folds_and_evaluate_scores_either_form_the_same(tmp_path):
    torch.manual_seed(0)
    network = zoo.create("ghostnetv3_050", 2)
    weights.save(network, tmp_path / "training.safetensors")
    invoke("convert", "ghostnetv3_050", tmp_path / "training.safetensors", tmp_path / "folded.safetensors", "--fold",
           "--num-classes", 2)
    rng = np.random.default_rng(0)
    for i in range(6):
        folder = tmp_path / "images" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    def score(form):
        told = invoke("evaluate", "ghostnetv3_050", tmp_path / f"{form}.safetensors", tmp_path / "images")
        return told.splitlines()[-1]

    scores = [score("training"), score("folded")]
    assert scores[0] == scores[1] and scores[0].startswith("ghostnetv3_050 on 6 images of 2 classes: top1 ")

    with torch.no_grad():  # a bias that decides for the second class whatever the image
        network.classifier.bias.copy_(torch.tensor([-1e3, 1e3]))
    weights.save(network, tmp_path / "training.safetensors")
    assert "top1 50.00 %" in score("training")


def test_a_corrupt_image_is_named_also_where_other_processes_read(tmp_path):
    torch.manual_seed(0)
    weights.save(zoo.create("ghostnetv3_050", 1), tmp_path / "w.safetensors")
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "torn.png").write_bytes(b"no image")
    done = subprocess.run([sys.executable, "-m", "ghostlib", "evaluate", "ghostnetv3_050", tmp_path / "w.safetensors",
                           tmp_path / "images", "--workers", "1"], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: {tmp_path}/images/a/torn.png cannot be read as an image" in done.stderr


@pytest.mark.parametrize(("of", "command", "told"), [
    (("mobilenetv2_100", 3, 0.25), ["convert", "mobilenetv2_100", "w", "out", "--width", "0.25"],
     "give --num-classes 3."),
    (("mobilenetv2_100", 3, 0.25), ["export", "mobilenetv2_100", "onnx", "x.onnx", "--weights", "w", "--width", "0.25"],
     "give --num-classes 3."),
    (("mobilenetv2_100", 3, 0.25), ["evaluate", "mobilenetv2_100", "w", "images", "--width", "0.25"],
     "images has 2 classes (one a folder in it) and the file's classifier 3: "),
    (("mobilenetv2_100", 3, 0.25), ["convert", "ghostnetv3_050", "w", "out", "--num-classes", "3"],
     "It is another network's file"),
    (("ghostnetv2_050", 3), ["convert", "ghostnetv3_050", "w", "out", "--num-classes", "3"],
     "Name the plain network, as ghostnetv2_100 for ghostnetv3_100"),
    (("mobilenetv2_100", 1000, 0.25), ["convert", "mobilenetv2_100", "w", "out", "--width", "0.25", "--ema"],
     "Leave out --ema."),
])
def test_weights_that_do_not_fit_end_with_a_remedy_of_the_command_line(of, command, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / "1.png")
    weights.save(zoo.create(*of), tmp_path / "w")
    words = ended(monkeypatch, *command)
    assert told in words
    assert not any(python in words for python in ("strict", "num_classes=", "zoo.create", "without ema"))


def test_export_writes_a_file_that_agrees(tmp_path):
    torch.manual_seed(0)
    weights.save(reparameterize(zoo.create("ghostnetv3_050", 7)), tmp_path / "folded.safetensors")
    told = invoke("export", "ghostnetv3_050", "onnx", tmp_path / "x.onnx", "--weights", tmp_path / "folded.safetensors",
                  "--num-classes", 7, "--image-size", 64)
    assert "agrees with PyTorch" in told and (tmp_path / "x.onnx").exists()


def test_random_weights_are_exported_such_that_each_layer_shows(tmp_path, recwarn):
    invoke("export", "shufflenetv2_100", "onnx", tmp_path / "x.onnx", "--image-size", 64)
    assert not [told for told in recwarn if "alike" in str(told.message)]


def test_a_run_s_own_file_converts_with_its_width_and_branches(tmp_path):
    torch.manual_seed(0)
    weights.save(add_branches(zoo.create("mobilenetv2_100", 3, 0.25)), tmp_path / "ema.safetensors")
    told = invoke("convert", "mobilenetv2_100", tmp_path / "ema.safetensors", tmp_path / "folded.safetensors", "--fold",
                  "--num-classes", 3, "--width", 0.25)
    assert "in training form" in told and weights.is_folded(tmp_path / "folded.safetensors")


@pytest.mark.parametrize(("arguments", "message"), [
    (["count", "ghostnet_v3"], "error: unknown network 'ghostnet_v3'; did you mean 'ghostnetv3_"),
    (["zoo", "ghostnetv4"], "error: unknown network 'ghostnetv4'; did you mean 'ghostnetv"),
    (["evaluate", "ghostnetv3_050", "nowhere.safetensors", "no_images"], "no_images"),
    *([] if torch.cuda.is_available() else [
        (["evaluate", "ghostnetv3_050", "w.safetensors", "no_images", "--device", "cuda"], "no CUDA device here")]),
    (["evaluate"], "name a network, a file of weights and a folder of images, or give --published"),
    (["evaluate", "ghostnetv3_050", "w", "images", "--rows", "PiT-ti"], "--rows belong to --published"),
    (["evaluate", "ghostnetv3_050", "--published"], "give neither a network"),
    (["evaluate", "--published", "--data", "nowhere"], "no validation images of ImageNet: nowhere does not exist"),
    (["time", "ghostnetv3_050", "--engine", "TVM"], "error: unknown engine 'TVM'; known: ONNX Runtime"),
    (["export", "ghostnetv3_050", "onnx", "v3.bin"], "v3.bin: a file for onnx is named *.onnx"),
    (["convert", "ghostnetv3_050", "nowhere.pth", "out.safetensors"], "nowhere.pth"),
    (["measure", "classifiers", "digits"], "params.yaml does not exist; run from the repository's root"),
    (["execute", "nowhere.ipynb", "out.ipynb"], "error: nowhere.ipynb does not exist"),
    (["site", "nowhere"], "results/nowhere has no tables, figures or notebooks; run the profile first"),
    (["export", "deit_tiny", "onnx", "x.onnx", "--image-size", "10"], "cannot take an image of 10 px"),
    (["export", "ghostnetv3_050", "onnx", "x.onnx", "--image-size", "16"], "cannot take an image of 16 px"),
    (["export", "ghostnetv3_050", "onnx", "x.onnx", "--ema"], "--ema takes the averaged weights of a checkpoint: name"),
    (["export", "timm/resnet18", "onnx", "x.onnx", "--weights", "w.pth"], "w.pth says nothing of its network: of"),
    (["export", "ghostnetv3_050", "onnx", "x.onnx", "--weights", "trained"], "give trained/model.safetensors"),
    (["time", "ghostnetv3_050", "--engine", "PyTorch", "--image-size", "16"], "cannot take an image of 16 px"),
    (["count", "wrong:net"], "wrong:net must return a network, a torch.nn.Module, and returned a dict"),
])
def test_a_mistake_ends_with_words_and_not_with_a_traceback(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "wrong.py").write_text("def net(num_classes):\n    return {}\n")
    (tmp_path / "trained").mkdir()
    for file in ("w.pth", "trained/model.safetensors"):
        (tmp_path / file).touch()
    assert message in ended(monkeypatch, *arguments)


def test_a_width_of_nothing_is_refused():
    result = CliRunner().invoke(cli.app, ["export", "ghostnetv3_050", "onnx", "x.onnx", "--width", "0"])
    assert result.exit_code == 2 and "--width" in result.output


def test_what_ghostlib_train_wrote_is_not_converted(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    save_model(network, tmp_path / "model.safetensors", {"network": "mine:net"})
    result = CliRunner().invoke(cli.app, ["convert", "ghostnetv3_050", str(tmp_path / "model.safetensors"), "x"])
    assert isinstance(result.exception, ValueError) and "to `ghostlib evaluate`" in str(result.exception)


def test_a_parameter_that_is_no_yaml_is_named():
    told = CliRunner().invoke(cli.app, ["execute", "a.ipynb", "b.ipynb", "-p", "profile={"])
    assert told.exit_code == 2 and "-p profile={: '{' is no YAML; write" in " ".join(told.output.split())


@pytest.mark.parametrize("device", ["foo", "meta", *([] if torch.backends.mps.is_available() else ["mps"])])
def test_a_device_that_is_not_there_is_an_error_that_says_so(device):
    with pytest.raises(ValueError, match=f"--device {device}: PyTorch cannot compute on it here .*use --device cpu"):
        library._check_device(device)
    library._check_device("cpu")


def test_an_unknown_profile_is_not_measured(tmp_path, monkeypatch):
    for file in ROOT.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ghostlib.measures.counts.measure", pytest.fail)
    with pytest.raises(ValueError, match="unknown profile 'nope'; known: digits"):
        invoke("measure", "counts", "nope")
    assert not (tmp_path / "results").exists()


def test_the_machine_is_looked_at_before_it_is_timed(monkeypatch):
    monkeypatch.setattr(latency, "machine", lambda engines: events.append(engines) or {"cpu": "ours"})
    monkeypatch.setattr(latency, "benchmark", lambda *arguments: events.append("timed") or pd.DataFrame({"ms": [1.0]}))
    events = []
    assert "cpu: ours" in invoke("time", "mobilenetv2_100", "--engine", "PyTorch")
    assert events == [["PyTorch"], "timed"]


@pytest.mark.parametrize(("body", "last"), [
    ("raise ValueError('of the script')", "ValueError: of the script"),
    ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'")])
def test_a_script_that_fails_shows_its_traceback(body, last, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(f"def inner():\n    {body}\ninner()")
    monkeypatch.setattr("ghostlib.mmdet.stand_in.install", lambda: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["ghostlib", "mmdet", "run", str(script)])
    with pytest.raises((ValueError, ModuleNotFoundError)) as raised:
        cli.main()
    shown = traceback.format_exception(raised.value)
    assert f"{script}\", line 2, in inner" in shown[-2] and shown[-1] == f"{last}\n"


def test_help_behind_a_script_is_the_script_s(monkeypatch):
    ran = []
    monkeypatch.setattr("ghostlib.mmdet.stand_in.run_script", ran.append)
    assert "Run a script" not in invoke("mmdet", "run", "tools/test.py", "config.py", "--help", "-h", "--cfg", "a=b")
    assert ran == [["tools/test.py", "config.py", "--help", "-h", "--cfg", "a=b"]]
    assert "Run a script" in invoke("mmdet", "run", "--help")


def test_choosing_a_profile_changes_its_line_and_nothing_else(tmp_path):
    for file in ROOT.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "params.yaml"
    before = path.read_text().splitlines()
    reproduction.choose_profile("fashion", path)
    after = path.read_text().splitlines()
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [("profile: digits", "profile: fashion")]
    with pytest.raises(ValueError, match="unknown profile 'fashon'"):
        reproduction.choose_profile("fashon", path)
    assert path.read_text().splitlines() == after


TUNED = """\
  tuned:
    scale: none
    data: digits
    num_classes: 10
    image_size: 33
    patch_size: 11
    val_images: 20
    recipe: {lr_scale: 20}
    tune:
      seeds: [90, 91]  # of nothing else
      rates: [5, 10, 20, 40]
"""
REST = """\
    teachers: {ResNet-101: {timm: a}, DeiT-B: {timm: b}, BEiTv2-B: {timm: c}}
"""


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """The project's own files with one more profile; the function writes trainings, by kind and best rate."""
    for file in ROOT.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "experiments.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("profiles:\n", f"profiles:\n{TUNED}{REST}", 1), encoding="utf-8")
    monkeypatch.setattr(rates, "lacking", lambda profile, params: "")

    def write(**kinds):
        frame = pd.DataFrame([(kind, rate, 90, 50 - abs(rate - best)) for kind, best in kinds.items()
                              for rate in (5, 10, 20, 40)], columns=["kind", "lr_scale", "seed", "val_top1"])
        places.write_csv(frame, places.rates_file("tuned"))
        return path
    return write


def test_rates_are_frozen_in_their_profile_and_no_other_line_changes(tuned):
    path = tuned(**{"ghostnetv2, lamb, branches, teacher": 10, "deit, lamb, teacher": 40})
    before, others = path.read_text(encoding="utf-8"), load_profile("digits", load_params()).resolve().lr_scale
    told = invoke("rates", "tuned")
    assert path.read_text(encoding="utf-8") == before
    assert re.search(r"\| deit, lamb, teacher +\| 5, 10, 20, 40 +\| +40 +\|.*\| True +\| +nan \|", told)
    told = invoke("rates", "tuned", "--freeze")
    assert re.search(r"\| deit, lamb, teacher +\| 5, 10, 20, 40 +\| +40 +\|.*\| True +\| +40 \|", told)
    frozen = "    rates:\n      ghostnetv2, lamb, branches, teacher: 10\n      deit, lamb, teacher: 40\n"
    assert path.read_text(encoding="utf-8") == before.replace(TUNED, TUNED + frozen)
    params = load_params()
    assert load_profile("tuned", params).resolve().lr_scale == 10
    assert load_profile("digits", params).resolve().lr_scale == others
    tuned(**{"ghostnetv2, lamb": 20})
    invoke("rates", "tuned", "--freeze")
    assert path.read_text(encoding="utf-8") == before.replace(TUNED, f"{TUNED}    rates:\n      ghostnetv2, lamb: 20\n")


@pytest.mark.parametrize(("best", "told"), [
    (None, "profile 'digits' are given in experiments.yaml.* There is nothing to freeze"),
    (float("nan"), "profile 'tuned': 'deit, lamb, teacher' diverged with a seed at every rate")])
def test_rates_that_were_not_found_are_not_frozen(best, told, tuned):
    path = tuned(**{"deit, lamb, teacher": best} if best else {})
    before = path.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        invoke("rates", "tuned" if best else "digits", "--freeze")
    assert path.read_text(encoding="utf-8") == before
    assert "given in experiments.yaml; none was chosen here" in invoke("rates", "digits")


def test_a_kind_that_nothing_is_of_is_found_before_anything_is_measured(tuned, monkeypatch):
    path = tuned(**{"deit, lamp, teacher": 5})
    invoke("rates", "tuned", "--freeze")
    assert "deit, lamp, teacher: 5" in path.read_text(encoding="utf-8")
    monkeypatch.setattr("ghostlib.measures.counts.measure", pytest.fail)
    with pytest.raises(ConfigError, match="no recipe is of the kind 'deit, lamp, teacher'; known: 'ghostnetv2, lamb'"):
        invoke("measure", "counts", "tuned")


def test_nothing_is_trained_at_rates_that_are_yet_to_be_chosen(tuned, monkeypatch):
    tuned(**{"ghostnetv2, lamb": 20})
    monkeypatch.setattr(engines, "run", pytest.fail)
    with pytest.raises(ConfigError, match="no rate for 'deit, lamb, teacher'.*`ghostlib measure rates tuned`"):
        invoke("measure", "classifiers", "tuned")


def test_data_that_is_not_there_is_an_error_that_says_how_to_point_to_it(tmp_path, monkeypatch):
    for file in ROOT.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    words = ended(monkeypatch, "measure", "classifiers", "imagenet")
    assert str(tmp_path / "data/imagenet") in words and "IMAGENET_DIR" in words


def test_the_version_is_the_package_s():
    assert invoke("--version") == f"ghostlib {ghostlib.__version__}\n"


@pytest.mark.parametrize(("missing", "extra"), [
    ("papermill", "repro"), ("mmcv", "mmdet-onedl"), ("yaml", "repro"), ("onnx", "export"), ("fvcore.nn", "export")])
def test_a_package_that_is_not_there_is_named_with_the_extra_that_brings_it(missing, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # which makes its import fail
    monkeypatch.setattr(cli, "app", lambda: import_module(missing))
    with pytest.raises(SystemExit, match=rf"{missing}.*: pip install 'ghostlib\[{extra}\]'"):
        cli.main()


def test_a_package_of_no_extra_is_only_named(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: import_module("no_such_package"))
    with pytest.raises(SystemExit, match=r"^error: No module named 'no_such_package'$"):
        cli.main()


@pytest.mark.parametrize(("error", "kept"), [
    (ValueError("of ours"), False), (OSError("disk"), False), (NonFiniteLoss("nan"), False),
    (KeyError("a bug"), True), (RuntimeError("PyTorch's"), True)])
def test_only_what_nobody_foresaw_has_a_traceback(error, kept, monkeypatch):
    def broken():
        raise error
    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(type(error) if kept else SystemExit) as end:
        cli.main()
    assert kept or str(end.value.code) == f"error: {error}"

"""The command line: each command does its work, explains itself and ends with words where it cannot."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ghostlib import cli
from ghostlib.deploy import export
from ghostlib.models import weights, zoo
from ghostlib.models.reparam import add_branches, reparameterize

COMMANDS = ("zoo", "count", "time", "convert", "export", "evaluate")


def invoke(*arguments) -> str:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    assert command in invoke("--help")
    assert "Usage" in invoke(command, "--help")


def test_the_formats_are_those_that_can_be_exported():
    assert [form.value for form in cli.Format] == list(export.FORMATS)


def test_zoo_lists_names_with_their_rows():
    assert len(invoke("zoo").splitlines()) == 2 + len(zoo.names())
    line, = invoke("zoo", "mobilenetv2_100").splitlines()[2:]
    assert "MobileNetV2 1.0×, MobileNetV2 1.0× + ours" in line


def test_count_counts_the_folded_network():
    line = invoke("count", "ghostnetv3_100").splitlines()[-1]
    assert line.split() == ["ghostnetv3_100", "224", "6.15", "167.0"]


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


def test_export_writes_a_file_that_agrees(tmp_path):
    torch.manual_seed(0)
    weights.save(reparameterize(zoo.create("ghostnetv3_050", 7)), tmp_path / "folded.safetensors")
    told = invoke("export", "ghostnetv3_050", "onnx", tmp_path / "x.onnx", "--weights", tmp_path / "folded.safetensors",
                  "--num-classes", 7, "--image-size", 64)
    assert "agrees with PyTorch" in told and (tmp_path / "x.onnx").exists()


def test_a_run_s_own_file_converts_with_its_width_and_branches(tmp_path):
    torch.manual_seed(0)
    weights.save(add_branches(zoo.create("mobilenetv2_100", 3, 0.25)), tmp_path / "ema.safetensors")
    told = invoke("convert", "mobilenetv2_100", tmp_path / "ema.safetensors", tmp_path / "folded.safetensors", "--fold",
                  "--num-classes", 3, "--width", 0.25)
    assert "in training form" in told and weights.is_folded(tmp_path / "folded.safetensors")


@pytest.mark.parametrize(("arguments", "message"), [
    (["count", "ghostnet_v3"], "error: unknown network 'ghostnet_v3'; did you mean 'ghostnetv3_"),
    (["evaluate", "ghostnetv3_050", "nowhere.safetensors", "no_images"], "no_images"),
    (["time", "ghostnetv3_050", "--engine", "TVM"], "error: unknown engine 'TVM'; known: ONNX Runtime"),
    (["export", "ghostnetv3_050", "onnx", "v3.bin"], "v3.bin: a file for onnx is named *.onnx"),
    (["convert", "ghostnetv3_050", "nowhere.pth", "out.safetensors"], "nowhere.pth"),
])
def test_a_mistake_ends_with_words_and_not_with_a_traceback(arguments, message, tmp_path):
    done = subprocess.run([sys.executable, "-m", "ghostlib.cli", *arguments], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr

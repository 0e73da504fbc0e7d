"""Training by the command: it ends in weights that load, goes on where it was killed, and refuses what cannot be."""

from __future__ import annotations

import csv
import importlib
import json
import linecache
import re
import sys
import warnings

import pytest
import timm
import torch
import yaml
from accelerate.state import AcceleratorState
from filelock import FileLock
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize
from typer.testing import CliRunner

from ghostlib import cli
from ghostlib.config import ConfigError
from ghostlib.own import train as own
from ghostlib.own import weights
from ghostlib.own.network import find
from ghostlib.own.teacher import load_teacher
from ghostlib.training import checkpoint
from ghostlib.training.views import MEAN, STD
from tests.own.conftest import SIDE, TINY, folder, shard
from tests.own.test_data import samples

NET = "net:network"


def train(images, out, name=NET, told=None, fresh=False, **settings):
    told = [] if told is None else told
    return own.train(name, images, {"--set": {**TINY, **settings}}, out, "cpu", fresh, told.append)


def invoke(*arguments):
    done = CliRunner().invoke(cli.app, ["train", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def progress(out):
    return list(csv.DictReader((out / "progress.csv").read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def recorded(monkeypatch):
    """What the loop returned of each training."""
    found, original = [], own.loop.train

    def record(*arguments):
        found.append(original(*arguments))
        return found[-1]

    monkeypatch.setattr(own.loop, "train", record)
    return found


def loss_of(text):
    """What `ghostlib evaluate` printed; images of noise are told apart by it, not by top-1."""
    return float(re.search(r"loss (\d+\.\d{4})", text).group(1))


def test_it_explains_itself():
    assert "train" in CliRunner().invoke(cli.app, ["--help"]).stdout
    assert "branches=0 teacher=null it is the same without" in " ".join(invoke("--help").split())


def test_it_says_what_it_trains_and_leaves_what_loads(elsewhere, images):
    settings = [f"{key}={value}" for key, value in TINY.items()]
    told = invoke(NET, "images", "--set", settings[0], *settings[1:], "--out", "out", "--device", "cpu")
    for words in ("3 branches at 1 convolutions", "8 to train on, 4 held out for validation", "2: a, b",
                  "2 epochs of 2 steps = 4 steps of 4 images of 40 px", "lamb, 0.00022 = 0.005 × √(4/2048)",
                  "none. The paper's strategy has one: --teacher", "4 validation images: top-1 "):
        assert words in told
    assert "load('out')" in told
    out = elsewhere / "out"
    assert not (out / "states").exists() and (out / "classes.txt").read_text() == "a\nb\n"
    loaded, image = weights.load(out), torch.randn(2, 3, SIDE, SIDE)
    assert loaded.classes == ["a", "b"] and not loaded.training
    assert "3.branches.0.conv.weight" in load_file(out / "weights.safetensors")
    assert "3.weight" in load_file(out / "model.safetensors")
    rows = progress(out)
    assert [row["step"] for row in rows] == ["1", "2", "2", "3", "4", "4", "4"]
    assert rows[2]["val_top1"] and rows[5]["val_top1"] and rows[6]["top1"]  # after each epoch, and the result
    assert float(rows[0]["rate"]) == pytest.approx(5e-3 * (4 / 2048)**0.5, rel=1e-3)
    assert list((out / "tensorboard").iterdir())
    before = loaded(image)
    assert "This training has ended" in invoke(NET, "images", "--recipe", out / "recipe.yaml", "--out", "out")
    assert torch.equal(weights.load(out)(image), before)


@pytest.fixture
def half():
    """Half precision; a process has one."""
    AcceleratorState._reset_state()
    yield "bf16"
    AcceleratorState._reset_state()


@pytest.mark.parametrize("branches", [3, 0])
def test_the_folded_averages_are_what_is_loaded(elsewhere, images, half, branches):
    train(images, elsewhere / "out", branches=branches, ema_decay=0.99999, precision=half)
    from ghostlib.models.reparam import add_branches, reparameterize
    from ghostlib.own.network import example, find

    network = find(NET).build(2, {})
    if branches:
        add_branches(network, branches, example_input=example(SIDE))
    network.load_state_dict(load_file(elsewhere / "out" / "ema.safetensors"))
    image = torch.randn(2, 3, SIDE, SIDE)
    folded = reparameterize(network).eval()(image)
    assert torch.allclose(weights.load(elsewhere / "out")(image), folded, atol=1e-5)


@pytest.mark.parametrize(("name", "options", "line"), [
    ("mobilenetv2_100", {"width": 0.1}, "timm.create_model('ghostlib_mobilenetv2_100', num_classes=2, width=0.1, "),
    ("ghostnetv2_100", {}, "import timm\nnetwork = timm.create_model('ghostnetv2_100', num_classes=2, "),
    ("timm/mobilenetv3_small_050", {}, "timm.create_model('mobilenetv3_small_050', "),
    ("torchvision/mobilenet_v2", {"width_mult": 0.1}, "from ghostlib.own.weights import load")])
def test_the_line_of_the_model_card_loads_the_network(elsewhere, images, name, options, line):
    lines = train(images, elsewhere / "out", name, options=options, epochs=1, branches=1)["lines"]
    assert line in lines
    scope = {}
    exec(lines, scope)
    image = torch.randn(1, 3, SIDE, SIDE)
    answer = scope["network"].eval()(image)
    assert torch.equal(answer, weights.load(elsewhere / "out")(image))
    known = timm.data.resolve_model_data_config(weights.load(elsewhere / "out"))
    assert (known["input_size"], known["crop_pct"], known["interpolation"]) == ((3, SIDE, SIDE), 0.875, "bicubic")
    card = (elsewhere / "out" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    by_timm = "timm." in lines and "ghostlib_" not in lines
    assert head["library_name"] == ("timm" if by_timm else "ghostlib") and head["datasets"] == ["images"]
    assert f'create_transform({SIDE}, crop_pct=0.875, interpolation="bicubic")' in card
    resize = timm.data.create_transform(SIDE, crop_pct=0.875, interpolation="bicubic").transforms[0]
    assert f"resized to {resize.size} px" in card
    assert lines in card and (elsewhere / "out" / "config.json").exists() == by_timm
    if by_timm:
        described = json.loads((elsewhere / "out" / "config.json").read_text())
        assert described["pretrained_cfg"]["label_names"] == ["a", "b"]


@pytest.mark.skipif("local-dir" not in getattr(timm.models._factory, "_MODEL_SOURCES", ()), reason="an older timm")
@pytest.mark.parametrize("name", ["timm/mobilenetv3_small_050", "ghostnetv2_100"])
def test_timm_loads_the_folder_by_itself(elsewhere, images, name):
    train(images, elsewhere / "out", name, epochs=1, branches=1)
    network = timm.create_model(f"local-dir:{elsewhere / 'out'}", pretrained=True).eval()
    image = torch.randn(1, 3, SIDE, SIDE)
    assert torch.equal(network(image), weights.load(elsewhere / "out")(image))
    assert network.pretrained_cfg["input_size"] == [3, SIDE, SIDE]
    for other in ({"num_classes": 0}, {"num_classes": 5}, {"in_chans": 1}):
        timm.create_model(f"local-dir:{elsewhere / 'out'}", pretrained=True, **other)


class Killed(BaseException):
    pass


def test_killed_it_goes_on_and_ends_in_the_same_weights(elsewhere, images, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0)
    whole = train(images, elsewhere / "whole")
    report = own.Log.__call__

    def killed(log, progress):
        report(log, progress)
        if progress.step == 3:
            raise Killed

    monkeypatch.setattr(own.Log, "__call__", killed)
    with pytest.raises(Killed):
        train(images, elsewhere / "out")
    assert list((elsewhere / "out" / "states").iterdir())
    steps = []
    monkeypatch.setattr(own.Log, "__call__", lambda log, progress: (steps.append(progress.step), report(log, progress)))
    assert train(images, elsewhere / "out")["top1"] == whole["top1"]
    assert steps == [3, 4, 4]
    ours, theirs = ([row | {"images_per_second": None} for row in progress(elsewhere / place)]
                    for place in ("out", "whole"))
    assert ours == theirs
    for name in ("weights", "ema", "model"):
        theirs, ours = (load_file(elsewhere / place / f"{name}.safetensors") for place in ("whole", "out"))
        # To the bit; how older PyTorch rounds also depends on where in memory a tensor lies.
        exact = hasattr(torch, "accelerator")
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if exact else 1e-4)


def test_other_images_and_another_teacher_are_another_training(elsewhere, images):
    train(images, elsewhere / "out", epochs=1)
    image = images / "a" / "0.jpg"
    kept = image.read_bytes()
    image.write_bytes(kept + b"\0")
    with pytest.raises(ConfigError, match="holds another training:\n  data: "):
        train(images, elsewhere / "out", epochs=1)
    image.write_bytes(kept)
    with pytest.raises(ConfigError, match="holds another training:\n(  .*\n)*  teacher's weights: null there, "):
        train(images, elsewhere / "out", epochs=1, teacher="out", alpha=0.5)
    (images / "b").rename(images / "c")
    with pytest.raises(ConfigError, match=r'holds another training:\n  classes: .*\["a", "c"\] here'):
        train(images, elsewhere / "out", epochs=1)


def test_a_plan_s_profile_has_what_its_settings_say(elsewhere, images):
    given = dict(precision="bf16", crop_pct=0.5, validate_epochs=2, pass_images=2, workers=3, compile=True)
    plan, *_ = own.prepare(NET, images, {"--set": {**TINY, **given}}, None, "cpu")
    assert {name: getattr(plan.profile, name) for name in given} == given


def test_another_training_in_the_folder_is_refused_and_begun_only_afresh(elsewhere, images):
    train(images, elsewhere / "out", epochs=1)
    (elsewhere / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds another training:\n  epochs: 1 there, 2 here\n  lr: .*\nName another "
                                         "folder with --out, or .*--fresh"):
        train(images, elsewhere / "out", lr=1e-3)
    train(images, elsewhere / "out", fresh=True, lr=1e-3)
    assert (elsewhere / "out" / "notes.txt").exists()


def test_a_teacher_of_an_earlier_training_teaches(elsewhere, images):
    train(images, elsewhere / "teacher", branches=0)
    told = []
    for place in ("teacher", "teacher/model.safetensors"):
        train(images, elsewhere / place.replace("/", "-").replace("teacher", "out"), told=told, teacher=place)
    assert told[0].count("teacher  teacher, net:network, 0.00 M parameters, α = 0.5") == 1
    train(images, elsewhere / "alone")
    states = [load_file(elsewhere / name / "weights.safetensors") for name in ("out", "out-model.safetensors", "alone")]
    assert torch.equal(states[0]["8.weight"], states[1]["8.weight"])
    assert not torch.equal(states[0]["8.weight"], states[2]["8.weight"])
    folder(elsewhere / "others", "ac")
    with pytest.raises(ValueError, match=r"knows the classes a, b \(2\), the images have a, c \(2\)"):
        train(elsewhere / "others", elsewhere / "x", teacher="teacher")


@pytest.mark.parametrize(("teacher", "told"), [
    ("resnet18.a1_in1k", "knows 1000 classes, the images have 2; train one on your images .*pretrained=true"),
    ("timm/resnet18.a1_in1k", "knows 1000 classes, the images have 2; train one on your images .*timm/resnet18"),
    ("no_such", "neither a folder or file of an earlier `ghostlib train` nor"),
    ("images", "holds no model.safetensors"),
    ("net.py", "says nothing of the network")])
def test_a_teacher_that_cannot_be_is_refused(elsewhere, images, teacher, told):
    with pytest.raises((ValueError, OSError), match=told):
        train(images, elsewhere / "out", teacher=teacher)
    assert not (elsewhere / "out").exists()


def test_a_teacher_that_cannot_take_the_student_s_images_is_refused(elsewhere, images):
    train(images, elsewhere / "teacher", "deit_tiny", image_size=48, branches=0, epochs=1,
          options={"width": 0.25, "patch_size": 16})
    with pytest.raises(ValueError, match=r"teacher teacher cannot take .* of 40 px \(.*48.*train the student at"):
        train(images, elsewhere / "out", teacher="teacher")
    assert not (elsewhere / "out").exists()


def test_weights_are_scored_as_their_training_did(elsewhere, images):
    train(images, elsewhere / "out", epochs=1, crop_pct=0.9)
    file = elsewhere / "out" / "model.safetensors"
    how = weights.evaluated_as(file, ["a", "b"])
    assert how["input_size"] == (3, SIDE, SIDE) and how["crop_pct"] == 0.9 and how["interpolation"] == "bicubic"
    with pytest.raises(ValueError, match=r"knows the classes a, b \(2\), the images have b, a \(2\)"):
        weights.evaluated_as(file, ["b", "a"])
    assert weights.own_card(elsewhere / "out" / "ema.safetensors") is None


def test_what_says_nothing_of_its_images_is_not_scored_as_if_it_did(elsewhere, images):
    train(images, elsewhere / "out", epochs=1)
    with pytest.raises(ValueError, match="ema.safetensors is the network as it trains.* give .*model.safetensors"):
        weights.card_for(NET, elsewhere / "out" / "ema.safetensors")
    (elsewhere / "ema.safetensors").write_bytes((elsewhere / "out" / "ema.safetensors").read_bytes())
    with pytest.raises(ValueError, match="says nothing of its network: of net:network give the model.safetensors"):
        weights.card_for(NET, elsewhere / "ema.safetensors")
    assert weights.card_for("mobilenetv2_100", elsewhere / "ema.safetensors") is None
    for nothing in (elsewhere / "nope.safetensors", elsewhere / "out"):
        with pytest.raises(FileNotFoundError, match="is no file of weights"):
            weights.card_for(NET, nothing)


def test_a_network_whose_module_changed_is_another_training_and_warns_where_it_is_loaded(elsewhere, images):
    train(images, elsewhere / "out", epochs=1)

    def change(old, new):
        text = (elsewhere / "net.py").read_text(encoding="utf-8")
        (elsewhere / "net.py").write_text(text.replace(old, new), encoding="utf-8")
        sys.modules.pop("net")
        importlib.invalidate_caches()
        linecache.clearcache()

    change("def network", "# A comment is no change.\ndef network")
    train(images, elsewhere / "out", epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights.load(elsewhere / "out")
    change("nn.ReLU()", "nn.Tanh()")
    with pytest.raises(ConfigError, match="holds another training:\n  the network's module: "):
        train(images, elsewhere / "out", epochs=1)
    with pytest.warns(UserWarning, match="net:network was changed since .*model.safetensors was written"):
        weights.load(elsewhere / "out")
    change("width=8", "width=4")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="does not fit the network that net:network builds"):
        weights.load(elsewhere / "out")


def test_a_folder_has_one_training_at_a_time(elsewhere, images):
    (elsewhere / "out").mkdir()
    with FileLock(elsewhere / "out" / ".lock"), pytest.raises(ConfigError, match="out: another process trains there"):
        train(images, elsewhere / "out", epochs=1)
    train(images, elsewhere / "out", epochs=1)


def test_a_folder_among_the_classes_is_refused(elsewhere, images):
    with pytest.raises(ConfigError, match="out lies in .*images, where it would be taken for a class"):
        train(images, images / "out", epochs=1)
    assert not (images / "out").exists()


@pytest.mark.parametrize(("decay", "of"), [(0.0001, "last"), (0.99999, "averaged")])
def test_the_model_card_says_which_weights_were_scored(elsewhere, images, decay, of):
    train(images, elsewhere / "out", ema_decay=decay)
    assert f"of the\n{of} weights" in (elsewhere / "out" / "README.md").read_text(encoding="utf-8")


def test_a_network_of_one_s_own_is_exported(elsewhere, images):
    pytest.importorskip("onnxruntime")
    train(images, elsewhere / "out", epochs=1)
    done = CliRunner().invoke(cli.app, ["export", NET, "onnx", "net.onnx", "--weights", "out/model.safetensors"],
                              catch_exceptions=False)
    assert "net.onnx: agrees with PyTorch" in done.stdout


@pytest.mark.parametrize(("name", "given"), [("net:network", {}), ("timm/mobilenetv3_small_050", {}),
                                             ("deit_tiny", {"options": {"width": 0.25, "patch_size": 8}})])
def test_evaluate_gives_what_the_training_gave(elsewhere, images, recorded, name, given):
    folder(elsewhere / "split" / "train")
    folder(elsewhere / "split" / "val", images=5, seed=9)
    top1 = train(elsewhere / "split", elsewhere / "out", name, branches=0, **given)["top1"]
    command = ["evaluate", name, str(elsewhere / "out" / "model.safetensors"), str(elsewhere / "split" / "val")]
    done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert f"{name} on 10 images of 2 classes: top1 {top1:.2f} %" in done.stdout
    assert loss_of(done.stdout) == pytest.approx(recorded[0]["test"]["loss"]["0.9999"], abs=2e-4)
    with pytest.raises(ValueError, match="model.safetensors says how it was trained .* neither --ema nor --width"):
        CliRunner().invoke(cli.app, [*command, "--ema"], catch_exceptions=False)


def test_evaluate_takes_shards_too(elsewhere, images, recorded):
    shard(elsewhere / "shards" / "train-0.tar", samples(["a", "b"], 6))
    shard(elsewhere / "shards" / "val-0.tar", samples(["a", "b"], 2))
    top1 = train(elsewhere / "shards", elsewhere / "out", branches=0)["top1"]
    done = CliRunner().invoke(cli.app, ["evaluate", NET, "out/model.safetensors", "shards/val-0.tar"],
                              catch_exceptions=False)
    assert f"{NET} on 4 images of 2 classes: top1 {top1:.2f} %" in done.stdout
    assert loss_of(done.stdout) == pytest.approx(recorded[0]["test"]["loss"]["0.9999"], abs=2e-4)


def test_what_is_told_in_the_end_is_of_the_test_images(elsewhere, monkeypatch):
    original = own.loop.train
    monkeypatch.setattr(own.loop, "train", lambda *arguments: original(*arguments) | {"val": None})
    for number, part in enumerate(("train", "val", "test")):
        folder(elsewhere / "split" / part, images=4 + number, seed=50 * number)
    told = []
    result = train(elsewhere / "split", elsewhere / "out", told=told)
    assert f"12 test images: top-1 {result['top1']:.2f} %" in told[-1]


def test_a_pretrained_network_begins_with_its_function(elsewhere, images, monkeypatch):
    create = timm.create_model

    def downloaded(name, pretrained=False, **options):
        torch.manual_seed(7 if pretrained else 1)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", downloaded)
    name = "timm/mobilenetv3_small_050"
    _, network, _, _ = own.prepare(name, images, {"--set": {**TINY, "pretrained": True}}, None, "cpu")
    image = torch.randn(1, 3, SIDE, SIDE)
    theirs = downloaded("mobilenetv3_small_050", True, num_classes=2).eval()
    assert torch.allclose(network.eval()(image), theirs(image), atol=1e-4)


@pytest.mark.parametrize("preserve", [None, True])
def test_a_network_of_one_s_own_keeps_its_function_where_asked(elsewhere, images, preserve):
    _, trained, _, rows = own.prepare(NET, images, {"--set": {**TINY, "preserve": preserve}}, None, "cpu")
    torch.manual_seed(0)  # of the recipe, as `prepare` sets it
    plain = find(NET).build(2, {})
    image = torch.randn(1, 3, SIDE, SIDE)
    assert torch.allclose(trained.eval()(image), plain.eval()(image), atol=1e-5) == bool(preserve)
    assert ("begins with the function" in dict(rows)["network"]) == bool(preserve)


@pytest.mark.parametrize(("name", "other"), [("test_efficientnet", False), ("test_resnet", True)])
def test_weights_get_images_normalised_as_they_expect_them(elsewhere, images, monkeypatch, recorded, name, other):
    create = timm.create_model

    def downloaded(name, pretrained=False, **options):
        torch.manual_seed(7 if pretrained else 1)
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", downloaded)
    given = {**TINY, "pretrained": True, "image_size": 64}
    _, network, _, rows = own.prepare(f"timm/{name}", images, {"--set": given}, None, "cpu")
    assert ("normalised with mean (0.5, 0.5, 0.5)" in dict(rows)["network"]) == other
    pixels = torch.rand(1, 3, 64, 64)
    expected = normalize(pixels, *(((0.5,) * 3, (0.5,) * 3) if other else (MEAN, STD)))
    theirs = downloaded(name, True, num_classes=2).eval()
    assert torch.allclose(network.eval()(normalize(pixels, MEAN, STD)), theirs(expected), atol=1e-4)

    folder(elsewhere / "split" / "train")
    folder(elsewhere / "split" / "val", images=5, seed=9)
    top1 = train(elsewhere / "split", elsewhere / "out", f"timm/{name}", **{**given, "epochs": 1})["top1"]
    scored = CliRunner().invoke(cli.app, ["evaluate", f"timm/{name}", "out/model.safetensors", "split/val"])
    assert f"top1 {top1:.2f} %" in scored.stdout
    assert loss_of(scored.stdout) == pytest.approx(recorded[0]["test"]["loss"]["0.9999"], abs=2e-4)
    loaded = weights.load(elsewhere / "out")
    assert tuple(loaded.pretrained_cfg["mean"]) == ((0.5, 0.5, 0.5) if other else tuple(MEAN))
    trained = network
    trained.load_state_dict(load_file(elsewhere / "out" / "ema.safetensors"))
    assert torch.allclose(loaded(expected), trained.eval()(normalize(pixels, MEAN, STD)), atol=1e-3)
    assert ("mean=(0.5, 0.5, 0.5)" in (elsewhere / "out" / "README.md").read_text(encoding="utf-8")) == other
    teacher, *_ = load_teacher(str(elsewhere / "out"), ["a", "b"], 64)
    views = normalize(pixels, MEAN, STD)
    assert torch.allclose(teacher(views), trained(views), atol=1e-3)


def test_an_image_that_cannot_be_read_is_taken_away_and_the_same_command_trains(elsewhere, images):
    (images / "a" / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="1 of 13 images cannot be read"):
        train(images, elsewhere / "out")
    (images / "a" / "bad.jpg").unlink()
    train(images, elsewhere / "out")
    assert (elsewhere / "out" / "results.json").exists()


def test_all_images_that_cannot_be_read_are_named_before_anything_is_trained(elsewhere, images):
    for name in ("a/1.jpg", "b/2.jpg"):
        (images / name).write_bytes(b"no image")
    with pytest.raises(ValueError, match="2 of 12 images cannot be read; nothing was trained:(?s:.)*1.jpg(?s:.)*2.jpg"):
        train(images, elsewhere / "out")
    assert not (elsewhere / "out" / "weights.safetensors").exists()


def test_a_torn_image_in_a_shard_is_named_before_anything_is_trained(elsewhere, tmp_path):
    for part in ("train", "test"):
        shard(tmp_path / "shards" / f"{part}-0.tar", [
            *samples(["a", "b"]), *([{"jpg": b"no image", "cls": b"a"}] if part == "test" else [])])
    with pytest.raises(ValueError, match=r"1 images cannot be read; nothing was trained:\n.*test-0.tar: 0008.jpg"):
        train(tmp_path / "shards", elsewhere / "out")
    shard(tmp_path / "shards" / "test-0.tar", samples(["a", "b"]))
    train(tmp_path / "shards", elsewhere / "out", epochs=1)


@pytest.mark.parametrize("fresh", [False, True])
def test_nobody_else_s_files_are_overwritten_or_removed(elsewhere, images, fresh):
    (elsewhere / "project").mkdir()
    (elsewhere / "project" / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="project holds README.md, which no training there wrote and this one would"):
        train(images, elsewhere / "project", fresh=fresh)
    assert (elsewhere / "project" / "README.md").read_text() == "mine"
    with pytest.raises(ConfigError, match="images holds the images, beside which"):
        train(images, images, fresh=fresh)


def test_a_training_that_was_stopped_while_it_was_removed_is_removed_by_the_next(elsewhere, images, monkeypatch):
    train(images, elsewhere / "out", epochs=1)

    def stopped(path, *more, **given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(own.shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(images, elsewhere / "out", fresh=True)
    train(images, elsewhere / "out", fresh=True, epochs=1)


@pytest.mark.parametrize(("processes", "given", "told"), [
    (3, {}, "batch_size = 4: 3 processes share a batch evenly; give --set batch_size=3"),
    (3, {"batch_size": 2}, "batch_size = 2: .*batch_size=3"),
    (1, {"sync_batchnorm": True}, "sync_batchnorm = true is for GPUs, and this trains on cpu"),
    (1, {"precision": "fp16"}, "precision = fp16 is for GPUs, and this trains on cpu; take bf16")])
def test_what_can_never_be_trained_here_claims_no_folder(elsewhere, images, monkeypatch, processes, given, told):
    monkeypatch.setattr(own, "world_size", lambda: processes)
    with pytest.raises(ConfigError, match=told):
        train(images, elsewhere / "out", **given)
    assert not (elsewhere / "out").exists()


def test_a_teacher_that_was_moved_is_the_same_and_one_of_other_images_is_told_of(elsewhere, images):
    train(images, elsewhere / "teacher", branches=0, epochs=1)
    plans = [own.prepare(NET, images, {"--set": {**TINY, "teacher": place, **given}}, None, "cpu")
             for place, given in (("teacher", {}), (str(elsewhere / "teacher"), {}), ("teacher", {"image_size": 32}))]
    assert plans[0][0].key == plans[1][0].key
    rows = [dict(plan[-1])["teacher"] for plan in plans]
    assert f"trained at {SIDE} px" in rows[2] and "trained at" not in rows[0]


def test_a_step_of_several_passes_is_a_line_with_their_mean(elsewhere, images, recorded):
    train(images, elsewhere / "passes", pass_images=2, epochs=1, branches=0)
    rows = [row for row in progress(elsewhere / "passes") if row["loss"]]
    assert [row["step"] for row in rows] == ["1", "2"]
    mean = recorded[0]["history"][0]["loss"]
    assert sum(float(row["loss"]) for row in rows) / 2 == pytest.approx(mean, rel=1e-5)


def test_its_recipe_takes_another_decay(elsewhere, images):
    train(images, elsewhere / "out", epochs=1)
    invoke(NET, "images", "--recipe", elsewhere / "out" / "recipe.yaml", "--out", "other", "--set", "ema_decay=0.999")


def test_a_batch_without_so_many_images_is_refused(elsewhere, images):
    with pytest.raises(ValueError, match="batch_size = 16: .* has 8 images to train on.*--set batch_size=2"):
        train(images, elsewhere / "out", batch_size=16)


def test_a_batch_that_a_cpu_takes_in_passes_of_a_few_images_is_refused(elsewhere, tmp_path):
    many = folder(tmp_path / "many", images=100)
    with pytest.raises(ValueError, match="for 127 these are of 1, .*; give --set batch_size=126, or pass_images=127"):
        train(many, elsewhere / "out", batch_size=127)
    with pytest.raises(ValueError, match="at most 3 images .* for 8 these are of 2, .*batch_size=6, or pass_images=4"):
        train(many, elsewhere / "out", batch_size=8, pass_images=3)
    with pytest.raises(ValueError, match="for 134 these are of 2, .* batch_size=132, or pass_images=134"):
        own.prepare(NET, many, {"--set": {**TINY, "batch_size": 134, "mixup": 0.2}}, None, "cpu")
    for allowed, told in (({"batch_size": 72}, ", 36 at a time"), ({"batch_size": 127, "pass_images": 127}, "px"),
                          ({"batch_size": 7}, "px"), ({"batch_size": 8, "pass_images": 4}, ", 4 at a time")):
        *_, rows = own.prepare(NET, many, {"--set": {**TINY, **allowed}}, None, "cpu")
        assert dict(rows)["length"].endswith(told)


@pytest.mark.parametrize(("arguments", "told"), [
    (["--set", "epoch=3"], "^error: --set: unknown key 'epoch'; did you mean 'epochs'?"),
    (["--device", "cpu:0"], "^error: --device cpu:0: a training takes auto, cpu, cuda or mps; .*CUDA_VISIBLE_DEVICES"),
    (["--device", "tpu"], "^error: --device tpu: PyTorch cannot compute on it here")])
def test_a_mistake_ends_with_words(elsewhere, images, monkeypatch, arguments, told):
    monkeypatch.setattr(sys, "argv", ["ghostlib", "train", NET, "images", *arguments])
    with pytest.raises(SystemExit, match=told):
        cli.main()


def test_without_its_extra_it_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(sys, "argv", ["ghostlib", "train", "x", "y"])
    with pytest.raises(SystemExit, match=r"tensorboard.*pip install 'ghostlib\[train\]'"):
        cli.main()

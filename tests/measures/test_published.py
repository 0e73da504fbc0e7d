"""Published weights: scored with the labels of ImageNet's classifiers, kept chunk by chunk, and never a zero."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torch import nn
from torchvision.models import get_weight
from typer.testing import CliRunner

from ghostlib import cli
from ghostlib.config import ConfigError
from ghostlib.measures import places, pretrained, published
from ghostlib.measures.pretrained import NoWeights, Source
from ghostlib.models import catalog, zoo
from ghostlib.training.images import DataError
from tests import needs
from tests.models.test_weights import in_authors_names

CLASSES = {"n01443537": 1, "n01440764": 0, "n15075141": 999}  # ImageNet's names and labels
ROW, TAG = "MobileNetV3-S", "mobilenetv3_small_100.lamb_in1k"


class Red(nn.Module):
    """Sees class 0 in red images, else 999, and behind it 1: an answer that anyone can tell from the image."""

    def __init__(self):
        super().__init__()
        self.seen, self.scale = 0, nn.Parameter(torch.ones(1))

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        self.seen += len(views)
        logits, red = torch.zeros(len(views), 1000), views[:, 0].mean((1, 2)) > views[:, 2].mean((1, 2))
        logits[:, 1] = 1
        logits[range(len(views)), torch.where(red, 0, 999)] = 2
        return self.scale * logits


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """A store of the test's own, no folder of images or weights but the test's, and no network."""
    def no_network(*_, **__):
        raise OSError("no route to host\nmore")

    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / "store"))
    for place in ("timm.models._builder.load_state_dict_from_hf", "timm.models._builder.load_state_dict_from_url",
                  "torchvision.models._api.load_state_dict_from_url"):
        monkeypatch.setattr(place, no_network)


@pytest.fixture
def imagenet(tmp_path):
    """Four images of each of three classes, in colours between red and blue."""
    rng = np.random.default_rng(0)
    for name, label in CLASSES.items():
        folder = tmp_path / "imagenet" / "val" / name
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 60, (30, 40, 3), dtype=np.uint8)
            pixels[..., 2 if label == 999 or i == 3 else 0] += 150
            Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    return tmp_path / "imagenet"


@pytest.fixture
def red(monkeypatch):
    """Every row's network is `Red`, in sight of the test."""
    network = Red()
    transform = create_transform((3, 32, 32), crop_pct=1.0)
    monkeypatch.setattr(pretrained, "open_row", lambda row, folder: (network, transform, "weights"))
    return network


def images(folder):
    return published.validation_images(published.find_images(folder))


# -- the rows


def test_every_row_of_table_9_is_there_in_its_order_with_its_own_network():
    sources = pretrained.sources()
    assert list(sources) == list(catalog.rows())
    for row, source in sources.items():
        name = catalog.rows()[row]
        if source.timm:
            model = source.timm.partition(".")[0]
            assert model == (catalog.find(name).variant or name.replace("ghostnetv1", "ghostnet"))
            assert source.timm in timm.list_pretrained(f"{model}.*")
        if source.torchvision:
            network = get_weight(source.torchvision).url.rpartition("/")[2]  # shufflenetv2_x1-5666bf0f80.pth
            assert network.startswith(f"shufflenetv2_x{name[-3]}")
        assert "ours" not in row or source.none
    assert sources["GhostNetV3 1.0×"].authors and sources["GhostNetV3 1.0×"].ema


@pytest.mark.parametrize(("entry", "message"), [
    ({}, "exactly one of timm"), ({"timm": "a.b", "none": "why", "training": "x"}, "exactly one of timm"),
    ({"timm": "a.b"}, "have `training`"), ({"file": "a", "training": "x"}, "a file `config` and `source`"),
    ({"tim": "a.b"}, "unknown key 'tim'; did you mean 'timm'")])
def test_a_broken_entry_is_an_error(entry, message):
    with pytest.raises(ConfigError, match=message):
        Source.parse(entry)


def test_a_row_is_found_by_its_label_or_its_network_and_otherwise_said_not_to_be():
    every = published.find_rows()
    assert "GhostNetV3 1.0×" in every and "GhostNetV3 1.3×" not in every and "MobileNetV2 1.0× + ours" not in every
    assert published.find_rows(["mobilenetv2_100", "GhostNetV3 1.0×", "ghostnetv3_100"]) == [
        "MobileNetV2 1.0×", "GhostNetV3 1.0×"]
    with pytest.raises(ValueError, match=r"GhostNetV3 1.3×: there are no public weights: the authors published"):
        published.find_rows(["ghostnetv3_130"])
    with pytest.raises(ValueError, match=r"no row 'PiT-xxs'; did you mean 'PiT-xs'"):
        published.find_rows(["PiT-xxs"])


# -- the images


def test_images_have_imagenet_s_labels_whichever_classes_are_there(imagenet, monkeypatch):
    found = images(imagenet)
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [999] * 4
    assert images(imagenet / "val").digest == found.digest
    monkeypatch.setenv("IMAGENET_DIR", str(imagenet))
    assert images(None).digest == found.digest


def test_missing_or_foreign_images_are_errors_that_say_what_to_do(imagenet, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data/imagenet does not exist; name the folder .* IMAGENET_DIR"):
        published.find_images()
    (imagenet / "val" / "n01440764").rename(imagenet / "val" / "tench")
    with pytest.raises(DataError, match="tench is no class of ImageNet's; the images lie in one folder a class"):
        images(imagenet)
    with pytest.raises(DataError, match="nothing"):
        (tmp_path / "nothing").mkdir()
        images(tmp_path / "nothing")


# -- the scores


def test_what_is_scored_is_what_is_right(imagenet, red):
    assert published.score(images(imagenet), [ROW, "PiT-ti"]) == []
    found = published.scored(["PiT-ti", ROW, "FBNet-C"], images(imagenet))
    assert list(found.columns) == published.COLUMNS and list(found["row"]) == [ROW, "PiT-ti"]  # in the paper's order
    assert found["top1"].tolist() == pytest.approx([100 * 7 / 12] * 2) and (found["top5"] == 100).all()
    assert (found["weights"] == [TAG, "pit_ti_224.in1k"]).all() and (found["images"] == 12).all()
    assert published.scored([ROW]).empty  # 12 images are not ImageNet
    assert red.seen == 24


def test_an_interrupted_row_goes_on_from_the_last_chunk_and_a_finished_one_is_not_scored_again(
        imagenet, red, monkeypatch):
    monkeypatch.setattr(published, "CHUNK", 5)
    whole, keep = images(imagenet), published._keep

    def killed(state):
        keep(state)
        raise KeyboardInterrupt

    monkeypatch.setattr(published, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        published.score(whole, [ROW])
    assert red.seen == 5 and published.scored([ROW], whole).empty  # five images are no score
    monkeypatch.setattr(published, "_keep", keep)
    published.score(whole, [ROW], batch_size=2)
    assert red.seen == 12
    assert published.scored([ROW], whole)["top1"].item() == pytest.approx(100 * 7 / 12)
    published.score(whole, [ROW])
    assert red.seen == 12
    (imagenet / "val" / "n15075141" / "3.JPEG").unlink()  # other images are another score
    published.score(images(imagenet), [ROW])
    assert red.seen == 12 + 11 and len(published.scored([ROW], whole)) == 1


def test_two_processes_keep_what_each_has_scored(imagenet):
    """Each row's states are kept one after the other by a thread, which a lock holds off as it does a process."""
    states = [published._begun(row, "digest", images(imagenet)) for row in (ROW, "PiT-ti", "FBNet-C")]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda state: [published._keep(state | {"seen": seen}) for seen in range(1, 9)], states))
    assert published._kept().set_index("row")["seen"].to_dict() == dict.fromkeys((ROW, "PiT-ti", "FBNet-C"), 8)


def test_a_row_without_weights_says_so_and_the_others_go_on(imagenet, monkeypatch):
    network, opened = Red(), pretrained.open_row

    def one(row, folder):
        transform = create_transform((3, 32, 32), crop_pct=1.0)
        return (network, transform, "weights") if row == "PiT-ti" else opened(row, folder)

    monkeypatch.setattr(pretrained, "open_row", one)
    failed = published.score(images(imagenet), [ROW, "ShuffleNetV2 1.0×", "GhostNetV3 1.0×", "PiT-ti"])
    assert failed[0] == (f"{ROW}: {TAG} could not be downloaded (no route to host); put it into a folder as "
                         f"{TAG}.safetensors and name that with --weights (by default data/weights)")
    assert "as shufflenetv2_x1-5666bf0f80.pth and name" in failed[1]
    assert failed[2] == ("GhostNetV3 1.0×: data/weights/ghostnetv3-1.0.pth.tar does not exist; fetch it from the "
                         "releases of https://github.com/huawei-noah/Efficient-AI-Backbones, or name the folder it is "
                         "in with --weights")
    assert list(published.scored(published.find_rows(), images(imagenet))["row"]) == ["PiT-ti"]


# -- the weights, in each layout


def seen_by(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))


@pytest.mark.parametrize("place", [f"{TAG}.safetensors", f"{TAG}.pth", f"{TAG}/model.safetensors"])
def test_timm_s_weights_are_scored_as_timm_s_configuration_says(place, tmp_path):
    network, path = timm.create_model("mobilenetv3_small_100"), tmp_path / "files" / place
    path.parent.mkdir(parents=True)
    (torch.save if place.endswith("pth") else save_file)(network.state_dict(), path)
    found, transform, _ = pretrained.open_row(ROW, tmp_path / "files")
    assert torch.equal(seen_by(found), seen_by(network))
    expected = create_transform(**resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(TAG).to_dict()))
    assert str(transform) == str(expected)


def test_torchvision_s_weights_are_scored_as_torchvision_says(tmp_path):
    network = zoo.create("shufflenetv2_100")
    torch.save(network.state_dict(), tmp_path / "shufflenetv2_x1-5666bf0f80.pth")
    found, transform, _ = pretrained.open_row("ShuffleNetV2 1.0×", tmp_path)
    assert torch.equal(seen_by(found), seen_by(network)) and transform.resize_size == [256]


@needs.timms_v3
def test_the_authors_averaged_weights_are_scored_folded(tmp_path, imagenet, monkeypatch):
    averaged, raw = (timm.create_model("ghostnetv3_100") for _ in range(2))
    torch.save({"state_dict": in_authors_names(raw.state_dict()),
                "state_dict_ema": in_authors_names(averaged.state_dict())}, tmp_path / "ghostnetv3-1.0.pth.tar")
    found, transform, digest = pretrained.open_row("GhostNetV3 1.0×", tmp_path)
    torch.testing.assert_close(seen_by(found), seen_by(averaged), atol=1e-4, rtol=1e-4)
    assert "CenterCrop(size=(224, 224))" in str(transform)
    folded = []
    monkeypatch.setattr("ghostlib.training.evaluate.evaluate", lambda networks, loader, device: folded.extend(
        networks.values()) or {"top1": dict.fromkeys(networks, 0), "top5": dict.fromkeys(networks, 0)})
    published._score("GhostNetV3 1.0×", found, transform, digest, images(imagenet), "cpu", 4, 0)
    assert not any("branches" in name for name, _ in folded[0].named_parameters())


def test_a_torn_file_is_named(tmp_path):
    (tmp_path / f"{TAG}.pth").write_bytes(b"torn")
    with pytest.raises(NoWeights, match=rf"{ROW}: {tmp_path}/{TAG}.pth cannot be used \(.+\); fetch it again"):
        pretrained.open_row(ROW, tmp_path)


# -- the command


def test_the_command_shows_what_it_scored_and_ends_with_what_it_could_not(imagenet, red, monkeypatch):
    found = pretrained.open_row

    def one(row, folder):
        if row == "PiT-ti":
            raise NoWeights("PiT-ti: not there")
        return found(row, folder)

    monkeypatch.setattr(pretrained, "open_row", one)
    asked = ["evaluate", "--published", "--data", str(imagenet), "--workers", "0", "--rows", "mobilenetv3_small_100"]
    done = CliRunner().invoke(cli.app, asked)
    assert done.exit_code == 0 and f"| {ROW} " in done.stdout and "| 58.33 " in done.stdout
    assert "Of 12 images; tables show only what is of all 50000." in done.stdout and "PiT" not in done.stdout
    done = CliRunner().invoke(cli.app, [*asked, "--rows", "PiT-ti"])
    scored, missing = (line for line in done.stdout.splitlines() if line.startswith((f"| {ROW} ", "| PiT-ti ")))
    assert "| 58.33 " in scored and [cell.strip() for cell in missing.split("|")[6:9:2]] == ["—", "—"]
    assert str(done.exception) == "not every row was scored\nPiT-ti: not there"
    assert red.seen == 12


# -- the stage


def test_the_stage_writes_no_row_without_images_and_says_so(capsys):
    published.measure("digits")
    found = published.read("digits")
    assert found.empty and list(found.columns) == published.COLUMNS
    told = capsys.readouterr().err
    assert "published weights are not scored: no validation images of ImageNet: data/imagenet" in told


def test_the_stage_scores_where_all_images_are_and_shows_what_was_scored_where_they_are_not(
        imagenet, red, monkeypatch, capsys):
    monkeypatch.setenv("IMAGENET_DIR", str(imagenet))
    monkeypatch.setattr(published, "workers", lambda: 0)
    monkeypatch.setattr(published, "find_rows", lambda: [ROW])
    published.measure("digits")
    assert published.read("digits").empty and red.seen == 0
    assert "holds 12 images and not 50000" in capsys.readouterr().err
    monkeypatch.setattr(published, "IMAGES", 12)
    published.measure("digits")
    first = published.read("digits")
    assert first["top1"].tolist() == [58.3333] and red.seen == 12
    monkeypatch.setenv("IMAGENET_DIR", "nowhere")
    published.measure("fashion")
    assert published.read("fashion").equals(first)
    monkeypatch.setenv("GHOSTLIB_RUNS", "another machine's")
    filed = places.runs_file("digits", "published")
    before = filed.read_bytes()
    published.measure("digits")
    assert filed.read_bytes() == before, "what was scored elsewhere stays"
    filed.write_text(filed.read_text().replace(first["weights"].item(), "others"))
    published.measure("digits")
    assert published.read("digits").empty
    assert places.runs_file("fashion", "published").read_text().startswith("row,weights,settings,data,images,top1,top5")

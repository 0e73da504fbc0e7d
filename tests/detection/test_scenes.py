"""The detection set: real pixels in boxes that fit them, the same for the same seed, in a format COCO's tools read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from ghostlib.detection import scenes
from ghostlib.detection.scenes import CATEGORIES, Layout
from ghostlib.training import datasets
from ghostlib.training.images import DataError, Images, array_images
from ghostlib.training.profile import Profile

SMALL = Layout(train=6, val=3, side=128, sizes=(16, 48))


def like(layout: Layout, **changes) -> Layout:
    return Layout(**layout.model_dump() | changes)


@pytest.fixture(scope="module")
def digits() -> Profile:
    return Profile.parse(dict(name="digits", scale="digits", data="digits", num_classes=10, image_size=33,
                              val_images=140, crop_pct=1.0))


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    return scenes.write(digits, SMALL, tmp_path_factory.mktemp("scenes"))


def squares(n: int = 20, classes: int = 10) -> Images:
    """White squares of 8 px."""
    return array_images(np.full((n, 8, 8), 255, np.uint8), np.arange(n) % classes)


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_draws_the_same_bytes_and_another_does_not(digits, folder, tmp_path):
    again = scenes.write(digits, SMALL, tmp_path)
    assert again.name == folder.name and files(again) == files(folder)
    other = scenes.write(digits, like(SMALL, seed=1), tmp_path)
    assert other.name != folder.name and files(other)["train/00000.png"] != files(folder)["train/00000.png"]


def test_what_is_written_is_not_written_again(digits, folder):
    (folder / "mark").touch()
    assert scenes.write(digits, SMALL, folder.parent) == folder and (folder / "mark").exists()
    (folder / "mark").unlink()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing unfinished is left"


def test_what_a_killed_process_left_is_no_data_set(digits, tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(scenes, "_write_part", killed)
    with pytest.raises(KeyboardInterrupt):
        scenes.write(digits, SMALL, tmp_path)
    monkeypatch.undo()
    assert (scenes.write(digits, SMALL, tmp_path) / "annotations" / "val.json").exists()


def test_the_annotations_are_whole_and_consistent(folder):
    for part, count in (("train", 6), ("val", 3), ("tune", 3)):
        content = json.loads((folder / "annotations" / f"{part}.json").read_text())
        assert [category["name"] for category in content["categories"]] == list(CATEGORIES["digits"])
        assert len(content["images"]) == count
        for image in content["images"]:
            with Image.open(folder / part / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) == (128, 128) and picture.mode == "RGB"
        ids = [annotation["id"] for annotation in content["annotations"]]
        assert ids == list(range(1, len(ids) + 1))
        assert {annotation["image_id"] for annotation in content["annotations"]} == set(range(1, count + 1))
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            assert 0 <= x and 0 <= y and x + width <= 128 and y + height <= 128 and annotation["area"] == width * height


def test_cocos_own_tools_read_it(folder):
    coco = COCO(str(folder / "annotations" / "val.json"))
    assert len(coco.getImgIds()) == 3 and coco.loadCats(coco.getCatIds())[7]["name"] == "7"


def test_the_readme_says_what_is_real_and_what_is_not(folder):
    text = (folder / "README.md").read_text()
    assert all(phrase in text for phrase in ("Real pixels", "Synthetic layout", "No claim about COCO", "seed 0"))


@pytest.mark.parametrize("index", range(20))
def test_objects_lie_within_the_canvas_and_hardly_cover_one_another(index):
    layout = Layout(objects=(4, 8), side=128, sizes=(16, 64))
    scene = scenes.draw(squares(), layout, "train", index)
    assert 1 <= len(scene.boxes) <= 8 and len(scene.labels) == len(scene.boxes)
    for i, (x, y, w, h) in enumerate(scene.boxes):
        assert 0 <= x <= 128 - w and 0 <= y <= 128 - h and 16 <= w <= 64
        for x2, y2, w2, h2 in scene.boxes[:i]:
            shared = max(0, min(x + w, x2 + w2) - max(x, x2)) * max(0, min(y + h, y2 + h2) - max(y, y2))
            assert shared <= 0.1 * min(w * h, w2 * h2)


@pytest.mark.parametrize("index", range(5))
def test_bright_pixels_are_an_objects_and_every_box_holds_some(index):
    scene = scenes.draw(squares(), SMALL, "train", index)
    bright = np.asarray(scene.image.convert("L")) > 200
    inside = np.zeros_like(bright)
    for x, y, width, height in scene.boxes:
        inside[y:y + height, x:x + width] = True
        assert bright[y:y + height, x:x + width].mean() > 0.9
    assert not bright[~inside].any(), "background and clutter are dimmer than objects"


def test_a_box_fits_the_ink_and_not_the_black_around_it():
    pixels = np.zeros((2, 8, 8), np.uint8)
    pixels[:, 2:6, 3:5] = 255  # 2 px wide, 4 px high
    images = array_images(pixels, np.arange(2))
    scene = scenes.draw(images, like(SMALL, objects=(1, 1), sizes=(64, 64), clutter=0), "train", 0)
    (_, _, width, height), = scene.boxes
    assert 16 <= width <= 24 and 32 <= height <= 40  # enlarged eight times, with its faded edge


def test_a_label_belongs_to_its_pixels(digits):
    """An object without clutter, shrunk again, is nearest to an image of its own class."""
    raw, train = load_digits(), datasets.load(digits).train
    layout = like(SMALL, objects=(1, 1), sizes=(64, 64), clutter=0)

    def shrunk(ink: Image.Image) -> np.ndarray:
        return np.asarray(ink.convert("L").resize((8, 8), Image.Resampling.BOX), float)

    known = np.stack([shrunk(scenes._enlarged(Image.fromarray(np.uint8(image * (255 / 16))).convert("RGB"), 64))
                      for image in raw.images[:300]])
    right = 0
    for index in range(20):
        scene = scenes.draw(train, layout, "train", index)
        (x, y, width, height), = scene.boxes
        ink = shrunk(scene.image.crop((x, y, x + width, y + height)))
        right += raw.target[np.square(known - ink).sum(axis=(1, 2)).argmin()] == scene.labels[0]
    assert right >= 16


def test_each_part_draws_from_images_of_its_own(digits, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(scenes, "_write_part", lambda folder, part, images, *rest: seen.__setitem__(part, images))
    scenes.write(digits, SMALL, tmp_path)
    splits = datasets.load(digits)
    assert {part: images.digest for part, images in seen.items()} == {
        "train": splits.train.digest, "val": splits.test.digest, "tune": splits.val.digest}


def test_each_part_is_laid_out_by_a_seed_of_its_own():
    scenes_of = [scenes.draw(squares(), SMALL, part, 0) for part in ("train", "val", "tune")]
    assert len({str(scene.boxes) for scene in scenes_of}) == 3


@pytest.mark.parametrize(("change", "message"), [
    ({"objects": (3, 2)}, "objects"), ({"objects": (0, 2)}, "objects"), ({"sizes": (64, 32)}, "sizes"),
    ({"sizes": (64, 300)}, "no room"), ({"train": 0}, "train")])
def test_an_impossible_layout_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Layout(**change)


def test_photographs_are_no_objects(digits, tmp_path):
    with pytest.raises(DataError, match="'imagenet' are photographs.*use COCO in data/coco"):
        scenes.write(digits.model_copy(update={"name": "imagenet", "data": "imagenet"}), Layout(), tmp_path)

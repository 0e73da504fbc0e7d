"""Folders and shards: what is read, how it is split, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from ghostlib.own import data, shards
from ghostlib.training.images import DataError
from tests.own.conftest import folder, jpeg, shard


def samples(classes, count=4, ending="cls"):
    return [{"jpg": jpeg(10 * k + i), ending: (f'{{"label": {k}}}' if ending == "json" else str(name)).encode()}
            for k, name in enumerate(classes) for i in range(count)]


def test_a_share_of_each_class_is_held_out_and_of_a_larger_share_these_and_more(tmp_path):
    root = folder(tmp_path / "images", "abc", 10)
    found = data.load(root, 0.2)
    assert found.classes == ["a", "b", "c"] and found.held_out and not found.tested
    assert np.bincount(found.splits.val.labels).tolist() == [2, 2, 2]
    assert np.bincount(found.splits.train.labels).tolist() == [8, 8, 8]
    assert found.splits.digest == data.load(root, 0.2).splits.digest != data.load(root, 0.4).splits.digest

    def pixels(part):
        return {np.asarray(part.read(i)).tobytes() for i in range(len(part))}

    assert len(pixels(found.splits.train) | pixels(found.splits.val)) == 30  # every image is in one part, once
    assert pixels(found.splits.val) < pixels(data.load(root, 0.4).splits.val)


@pytest.mark.parametrize(("names", "held_out", "tested"), [
    (("train", "val"), False, False), (("train", "valid", "test"), False, True), (("train", "test"), False, False),
    (("train",), True, False)])
def test_parts_are_known_by_their_names(tmp_path, names, held_out, tested):
    for number, name in enumerate(names):
        folder(tmp_path / name, images=2 + number, seed=1000 * number)
    found = data.load(tmp_path, 0.5)
    assert (found.held_out, found.tested) == (held_out, tested)
    assert len(found.splits.train) == (2 if held_out else 4)
    assert len(found.splits.test) == (2 if held_out else 2 * (1 + len(names)))


@pytest.mark.parametrize("names", [("Training", "Testing"), ("train", "dev"), ("seg_train", "seg_test"),
                                   ("TrainSet", "TestSet")])
def test_parts_are_known_in_any_case_and_among_other_words(tmp_path, names):
    for number, name in enumerate(names):
        folder(tmp_path / name, images=2 + number, seed=1000 * number)
    (tmp_path / "annotations").mkdir()
    found = data.load(tmp_path, 0.5)
    assert found.classes == ["a", "b"] and not found.held_out
    assert (len(found.splits.train), len(found.splits.test)) == (4, 6)


@pytest.mark.parametrize("train", ["train", "bullet_train"])
def test_a_class_may_be_called_train(tmp_path, train):
    folder(tmp_path, "ab").joinpath("a").rename(tmp_path / train)
    (tmp_path / train / ".ipynb_checkpoints").mkdir()
    found = data.load(tmp_path, 0.5)
    assert found.classes == ["b", train] and not found.named


@pytest.mark.parametrize("name", ["seg_pred", "trainval", "train-val", "training"])
def test_images_of_which_nothing_tells_what_they_are_for_are_not_passed_over(tmp_path, name):
    for part in ("train", "test", name):
        folder(tmp_path / part)
    with pytest.raises(DataError, match=f"{tmp_path / name}(: | and ).*which images are to train on.*Rename what"):
        data.load(tmp_path, 0.5)


def test_what_holds_no_images_beside_the_parts_is_passed_over(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "test")
    for name in ("__MACOSX/train/a/._0.png", "logs/.ipynb_checkpoints/0.png", "runs/best.pth.tar", ".cache/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    found = data.load(tmp_path, 0.5)
    assert (len(found.splits.train), len(found.splits.test), found.named) == (12, 12, True)


@pytest.mark.parametrize("sorted_into", [("train",), ("test",), ()])
def test_a_part_without_classes_is_refused_and_is_no_class_by_itself(tmp_path, sorted_into):
    for part in ("train", "test"):
        folder(tmp_path / part, images=2)
        if part not in sorted_into:
            for path in sorted((tmp_path / part).glob("*/*.jpg")):
                path.rename(tmp_path / part / f"{path.parent.name}{path.name}")
            for name in "ab":
                (tmp_path / part / name).rmdir()
    with pytest.raises(DataError, match="(train|test) holds 4 images and no folder for each class"):
        data.load(tmp_path, 0.5)


def test_images_that_are_not_read_are_counted(tmp_path):
    for name in ("a/0.gif", "b/1.GIF", "b/2.jfif", "b/notes.txt", ".trash/3.gif"):
        (folder(tmp_path) if name == "a/0.gif" else tmp_path).joinpath(name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = data.load(tmp_path, 0.5)
    assert found.passed_over == {".gif": 2, ".jfif": 1} and len(found.splits.train) == 6


def test_images_in_shards_that_are_not_read_are_counted(tmp_path):
    others = [{"bmp": b"", "cls": b"cat"}, {"BMP": b"", "cls": b"dog"}]
    shard(tmp_path / "train-0.tar", [*samples(["cat", "dog"]), *others])
    shard(tmp_path / "val-0.tar", [*samples(["cat", "dog"]), {"tiff": b"", "txt": b""}])
    found = data.load(tmp_path, 0.5)
    assert found.passed_over == {".bmp": 2, ".tiff": 1} and len(found.splits.train) == 8


def test_classes_whose_names_hold_the_word_train_are_classes(tmp_path):
    for kind in ("freight_train", "passenger_train"):
        folder(tmp_path / kind, "x", 3)
        for path in (tmp_path / kind / "x").iterdir():
            path.rename(tmp_path / kind / path.name)
        (tmp_path / kind / "x").rmdir()
    assert data.load(tmp_path, 0.5).classes == ["freight_train", "passenger_train"]


def test_a_part_that_is_empty_is_refused(tmp_path):
    folder(tmp_path / "train")
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="val holds 0 images and no folder for each class"):
        data.load(tmp_path, 0.5)


@pytest.mark.parametrize(("names", "parts"), [
    (("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"), (8, 4)), (("train0.tar", "eval0.tar"), (8, 4)),
    (("trainset-0.tar", "valset-0.tar"), (8, 4))])
def test_shards_are_known_by_a_word_of_their_names(tmp_path, names, parts):
    for name, count in zip(names, (4, 2), strict=True):
        shard(tmp_path / name, samples(["cat", "dog"], count))
    found = data.load(tmp_path, 0.2)
    assert (len(found.splits.train), len(found.splits.val)) == parts and not found.held_out
    shard(tmp_path / "more.tar", samples(["cat", "dog"]))
    (tmp_path / "._val-1.tar").write_bytes(b"of macOS")
    with pytest.raises(DataError, match=r"more\.tar: which images are to train on"):
        data.load(tmp_path, 0.2)


@pytest.mark.parametrize("ending", ["cls", "json"])
def test_shards_are_read_by_number(tmp_path, ending):
    images, names = shards.load([shard(tmp_path / f"{i}.tar", samples(["0", "1"], ending=ending)) for i in range(2)])
    assert names == ["0", "1"] and images.labels.tolist() == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    (tmp_path / "one.jpg").write_bytes(jpeg(12))
    from PIL import Image

    assert np.array_equal(images.read(14), Image.open(tmp_path / "one.jpg"))


def test_numbers_are_classes_where_nothing_names_them(tmp_path):
    """Counted from 1, with a gap, and written with zeros before them."""
    images, names = shards.load([shard(tmp_path / "train-0.tar", samples(["1", "10", "003"]))])
    assert names == ["1", "3", "10"] and images.labels.tolist() == [0] * 4 + [2] * 4 + [1] * 4
    shard(tmp_path / "val-0.tar", samples(["1", "10"], 1))
    with pytest.raises(DataError, match=r"hold different classes: val lacks \['3'\]"):
        data.load(tmp_path, 0.2)


def test_shards_have_parts_and_names(tmp_path):
    shard(tmp_path / "train-0.tar", samples(["dog", "cat"]))
    shard(tmp_path / "val-0.tar", samples(["cat", "dog"], 1))
    found = data.load(tmp_path, 0.2)
    assert found.classes == ["cat", "dog"] and found.splits.val.labels.tolist() == [0, 1]
    shard(tmp_path / "in" / "train" / "0.tar", samples(["0", "1"]))
    (tmp_path / "in" / "train" / "classes.txt").write_text("cat\ndog\n")
    assert data.load(tmp_path / "in", 0.25).classes == ["cat", "dog"]
    assert data.load(tmp_path / "train-0.tar", 0.25).held_out


@pytest.mark.parametrize(("make", "told"), [
    (lambda root: None, "nowhere does not exist"),
    (lambda root: folder(root, "a"), "holds one class, 'a'; a classifier needs two"),
    (lambda root: folder(root, "ab", 1), "class 'a' has 1 image"),
    (lambda root: (folder(root / "train", "ab"), folder(root / "val", "ac")),
     r"val lacks \['b'\] and has besides \['c'\]"),
    (lambda root: root.mkdir(), "each folder is a class and must hold images"),
    (lambda root: shard(root / "a.tar", [{"jpg": b"x"}]),
     "sample 0000 has an image and no class; put it into 0000.cls"),
    (lambda root: shard(root / "a.tar", [{"jpg": b"x", "json": b"[1]"}]), "sample 0000 has an image and no class"),
    (lambda root: shard(root / "a.tar", [{"jpg": b"x", "json": b'{"label": null}'}]), "0000 has an image and no class"),
    (lambda root: shard(root / "a.tar", [{"txt": b"x"}]), "holds no sample"),
    (lambda root: (root.mkdir(), (root / "a.tar").write_bytes(b"x" * 600)), "no whole, uncompressed tar"),
    (lambda root: (shard(root / "a.tar", samples(["0", "5"])), (root / "classes.txt").write_text("a\nb")),
     "names 2 classes, and a sample has number 5"),
    (lambda root: (shard(root / "a.tar", samples(["x", "y"])), (root / "classes.txt").write_text("x")),
     r"does not name the classes \['y'\]")])
def test_what_cannot_be_trained_on_is_refused_with_the_remedy(tmp_path, make, told):
    make(tmp_path / "nowhere")
    with pytest.raises(DataError, match=told):
        data.load(tmp_path / "nowhere", 0.2)


def test_an_image_in_a_shard_that_is_none_is_named(tmp_path):
    images, _ = shards.load([shard(tmp_path / "a.tar", [{"jpg": b"no image", "cls": b"0"}])])
    with pytest.raises(DataError, match=r"a.tar: 0000.jpg cannot be read as an image"):
        images.read(0)


def test_shards_whose_images_were_whole_are_not_read_again(tmp_path, monkeypatch):
    (images, _), (torn, _) = (shards.load([shard(tmp_path / name, samples(["cat", "dog"]))])
                              for name in ("train-0.tar", "test-0.tar"))
    path, (place, *_) = tmp_path / "test-0.tar", torn.read.places
    whole = path.read_bytes()
    path.write_bytes(whole[:place.start + 20] + bytes(place.size - 20) + whole[place.start + place.size:])
    with pytest.raises(DataError, match=r"1 images cannot be read; nothing was trained:\n.*test-0.tar: 0000.jpg"):
        shards.check_whole([images.read, torn.read], tmp_path / "whole.json")
    path.write_bytes(whole)
    read, original = [], shards.read_image
    monkeypatch.setattr(shards, "read_image", lambda file: (read.append(file), original(file))[1])
    shards.check_whole([images.read, torn.read], tmp_path / "whole.json")
    assert len(read) == 8
    shards.check_whole([images.read, torn.read], tmp_path / "whole.json")
    assert len(read) == 8

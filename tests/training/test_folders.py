"""Folders of images: sorted into classes, alike, and every file read once before a training begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from ghostlib.training import folders
from ghostlib.training.folders import check_whole, class_folders, folder_images
from ghostlib.training.images import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    """Two classes of two images each, to train on and to report on."""
    for part in ("train", "val"):
        for name in ("n01", "n02"):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for i in range(2):
                Image.new("L", (5, 4), i).save(tmp_path / "data" / part / name / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files that are read from now on."""
    names, reader = [], folders.read_image
    monkeypatch.setattr(folders, "read_image", lambda path: names.append(Path(path).name) or reader(path))
    return names


@pytest.mark.parametrize("lacking", ["train", "val"])
def test_a_class_in_one_folder_only_is_named_with_its_side(root, lacking):
    (root / lacking / "n02").rename(root / f"{lacking}-n02")
    with pytest.raises(DataError, match=rf"hold different classes: {lacking} lacks \['n02'\]\. .*rename what is miss"):
        class_folders(root)


def test_of_many_missing_classes_the_first_and_their_number_are_told(root):
    for i in range(30):
        (root / "train" / f"m{i:02}").mkdir()
        Image.new("L", (5, 4)).save(root / "train" / f"m{i:02}" / "0.png")
    with pytest.raises(DataError, match=r"val lacks \['m00', .*'m09'\] and 20 more\. "):
        class_folders(root)


def test_a_folder_that_is_not_sorted_into_classes_is_told_with_how_to_sort_it(root):
    for name in ("n01", "n02"):
        for path in (root / "val" / name).iterdir():
            path.rename(root / "val" / f"ILSVRC2012_val_{name}{path.name}")
        (root / "val" / name).rmdir()
    with pytest.raises(DataError) as error:
        class_folders(root)
    told = str(error.value)
    assert told.startswith(f"{root / 'val'} holds 4 images and no folder for each class")
    assert f"torchvision.datasets.ImageNet({str(root)!r}, 'val')" in told and "LOC_val_solution.csv" in told


def test_a_hidden_folder_is_no_class(root):
    (root / "val" / ".ipynb_checkpoints").mkdir()
    train, val = class_folders(root)
    assert set(train.labels) == set(val.labels) == {0, 1}


def test_hidden_files_and_folders_in_a_class_hold_no_images(root):
    """Jupyter's copies would be trained and validated on; macOS's ._ files are no images."""
    before = folder_images(root / "train")[0]
    name = next((root / "train").iterdir())
    (name / ".ipynb_checkpoints").mkdir()
    for copy in (name / ".ipynb_checkpoints" / "0-checkpoint.png", name / "._0.png"):
        copy.write_bytes(next(name.glob("*.png")).read_bytes())
    after = folder_images(root / "train")[0]
    assert after.digest == before.digest and len(after) == len(before)


def test_every_file_is_read_once_and_again_only_if_it_changes(root, read, tmp_path):
    parts, cache = class_folders(root), tmp_path / "runs" / "whole.npy"
    check_whole(parts, cache)
    assert len(read) == 8
    check_whole(class_folders(root), cache)
    assert len(read) == 8
    os.utime(root / "val" / "n01" / "1.png", ns=(1, 1))
    check_whole(class_folders(root), cache)
    assert read[8:] == ["1.png"]


def test_all_bad_files_are_named_at_once_and_looked_at_again_when_they_are_mended(root, read, tmp_path):
    bad, whole = [root / "train" / "n01" / "0.png", root / "val" / "n02" / "1.png"], tmp_path / "whole.npy"
    good = bad[0].read_bytes()
    bad[0].write_bytes(b"")
    bad[1].write_bytes(good[:len(good) // 2])
    for reads in (8, 2):  # what was whole is remembered
        read.clear()
        with pytest.raises(DataError, match="^2 of 8 images cannot be read; nothing was trained:") as error:
            check_whole(class_folders(root), whole)
        lines = str(error.value).splitlines()[1:]
        assert [line.partition(" cannot")[0] for line in lines] == list(map(str, bad))
        assert len(read) == reads
    for path in bad:
        path.write_bytes(good)
    check_whole(class_folders(root), whole)


def test_many_bad_files_are_in_a_file(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_SHOWN", 1)
    for path in (root / "train" / "n01").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=f"and 1 more, all in {tmp_path / 'whole.txt'}"):
        check_whole(class_folders(root), tmp_path / "whole.npy")
    assert (tmp_path / "whole.txt").read_text().count("cannot be read as an image") == 2


def test_a_check_that_is_killed_goes_on(root, read, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_AT_A_TIME", 3)
    check_whole([folder_images(root / "train")[0]], tmp_path / "whole.npy")
    read.clear()
    check_whole(class_folders(root), tmp_path / "whole.npy")
    assert len(read) == 4

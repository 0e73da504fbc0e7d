"""Data: what is split is whole and disjoint, what is seen is addressed, and what is torn is named."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import default_collate
from torchvision.datasets import CIFAR100

from ghostlib.training import datasets
from ghostlib.training.datasets import DataError, Images, Splits
from ghostlib.training.images import array_images
from ghostlib.training.profile import Profile
from ghostlib.training.recipe import Recipe
from ghostlib.training.split import Split, largest_pass
from ghostlib.training.views import MEAN, STD, Batches, Views, eval_loader, on_device, train_loader


def profile(**values) -> Profile:
    return Profile.parse({**dict(name="small", scale="a few images", data="digits", num_classes=10, image_size=33,
                                 val_images=140, crop_pct=1.0), **values})


def parts(splits: Splits) -> dict[str, Images]:
    return {"train": splits.train, "val": splits.val, "test": splits.test}


def pixels(images: Images) -> Counter:
    """How often each image, with its label, occurs."""
    return Counter((images.read(i).tobytes(), int(images.labels[i])) for i in range(len(images)))


def noise(n: int, size: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size), dtype=np.uint8)


def grey(n: int, classes: int = 2) -> Images:
    return array_images(noise(n), np.arange(n) % classes)


# -- digits


@pytest.fixture(scope="module")
def digits() -> Splits:
    return datasets.load(profile())


def test_digits_are_split_into_1297_140_and_360(digits):
    assert {part: len(images) for part, images in parts(digits).items()} == {"train": 1297, "val": 140, "test": 360}
    assert digits.num_classes == 10


def test_the_splits_are_scikit_learns_digits_each_in_one_of_them(digits):
    raw = load_digits()
    grey_levels = (raw.images * 255 / 16).round().astype(np.uint8)
    everything = Counter((Image.fromarray(image).convert("RGB").tobytes(), int(label))
                         for image, label in zip(grey_levels, raw.target, strict=True))
    assert sum((pixels(images) for images in parts(digits).values()), Counter()) == everything
    assert everything.most_common(1)[0][1] == 1, "no digit is there twice, so the parts are disjoint"


def test_every_split_holds_every_class_in_the_same_share(digits):
    whole = np.bincount(load_digits().target) / 1797
    for images in parts(digits).values():
        share = np.bincount(images.labels, minlength=10) / len(images)
        assert np.abs(share - whole).max() <= 1.5 / len(images)


def test_digits_are_rgb_images_over_the_whole_range_of_greys(digits):
    image = digits.train.read(0)
    assert (image.mode, image.size) == ("RGB", (8, 8))
    assert np.asarray(image).max() > 200 and np.asarray(image).min() == 0


def test_the_digest_is_the_same_each_time_and_depends_on_every_split(digits):
    again = datasets.load(profile())
    assert again.digest == digits.digest and len(digits.digest) == 16
    others = [datasets.load(profile(**change)).digest
              for change in ({"val_images": 141}, {"train_images": 100}, {"test_images": 100})]
    assert len({digits.digest, *others}) == 4


@pytest.mark.parametrize("change", ["pixel", "label", "order"])
def test_the_digest_depends_on_every_pixel_and_label(change):
    images, labels = noise(6), np.arange(6) % 2
    before = array_images(images.copy(), labels.copy()).digest
    if change == "pixel":
        images[5, 27, 27] ^= 1
    elif change == "label":
        labels[5] = 0
    else:
        images, labels = images[::-1], labels[::-1]
    assert array_images(images, labels).digest != before


def test_what_is_not_asked_about_does_not_move_the_other_splits(digits):
    fewer = datasets.load(profile(train_images=100, test_images=50))
    assert len(fewer.train) == 100 and len(fewer.test) == 50
    assert fewer.val.digest == digits.val.digest
    assert not pixels(fewer.train) - pixels(digits.train) and not pixels(fewer.test) - pixels(digits.test)
    assert set(fewer.train.labels) == set(fewer.test.labels) == set(range(10))


@given(indices=st.lists(st.integers(0, 19), min_size=1, max_size=20), again=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_subset_of_a_subset_reads_the_images_it_names(indices, again):
    images = grey(20)
    subset = images.subset(indices)
    inner = again.draw(st.lists(st.integers(0, len(indices) - 1), min_size=1, max_size=10))
    nested = subset.subset(inner)
    assert len(nested) == len(inner) and nested.digest not in (images.digest, subset.digest)
    for position, i in enumerate(inner):
        assert nested.read(position).tobytes() == images.read(indices[i]).tobytes()
        assert nested.labels[position] == images.labels[indices[i]]


@pytest.mark.parametrize(("values", "told"), [
    ({"val_images": 1428}, "profile 'small': val_images = 1428 must be between 10 and 1427"),
    ({"val_images": 5000}, "val_images = 5000 must be between 10 and 1427"),
    ({"val_images": 9}, "val_images = 9 must be between 10 and 1427"),
    ({"train_images": 1298}, "train_images = 1298 must be between 10 and 1287"),
    ({"test_images": 361}, "test_images = 361 must be between 10 and 350"),
    ({"num_classes": 11}, "hold 10 classes, profile 'small' says num_classes = 11; without images: .*10"),
    ({"num_classes": 9}, "hold 10 classes, profile 'small' says num_classes = 9")], ids=str)
def test_numbers_that_the_data_does_not_have_are_refused(values, told):
    with pytest.raises(DataError, match=told):
        datasets.load(profile(**values))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_subset_may_be_all_images(digits, part):
    n = len(parts(digits)[part])
    found = parts(datasets.load(profile(**{f"{part}_images": n})))[part]
    assert pixels(found) == pixels(parts(digits)[part])


def test_holding_out_all_training_images_is_refused():
    with pytest.raises(DataError, match="val_images = 1437 must be between"):
        datasets.load(profile(val_images=1437))


# -- views

BUSY = Recipe(batch_size=4, mixup=0.2)  # RandAugment, crop, flip and erasing draw from three generators


def seen(loader, *addresses) -> torch.Tensor:
    """The views (N, 3, H, W) at these addresses, as networks see them."""
    return on_device(default_collate([loader.dataset[address] for address in addresses]), torch.device("cpu"))[0]


def test_a_view_depends_on_seed_epoch_and_index_alone():
    images = array_images(noise(1).repeat(8, axis=0), np.arange(8) % 2)  # one image eight times
    recipe = BUSY.model_copy(update={"erasing": 1.0})

    def view(seed: int, epoch: int, index: int) -> torch.Tensor:
        loader, _ = train_loader(images, recipe, profile(), seed)
        torch.rand(epoch + 1), np.random.rand(3)  # whatever was drawn before
        return seen(loader, (epoch, index))[0]

    first = view(1, 2, 3)
    assert first.shape == (3, 33, 33) and torch.equal(view(1, 2, 3), first)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(view(*other), first)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_views_are_the_same_with_workers_without_and_in_any_order():
    images, epoch = grey(13), 5
    of_workers = {}
    for workers in (0, 2):
        loader, order = train_loader(images, BUSY, profile(workers=workers), seed=7)
        order.epoch = epoch
        batches = list(loader)
        assert [len(labels) for _, labels, _ in batches] == [4, 4, 4]  # the incomplete batch is left out
        of_workers[workers] = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    for mine, theirs in zip(*of_workers.values(), strict=True):
        assert torch.equal(mine, theirs)
    views, labels, patches = of_workers[0]
    assert views.dtype == torch.uint8  # a quarter of the memory of what is normalised
    addresses = [address for batch in order for address in batch]
    assert len(addresses) == 12
    for position, address in reversed(list(enumerate(addresses))):
        view, label, patch = loader.dataset[address]
        assert torch.equal(view, views[position]) and torch.equal(patch, patches[position])
        assert label == labels[position] == images.labels[address[1]]


def test_a_view_disturbs_no_stream():
    loader, _ = train_loader(grey(8), BUSY, profile(), 0)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    loader.dataset[0, 0]
    assert torch.equal(torch.rand(4), expected)


def test_an_epochs_order_is_a_permutation_of_its_own():
    order, orders = Batches(30, 1, Split(6)), []
    for epoch in (0, 1, 0):
        order.epoch = epoch
        addresses = sum(order, [])
        assert {e for e, _ in addresses} == {epoch} and sorted(i for _, i in addresses) == list(range(30))
        orders.append([i for _, i in addresses])
    assert len(order) == 5 and orders[0] == orders[2] != orders[1]
    assert [i for _, i in sum(Batches(30, 2, Split(6)), [])] != orders[0]


def test_a_batch_is_the_same_however_it_is_split():
    whole = list(Batches(26, 1, Split(12)))
    assert [len(batch) for batch in whole] == [12, 12]
    parts = [list(Batches(26, 1, Split(12, passes=2, rank=rank, processes=3))) for rank in range(3)]
    assert all([len(part) for part in of_rank] == [2, 2, 2, 2] for of_rank in parts)
    for step, batch in enumerate(whole):
        assert sum((of_rank[2 * step] + of_rank[2 * step + 1] for of_rank in parts), []) == batch


def test_an_epoch_can_be_begun_and_ended_at_any_step():
    order = Batches(30, 1, Split(6, passes=2))
    whole = list(order)
    order.begin, order.end = 1, 3
    assert len(order) == 4 and list(order) == whole[2:6]


def test_a_batch_that_cannot_be_split_evenly_is_refused():
    with pytest.raises(ValueError, match="batch of 10 images.*3 processes × 1 passes.*batch_size that 3 divides"):
        Split(10, processes=3)


def test_a_pass_takes_what_the_memory_holds():
    def attempt(images):
        if images > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate much")

    assert largest_pass(24) == 24 and largest_pass(24, most=10) == 8
    assert largest_pass(24, attempt=attempt) == 4 and largest_pass(7, attempt=attempt) == 1
    assert largest_pass(66, most=64, pairs=True) == 22
    with pytest.raises(ValueError, match="15 images of a batch cannot be split into even passes of at most 15"):
        largest_pass(15, pairs=True)
    with pytest.raises(RuntimeError, match="No executable batch size"):
        largest_pass(8, attempt=lambda images: attempt(6))


def test_of_images_to_be_scored_each_process_gets_its_part():
    images = array_images(np.zeros((11, 28, 28), np.uint8), np.arange(11))
    parts = [[int(label) for _, labels, _ in eval_loader(images, profile(), 2, rank, 3) for label in labels]
             for rank in range(3)]
    assert sum(parts, []) == list(range(11)) and {len(part) for part in parts} == {3, 4}


def test_without_augmentation_a_training_view_is_the_resized_image():
    recipe = Recipe(batch_size=2, auto_augment=None, erasing=0, hflip=0, crop_scale=(1, 1))
    images = grey(2)
    view = seen(train_loader(images, recipe, profile(), 0)[0], (0, 0))[0]
    pixels = np.array(images.read(0).resize((33, 33), Image.Resampling.BICUBIC), np.float32) / 255
    expected = torch.from_numpy((pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).permute(2, 0, 1)
    torch.testing.assert_close(view, expected)


@pytest.mark.parametrize("change", [{"hflip": 1}, {"erasing": 1}, {"auto_augment": "autoaugment"},
                                    {"auto_augment": "randaugment"}, {"crop_scale": (0.2, 0.3)}], ids=str)
def test_each_augmentation_changes_views(change):
    plain = dict(batch_size=2, auto_augment=None, erasing=0, hflip=0, crop_scale=(1, 1))
    without, with_it = (seen(train_loader(grey(8), Recipe(**values), profile(), 0)[0], *((0, i) for i in range(8)))
                        for values in (plain, {**plain, **change}))
    assert not torch.equal(without, with_it)


def test_an_erased_patch_is_noise_and_the_rest_as_it_was():
    plain = dict(batch_size=2, auto_augment=None, hflip=0, crop_scale=(1, 1))
    images = array_images(np.full((200, 28, 28), 255, np.uint8), np.arange(200) % 2)
    addresses = [(0, i) for i in range(200)]
    whole, erased = (seen(train_loader(images, Recipe(erasing=erasing, **plain), profile(), 0)[0], *addresses)
                     for erasing in (0, 0.25))
    differs = (whole != erased).any(dim=1)
    areas = differs.flatten(1).sum(1)
    assert 30 <= (areas > 0).sum() <= 70  # a quarter of them
    assert 0.02 * 33**2 * 0.8 < areas[areas > 0].min() and areas.max() < 33**2 / 3 * 1.2
    for place in differs[areas > 0]:  # one rectangle each
        rows, columns = place.any(1), place.any(0)
        assert rows.sum() * columns.sum() == place.sum()
    noise = erased.permute(0, 2, 3, 1)[differs]
    torch.testing.assert_close((noise.mean(), noise.std()), (torch.tensor(0.0), torch.tensor(1.0)), atol=0.05, rtol=0)


def test_evaluation_sees_every_image_once_in_order_and_unaugmented():
    images = grey(7)
    batches = [on_device(batch, torch.device("cpu")) for batch in eval_loader(images, profile(), batch_size=3)]
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    assert torch.cat([labels for _, labels in batches]).tolist() == images.labels.tolist()
    views = torch.cat([views for views, _ in batches])
    resized = np.stack([np.asarray(images.read(i).resize((33, 33), Image.Resampling.BICUBIC)) for i in range(7)])
    expected = (torch.from_numpy(resized).permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1))
    torch.testing.assert_close(views, expected / torch.tensor(STD).view(3, 1, 1))


def test_evaluation_keeps_the_middle_share_of_the_side():
    framed = np.zeros((1, 66, 66), np.uint8)
    framed[:, 22:44, 22:44] = 255  # the middle third
    batch, = eval_loader(array_images(framed, np.zeros(1, np.int64)), profile(crop_pct=0.34))
    views, _ = on_device(batch, torch.device("cpu"))
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(views[0, :, 2:-2, 2:-2], white.view(3, 1, 1).expand(3, 29, 29), atol=0.2, rtol=0)


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(DataError, match="5 training images are less than one batch of 6; lower batch_size"):
        train_loader(grey(5), Recipe(batch_size=6), profile(), 0)
    loader, _ = train_loader(grey(6), Recipe(batch_size=6), profile(), 0)
    assert len(loader) == 1


# -- ImageNet's layout

CLASSES = ["n01", "n02", "n03"]


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Three classes of five training images and two to report on, in several modes and sizes, and a store."""
    monkeypatch.setenv("GHOSTLIB_RUNS", str(tmp_path / "runs"))
    rng = np.random.default_rng(0)
    for split, n in (("train", 5), ("val", 2)):
        for name in CLASSES:
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                image = Image.fromarray(rng.integers(0, 256, (36 + i, 40, 3), dtype=np.uint8))
                image.convert(["RGB", "L", "P", "RGBA", "RGB"][i]).save(folder / f"{i}.png")
    return tmp_path / "imagenet"


def imagenet(folder: Path | None, **values) -> Profile:
    return profile(**{"data": "imagenet", "num_classes": 3, "val_images": 3, "data_dir": folder and str(folder),
                      **values})


def test_a_folder_of_classes_is_loaded(tree):
    splits = datasets.load(imagenet(tree))
    assert {part: len(images) for part, images in parts(splits).items()} == {"train": 12, "val": 3, "test": 6}
    assert sorted(splits.val.labels) == [0, 1, 2] and splits.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(splits.train.read(i).mode == "RGB" for i in range(12))
    assert splits.test.read(3).tobytes() == Image.open(tree / "val" / "n02" / "1.png").convert("RGB").tobytes()
    batch = next(iter(train_loader(splits.train, BUSY, imagenet(tree), 0)[0]))
    views, _ = on_device(batch, torch.device("cpu"))
    assert views.shape == (4, 3, 33, 33) and views.isfinite().all()


def test_a_folder_of_one_s_own_is_read_as_imagenet_s_is_and_named_by_its_profile(tree, tmp_path):
    whole = datasets.load(imagenet(tree))
    assert datasets.load(imagenet(tree, data="folder")).digest == whole.digest
    with pytest.raises(DataError, match=r"^no images: .*profiles\.small\.data_dir in experiments\.yaml$"):
        datasets.load(imagenet(tmp_path / "none", data="folder"))


def test_the_place_is_the_profiles_or_the_environments_or_the_usual(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGENET_DIR", str(tmp_path / "nowhere"))
    assert len(datasets.load(imagenet(tree)).test) == 6
    monkeypatch.setenv("IMAGENET_DIR", str(tree))
    assert len(datasets.load(imagenet(None)).test) == 6
    monkeypatch.delenv("IMAGENET_DIR")
    (tmp_path / "data").mkdir()
    tree.rename(tmp_path / "data" / "imagenet")
    assert len(datasets.load(imagenet(None)).test) == 6


@pytest.mark.parametrize("place", ["profile", "env", "data/imagenet"])
def test_a_missing_root_names_the_place_and_how_to_point_elsewhere(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGENET_DIR", raising=False)
    if place != "data/imagenet":
        monkeypatch.setenv("IMAGENET_DIR", str(tmp_path / "env"))
    with pytest.raises(DataError) as error:
        datasets.load(imagenet(tmp_path / "profile" if place == "profile" else None))
    told = str(error.value)
    assert str(tmp_path / place) in told and "profiles.small.data_dir" in told and "IMAGENET_DIR" in told


def test_a_missing_validation_folder_is_named(tree):
    (tree / "val").rename(tree / "validation")
    with pytest.raises(DataError, match=f"^no ImageNet: val/ not found in {tree}; .*profiles.small.data_dir"):
        datasets.load(imagenet(tree))


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_subset_that_loses_a_rare_class_is_refused(tree, part):
    for i in range(100):
        for name in CLASSES[:2]:
            shutil.copy(tree / part / name / "0.png", tree / part / name / f"again-{i}.png")
    what = {"train": "train_images", "val": "test_images"}[part]
    with pytest.raises(DataError, match=f"small.{what} = 9 leaves no image of 1 rare classes, e.g. of number 2"):
        datasets.load(imagenet(tree, **{what: 9}))
    if part == "train":
        with pytest.raises(DataError, match="small.val_images = 212 leaves no image of 1 rare .*; hold out fewer"):
            datasets.load(imagenet(tree, val_images=212))
    assert datasets.load(imagenet(tree)).num_classes == 3


def test_a_class_without_images_is_named(tree):
    for path in (tree / "train" / "n03").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="n03"):
        datasets.load(imagenet(tree))


@pytest.mark.parametrize("num_classes", [2, 4, 1000])
def test_a_number_of_classes_that_the_folder_does_not_hold_is_refused(tree, num_classes):
    with pytest.raises(DataError, match=f"'imagenet' hold 3 classes, profile 'small' says num_classes = {num_classes}"):
        datasets.load(imagenet(tree, num_classes=num_classes))


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_file_that_cannot_be_read_is_told_before_anything_begins(tree, part):
    (tree / part / "n02" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match=rf"cannot be read; nothing was trained:\n{tree / part}/n02/0.png cannot"):
        datasets.load(imagenet(tree))


def test_the_digest_of_a_folder_depends_on_names_and_sizes_but_not_on_its_place(tree):
    before = datasets.load(imagenet(tree)).digest
    moved = tree.rename(tree.with_name("elsewhere"))
    assert datasets.load(imagenet(moved)).digest == before
    (moved / "val" / "n01" / "0.png").rename(moved / "val" / "n01" / "9.png")
    assert datasets.load(imagenet(moved)).digest != before


def test_a_class_with_too_few_images_to_split_is_refused(tree):
    for path in sorted((tree / "train" / "n03").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="a class of 'imagenet' has 1 image; val_images needs two .*class number 2"):
        datasets.load(imagenet(tree))


# -- Fashion-MNIST's form


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def write_idx(folder: Path, compressed: bool, n: int = 60) -> Path:
    folder.mkdir()
    for part, count in (("train", n), ("t10k", 20)):
        for kind, array in (("images-idx3", noise(count)), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            raw = idx(array)
            name = f"{part}-{kind}-ubyte" + (".gz" if compressed else "")
            (folder / name).write_bytes(gzip.compress(raw) if compressed else raw)
    return folder


def fashion(folder: Path, **values) -> Profile:
    return profile(**{"data": "fashion", "val_images": 20, "data_dir": str(folder), **values})


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
def test_idx_files_are_read(tmp_path, compressed):
    splits = datasets.load(fashion(write_idx(tmp_path / "raw", compressed)))
    assert {part: len(images) for part, images in parts(splits).items()} == {"train": 40, "val": 20, "test": 20}
    assert splits.test.labels.tolist() == [*range(10)] * 2
    assert np.array_equal(np.asarray(splits.test.read(7))[..., 1], noise(20)[7])


def test_compression_does_not_change_the_data(tmp_path):
    digests = {datasets.load(fashion(write_idx(tmp_path / str(gz), gz))).digest for gz in (False, True)}
    assert len(digests) == 1


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("left", [0, 3, 11, -1])
def test_a_torn_file_is_named(tmp_path, compressed, name, left):
    folder = write_idx(tmp_path / "raw", compressed)
    path = folder / (name + ".gz" * compressed)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=rf"{path} is missing or is not a whole IDX file \(.*\); fetch it again"):
        datasets.load(fashion(folder))


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = write_idx(tmp_path / "raw", True)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"{folder / name} is missing"):
        datasets.load(fashion(folder))


def test_a_folder_without_the_files_is_named_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"data_dir = '{tmp_path}' .* holds no train-images-idx3-ubyte"):
        datasets.load(fashion(tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_download_that_was_broken_off_is_left_to_who_can_go_on_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "FashionMNIST").mkdir(parents=True)
    folder = write_idx(tmp_path / datasets.DOWNLOADED, True)
    monkeypatch.setattr(datasets, "FASHION_DIRS", (datasets.DOWNLOADED,))
    path, asked = folder / "train-images-idx3-ubyte.gz", []
    whole = path.read_bytes()

    class Downloads:
        raw_folder = datasets.DOWNLOADED

        def __init__(self, root, download):
            asked.append((root, download))
            path.write_bytes(whole)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", Downloads)
    unnamed = fashion(folder).model_copy(update={"data_dir": None})
    assert len(datasets.load(unnamed).train) == 40 and not asked
    path.write_bytes(whole[:100])
    assert len(datasets.load(unnamed).train) == 40 and asked == [("data", True)]


def test_a_file_that_is_no_archive_is_named(tmp_path):
    folder = write_idx(tmp_path / "raw", True)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=str(path)):
        datasets.load(fashion(folder))


def test_a_flipped_bit_anywhere_in_an_archive_is_named(tmp_path):
    folder = write_idx(tmp_path / "raw", True)
    path = folder / "train-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    for position in range(10, len(whole)):  # behind the header, most of which is only words
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1:])
        with pytest.raises(DataError, match=str(path)):
            datasets.load(fashion(folder))


def test_images_and_labels_that_do_not_belong_together_are_refused(tmp_path):
    folder = write_idx(tmp_path / "raw", False)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(50, dtype=np.uint8) % 10))
    with pytest.raises(DataError, match=f"{folder}: train has 60 images and 50 labels; fetch the files again"):
        datasets.load(fashion(folder))


# -- CIFAR-100's form


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """A folder with files in the form of CIFAR-100's, of 200 training images and 100 test images of noise."""
    folder, rng = tmp_path / CIFAR100.base_folder, np.random.default_rng(0)
    folder.mkdir()
    contents = {name: {"data": rng.integers(0, 256, (n, 3 * 32 * 32), dtype=np.uint8),
                       "fine_labels": [i % 100 for i in range(n)]} for name, n in (("train", 200), ("test", 100))}
    contents["meta"] = {"fine_label_names": [f"class {i}" for i in range(100)]}
    sums = {}
    for name, content in contents.items():
        raw = pickle.dumps(content)
        (folder / name).write_bytes(raw)
        sums[name] = hashlib.md5(raw).hexdigest()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": sums["meta"]})
    return tmp_path


def cifar100(folder: Path, **values) -> Profile:
    return profile(**{"data": "cifar100", "num_classes": 100, "val_images": 100, "data_dir": str(folder), **values})


def test_cifar_100_is_read_in_colour_with_its_fine_labels(cifar):
    splits = datasets.load(cifar100(cifar))
    assert {part: len(images) for part, images in parts(splits).items()} == {"train": 100, "val": 100, "test": 100}
    assert splits.test.labels.tolist() == list(range(100))
    raw = pickle.loads((cifar / CIFAR100.base_folder / "test").read_bytes())["data"][7].reshape(3, 32, 32)
    assert np.array_equal(np.asarray(splits.test.read(7)), raw.transpose(1, 2, 0))


def test_torn_files_of_cifar_100_are_named_and_where_whole_ones_belong(cifar):
    (cifar / CIFAR100.base_folder / "train").write_bytes(b"torn")
    with pytest.raises(DataError) as error:
        datasets.load(cifar100(cifar))
    told = str(error.value)
    assert str(cifar / CIFAR100.base_folder) in told and CIFAR100.url in told and "profiles.small.data_dir" in told


def test_cifar_100_is_downloaded_only_where_no_folder_is_named(tmp_path, monkeypatch):
    asked = []

    def fail(self, root: str, train: bool, download: bool) -> None:
        asked.append((root, download))
        raise RuntimeError("no network")

    monkeypatch.setattr(CIFAR100, "__init__", fail)
    for folder, wanted in ((tmp_path, (str(tmp_path), False)), (None, ("data", True))):
        with pytest.raises(DataError, match=r"CIFAR-100 is not whole in .*\(no network\)"):
            datasets.load(cifar100(tmp_path).model_copy(update={"data_dir": folder and str(folder)}))
        assert asked.pop() == wanted


def test_the_loaders_views_come_from_the_addressed_dataset():
    loader, order = train_loader(grey(8), BUSY, profile(), 3)
    assert isinstance(loader.dataset, Views) and loader.dataset.seed == order.seed == 3

"""A profile small enough to train in a second, and a store of its own for every test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

# Not imported at the top: the library's tests run where only the library is installed.
if TYPE_CHECKING:
    from ghostlib.runs.classifier import ClassifierRun
    from ghostlib.runs.store import Store
    from ghostlib.training.profile import Profile

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first, so that it does not run alone in the end."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@pytest.fixture(scope="session")
def tiny() -> Profile:
    """48 digits, two stand-in teachers, GhostNetV2 at width 0.1, 3 epochs of 3 steps."""
    from ghostlib.training.profile import Profile

    stand_in = {"network": "resnet10", "branches": 0, "teacher": None}
    return Profile.parse(dict(
        name="tiny", scale="48 digits", data="digits", num_classes=10, image_size=33, patch_size=11, width_scale=0.1,
        train_images=48, val_images=20, test_images=40, crop_pct=1.0, device="cpu",
        recipe=dict(network="ghostnetv2_100", batch_size=16, epochs=3, lr_scale=22.6, rand_magnitude=5, hflip=0,
                    teacher="weak", ema_decays=(0.9999, 0.99999)),
        teachers={"weak": {"stand_in": {**stand_in, "epochs": 1}}, "strong": {"stand_in": {**stand_in, "epochs": 4}}}))


@pytest.fixture
def store(tmp_path) -> Store:
    from ghostlib.runs.store import Store

    return Store(tmp_path / "runs")


@pytest.fixture
def make_run(tiny):
    """A run of the tiny profile with overrides of its recipe; without a teacher unless it names one.

    Of ResNet-10, whose training takes a fifth of GhostNetV2's: what a training does around its network is the same.
    """
    from ghostlib.runs.classifier import ClassifierRun

    def make(seed: int = 0, profile: Profile = tiny, **overrides) -> ClassifierRun:
        return ClassifierRun(profile.resolve({"teacher": None, "network": "resnet10", **overrides}), profile, seed)
    return make

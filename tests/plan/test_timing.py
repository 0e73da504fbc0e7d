"""What a few steps take: of a network, of views, of a teacher's answers and of a detector."""

from __future__ import annotations

import math

import pytest

from ghostlib.detection import loop
from ghostlib.detection.run import COCO_IMAGES, COCO_REPEATS, DetectorRun
from ghostlib.plan import timing
from ghostlib.runs.classifier import ClassifierRun
from tests.detection.conftest import TINY


def test_a_tiny_network_is_timed(make_run):
    run = make_run()
    took = timing.arm(run, epoch_steps=3)
    assert 0 < took.step < 60 and took.begin > 0 and took.end > 0 and took.validate > 0 and took.score > 0
    assert took.values == sum(tensor.numel() for tensor in run.network().state_dict().values()) and took.memory is None


def test_views_and_a_teacher_s_answers_are_timed(make_run):
    run = make_run(teacher="weak")
    assert 0 < timing.teacher(run).step < 1 and 0 < timing.views(run, run.splits.train).step < 1
    imagenet = ClassifierRun(run.recipe, run.profile.model_copy(update={"data": "imagenet"}), 0)
    assert 0 < timing.views(imagenet, None).step < 1, "of photographs, as none are there"


@pytest.mark.parametrize(("batch", "size", "most", "images"), [
    (32, 33, None, 32), (512, 33, None, 64), (2048, 224, None, 4), (512, 64, 16, 16), (512, 1000, None, 2)])
def test_a_step_of_large_images_is_scaled_up_from_a_few_on_a_cpu(tiny, batch, size, most, images):
    profile = tiny.model_copy(update={"image_size": size, "pass_images": most})
    assert timing._images_of_a_pass(batch, profile, lambda images: None) == images


@pytest.fixture
def make_detector(make_run):
    """GhostNetV3 at width 0.1 as a detector's backbone, at a scale."""
    def make(scale) -> DetectorRun:
        return DetectorRun("GhostNetV3 1.0× @320", "ghostnetv3_100", 320, scale, make_run(epochs=1))
    return make


def test_a_tiny_detector_is_timed_by_its_own_loop(make_detector, monkeypatch):
    monkeypatch.setattr(timing, "DETECTOR_STEPS", {"cpu": (1, 1)})
    took = timing.detector(make_detector(TINY))
    assert 0 < took.step < 60 and took.begin > 0 and took.score == took.step / 2 / 3 and took.memory is None
    assert took.steps == 3 * 2, "three epochs of four scenes, two a step"
    assert took.values > 100_000


def test_a_detector_of_one_step_is_timed_by_it(make_detector, monkeypatch):
    monkeypatch.setattr(timing.time, "perf_counter", iter([0.0, 0.0, 5.0, 12.0]).__next__)
    monkeypatch.setattr(loop, "train", lambda *arguments: arguments[-1](None))
    assert timing.detector(make_detector(TINY)).step == 7


def test_a_detector_of_coco_is_timed_on_scenes_and_counts_coco_s_steps(make_detector, monkeypatch):
    """Its first steps do not count, nor is anything read of COCO."""
    monkeypatch.setattr(timing, "COCO_LIKE", {"train": 2, "val": 1, "side": 96, "sizes": (32, 48)})
    monkeypatch.setattr(timing.time, "perf_counter", iter([*[0.0] * 3, 10, 30, 31, 33, 36]).__next__)
    seen = []

    def train(config, label, seed, device_type, folder, report):
        seen.append(config)
        while True:
            report(None)

    monkeypatch.setattr(loop, "train", train)
    took = timing.detector(make_detector(TINY.model_copy(update={"scenes": None})))
    assert (took.begin, took.step) == (10, 2), "of steps of 20, 1, 2 and 3 seconds"
    assert took.steps == 3 * math.ceil(COCO_IMAGES * COCO_REPEATS / 2)
    assert "scenes" in str(seen[0].train_dataloader)

"""Several processes that train one detector: they see the batches that one sees, and end in the same weights."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mmengine.dataset.sampler
import pytest
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.dataset import DefaultSampler
from mmengine.registry import init_default_scope
from safetensors.torch import load_file

from ghostlib.detection import loop, processes
from ghostlib.detection.layout import Layout
from ghostlib.runs.store import Store
from ghostlib.training.progress import NonFiniteLoss

ROOT = Path(__file__).parents[2]
GROUPS = dict(type="GN", num_groups=8)
CASES = {
    # Every image is normalised by itself or by fixed statistics, so that it does not matter which share its process.
    # The last batch of 7 images has 3: the processes' parts differ. Whatever it sees is a detection, 100 an image.
    # Gradients are not clipped, which would hide their scale.
    "each by itself": {"train_dataloader.dataset.indices": 7, "optim_wrapper.clip_grad": None,
                       "optim_wrapper.optimizer.lr": 1e-4, "model.backbone.norm_eval": True,
                       "model.neck.norm_cfg": GROUPS, "model.bbox_head.norm_cfg": GROUPS,
                       "model.test_cfg.score_thr": 0, "model.test_cfg.conf_thr": 0},
    "as it is": {}}


# -- trained by two processes


@pytest.fixture(scope="module")
def run(tiny_run):
    """The tiny detector, for two epochs of eight scenes in batches of 4, evaluated on three."""
    loader = tiny_run.scale.options["train_dataloader"] | {"batch_size": 4}
    options = tiny_run.scale.options | {"train_cfg.max_epochs": 2, "train_dataloader": loader}
    scenes = Layout(train=8, val=3, side=96, sizes=(32, 48), objects=(1, 2))
    return replace(tiny_run, scale=tiny_run.scale.model_copy(update={"scenes": scenes, "options": options}))


@pytest.fixture(scope="module")
def in_two(tmp_path_factory, run, finished):
    """What each of two processes has after every training, by its name, and the folder of them all."""
    root = tmp_path_factory.mktemp("two")
    store = Store(root / "runs")
    shutil.copytree(finished.folder(run.backbone), store.folder(run.backbone))
    (root / "cases.pickle").write_bytes(pickle.dumps((run, CASES)))
    ended = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
                            "tests/detection/together.py", root], cwd=ROOT, capture_output=True, text=True,
                           env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stderr[-4000:]
    return [torch.load(root / f"rank-{rank}.pt") for rank in range(2)], root


def test_two_processes_end_as_one_does(in_two, run, tmp_path):
    """Where no image is normalised with others: a batch's statistics are those of a process's part of it."""
    (first, second), root = in_two
    config = run.config(Store(root / "runs"))
    config.merge_from_dict(CASES["each by itself"])
    detector, metrics = loop.train(config, "alone", run.seed, "cpu", tmp_path, lambda progress: None)
    two = first["each by itself"]
    for mine, theirs in zip(two["metrics"]["history"], metrics["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    for name, expected in detector.state_dict().items():
        torch.testing.assert_close(two["weights"][name], expected, rtol=1e-4, atol=1e-6)
    detections = [Counter(box["image_id"] for box in json.loads((folder / loop.DETECTIONS).read_text()))
                  for folder in (tmp_path, root / "each by itself")]
    assert detections[0] == detections[1] == {1: 100, 2: 100, 3: 100}, "every image once"
    assert two["metrics"] == second["each by itself"]["metrics"]


def test_processes_hold_the_same_weights_statistics_and_metrics(in_two):
    first, second = (rank["as it is"] for rank in in_two[0])
    assert first["metrics"] == second["metrics"] and len(first["metrics"]["history"]) == 2
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in first["weights"].items())


def test_processes_go_on_from_the_same_state_and_the_first_one_writes(in_two):
    (first, second), root = in_two
    assert first["resumed"]["steps"] == second["resumed"]["steps"] == [3, 4], "after the first epoch of two steps"
    assert first["resumed"]["metrics"] == second["resumed"]["metrics"] == first["as it is"]["metrics"]
    written = load_file(root / "resumed" / "detector.safetensors")
    assert all(torch.equal(tensor, written[name]) for name, tensor in first["as it is"]["weights"].items())
    assert sorted(path.name for path in (root / "resumed").iterdir()) == [
        "config.py", "detections.bbox.json", "detector.safetensors", "states"]


# -- what they share


def pretend(monkeypatch, rank: int, world: int) -> None:
    for module in (processes, mmengine.dataset.sampler):
        monkeypatch.setattr(module, "get_dist_info", lambda: (rank, world))


class Photographs(list):
    """Some upright and some not, as MMDetection's sampler wants them."""

    def get_data_info(self, index):
        return {"width": self[index], "height": 5}


def test_a_batch_has_the_same_images_however_many_share_it(monkeypatch):
    init_default_scope("mmdet")
    photographs = Photographs(index * 7 % 10 for index in range(29))

    def batches(rank, world):
        pretend(monkeypatch, rank, world)
        order = processes.WholeOrder(photographs, seed=3)
        part = processes.PartOfBatch(order, 12 // world, dict(type="AspectRatioBatchSampler"))
        part.sampler.set_epoch(1)
        assert len(part) == 3
        return list(part)

    pretend(monkeypatch, 0, 1)
    alone = DefaultSampler(photographs, seed=3)
    alone.set_epoch(1)
    expected = list(AspectRatioBatchSampler(alone, 12))
    assert [len(batch) for batch in expected] == [12, 12, 5] and batches(0, 1) == expected
    for world in (2, 3):
        for parts, batch in zip(zip(*(batches(rank, world) for rank in range(world)), strict=True), expected,
                                strict=True):
            assert sorted(index for part in parts for index in part) == sorted(batch)
    assert all(batches(rank, 6)[2] for rank in range(6)), "all take part in a step, also with five images for six"


def test_a_batch_that_cannot_be_split_evenly_is_refused(run, finished, monkeypatch):
    config = run.config(finished)
    pretend(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match="a batch of 4 images .* into 3 processes .*; take a batch_size that 3"):
        processes.share(config)
    pretend(monkeypatch, 0, 2)
    processes.share(config)
    assert config.train_dataloader.batch_size == 2


def test_processes_draw_differently_and_the_first_as_one_that_is_alone(monkeypatch):
    seeds = []
    monkeypatch.setattr(loop, "set_random_seed", seeds.append)
    for rank in range(3):
        monkeypatch.setattr(loop, "get_rank", lambda rank=rank: rank)
        loop._Randomness(0).before_train_epoch(SimpleNamespace(epoch=1))
    assert len(set(seeds)) == 3 and seeds[0] == loop.seed_of("detection", 0, 1) % 2**32


def test_a_loss_that_is_not_finite_in_another_process_stops_this_one(monkeypatch):
    record = loop._Record("a run", lambda progress: None)
    runner = SimpleNamespace(iter=0, max_iters=2, cfg=SimpleNamespace(optim_wrapper=SimpleNamespace(optimizer={})))
    record.before_train_epoch(runner)
    step = dict(data_batch={"inputs": [1, 2]}, outputs={"loss": torch.tensor(6.0)})
    monkeypatch.setattr(loop, "all_reduce", lambda sums: sums.add_(torch.tensor([3.0, 1.0])))
    record.after_train_iter(runner, 0, **step)
    assert (record.losses, record.images) == ([9.0], 3), "the loss and the images of both"
    monkeypatch.setattr(loop, "all_reduce", lambda sums: sums.add_(torch.tensor([math.nan, 1.0])))
    with pytest.raises(NonFiniteLoss, match="a run, diverged: the loss is nan at step 1 of 2"):
        record.after_train_iter(runner, 1, **step)

"""Top-1, top-5, log-loss, and which images were right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ghostlib.training.bits import packed, unpacked
from ghostlib.training.evaluate import Hits, deployed


class Fixed(nn.Module):
    """Gives what it is given: views that are logits."""

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        return views


@pytest.fixture
def hits():
    hits = Hits({"a": Fixed(), 0.5: Fixed()}, torch.device("cpu"))
    logits = torch.eye(7).repeat(2, 1)  # of 14 images, each sure of its class
    labels = torch.arange(7).repeat(2)
    labels[3] = 6
    for part in (slice(0, 5), slice(5, 14)):
        hits.add(logits[part], labels[part])
    return hits


def test_scores(hits):
    scores = hits.scores()
    right, wrong = math.log(math.e + 6) - 1, math.log(math.e + 6)
    for name in ("a", 0.5):
        assert scores["top1"][name] == pytest.approx(100 * 13 / 14)
        assert scores["loss"][name] == pytest.approx((13 * right + wrong) / 14)
        assert 100 * 13 / 14 <= scores["top5"][name] <= 100


def test_which_images_were_right(hits):
    assert unpacked(hits.correct()["a"], 14).tolist() == [True] * 3 + [False] + [True] * 10


@pytest.mark.parametrize("count", [1, 8, 13])
def test_booleans_come_back(count):
    booleans = np.random.default_rng(0).random(count) < 0.5
    assert unpacked(packed(booleans), count).tolist() == booleans.tolist()


def test_what_folds_only_in_evaluation_mode_is_folded_while_it_trains():
    class Block(nn.Module):
        def fuse(self):
            assert not self.training
            return nn.Identity()

    network = nn.Sequential(Block()).train()
    assert isinstance(deployed(network)[0], nn.Identity) and network.training

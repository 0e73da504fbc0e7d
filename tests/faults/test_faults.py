"""The short form: a fault of each kind, and of some several. `make faults N=300` is the long one."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from ghostlib.training import checkpoint
from tests.faults.kinds import KINDS, LOST_RANK, Whole, flip, regions, strike

SEEDS = {"kill -9 at a random moment": (0, 1), "kill -9 in the writing of a file": (0, 1)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Whole:
    return Whole(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in KINDS if kind != LOST_RANK
                                            for seed in SEEDS.get(kind, (0,))])
def test_a_training_survives(kind, seed, whole, tmp_path):
    outcome = strike(kind, seed, whole, tmp_path / "struck")
    assert outcome.good, outcome


@pytest.mark.parametrize("region", ["digest", "header", "structure", "tensor", "directory"])
def test_a_flipped_bit_in_each_region_of_a_state_is_noticed(region, whole, tmp_path, capsys):
    shutil.copytree(next(whole.begun.rglob("states")), tmp_path / "states")
    state = max((tmp_path / "states").glob("state-*.pt"))
    assert region in regions(state)
    flip(state, region, random.Random(0))
    assert checkpoint.load_newest(tmp_path / "states", whole.run.key)["step"] == step_of(state) - 1
    assert f"{state} is torn" in capsys.readouterr().err


def step_of(state: Path) -> int:
    return int(state.stem.removeprefix("state-"))

"""Checkpoints: after whatever happened, the newest whole state is there and nothing torn is believed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghostlib.training import checkpoint
from ghostlib.training.checkpoint import CheckpointError
from tests.test_files import files_of_at_most

KEY = "a1b2"


def state(value: float) -> dict:
    return {"network": {"weight": torch.full((50,), value)}, "history": [{"epoch": 1, "loss": value}]}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def value_of(folder: Path, key: str = KEY) -> float | None:
    loaded = checkpoint.load_newest(folder, key)
    return loaded and loaded["network"]["weight"][0].item()


# -- writing


def test_a_state_that_does_not_fit_leaves_the_one_before(tmp_path):
    checkpoint.save(tmp_path, KEY, 1, state(1))
    with files_of_at_most(1000), pytest.raises(OSError):
        checkpoint.save(tmp_path, KEY, 2, state(2))
    assert names(tmp_path) == ["state-00000001.pt"] and value_of(tmp_path) == 1


# -- reading


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_a_state_comes_back_to_the_bit(tmp_path):
    torch.manual_seed(0)
    tensors = {"float": torch.randn(3, 4), "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
               "half": torch.randn(5).bfloat16(), "double": torch.randn(2).double(), "count": torch.tensor([2**62 + 1])}
    history = [{"epoch": 1, "loss": 0.1 + 0.2, "accuracy": 1 / 3}]
    checkpoint.save(tmp_path, KEY, 7, {"network": tensors, "history": history})
    loaded = checkpoint.load_newest(tmp_path, KEY)
    assert (loaded["key"], loaded["step"], loaded["history"]) == (KEY, 7, history)
    assert loaded["network"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded["network"][name].dtype == tensor.dtype and bits(loaded["network"][name]) == bits(tensor), name


def test_without_a_state_there_is_nothing_to_load(tmp_path):
    assert checkpoint.load_newest(tmp_path, KEY) is None
    assert checkpoint.load_newest(tmp_path / "nowhere", KEY) is None


def test_the_newest_state_is_loaded_and_only_two_are_kept(tmp_path):
    for step in (1, 2, 9, 10, 11, 100):
        path = checkpoint.save(tmp_path, KEY, step, state(step))
        assert path.name == f"state-{step:08d}.pt" and value_of(tmp_path) == step
        assert len(names(tmp_path)) <= 2
    assert names(tmp_path) == ["state-00000011.pt", "state-00000100.pt"]


TEARS = {
    "empty": lambda whole: b"",
    "less than a digest": lambda whole: whole[:10],
    "a digest alone": lambda whole: whole[:32],
    "half": lambda whole: whole[:len(whole) // 2],
    "one byte short": lambda whole: whole[:-1],
    "one byte long": lambda whole: whole + b"\0",
    "zeros": lambda whole: bytes(len(whole)),
    "a flipped bit": lambda whole: whole[:700] + bytes([whole[700] ^ 1]) + whole[701:],
    "a flipped bit of the digest": lambda whole: bytes([whole[0] ^ 128]) + whole[1:],
}


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS)
def test_a_torn_state_is_passed_over_for_the_one_before(tmp_path, tear):
    checkpoint.save(tmp_path, KEY, 1, state(1))
    newest = checkpoint.save(tmp_path, KEY, 2, state(2))
    whole = newest.read_bytes()
    newest.write_bytes(tear(whole))
    assert value_of(tmp_path) == 1
    checkpoint.save(tmp_path, KEY, 2, state(3))  # the training that went on from there
    assert value_of(tmp_path) == 3 and len(names(tmp_path)) == 2


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_goes_unnoticed(tmp_path, where, bit):
    path = checkpoint.save(tmp_path, KEY, 1, state(1))
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    assert checkpoint.load_newest(tmp_path, KEY) is None


def test_when_every_state_is_torn_there_is_nothing_to_load(tmp_path):
    for step in (1, 2):
        path = checkpoint.save(tmp_path, KEY, step, state(step))
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.load_newest(tmp_path, KEY) is None


def test_a_new_state_is_not_dropped_for_torn_ones_of_later_steps(tmp_path):
    for step in (4, 5):
        path = checkpoint.save(tmp_path, KEY, step, state(step))
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.load_newest(tmp_path, KEY) is None  # so the training begins anew
    checkpoint.save(tmp_path, KEY, 1, state(1))
    assert value_of(tmp_path) == 1


def test_a_write_that_was_cut_off_is_not_taken_for_a_state(tmp_path):
    path = checkpoint.save(tmp_path, KEY, 1, state(1))
    path.with_name(".state-00000002.pt.4242.tmp").write_bytes(path.read_bytes())
    assert checkpoint.load_newest(tmp_path, KEY)["step"] == 1


def test_a_state_of_another_configuration_is_refused_with_both_keys(tmp_path):
    path = checkpoint.save(tmp_path, "other", 3, state(3))
    with pytest.raises(CheckpointError, match=f"{path} belongs to configuration other, not {KEY}; remove it"):
        checkpoint.load_newest(tmp_path, KEY)
    assert value_of(tmp_path, "other") == 3


class Rogue:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_state_cannot_run_code(tmp_path):
    checkpoint.save(tmp_path, KEY, 1, {"network": Rogue(tmp_path / "ran")})
    with pytest.raises(Exception, match="[Ww]eights.only"):
        checkpoint.load_newest(tmp_path, KEY)
    assert not (tmp_path / "ran").exists()

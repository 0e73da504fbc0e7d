"""Averages of the weights: Eq. 5 for several decays at once."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ghostlib.training.ema import WeightAverages

DECAYS = (0.0, 0.3, 0.9, 0.99, 0.9999)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def floats(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().double().numpy().copy() for name, tensor in model.state_dict().items()
            if tensor.is_floating_point()}


@torch.no_grad()
def move(model: nn.Module) -> None:
    """Weights as if after a step, and statistics as if after a batch."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter))
    model.train()(torch.randn(4, 2, 2, 2))


@given(decays=st.lists(st.floats(0, 0.99999), min_size=1, max_size=5), steps=st.integers(0, 6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_average_is_its_own_recursion(decays, steps):
    model = network()
    averages = WeightAverages(model, decays)
    expected = [floats(model) for _ in decays]
    for _ in range(steps):
        move(model)
        averages.update()
        weights = floats(model)
        for decay, mean in zip(decays, expected, strict=True):
            for name in mean:
                mean[name] = decay * mean[name] + (1 - decay) * weights[name]
    for index, mean in enumerate(expected):
        found = floats(averages.copy_to(network(seed=1), index))
        assert found.keys() == mean.keys()
        for name in mean:
            np.testing.assert_allclose(found[name], mean[name], atol=1e-5, err_msg=name)


def test_before_any_update_every_average_is_the_weights():
    model = network()
    averages = WeightAverages(model, DECAYS)
    for index in range(len(DECAYS)):
        copied = averages.copy_to(network(seed=1), index)
        assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), model.parameters(), strict=True))


def test_a_decay_of_zero_is_the_weights_themselves():
    model = network()
    averages = WeightAverages(model, DECAYS)
    for _ in range(3):
        move(model)
        averages.update()
    copied = averages.copy_to(network(seed=1), DECAYS.index(0.0))
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(copied.state_dict()[name], tensor), name


def test_a_slow_average_lags_behind_a_fast_one():
    model = network()
    averages = WeightAverages(model, DECAYS)
    start = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    for _ in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        averages.update()
    moved = [(torch.cat([p.flatten() for p in averages.copy_to(network(seed=1), i).parameters()]) - start).mean().item()
             for i in range(len(DECAYS))]
    assert moved == sorted(moved, reverse=True) and moved[0] == pytest.approx(5, abs=1e-5)
    assert 0 < moved[-1] == pytest.approx(1e-4 * (5 + 4 + 3 + 2 + 1), rel=0.05)


def test_statistics_are_averaged_and_counters_left_alone():
    model = network()
    averages = WeightAverages(model, (0.5,))
    mean_before = model[1].running_mean.clone()
    move(model), move(model)
    averages.update()
    target = network(seed=1)
    target[1].num_batches_tracked.fill_(77)
    averages.copy_to(target, 0)
    torch.testing.assert_close(target[1].running_mean, (mean_before + model[1].running_mean) / 2)
    assert target[1].num_batches_tracked.dtype == torch.int64 and target[1].num_batches_tracked.item() == 77


def test_neither_updating_nor_copying_changes_its_source():
    model = network()
    averages = WeightAverages(model, DECAYS)
    move(model)
    state, gradients = copy.deepcopy(model.state_dict()), [p.requires_grad for p in model.parameters()]
    averages.update()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == gradients == [True] * 6
    kept = averages.averages.clone()
    other = averages.copy_to(network(seed=1), 1)
    move(other)
    assert torch.equal(averages.averages, kept)


def test_copying_gives_back_the_model_it_was_given():
    model = network()
    assert WeightAverages(model, DECAYS).copy_to(model, 0) is model


def test_a_model_of_another_shape_is_refused():
    averages = WeightAverages(network(), DECAYS)
    with pytest.raises((ValueError, RuntimeError)):
        averages.copy_to(nn.Linear(2, 2), 0)


def test_the_average_of_a_constant_stays_exactly_that_constant():
    model = network()
    averages = WeightAverages(model, DECAYS)
    start = averages.averages.clone()
    for _ in range(50):
        averages.update()
    assert torch.equal(averages.averages, start)


def test_weights_whose_memory_was_exchanged_are_followed():
    model = nn.Conv2d(2, 3, 3)
    averages = WeightAverages(model, (0.0,))
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        model.weight.fill_(7)
    averages.update()
    assert averages.copy_to(nn.Conv2d(2, 3, 3), 0).weight.eq(7).all()


def test_small_steps_are_not_lost_in_16_bits():
    model = nn.Linear(1, 1).to(torch.bfloat16)
    nn.init.zeros_(model.weight)
    averages = WeightAverages(model, (0.999,))
    nn.init.ones_(model.weight)
    for _ in range(1000):
        averages.update()
    assert averages.copy_to(model, 0).weight.item() == pytest.approx(1 - 0.999**1000, abs=0.01)

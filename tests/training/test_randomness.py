"""Addressed randomness: an address always draws the same, and leaves no trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ghostlib.training.randomness import addressed, permutation, seed_of

steady = settings(max_examples=100, deadline=None, derandomize=True)
addresses = st.tuples(st.sampled_from(["view", "order", "step"]), st.integers(0, 2**31), st.integers(0, 10**6))


def draw() -> tuple:
    return random.random(), float(np.random.rand()), torch.rand(()).item(), torch.randint(10**9, ()).item()


def draw_at(*address) -> tuple:
    with addressed(*address):
        return draw()


@given(address=addresses)
@steady
def test_the_same_address_draws_the_same_whatever_was_drawn_before(address):
    first = draw_at(*address)
    draw()
    assert draw_at(*address) == first


@given(one=addresses, other=addresses)
@steady
def test_another_address_draws_something_else_from_every_generator(one, other):
    assume(one != other)
    assert all(a != b for a, b in zip(draw_at(*one), draw_at(*other), strict=True))


def test_the_order_and_the_word_of_an_address_matter():
    seeds = {seed_of("view", 1, 2), seed_of("view", 2, 1), seed_of("order", 1, 2), seed_of(1, 2)}
    assert len(seeds) == 4


def test_a_longer_address_is_another_address():
    assert seed_of("view", 1) != seed_of("view", 1, 0)


def test_neighbouring_addresses_have_distinct_seeds_of_64_bits():
    seeds = {seed_of("view", seed, epoch, i) for seed in range(3) for epoch in range(5) for i in range(300)}
    assert len(seeds) == 3 * 5 * 300
    assert max(seeds) < 2**64 and max(seeds) > 2**63 and min(seeds) < 2**60


def test_the_streams_around_go_on_as_if_nothing_had_been_drawn():
    for interrupted in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        first = draw()
        if interrupted:
            with addressed("view", 0):
                draw()
                with addressed("view", 1):
                    draw()
                draw()
        following = first, draw(), np.random.randn(), random.gauss(0, 1), torch.randn(5).tolist()
        if not interrupted:
            expected = following
    assert following == expected


def test_the_streams_go_on_even_after_an_error():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(KeyError), addressed("view", 0):
        draw()
        raise KeyError
    assert draw() == expected


def test_an_inner_address_does_not_disturb_the_outer_one():
    with addressed("a", 1):
        draw()
        expected = draw()
    with addressed("a", 1):
        draw()
        with addressed("b", 2):
            draw()
        assert draw() == expected


@pytest.mark.parametrize(("address", "seed"), [
    (("view", 3, 1, 4), 13794504851683616362), (("order", 0, 0), 7724797112671934440),
    (("step", 1, 2**20), 4404586906289939609)])
def test_a_seed_is_the_same_in_every_process_and_on_every_machine(address, seed):
    assert seed_of(*address) == seed


@given(n=st.integers(0, 400), address=addresses)
@steady
def test_a_permutation_holds_every_index_once_and_belongs_to_its_address(n, address):
    order = permutation(n, *address)
    assert sorted(order) == list(range(n))
    assert order == permutation(n, *address)


def test_permutations_of_different_addresses_differ():
    orders = {tuple(permutation(50, "order", seed, epoch)) for seed in range(5) for epoch in range(20)}
    assert len(orders) == 100


def test_a_permutation_disturbs_no_stream():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    permutation(10, "order", 1)
    assert draw() == expected

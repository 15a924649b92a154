from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from tests.workloads.training.models import DIGITS, Perceptron
from workloads.base import Data, Split
from workloads.streams import permutations
from workloads.training.sampling import BatchOrder, shard_rows


@given(n=st.integers(1, 70), first=st.integers(0, 2**70), number=st.integers(1, 9))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_each_row_is_a_permutation_and_the_same_alone_as_among_others(
    n: int, first: int, number: int
):
    orders = permutations(n, first, number, "test", 1)
    assert orders.shape == (number, n)
    assert (np.sort(orders, axis=1) == np.arange(n)).all()
    for k in range(number):
        assert np.array_equal(permutations(n, first + k, 1, "test", 1)[0], orders[k])


def test_orders_of_other_parts_and_numbers_differ():
    one, same, other = (permutations(50, 0, 3, "test", seed)[:2].tolist() for seed in (1, 1, 2))
    assert one == same != other
    assert one[0] != one[1]


@pytest.mark.parametrize("n", [4, 5, 7])
def test_every_index_is_at_every_position_equally_often(n: int):
    draws = 20_000
    orders = permutations(n, 0, draws, "uniformity", n)
    counts = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    statistic = ((counts - draws / n) ** 2 / (draws / n)).sum()
    # Of a doubly stochastic table (n − 1)² counts are free; the statistic is then n/(n − 1) times
    # smaller than χ² of them. Fixed seeds: refused at one in 10⁴.
    assert statistic * (n - 1) / n < chi2.ppf(1 - 1e-4, (n - 1) ** 2)


def test_all_orders_of_four_are_equally_frequent_and_so_are_pairs_of_consecutive_ones():
    draws = 48_000
    ranks = permutations(4, 0, draws, "orders") @ np.array([64, 16, 4, 1])
    _, number = np.unique(ranks, return_inverse=True)
    for table in (np.bincount(number), np.bincount(number[:-1:2] * 24 + number[1::2])):
        expected = table.sum() / len(table)
        assert len(table) in (24, 576)
        statistic = ((table - expected) ** 2 / expected).sum()
        assert statistic < chi2.ppf(1 - 1e-4, len(table) - 1)


@given(
    examples=st.integers(2, 40),
    batch=st.integers(1, 40),
    first=st.integers(0, 10**12),
    steps=st.integers(1, 60),
    known=st.integers(0, 200),
)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_batches_far_into_a_run_are_those_of_their_epochs(
    examples: int, batch: int, first: int, steps: int, known: int
):
    recipe = replace(DIGITS, train_examples=examples, batch_size=batch)
    order = BatchOrder(Perceptron(), recipe)
    order.positions(known, 3)  # what was drawn before must not matter
    drawn = order.positions(first, steps)
    batch = min(batch, examples)
    assert drawn.shape == (steps, batch)
    if batch == examples:
        assert (drawn == np.arange(examples)).all()
        return
    a_epoch = examples // batch
    for k, step in enumerate(range(first, first + steps)):
        epoch, place = divmod(step, a_epoch)
        whole = permutations(examples, epoch, 1, Perceptron.name, recipe.seed, "batches")[0]
        assert np.array_equal(drawn[k], whole[place * batch : (place + 1) * batch])


def grouped_pool(sizes):
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    rows = torch.arange(len(groups))
    return Split(rows, rows, groups)


def rows_of(seed, train_examples, pool):
    recipe = replace(DIGITS, seed=seed, train_examples=train_examples)
    return shard_rows(Perceptron(), recipe, pool)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    seed=st.integers(0, 5),
    share=st.floats(0.01, 1),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_shard_of_groups_is_whole_groups_and_the_head_of_the_last(sizes, seed, share):
    pool = grouped_pool(sizes)
    everything = rows_of(seed, len(pool), pool)
    assert sorted(everything) == list(range(len(pool)))
    shard = rows_of(seed, max(1, round(share * len(pool))), pool)
    assert shard.tolist() == everything[: len(shard)].tolist()  # nested
    groups = pool.groups.numpy()[everything]
    assert len(set(groups)) == 1 + (np.diff(groups) != 0).sum()  # each group in one stretch
    assert (np.diff(everything)[np.diff(groups) == 0] == 1).all()  # in its own order


def test_every_order_of_groups_comes_up():
    pool = grouped_pool([1, 3, 2])
    orders = {tuple(rows_of(seed, 6, pool)) for seed in range(60)}
    assert len(orders) == 6


@pytest.mark.parametrize(
    "groups", [[1, 1, 2], [0, 2, 2], [0, 1, 0], [0, 0]], ids=["first", "gap", "back", "short"]
)
def test_groups_that_are_no_stretches_are_refused(groups):
    with pytest.raises(ValueError, match="begin at 0 and go up by 1"):
        Split(torch.zeros(3), torch.zeros(3), torch.tensor(groups))


def test_groups_are_part_of_the_fingerprint():
    split = Split(torch.arange(3.0), torch.arange(3))
    grouped = Split(split.inputs, split.targets, torch.tensor([0, 0, 1]))
    plain, other = (Data(train, split, split).fingerprint() for train in (split, grouped))
    assert plain != other

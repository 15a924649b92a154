"""The finite sums against simulation and the trainer, and the draws against their probabilities."""

import numpy as np
import pytest
import torch
from scipy import stats

from workloads.oracles.memorizer import ITEMS, Memorizer, item_weights
from workloads.oracles.memorizer_error import (
    asymptotic_exponent,
    expected_error,
    expected_error_given,
    local_exponent,
)
from workloads.recipe import Recipe
from workloads.testing import WorkloadConformance
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.lockstep import train


class TestMemorizer(WorkloadConformance):
    workload = Memorizer
    inputs_may_repeat = True  # the items are what repeats


def data(tail: float = 1.0):
    return Memorizer().data({"tail_exponent": tail})


def test_the_data_are_the_bytes_they_have_always_been() -> None:
    # Golden, and the ground on which the fingerprint may be taken from the recipe. If this fails,
    # raise RECIPE with the digests.
    assert data(1.0).fingerprint() == "b06c8d550bf9250a"
    assert data(0.5).fingerprint() == "de4af981eea925af"


def test_items_are_drawn_as_often_as_they_should_be() -> None:
    weights = item_weights(1.0)
    p = weights / weights.sum()
    sets = data()
    pool = np.bincount(sets.train.inputs[:, 0], minlength=ITEMS)
    # Items beyond the thousandth together, so that every class has dozens.
    counts = np.append(pool[:1000], pool[1000:].sum())
    expected = np.append(p[:1000], p[1000:].sum()) * len(sets.train)
    assert stats.chisquare(counts, expected).pvalue > 1e-3
    # Strata of equal probability hold an item's share to one stratum at each of its two ends.
    for split in (sets.validation, sets.test):
        share = np.bincount(split.inputs[:, 0], minlength=ITEMS) / len(split)
        assert np.abs(share - p).max() <= 2 / len(split)


def test_the_sum_is_what_shards_simulated_from_the_law_lack() -> None:
    weights = item_weights(1.0)
    p = weights / weights.sum()
    rng = np.random.default_rng(0)
    for n, rows in ((8, ITEMS), (100, ITEMS), (100, 5)):
        lacking = []
        for _ in range(400):
            seen = np.unique(rng.choice(ITEMS, size=n, p=p))
            lacking.append(1 - p[seen[seen < rows]].sum())
        error = 0.5 * np.array(lacking)
        # four standard errors of the mean
        allowed = 4 * error.std() / np.sqrt(len(error))
        assert abs(error.mean() - expected_error(n, 1.0, rows)[0]) < allowed


def test_the_error_of_this_pool_is_nearly_that_of_the_law() -> None:
    sizes = [32, 1024, 4096]
    ratio = expected_error_given(data(), sizes) / expected_error(sizes, 1.0)
    # 131,072 draws, of which the largest shard takes a thirty-second; its error, .0054, is that
    # of items which the validation set has 700 examples of, but from strata.
    np.testing.assert_allclose(ratio, 1, atol=0.02)


def test_the_error_of_a_pool_is_the_mean_over_its_shards() -> None:
    sets = data()
    pool, validation = (s.inputs[:, 0].numpy() for s in (sets.train, sets.validation))
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        known = np.zeros(ITEMS, bool)
        known[pool[rng.permutation(len(pool))[:300]]] = True
        known[1000:] = False
        errors.append(0.5 * (~known[validation]).mean())
    expected = expected_error_given(sets, [300], 1000)[0]
    assert abs(np.mean(errors) - expected) < 4 * np.std(errors) / np.sqrt(200)


def test_the_finite_sum_tends_to_the_exponent_of_the_theory() -> None:
    # Hutter 2021: -1/3, -1/2, -2/3. Here: items and examples are finite, .02.
    sizes = 2 ** np.arange(5, 13)
    for tail, theory in ((0.5, -1 / 3), (1.0, -1 / 2), (2.0, -2 / 3)):
        assert asymptotic_exponent(tail) == pytest.approx(theory)
        assert local_exponent(sizes, tail) == pytest.approx(theory, abs=0.02)


@pytest.mark.parametrize("rate", [0.01, 10.0])
def test_one_epoch_fits_all_that_was_seen_and_nothing_else(rate: float) -> None:
    recipe = Recipe(
        train_examples=512,
        model_size=2000,
        batch_size=32,
        learning_rate=rate,
        momentum=0.0,
        steps=16,
        seed=3,
        axes=(("tail_exponent", 1.0),),
    )
    result = train(Memorizer(), recipe, device="cpu")
    beyond = result.train_error / 0.5  # share of the shard for which there is no room
    assert 0 <= beyond < 0.02
    whole = train(Memorizer(), Recipe(**{**vars(recipe), "model_size": ITEMS}), device="cpu")
    assert whole.train_error == 0
    # One seed's error against the mean: .010 is four of its standard deviations.
    expected = expected_error_given(data(), [512], 2000)[0]
    assert result.validation_error == pytest.approx(expected, abs=0.01)


def test_no_answer_is_half_an_error() -> None:
    outputs, targets = torch.tensor([[0.0], [2.0], [-2.0]]), torch.tensor([1.0, 1.0, 1.0])
    assert Memorizer().error(outputs, targets).tolist() == [0.5, 0.0, 1.0]


def test_tables_are_stacked() -> None:
    choice = choose_arithmetic(Memorizer(), 64, (("tail_exponent", 1.0),), 32)
    assert choice.arithmetic is Arithmetic.STACKED_MODULES

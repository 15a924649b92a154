"""The memorizer's expected error: a finite sum over items, for any number of examples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from workloads.base import Data
from workloads.oracles.memorizer import ITEMS, item_weights

__all__ = ["asymptotic_exponent", "expected_error", "expected_error_given", "local_exponent"]

Floats = NDArray[np.float64]

CHANCE = 0.5


def expected_error(train_examples: ArrayLike, tail: float, model_size: int = ITEMS) -> Floats:
    """Return E ε(n) = ½ [ Σ_{i ≤ R} p_i (1 − p_i)ⁿ + Σ_{i > R} p_i ], for n independent examples.

    An item has not been seen with probability (1 − p_i)ⁿ, and is then asked for with p_i; those
    beyond the R = `model_size` of the table are never known. Source: Hutter 2021, §3,
    arXiv:2102.04074, with a finite number of items.
    """
    weights = item_weights(tail).astype(float)
    p = weights / weights.sum()
    sizes = np.atleast_1d(np.asarray(train_examples, float))
    unseen = np.array([p[:model_size] @ np.exp(n * np.log1p(-p[:model_size])) for n in sizes])
    error: Floats = CHANCE * (unseen + p[model_size:].sum())
    return error


def expected_error_given(
    data: Data, train_examples: Sequence[int], model_size: int = ITEMS
) -> Floats:
    """Return the expected validation error of shards of this pool, on this validation set.

    A shard of n of the P examples lacks an item that the pool has k times with probability
    C(P − k, n)/C(P, n).
    """
    pool, validation = data.train.inputs[:, 0].numpy(), data.validation.inputs[:, 0].numpy()
    copies = np.bincount(pool, minlength=ITEMS)[validation].astype(float)
    known = validation < model_size
    examples = len(pool)
    errors = []
    for n in train_examples:
        room = np.maximum(examples - copies - n, 0)
        logs = (
            gammaln(examples - copies + 1)
            - gammaln(room + 1)
            - gammaln(examples + 1)
            + gammaln(examples - n + 1)
        )
        unseen = np.where(examples - copies >= n, np.exp(logs), 0.0)
        errors.append(CHANCE * np.where(known, unseen, 1.0).mean())
    return np.array(errors)


def asymptotic_exponent(tail: float) -> float:
    """Return −a/(1+a), the exponent of the error with endless items and examples."""
    return -tail / (1 + tail)


def local_exponent(train_examples: Sequence[int], tail: float, model_size: int = ITEMS) -> float:
    """Return the slope of log expected error on log n over these sizes, by least squares.

    What a power law without floor (M1) makes of the exact curve.
    """
    error = expected_error(train_examples, tail, model_size)
    return float(np.polyfit(np.log(train_examples), np.log(error), 1)[0])

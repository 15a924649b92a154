# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A synthetic task with as many examples as a study may want: classes drawn by a random network.

Everything is integer arithmetic until the very end. A floating-point matrix product rounds by the
order of its sums, which differs between machines, and an example near a class boundary would
change its class with it. Sums of integers are exact in any order: the data are the same bytes
everywhere, and so their fingerprint can be taken from the recipe instead of from the bytes.

What is known of it: the dimension of the inputs; that the classes are equally frequent, so that a
guess errs in 9 of 10; that the class is a function of the input, so that the least error is 0, with
label noise too, as held-out labels stay true. Not known are the exponent of a student's learning
curve, its floor for a student too small to be the teacher, and where its best batch size lies. For
these there are `workloads.oracles`.
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split
from workloads.mlp import LABEL_NOISE, MlpClassification
from workloads.streams import stream

__all__ = ["INPUT_DIMENSION", "Teacher"]

POOL, VALIDATION, TEST = 65_536, 8_192, 8_192
"""The pool spans four decades of shards; one standard error of a held-out error is below 0.006."""

FEATURES = 64
"""Values of one input, of which the first `input_dimension` vary."""

HIDDEN = 32
"""Hidden units of the teacher."""

CLASSES = 10

INPUT_BITS, WEIGHT_BITS = 24, 8
"""Bits of an input and of a weight: inputs are exact in float32; a hidden unit is below
65 · 2^(24 + 8) < 2^39 and the output below 32 · 2^(39 + 8) = 2^52, far from the limit of int64."""

RECIPE = 1
"""Version of the recipe: raise it with any change to the data."""

INPUT_DIMENSION = Axis(
    name="input_dimension",
    kind=AxisKind.INTEGER,
    meaning="How many of the 64 inputs vary and matter; the others are zero.",
    default=16,
    minimum=2,
    maximum=FEATURES,
)


class Teacher(MlpClassification):
    """Inputs uniform in a cube; their class is the decile of a random ReLU network's output.

    Deciles over all examples, so that the ten classes are equally frequent in every dimension. Two
    dimensions are the fewest, because 24-bit inputs in one would repeat.
    """

    name = "teacher"
    version = 2
    input_features = FEATURES
    classes = CLASSES
    axes = (INPUT_DIMENSION, LABEL_NOISE)
    chance_error = 1 - 1 / CLASSES

    def data(self, axes: AxisValues) -> Data:
        return _data(int(axes[INPUT_DIMENSION.name]))

    def data_fingerprint(self, axes: AxisValues) -> str:
        recipe = (
            f"teacher recipe {RECIPE}: {POOL} + {VALIDATION} + {TEST} examples, "
            f"{axes[INPUT_DIMENSION.name]} of {FEATURES} inputs, {HIDDEN} hidden, {CLASSES} classes"
        )
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]


@lru_cache(maxsize=2)
def _data(dimension: int) -> Data:
    """Return the data, the same for every share of label noise."""
    examples = POOL + VALIDATION + TEST
    points = _odd_integers((examples, dimension), INPUT_BITS, "inputs", dimension)
    scores = _scores(points, dimension)
    targets = np.empty(examples, np.int64)
    targets[np.argsort(scores, kind="stable")] = np.arange(examples) * CLASSES // examples

    inputs = np.zeros((examples, FEATURES), np.float32)
    # Variance 1: a uniform variable on [-a, a] has a² / 3. Dividing rounds alike everywhere.
    inputs[:, :dimension] = points / (2.0**INPUT_BITS / np.sqrt(3.0))
    sizes = [POOL, VALIDATION, TEST]
    return Data(
        *map(
            Split,
            torch.split(torch.from_numpy(inputs), sizes),
            torch.split(torch.from_numpy(targets), sizes),
        )
    )


def _scores(points: NDArray[np.int64], dimension: int) -> NDArray[np.int64]:
    """Return the teacher's (n,) outputs for (n, dimension) points, as exact integers."""
    weights = _odd_integers((dimension, HIDDEN), WEIGHT_BITS, "weights", dimension)
    biases = _odd_integers((HIDDEN,), WEIGHT_BITS, "biases", dimension)
    readout = _odd_integers((HIDDEN,), WEIGHT_BITS, "readout", dimension)
    hidden = np.maximum(points @ weights + (biases << (INPUT_BITS - 1)), 0)
    scores: NDArray[np.int64] = hidden @ readout
    return scores


def _odd_integers(
    shape: tuple[int, ...], bits: int, purpose: str, dimension: int
) -> NDArray[np.int64]:
    """Return odd integers, uniform on (−2^bits, 2^bits): symmetric, and never zero."""
    raw = stream("teacher", purpose, dimension).bit_generator.random_raw(int(np.prod(shape)))
    top = (raw >> np.uint64(64 - bits)).astype(np.int64).reshape(shape)
    odd: NDArray[np.int64] = 2 * top + 1 - 2**bits
    return odd

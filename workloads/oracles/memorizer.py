# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""A table that remembers what it saw: its learning curve is known, for any exponent.

Item i is drawn with probability p_i ∝ i^−(1+a). It has a bit, a hash of i, which nothing foretells:
whoever has seen the item knows it, whoever has not guesses. Source: Hutter 2021, "Learning curve
theory", arXiv:2102.04074. An example asks for the bit as it is or turned over, so that no constant
answer beats a guess, however frequent the first items are.
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split, Workload
from workloads.streams import stream

__all__ = ["ITEMS", "TAIL", "Memorizer", "item_weights"]

POOL, VALIDATION, TEST = 2**17, 2**16, 2**16
"""The pool is eight times the largest shard of the study, which is thus nearly a sample of p."""

ITEMS = 2**16
"""Items that there are: enough that those beyond hardly matter at the study's sizes."""

WEIGHT_BITS = 40
"""Of the first item's weight. Weights are integers, so that draws are the same everywhere."""

RECIPE = 1
"""Version of the recipe: raise it with any change to the data."""

TAIL = Axis(
    name="tail_exponent",
    kind=AxisKind.NUMBER,
    meaning="a of the items' frequencies i^-(1+a); the error then falls like n^-(a/(1+a)).",
    default=1.0,
    minimum=0.1,
    maximum=4.0,
)


class Memorizer(Workload):
    """One number an item, zero at first, whose sign is the answer.

    A single step on an item gives its number the right sign, and no step on others changes it: one
    epoch without left-over examples, which is as many steps as N/B if B divides N, is enough to
    have fitted all that was seen, at any learning rate. Zero is no answer and counts as half an
    error, as a guess would on average.
    """

    name = "memorizer"
    version = 1
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Items that the table has room for, the most frequent ones; it guesses the others.",
        minimum=1,
        maximum=ITEMS,
    )
    axes = (TAIL,)
    chance_error = 0.5

    def data(self, axes: AxisValues) -> Data:
        return _data(float(axes[TAIL.name]))

    def data_fingerprint(self, axes: AxisValues) -> str:
        recipe = (
            f"memorizer recipe {RECIPE}: {POOL} + {VALIDATION} + {TEST} examples of {ITEMS} items "
            f"with weights of {WEIGHT_BITS} bits, tail {axes[TAIL.name]}"
        )
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def model(self, size: int) -> nn.Module:
        return _Table(size)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.softplus(-_margin(outputs, targets))

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 - 0.5 * torch.sign(_margin(outputs, targets))


class _Table(nn.Module):
    """A number for each of the first items; zero for those it has no room for."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.table = nn.Embedding(size, 1)
        nn.init.zeros_(self.table.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (n, 1) signed numbers for (n, 2) items and signs."""
        item, sign = inputs[..., :1], inputs[..., 1:]
        known: Tensor = self.table(item[..., 0].clamp(max=self.size - 1))
        return known * (sign * (item < self.size))


def item_weights(tail: float) -> NDArray[np.int64]:
    """Return (I,) whole numbers to which the items' probabilities are proportional.

    Rounded to 2⁻⁴⁰ of the first: a power that differs in its last bit from machine to machine
    changes none of them, but in one of thousands of values of a.
    """
    exact = 2.0**WEIGHT_BITS * np.arange(1, ITEMS + 1) ** -(1.0 + tail)
    return np.maximum(np.round(exact), 1).astype(np.int64)


def _margin(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 0] * targets


@lru_cache(maxsize=2)
def _data(tail: float) -> Data:
    return Data(
        train=_split(POOL, "pool", tail, strata=1),
        validation=_split(VALIDATION, "validation", tail, strata=VALIDATION),
        test=_split(TEST, "test", tail, strata=TEST),
    )


def _split(examples: int, purpose: str, tail: float, strata: int) -> Split:
    """Return independent draws, or as many as there are strata, of equal probability, one of each.

    Held-out sets are of the second kind: the frequent items are in them as often as they should be.
    """
    cumulative = np.cumsum(item_weights(tail))
    draws = stream(Memorizer.name, purpose).bit_generator.random_raw(2 * examples).reshape(2, -1)
    # As integers of 53 bits, a stratum in front: exact, and below 2⁵³ of the total.
    bits = 53 - (strata - 1).bit_length()
    within = (draws[0] >> np.uint64(64 - bits)).astype(np.int64)
    place = (np.arange(examples) % strata << bits) + within
    # A product of doubles rounds alike everywhere.
    item = np.searchsorted(cumulative, place * (float(cumulative[-1]) / 2.0**53), side="right")
    sign = 1 - 2 * (draws[1] >> np.uint64(63)).astype(np.int64)
    targets = (sign * _bits()[item]).astype(np.float32)
    inputs = np.stack([item, sign], axis=1)
    return Split(torch.from_numpy(inputs), torch.from_numpy(targets))


@lru_cache(maxsize=1)
def _bits() -> NDArray[np.int64]:
    """Return (I,) each item's bit, 1 or −1: a hash, by Philox, of its number."""
    draws = stream(Memorizer.name, "bits").bit_generator.random_raw(ITEMS)
    return 1 - 2 * (draws >> np.uint64(63)).astype(np.int64)

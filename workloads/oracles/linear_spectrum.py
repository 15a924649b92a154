# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Linear regression on features of a power-law spectrum: its learning curve is known from theory.

Features are √λ_i u_i with independent signs u_i and variances λ_i = i^−α; the target is Σ c_i u_i
with c_i² = i^−b, without noise. Trained without weight decay until nothing moves, on fewer examples
than features, the error falls like N^−min(b−1, 2α). Sources: Spigler, Geiger and Wyart 2020,
arXiv:1905.10843; Bordelon, Canatar and Pehlevan 2020, arXiv:2002.02561; the closed forms are in
`workloads.oracles.linear_spectrum_risk`.

In the held-out sets the signs are those of an orthogonal design (Walsh functions) and their
opposites: the second moments are exactly the population's, so that the validation loss of any
weights w is ½ Σ (c_i − √λ_i w_i)², the expected loss itself.
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split, Workload
from workloads.streams import stream

__all__ = ["FEATURES", "SPECTRUM", "TARGET", "LinearSpectrum", "coefficients", "scales"]

POOL = 8_192
"""32 times the largest shard of the study, so that shards of two seeds have little in common."""

FEATURES = 512

HELD_OUT = 2 * FEATURES
"""Rows of an orthogonal design, and the same turned over."""

SCALE_BITS = 20
"""Scales and coefficients are whole numbers of 2⁻²⁰: products with signs, and sums, are exact."""

RECIPE = 1
"""Version of the recipe: raise it with any change to the data."""

SPECTRUM = Axis(
    name="spectrum_exponent",
    kind=AxisKind.NUMBER,
    meaning="α of the features' variances i^-α.",
    default=1.5,
    minimum=0.0,
    maximum=4.0,
)

TARGET = Axis(
    name="target_exponent",
    kind=AxisKind.NUMBER,
    meaning="b of the shares i^-b of the target's variance; the loss falls like N^-(b-1).",
    default=1.75,
    minimum=0.0,
    maximum=8.0,
)


class LinearSpectrum(Workload):
    """Linear regression, begun at zero, on features of power-law variance; half the squared error.

    The error of an example is 1 where the prediction has not the target's sign. It is a function of
    neither the loss nor its mean; laws are to be checked on `validation_loss`.
    """

    name = "linear_spectrum"
    version = 1
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Number of features: all of them.",
        choices=(FEATURES,),
    )
    axes = (SPECTRUM, TARGET)
    chance_error = 0.5

    def data(self, axes: AxisValues) -> Data:
        return _data(float(axes[SPECTRUM.name]), float(axes[TARGET.name]))

    def data_fingerprint(self, axes: AxisValues) -> str:
        recipe = (
            f"linear spectrum recipe {RECIPE}: {POOL} + {HELD_OUT} + {HELD_OUT} examples of "
            f"{FEATURES} features, exponents {axes[SPECTRUM.name]} and {axes[TARGET.name]}"
        )
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def model(self, size: int) -> nn.Module:
        layer = nn.Linear(size, 1, bias=False)
        nn.init.zeros_(layer.weight)
        return nn.Sequential(layer)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs[:, 0] - targets).square()

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs[:, 0] < 0) != (targets < 0)).float()


def scales(spectrum_exponent: float) -> NDArray[np.float64]:
    """Return (D,) √λ as the data have them."""
    return _whole_numbers(spectrum_exponent / 2) / 2.0**SCALE_BITS


def coefficients(target_exponent: float) -> NDArray[np.float64]:
    """Return (D,) c as the data have them."""
    return _whole_numbers(target_exponent / 2) / 2.0**SCALE_BITS


def _whole_numbers(exponent: float) -> NDArray[np.int64]:
    """Return (D,) i^−exponent in units of 2⁻²⁰.

    Rounded so coarsely that a power which differs in its last bit from machine to machine changes
    none of them, but in one of millions of values of the exponent.
    """
    exact = 2.0**SCALE_BITS * np.arange(1, FEATURES + 1) ** -exponent
    return np.maximum(np.round(exact), 1).astype(np.int64)


@lru_cache(maxsize=2)
def _data(spectrum_exponent: float, target_exponent: float) -> Data:
    sets = (_random_signs(POOL, "pool"), *map(_orthogonal_signs, ("validation", "test")))
    return Data(*(_split(signs, spectrum_exponent, target_exponent) for signs in sets))


def _split(signs: NDArray[np.int64], spectrum_exponent: float, target_exponent: float) -> Split:
    inputs = signs * scales(spectrum_exponent)
    targets = signs @ _whole_numbers(target_exponent / 2)  # of integers: exact in any order
    return Split(
        torch.from_numpy(inputs.astype(np.float32)),
        torch.from_numpy((targets / 2.0**SCALE_BITS).astype(np.float32)),
    )


def _random_signs(examples: int, *purpose: str) -> NDArray[np.int64]:
    """Return (n, D) independent signs, 1 or −1."""
    raw = stream(LinearSpectrum.name, *purpose).bit_generator.random_raw(examples * FEATURES)
    signs: NDArray[np.int64] = 1 - 2 * (raw >> np.uint64(63)).astype(np.int64)
    return signs.reshape(examples, FEATURES)


def _orthogonal_signs(purpose: str) -> NDArray[np.int64]:
    """Return (n, D) signs whose columns are orthogonal, half of the rows the others turned over.

    Walsh functions, the parity of the bits that row and column share, with random signs.
    """
    place = np.arange(FEATURES)
    shared = place[:, None] & place
    parity = sum((shared >> bit) & 1 for bit in range(FEATURES.bit_length())) % 2
    half = (1 - 2 * parity) * _random_signs(1, purpose)
    signs: NDArray[np.int64] = np.concatenate([half, -half])
    return signs

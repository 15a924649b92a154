"""The sum of powers with one exponent, so that a fixed ratio D/N is a power law of compute."""

from typing import final

import numpy as np
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.chinchilla import (
    sum_of_powers,
    sum_of_powers_gradient,
    sum_of_powers_starts,
)
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["Gadre"]


@final
class Gadre(Form):
    """L = E + A/N^α + B/D^α; θ = (log E, log A, log B, α).

    The paper's E + (a M^η + b M^(-η)) C^(-η) with M = D/N and C = 6 N D: α = 2η, A = a 6^(-η),
    B = b 6^(-η). It can be fitted to five runs, of which only one has another ratio.
    """

    name = "Gadre"
    equation = "E + A/N^α + B/D^α"
    variables = ("N", "D")
    parameters = ("E", "A", "B", "alpha")
    lower = (-30.0, -50.0, -50.0, 0.0)
    upper = (30.0, 200.0, 200.0, EXPONENT_LIMIT)
    typical = (0.5, 3.0, 3.5, 0.3)
    reference = "Gadre et al. 2024, eq. 4, arXiv:2403.08540"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        return np.asarray(np.log(sum_of_powers(_untied(theta), x)[2]))

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        gradient = sum_of_powers_gradient(_untied(theta), x)
        return np.concatenate([gradient[..., :3], gradient[..., 3:].sum(-1, keepdims=True)], -1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        both = sum_of_powers_starts(x, log_y, weights)
        tied = both[0, :, 3] == both[0, :, 4]
        return np.asarray(both[:, tied, :4])

    @override
    def reported(self, theta: Array) -> Array:
        return np.concatenate([np.exp(theta[..., :3]), theta[..., 3:]], axis=-1)


def _untied(theta: Array) -> Array:
    """Return (..., 5) parameters of the form with two exponents."""
    return np.concatenate([theta, theta[..., 3:]], axis=-1)

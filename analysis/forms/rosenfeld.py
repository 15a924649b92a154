"""The sum of powers below the level of a random guess, which small models and data reach."""

from typing import final

import numpy as np
from scipy.special import expit
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.chinchilla import (
    sum_of_powers,
    sum_of_powers_gradient,
    sum_of_powers_starts,
)
from analysis.forms.linear_starts import smallest_and_largest
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["Rosenfeld"]

_GUESSES = np.array([1.03, 1.5, 5.0])
"""ε0 as a multiple of the largest y."""


@final
class Rosenfeld(Form):
    """ε = ε0 |e / (e - i η)|, e = E + A/N^α + B/D^β; θ = (log E, log A, log B, α, β, log ε0).

    A common factor of e and η cancels; here η = ε0, so that ε is e far below ε0, and the form
    is Chinchilla's where ε0 is far away. N is the paper's m, D its n, E its c_inf. The paper
    takes ε0 as known, (classes - 1)/classes: hold it, unless some runs are near it.
    """

    name = "Rosenfeld"
    equation = "ε0 |e / (e - i ε0)|, e = E + A/N^α + B/D^β"
    variables = ("N", "D")
    parameters = ("E", "A", "B", "alpha", "beta", "epsilon0")
    lower = (-30.0, -50.0, -50.0, 0.0, 0.0, -30.0)
    upper = (30.0, 200.0, 200.0, EXPONENT_LIMIT, EXPONENT_LIMIT, 30.0)
    typical = (-2.0, 1.5, 2.0, 0.5, 0.4, -0.1)
    reference = "Rosenfeld et al. 2020, §5, arXiv:1909.12673"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        total = np.log(sum_of_powers(theta, x)[2])
        return total - np.logaddexp(0.0, 2 * (total - theta[..., 5:6])) / 2

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        total = np.log(sum_of_powers(theta, x)[2])
        guess = expit(2 * (total - theta[..., 5:6]))[..., None]
        return np.concatenate([(1 - guess) * sum_of_powers_gradient(theta, x), guess], axis=-1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        _, high = smallest_and_largest(log_y, weights)
        log_guess = high[:, None] + np.log(_GUESSES)
        below = np.clip(2 * (log_y[:, None] - log_guess[..., None]), None, np.log(0.999))
        log_e = log_y[:, None] - np.log1p(-np.exp(below)) / 2
        fits = sum_of_powers_starts(
            x, log_e.reshape(-1, len(x)), np.repeat(weights, len(_GUESSES), axis=0)
        ).reshape(len(log_y), len(_GUESSES), -1, 5)
        guesses = np.broadcast_to(log_guess[:, :, None, None], (*fits.shape[:3], 1))
        return np.concatenate([fits, guesses], axis=3).reshape(len(log_y), -1, 6)

    @override
    def reported(self, theta: Array) -> Array:
        columns = [np.exp(theta[..., :3]), theta[..., 3:5], np.exp(theta[..., 5:])]
        return np.concatenate(columns, axis=-1)

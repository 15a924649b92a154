"""M4, between the level of a random guess and a floor; y is defined implicitly."""

from typing import final

import numpy as np
from scipy.special import expit
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.linear_starts import linear_starts, smallest_and_largest
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["M4"]

_FLOORS = np.array([0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 0.995])
"""γ as a share of the smallest y."""
_CEILINGS = np.array([1.02, 1.2, 2.0, 10.0])
"""ε0 as a multiple of the largest y."""
_POWERS = np.array([0.05, 0.5, 1.0, 2.0])
_NEWTON_STEPS = 100
_LARGEST_LOGIT = 500.0
"""Where a = 0, nothing keeps y below ε0: it is ε0 there, to rounding."""


@final
class M4(Form):
    """(y - γ) / ((ε0 - y)/(ε0 - γ))^a = α m^β; θ = (log α, β, γ, log(ε0 - γ), a).

    The paper's (e - e_inf)/(e0 - e)^a = b x^c with e_inf = γ, e0 = ε0, c = β and
    b = α (ε0 - γ)^(-a): scaled so, α is that of M2 where a = 0 or ε0 is far away.
    """

    name = "M4"
    equation = "y: (y - γ) / ((ε0 - y)/(ε0 - γ))^a = α m^β"
    variables = ("m",)
    parameters = ("alpha", "beta", "gamma", "epsilon0", "a")
    lower = (-np.inf, -EXPONENT_LIMIT, 0.0, -30.0, 0.0)
    upper = (np.inf, EXPONENT_LIMIT, np.inf, 30.0, 20.0)
    typical = (2.5, -0.4, 0.05, -0.1, 0.5)
    reference = "Alabdulmohsin et al. 2022, §3, arXiv:2209.06640"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        share = expit(self._logit(theta, x))
        return np.asarray(np.log(theta[..., 2:3] + np.exp(theta[..., 3:4]) * share))

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        # z = (y - γ)/(ε0 - γ) = expit(s) solves F(s) = log z - a log(1 - z) = log α - w + β log m.
        logit = self._logit(theta, x)
        share, rest = expit(logit), expit(-logit)
        gap, power = np.exp(theta[..., 3:4]), theta[..., 4:5]
        y = theta[..., 2:3] + gap * share
        by_level = gap * share * (rest / np.maximum(rest + power * share, 1e-300)) / y
        by_level = np.where(logit < _LARGEST_LOGIT, by_level, 0.0)
        columns = [
            by_level,
            by_level * np.log(x[:, 0]),
            1 / y,
            gap * share / y - by_level,
            -by_level * np.logaddexp(0.0, logit),
        ]
        return np.stack(columns, axis=-1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        # Linear in log α and β at each (γ, ε0, a).
        floors, ceilings, powers = (
            axis.ravel() for axis in np.meshgrid(_FLOORS, _CEILINGS, _POWERS, indexing="ij")
        )
        y = np.where(weights > 0, np.exp(log_y), np.nan)
        low, high = smallest_and_largest(np.exp(log_y), weights)
        gamma, ceiling = low[:, None] * floors, high[:, None] * ceilings
        share = (y[:, None] - gamma[..., None]) / (ceiling - gamma)[..., None]
        log_gap = np.log(ceiling - gamma)
        target = np.log(share) - powers[:, None] * np.log1p(-share) + log_gap[..., None]
        # What a point weighs on the scale of log y.
        moved = 1 / (y[:, None] - gamma[..., None]) + powers[:, None] / (
            ceiling[..., None] - y[:, None]
        )
        importance = np.nan_to_num(weights[:, None] / (y[:, None] * moved) ** 2)
        design = np.stack([np.ones(len(x)), np.log(x[:, 0])], axis=1)
        line = linear_starts(design, np.nan_to_num(target), importance)
        others = np.stack(np.broadcast_arrays(gamma, log_gap, powers), axis=2)
        return np.concatenate([line, others], axis=2)

    @override
    def reported(self, theta: Array) -> Array:
        ceiling = theta[..., 2] + np.exp(theta[..., 3])
        columns = [np.exp(theta[..., 0]), theta[..., 1], theta[..., 2], ceiling, theta[..., 4]]
        return np.stack(columns, axis=-1)

    def _logit(self, theta: Array, x: Array) -> Array:
        """Return (..., n) logits of (y - γ)/(ε0 - γ) by Newton's method.

        F rises with a slope between min(1, a) and max(1, a) and bends one way only, so that all
        steps but the first go one way: none can overshoot, and no bracket is needed.
        """
        power = np.broadcast_to(theta[..., 4:5], (*theta.shape[:-1], len(x)))
        right = theta[..., :1] - theta[..., 3:4] + theta[..., 1:2] * np.log(x[:, 0])
        logit = np.clip(right, -_LARGEST_LOGIT, 1.0)
        for _ in range(_NEWTON_STEPS):
            # log(1 + e^s), log(1 + e^-s) and their slopes of one exponential, that takes the time.
            small = np.exp(-np.abs(logit))
            both, less, more = np.log1p(small), small / (1 + small), 1 / (1 + small)
            rising = logit > 0
            value = power * (np.maximum(logit, 0.0) + both) - (np.maximum(-logit, 0.0) + both)
            slope = np.where(rising, less + power * more, more + power * less)
            moved = logit - (value - right) / np.maximum(slope, 1e-300)
            moved = np.clip(moved, -1e6, _LARGEST_LOGIT)
            change = np.abs(moved - logit)
            logit = moved
            if not (change > 1e-13 * (1 + np.abs(logit))).any():
                break
        return logit

"""The loss where parameters and data limit each other, without a floor."""

from typing import final

import numpy as np
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.linear_starts import linear_starts
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["Kaplan"]

_EXPONENTS = np.array([0.03, 0.07, 0.12, 0.2, 0.35, 0.6, 1.0])
_SMALLEST_SHARE = 1e-3


@final
class Kaplan(Form):
    """L = ((Nc/N)^(αN/αD) + Dc/D)^αD; θ = (log Nc, log Dc, αN, αD)."""

    name = "Kaplan"
    equation = "((Nc/N)^(αN/αD) + Dc/D)^αD"
    variables = ("N", "D")
    parameters = ("Nc", "Dc", "alpha_N", "alpha_D")
    lower = (-300.0, -300.0, 1e-3, 1e-3)
    upper = (600.0, 600.0, EXPONENT_LIMIT, EXPONENT_LIMIT)
    typical = (14.0, 12.0, 0.2, 0.25)
    reference = "Kaplan et al. 2020, eq. 1.5, arXiv:2001.08361"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        by_n, by_d = self._terms(theta, x)
        return np.asarray(theta[..., 3:4] * np.logaddexp(by_n, by_d))

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        by_n, by_d = self._terms(theta, x)
        total = np.logaddexp(by_n, by_d)
        share_n, share_d = np.exp(by_n - total), np.exp(by_d - total)
        alpha_n, alpha_d = theta[..., 2:3], theta[..., 3:4]
        columns = [
            share_n * alpha_n,
            share_d * alpha_d,
            share_n * (theta[..., :1] - np.log(x[:, 0])),
            total - share_n * by_n,
        ]
        return np.stack(columns, axis=-1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        # L^(1/αD) is linear in Nc^(αN/αD) and Dc at each (αN, αD).
        alpha_n, alpha_d = (
            axis.ravel() for axis in np.meshgrid(_EXPONENTS, _EXPONENTS, indexing="ij")
        )
        slopes = np.stack([alpha_n / alpha_d, np.ones_like(alpha_d)], axis=1)
        centre = np.log(x).mean(axis=0)
        design = np.exp(-slopes[:, None] * (np.log(x) - centre))
        mean = (weights * log_y).sum(axis=1) / weights.sum(axis=1)
        log_target = (log_y - mean[:, None])[:, None] / alpha_d[:, None]
        # Relative to the target, and so alike for all points on the log scale.
        relative = design * np.exp(-log_target)[..., None]
        scale = linear_starts(relative, np.ones_like(log_target), weights[:, None])
        level = np.log(np.maximum(scale, _SMALLEST_SHARE)) + mean[:, None, None] / alpha_d[:, None]
        limits = level / slopes + centre
        powers = np.stack([alpha_n, alpha_d], axis=1) * np.ones((len(log_y), 1, 1))
        return np.concatenate([limits, powers], axis=2)

    @override
    def reported(self, theta: Array) -> Array:
        return np.concatenate([np.exp(theta[..., :2]), theta[..., 2:]], axis=-1)

    def _terms(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """Return (..., n) logs of (Nc/N)^(αN/αD) and of Dc/D."""
        ratio = theta[..., 2:3] / theta[..., 3:4]
        by_n = ratio * (theta[..., :1] - np.log(x[:, 0]))
        return by_n, theta[..., 1:2] - np.log(x[:, 1])

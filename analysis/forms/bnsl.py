"""BNSL, the smoothly broken power law, with one break and a floor."""

from typing import final

import numpy as np
from scipy.special import expit
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.linear_starts import linear_starts, smallest_and_largest
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["BNSL"]

_FLOORS = np.array([0.0, 0.5, 0.8, 0.95])
"""a as a share of the smallest y."""
_PLACES = np.linspace(0.05, 0.95, 8)
"""The break along the range of log x."""
_WIDTHS = np.array([0.05, 0.3, 1.0])


@final
class BNSL(Form):
    """y = a + b x^(-c0) (1 + (x/d1)^(1/f1))^(-c1 f1); θ = (a, log b, c0, c1, log d1, log f1).

    The slope goes from -c0 to -(c0 + c1) at x = d1, over about f1 units of log x.
    """

    name = "BNSL"
    equation = "a + b x^(-c0) (1 + (x/d1)^(1/f1))^(-c1 f1)"
    variables = ("x",)
    parameters = ("a", "b", "c0", "c1", "d1", "f1")
    lower = (0.0, -np.inf, -EXPONENT_LIMIT, -EXPONENT_LIMIT, -np.inf, float(np.log(0.01)))
    upper = (np.inf, np.inf, EXPONENT_LIMIT, EXPONENT_LIMIT, np.inf, float(np.log(30.0)))
    typical = (0.05, 1.0, 0.15, 0.35, 9.0, -1.0)
    reference = "Caballero et al. 2023, eq. 1 with one break, arXiv:2210.14891"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        with np.errstate(divide="ignore"):
            floor = np.log(theta[..., :1])
        return np.asarray(np.logaddexp(floor, self._log_power(theta, x)))

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        log_x = np.log(x[:, 0])
        log_power = self._log_power(theta, x)
        with np.errstate(divide="ignore"):
            log_value = np.logaddexp(np.log(theta[..., :1]), log_power)
        share = np.exp(log_power - log_value)
        second, width = theta[..., 3:4], np.exp(theta[..., 5:6])
        past = (log_x - theta[..., 4:5]) / width
        bend, on = np.logaddexp(0.0, past), expit(past)
        columns = [
            np.exp(-log_value),
            share,
            -share * log_x,
            -share * width * bend,
            share * second * on,
            -share * second * width * (bend - past * on),
        ]
        return np.stack(columns, axis=-1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        # Linear in log b, c0 and c1 at each (a, d1, f1).
        log_x = np.log(x[:, 0])
        places = log_x.min() + _PLACES * np.ptp(log_x)
        floors, breaks, widths = (
            axis.ravel() for axis in np.meshgrid(_FLOORS, places, _WIDTHS, indexing="ij")
        )
        bend = widths[:, None] * np.logaddexp(0.0, (log_x - breaks[:, None]) / widths[:, None])
        one = np.ones_like(bend)
        design = np.stack([one, -log_x * one, -bend], axis=2)
        low, _ = smallest_and_largest(np.exp(log_y), weights)
        floor = low[:, None] * floors
        above = np.maximum(np.exp(log_y)[:, None] - floor[..., None], 1e-300)
        # What a point weighs on the scale of log y.
        importance = weights[:, None] * (above / np.exp(log_y)[:, None]) ** 2
        line = linear_starts(design[None], np.log(above), importance)
        others = np.stack(np.broadcast_arrays(breaks, np.log(widths), floor), axis=2)
        return np.concatenate([others[..., 2:], line, others[..., :2]], axis=2)

    @override
    def reported(self, theta: Array) -> Array:
        a, log_b, first, second, log_d, log_f = np.moveaxis(theta, -1, 0)
        return np.stack([a, np.exp(log_b), first, second, np.exp(log_d), np.exp(log_f)], axis=-1)

    def _log_power(self, theta: Array, x: Array) -> Array:
        log_x, width = np.log(x[:, 0]), np.exp(theta[..., 5:6])
        bend = width * np.logaddexp(0.0, (log_x - theta[..., 4:5]) / width)
        return np.asarray(theta[..., 1:2] - theta[..., 2:3] * log_x - theta[..., 3:4] * bend)

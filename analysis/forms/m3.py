"""M3, the power law that levels off as if γ⁻¹ were the largest size."""

from typing import final

import numpy as np
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.linear_starts import linear_starts
from analysis.forms.m1 import EXPONENT_LIMIT

__all__ = ["M3"]

_TURNS = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 22)])
"""γ times the geometric mean of the sizes."""


@final
class M3(Form):
    """y = α (1/m + γ)^(-β), γ ≥ 0; θ = (log α, β, γ).

    β is the slope far below the size 1/γ, as in M1: the paper's b = α, g = γ, c = -β.
    """

    name = "M3"
    equation = "α (1/m + γ)^(-β)"
    variables = ("m",)
    parameters = ("alpha", "beta", "gamma")
    lower = (-np.inf, -EXPONENT_LIMIT, 0.0)
    upper = (np.inf, EXPONENT_LIMIT, np.inf)
    typical = (2.0, -0.3, 1e-5)
    reference = "Alabdulmohsin et al. 2022, §3, arXiv:2209.06640"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        return theta[..., :1] - theta[..., 1:2] * np.log(1 / x[:, 0] + theta[..., 2:3])

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        inverse = 1 / x[:, 0] + theta[..., 2:3]
        slope = -theta[..., 1:2] / inverse
        return np.stack([np.ones_like(inverse), -np.log(inverse), slope], axis=-1)

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        # Linear in log α and β at each γ.
        gamma = _TURNS / np.exp(np.log(x[:, 0]).mean())
        ratio = -np.log(1 / x[:, 0] + gamma[:, None])
        design = np.stack([np.ones_like(ratio), ratio], axis=2)
        line = linear_starts(design[None], log_y[:, None], weights[:, None])
        turns = np.broadcast_to(gamma[:, None], (*line.shape[:2], 1))
        return np.concatenate([line, turns], axis=2)

    @override
    def reported(self, theta: Array) -> Array:
        return np.stack([np.exp(theta[..., 0]), theta[..., 1], theta[..., 2]], axis=-1)

"""M1, the power law without floor: for the best model at each size."""

from typing import final

import numpy as np
from typing_extensions import override

from analysis.forms.base import Array, Form
from analysis.forms.linear_starts import linear_starts

__all__ = ["EXPONENT_LIMIT", "M1"]

EXPONENT_LIMIT = 4.0
"""|β| is sought up to here. Theory has -1 at most; what fits best at -4 has no exponent."""


@final
class M1(Form):
    """y = α m^β; θ = (log α, β)."""

    name = "M1"
    equation = "α m^β"
    variables = ("m",)
    parameters = ("alpha", "beta")
    lower = (-np.inf, -EXPONENT_LIMIT)
    upper = (np.inf, EXPONENT_LIMIT)
    typical = (2.0, -0.3)
    reference = "Hestness et al. 2017, §3, arXiv:1712.00409; named in arXiv:2209.06640"

    @override
    def log_value(self, theta: Array, x: Array) -> Array:
        return theta[..., :1] + theta[..., 1:2] * np.log(x[:, 0])

    @override
    def log_gradient(self, theta: Array, x: Array) -> Array:
        design = np.stack([np.ones(len(x)), np.log(x[:, 0])], axis=1)
        return np.broadcast_to(design, (*theta.shape[:-1], *design.shape))

    @override
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        # On log residuals this is the least-squares fit itself.
        design = np.stack([np.ones(len(x)), np.log(x[:, 0])], axis=1)
        return linear_starts(design, log_y, weights)[:, None]

    @override
    def reported(self, theta: Array) -> Array:
        return np.stack([np.exp(theta[..., 0]), theta[..., 1]], axis=-1)

"""The shape that curves of error against batch size have in common: a cubic spline in octaves.

Two curves share it if one is the other moved along log₂B, raised, and stretched in height. The
height must be free: where the effect of the batch size shrinks by half a power of 2 for each
octave of N, curves of one height put N's exponent .2 too low.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

__all__ = ["DEGREE", "CurveShape", "spline_basis"]

Floats = NDArray[np.float64]

DEGREE = 3


@dataclass(frozen=True, eq=False)
class CurveShape:
    """f(u) of u octaves from a reference point near the optimum, up to level and height."""

    knots: Floats
    """(k,) breakpoints, ascending; outside them f goes on as a straight line."""
    coefficients: Floats
    """(k + 2,) of the cubic B-splines on these knots."""

    def value(self, u: Floats) -> Floats:
        """Return f(u), in the shape of `u`."""
        return np.asarray(spline_basis(u, self.knots) @ self.coefficients)

    def slope(self, u: Floats) -> Floats:
        """Return f'(u) per octave, in the shape of `u`."""
        return np.asarray(spline_basis(u, self.knots, slope=True) @ self.coefficients)

    @property
    def lowest(self) -> float:
        """Octaves at which f is lowest, between the outer knots."""
        fine = np.linspace(self.knots[0], self.knots[-1], 1001)
        return float(fine[self.value(fine).argmin()])


def spline_basis(u: Floats, knots: Floats, *, slope: bool = False) -> Floats:
    """Return (..., k + 2) cubic B-splines on `knots` at `u`, or their slopes.

    Beyond the outer knots they go on as straight lines, so that a curve may be moved past them.
    """
    ends = np.repeat(knots[[0, -1]], DEGREE)
    t = np.concatenate([ends[:DEGREE], knots, ends[DEGREE:]])
    splines = BSpline(t, np.eye(len(knots) + DEGREE - 1), DEGREE)
    inside = np.clip(u, knots[0], knots[-1])
    slopes = splines.derivative()(inside)
    if slope:
        return np.asarray(slopes)
    return np.asarray(splines(inside) + (u - inside)[..., None] * slopes)

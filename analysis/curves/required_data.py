"""How much data a target error takes: the learning curve read backwards, with an interval.

The answer is only as good as the form: that the curve may bend beyond the points is in no interval
here (`analysis.backtest` shows how well a form has extrapolated on the same data).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from analysis.curves.power_law import LEVEL, PowerLawFit
from analysis.errors import FitError
from analysis.fits.jackknife import Jackknife
from analysis.json_values import json_value
from analysis.summary_table import Summary, format_number

__all__ = ["DataForError", "Reach", "data_for_error", "data_multiple", "model_multiple"]

Array = NDArray[np.float64]

SCAN_DECADES = 6.0
"""How far beyond the largest size a one-sided bound is sought; further off it is infinite."""
SCAN_POINTS = 4001
"""Points of that search: bounds to better than half a percent over nine decades."""


class Reach(StrEnum):
    """Where the answer lies; the first that applies."""

    UNIDENTIFIED = "unidentified: the data do not bound the exponent, nor how much data it takes"
    NOT_FALLING = "not falling: the fitted error does not fall with size"
    BELOW_FLOOR = "below the floor: under this form no amount of data reaches the target"
    MAYBE_NEVER = "unbounded: the floor may lie above the target, by its interval or in a fold"
    EXTRAPOLATED = "extrapolated upwards, above the largest size fitted"
    EXTRAPOLATED_DOWN = "extrapolated downwards, below the smallest size fitted"
    MEASURED = "within the sizes fitted"


@dataclass(frozen=True, kw_only=True)
class DataForError:
    """The size m* at which a fitted curve reaches a target error."""

    x: str
    """Column of the sizes."""
    y: str
    """Column of the error."""
    target: float
    """The error asked for."""
    size: float
    """m*; infinite where the curve never reaches the target."""
    lower: float
    """Lower bound of m*, 0 where there is none."""
    upper: float
    """Upper bound of m*, infinite where there is none."""
    level: float
    """Nominal coverage of the bounds."""
    largest_size: float
    """The largest size fitted."""
    status: Reach
    """Where the answer lies; its value is the sentence."""
    n_cells: int
    """Number of cells behind the curve."""

    @property
    def multiple(self) -> float:
        """m* over the largest size fitted."""
        return self.size / self.largest_size

    def summary(self) -> Summary:
        """Return a printable summary."""
        row = {"estimate": self.size, "lower": self.lower, "upper": self.upper}
        table = pd.DataFrame([row, {k: v / self.largest_size for k, v in row.items()}])
        facts = (
            ("Error", self.y),
            ("Target", format_number(self.target)),
            ("Largest size fitted", format_number(self.largest_size)),
            ("Interval", f"jackknife of its log, {self.level:.0%}"),
            ("Cells", str(self.n_cells)),
        )
        return Summary(
            title="Data for a target error",
            facts=facts,
            table=table.set_index(pd.Index([self.x, "multiple of largest"])),
            notes=(f"Status: {self.status}.",),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; infinite bounds are "inf"."""
        names = ("x", "y", "target", "size", "lower", "upper", "level", "largest_size", "multiple")
        return {
            **{name: json_value(getattr(self, name)) for name in names},
            "status": self.status.name.lower(),
            "status_text": str(self.status),
            "n_cells": self.n_cells,
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def data_for_error(fit: PowerLawFit, target: float, level: float = LEVEL) -> DataForError:
    """Return m* = ((target - γ)/α)^(1/β) of a fitted curve, with its interval.

    The interval is a jackknife over seeds of log m*, t with S - 1 degrees, the sampling of the
    held-out set added as in `PowerLawFit.predict_interval`. For M2 it is widened to the curves
    fitted with γ at the ends of its interval: where γ̂ ends at 0 in all folds, the jackknife takes
    that for certain. At nominal 95 %, 9 sizes, targets 2 to 64 times beyond the largest, 5 and 10
    seeds and independent, tilted and falling noise, the jackknife alone covered .84 to .99, with
    those curves .93 to .99; M1 .93 to .96 at 8 times.

    Where it has no finite value (the floor, in the fit, in a fold or at its bound, lies above the
    target, or the exponent is unidentified), the upper bound is infinite, and the lower is the
    smallest size at which `predict_interval` does not exclude the target.

    Args:
        fit: a fit made with an interval.
        target: error to reach, above 0, in the unit of the fit's y.
        level: nominal coverage.

    Raises:
        FitError: a target that is not positive and finite, a fit of a form other than M1 and M2,
            or a fit made with ci=None.

    Source: the inversion of Hestness et al. 2019, arXiv:1909.01736, with an interval of ours.
    """
    if not 0 < target < math.inf:
        raise FitError(f"target is {target}; it must be an error above 0 and finite.")
    if fit.form not in ("M1", "M2"):
        raise FitError(f"{fit.form} is not inverted here; allowed are fits of 'M1' and 'M2'.")
    if fit.ci is None or len(fit.folds) < 2:
        raise FitError(
            "An interval is part of the answer, and this fit has none. Fit with at least 2 seeds "
            "and ci='jackknife'."
        )
    smallest, largest = float(fit.curve.size.min()), float(fit.curve.size.max())
    folds = _log_sizes(np.vstack([fit.theta, fit.folds]), math.log(target))
    ends = folds[:1] if fit.form == "M1" else _at_floor_bounds(fit, math.log(target), level)
    status = _reach(fit, folds, ends, math.log(smallest), math.log(largest))
    if status in (Reach.EXTRAPOLATED, Reach.EXTRAPOLATED_DOWN, Reach.MEASURED):
        lower, upper = _jackknife_bounds(fit, folds, level)
        lower, upper = min(lower, _exp(ends.min())), max(upper, _exp(ends.max()))
    else:
        lower, upper = _smallest_not_excluded(fit, target, level), math.inf
    return DataForError(
        x=fit.x,
        y=fit.y,
        target=float(target),
        size=_exp(folds[0]),
        lower=min(lower, _exp(folds[0])),
        upper=upper,
        level=level,
        largest_size=largest,
        status=status,
        n_cells=fit.n_cells,
    )


def data_multiple(error_ratio: ArrayLike, exponent: ArrayLike) -> NDArray[np.float64]:
    """Return how many times the data a floorless curve needs: (target/current)^(1/β).

    `error_ratio`: target over current error, in (0, 1]; `exponent`: β < 0. They broadcast.
    Source: Hestness et al. 2019, Table 1, arXiv:1909.01736.
    """
    ratio, beta = np.asarray(error_ratio, dtype=float), np.asarray(exponent, dtype=float)
    if not ((ratio > 0) & (ratio <= 1)).all() or not (beta < 0).all():
        raise FitError("error_ratio must lie in (0, 1] and exponent below 0.")
    return np.asarray(ratio ** (1 / beta))


def model_multiple(data: ArrayLike, exponent: ArrayLike) -> NDArray[np.float64]:
    """Return how many times the parameters go with `data` times the examples: data^β_p.

    Source: Hestness et al. 2019, Table 1, arXiv:1909.01736; s(m) = σ m^β_p.
    """
    times = np.asarray(data, dtype=float)
    if not (times > 0).all():
        raise FitError("The multiple of the data must be above 0.")
    return np.asarray(times ** np.asarray(exponent, dtype=float))


def _log_sizes(theta: Array, log_target: float) -> Array:
    """Return (k,) log m* of (k, 3) rows (log α, β, γ); infinite where there is none."""
    above = np.exp(log_target) - theta[:, 2]
    falls = (above > 0) & (theta[:, 1] < 0)
    log_above = np.log(np.where(falls, above, 1.0))
    beta = np.where(falls, theta[:, 1], -1.0)
    return np.where(falls, (log_above - theta[:, 0]) / beta, np.inf)


def _at_floor_bounds(fit: PowerLawFit, log_target: float, level: float) -> Array:
    """Return (2,) log m* of the curves fitted with γ at the ends of its interval."""
    theta = fit.curves_at_floors(level)
    return _log_sizes(theta, log_target)


def _reach(
    fit: PowerLawFit, folds: Array, ends: Array, log_smallest: float, log_largest: float
) -> Reach:
    if not fit.identified:
        return Reach.UNIDENTIFIED
    if fit.beta >= 0:
        return Reach.NOT_FALLING
    if np.isinf(folds[0]):
        return Reach.BELOW_FLOOR
    if np.isinf(folds).any() or np.isinf(ends).any():
        return Reach.MAYBE_NEVER
    if folds[0] > log_largest:
        return Reach.EXTRAPOLATED
    return Reach.EXTRAPOLATED_DOWN if folds[0] < log_smallest else Reach.MEASURED


def _jackknife_bounds(fit: PowerLawFit, folds: Array, level: float) -> tuple[float, float]:
    jackknife = Jackknife(folds[:1], folds[1:, None])
    variance = float(jackknife.covariance[0, 0])
    if fit.curve.binomial_variance.any():
        variance += _held_out_variance(fit, folds[0])
    half = stdtrit(fit.curve.degrees_of_freedom, (1 + level) / 2) * math.sqrt(variance)
    return _exp(folds[0] - half), _exp(folds[0] + half)


def _held_out_variance(fit: PowerLawFit, log_size: float) -> float:
    """Return the variance of log m* from the held-out set: the log curve's, over its slope."""
    size = np.array([_exp(log_size)])
    slope = fit.beta * (1 - fit.gamma / float(fit.predict(size)[0]))
    return float(fit.held_out_curve_variance(size)[0]) / slope**2


def _smallest_not_excluded(fit: PowerLawFit, target: float, level: float) -> float:
    """Return the smallest size whose `predict_interval` reaches down to `target`.

    0 where that of the smallest size fitted does, infinity where none within the search does.
    """
    size = fit.curve.size
    scan = np.geomspace(size.min(), size.max() * 10**SCAN_DECADES, SCAN_POINTS)
    reached = fit.predict_interval(scan, level)["lower"].to_numpy() <= target
    if not reached.any():
        return math.inf
    first = int(reached.argmax())
    return float(scan[first]) if first else 0.0


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))

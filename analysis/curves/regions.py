"""The three regions of a learning curve, each found by a rule: small data, power law, floor.

Source: Hestness et al. 2017, §2 (arXiv:1712.00409), who draw them and give no rule.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.curves.curve_points import Region
from analysis.curves.power_law import LEVEL, PowerLawFit
from analysis.errors import FitError
from analysis.fits.jackknife import Jackknife
from analysis.json_values import json_value
from analysis.summary_table import Summary, format_number

__all__ = ["CurveRegions", "curve_regions"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveRegions:
    """A region for each size, and where the floor begins."""

    x: str
    """Column of the sizes."""
    y: str
    """Column of the error."""
    table: pd.DataFrame
    """One row a size: the size, `mean_error`, `region`, and `floor_share`, γ over the fitted error
    (NaN where the size is not fitted)."""
    small_data_ends: float | None
    """Largest size of the small-data region; None without such sizes, or with no chance known."""
    floor: float
    """γ; 0 where the data do not tell it from 0."""
    floor_begins: float
    """Size at which power term and floor are equal; it may lie below or beyond the sizes. Infinite
    where no floor can be told from 0."""
    lower: float
    """Lower bound of that size at 95 %."""
    upper: float
    """Upper bound; infinite where even one fold of the seeds has no floor."""
    reason: str
    """One sentence: why a floor is named, or none."""
    n_cells: int
    """Number of cells behind the curve."""

    @property
    def has_floor(self) -> bool:
        """Whether the data tell a floor from none, reached or not."""
        return math.isfinite(self.floor_begins)

    def summary(self) -> Summary:
        """Return a printable summary."""
        ends = "none" if self.small_data_ends is None else format_number(self.small_data_ends)
        begins = [format_number(v) for v in (self.floor_begins, self.lower, self.upper)]
        facts = (
            ("Error", self.y),
            ("Size", self.x),
            ("Small data up to", ends),
            ("Floor γ", format_number(self.floor)),
            ("Floor begins", begins[0]),
            ("95 % interval", f"{begins[1]} to {begins[2]}"),
            ("Cells", str(self.n_cells)),
        )
        table = self.table.set_index(self.x)
        return Summary(
            title="Regions of the learning curve",
            facts=facts,
            table=table,
            notes=(self.reason,),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; an infinite size is "inf"."""
        names = ("x", "y", "small_data_ends", "floor", "floor_begins", "lower", "upper", "reason")
        return {
            **{name: json_value(getattr(self, name)) for name in names},
            "table": json_value(self.table.to_dict("records")),
            "n_cells": self.n_cells,
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def curve_regions(fit: PowerLawFit) -> CurveRegions:
    """Return the region of each size of a fit of M2.

    Small data: mean error above .9 of chance, like every smaller size (`fit_power_law`). The floor
    begins where α m^β = γ: there the straight lines that the curve follows on log axes, α m^β
    before and γ after, cross, half of the error is floor, and the local exponent has fallen to
    half of β. A rule by noise (power term below the seeds' spread) would move with the number of
    seeds, which a property of the curve should not.

    A floor is named only where the 95 % interval of γ excludes 0, as a fit alone finds some γ > 0
    in half of all curves without floor. Of 720 curves without floor (3 to 10 seeds, 1 and 3 %
    noise) none had a size labelled floor, and 2 % a floor named beyond the sizes. The interval is
    a jackknife of the log of the size (coverage .90 to 1.00, .95 on average), and where no floor is
    named, from the size at which the largest γ allowed would be half of the error.

    Raises `FitError` for a fit of another form, or without interval.
    """
    if fit.form != "M2":
        raise FitError(
            f"This is a fit of {fit.form}; the rule is made for M2. Fit again with form='M2'."
        )
    low, high = fit.conf_int().to_numpy(dtype=float)[2]
    named = bool(low > 0) and fit.beta < 0
    if named:
        begins, lower, upper = _crossing(fit)
        where = _where(begins, fit.curve.size)
        reason = (
            f"The 95 % interval of γ, [{low:.3g}, {high:.3g}], excludes 0; "
            f"power term and floor are equal {where} the sizes."
        )
    else:
        begins, lower, upper = math.inf, _earliest(fit, high), math.inf
        reason = f"No floor is named: γ may be 0 (95 % interval up to {high:.3g})."
        if low > 0:
            reason = "No floor is named: the fitted error does not fall towards one."
    return CurveRegions(
        x=fit.x,
        y=fit.y,
        table=_table(fit, begins),
        small_data_ends=_small_data_ends(fit),
        floor=fit.gamma if named else 0.0,
        floor_begins=begins,
        lower=lower,
        upper=upper,
        reason=reason,
        n_cells=fit.n_cells,
    )


def _where(begins: float, sizes: Array) -> str:
    if begins < sizes.min():
        return "below"
    return "within" if begins <= sizes.max() else "beyond"


def _crossing(fit: PowerLawFit) -> tuple[float, float, float]:
    """Return the size at which α m^β = γ, with its bounds."""
    logs = _log_crossings(np.vstack([fit.theta, fit.folds]))
    if not np.isfinite(logs).all():
        return float(np.exp(logs[0])), _earliest(fit, fit.gamma), math.inf
    bounds = Jackknife(logs[:1], logs[1:, None]).interval(LEVEL)[0]
    with np.errstate(over="ignore"):
        estimate, lower, upper = np.exp([logs[0], *bounds])
    return float(estimate), float(lower), float(upper)


def _log_crossings(theta: Array) -> Array:
    """Return (k,) log (γ/α)^(1/β) of (k, 3) rows; infinite without floor or fall."""
    crosses = (theta[:, 2] > 0) & (theta[:, 1] < 0)
    log_floor = np.log(np.where(crosses, theta[:, 2], 1.0))
    beta = np.where(crosses, theta[:, 1], -1.0)
    return np.where(crosses, (log_floor - theta[:, 0]) / beta, np.inf)


def _earliest(fit: PowerLawFit, floor: float) -> float:
    """Return the size at which a floor as high as `floor` would be half of the fitted error.

    0 where it would be from the first size on, infinity where the curve never falls so low.
    """
    if not 2 * floor < fit.predict(fit.curve.size.min()):
        return 0.0
    if fit.beta >= 0 or 2 * floor <= fit.gamma:
        return math.inf
    with np.errstate(over="ignore"):
        return float(np.exp((math.log(2 * floor - fit.gamma) - fit.theta[0]) / fit.beta))


def _table(fit: PowerLawFit, begins: float) -> pd.DataFrame:
    points = fit.points
    size = points[fit.x].to_numpy(dtype=float)
    in_floor = points["used"].to_numpy() & (size >= begins)
    region = np.where(in_floor, str(Region.FLOOR), points["region"].to_numpy())
    share = np.where(points["used"], fit.gamma / fit.predict(size), np.nan)
    named = {"mean_error": points["mean_error"], "region": region, "floor_share": share}
    return pd.DataFrame({fit.x: points[fit.x], **named})


def _small_data_ends(fit: PowerLawFit) -> float | None:
    small = fit.points["region"] == Region.SMALL_DATA
    return float(fit.points.loc[small, fit.x].max()) if small.any() else None

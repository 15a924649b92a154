"""What a chart of a learning curve draws: points, the fitted curve and its regions, as tables."""

import math

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.curves.curve_points import Region
from analysis.curves.power_law import PowerLawFit
from analysis.curves.regions import CurveRegions

__all__ = ["EXTRAPOLATED", "curve_lines", "curve_table", "drawn_sizes", "region_table"]

EXTRAPOLATED = 4.0
"""Times the largest size to which a curve is drawn on: enough to see where it leads, and within
what backtests of a few sizes can speak of."""


def curve_table(fit: PowerLawFit, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row a size: `size`, `error`, `lower`, `upper`, `interval`, `used`, `why`, `seeds`.

    At sizes used, the geometric mean over seeds with its 95 % t interval. Where that does not
    exist (sizes left out, a single seed), the range of all cells of that size in `cells`. At sizes
    used also the `residual`, error over the fitted one less 1, and its bounds `residual_lower` and
    `residual_upper`.
    """
    scores = fit.curve.envelope.log_error
    used = fit.points["used"].to_numpy()
    place = np.cumsum(used) - 1
    rows = []
    for index, point in enumerate(fit.points.to_dict("records")):
        at_size = cells.loc[cells[fit.x] == point[fit.x], fit.y]
        error = float(np.exp(point["mean_log_error"]))
        lower, upper = float(at_size.min()), float(at_size.max())
        interval = f"range of its {len(at_size)} cells"
        score = scores[place[index]] if used[index] else np.array([])
        score = score[~np.isnan(score)]
        if len(score) > 1:
            half = stdtrit(len(score) - 1, 0.975) * score.std(ddof=1) / math.sqrt(len(score))
            lower, upper = error * math.exp(-half), error * math.exp(half)
            interval = f"95 % t, {len(score)} seeds"
        size = float(point[fit.x])
        rows.append(
            (size, error, lower, upper, interval, used[index], point["why"], point["seeds"])
        )
    names = ["size", "error", "lower", "upper", "interval", "used", "why", "seeds"]
    table = pd.DataFrame(rows, columns=names)
    fitted = np.where(table["used"], fit.predict(table["size"]), np.nan)
    for name, of in {"": "error", "_lower": "lower", "_upper": "upper"}.items():
        table[f"residual{name}"] = table[of] / fitted - 1
    return table


def curve_lines(fit: PowerLawFit) -> pd.DataFrame:
    """Return the fitted curve: `size`, `error`, 95 % bounds `lower` and `upper`, `beyond`.

    `beyond`: whether the row belongs to the part after the largest size fitted. NaN bounds where
    there are none: of a fit without interval, and beyond the sizes of an unidentified one.
    """
    largest = fit.curve.size.max()
    within = np.geomspace(fit.curve.size.min(), largest, 60)
    beyond = np.geomspace(largest, EXTRAPOLATED * largest, 21)
    size = np.concatenate([within, beyond])
    table = pd.DataFrame({"size": size, "error": fit.predict(size), "lower": np.nan})
    table["upper"] = np.nan
    if fit.ci is not None:
        bounds = fit.predict_interval(size)[["lower", "upper"]].to_numpy()
        table[["lower", "upper"]] = np.where(np.isfinite(bounds[:, 1:]), bounds, np.nan)
    table["beyond"] = np.arange(len(size)) >= len(within)
    if not fit.identified:  # the curve's value at the largest size says nothing beyond it
        table.loc[table["beyond"], ["lower", "upper"]] = np.nan
    return table


def region_table(fit: PowerLawFit, regions: CurveRegions | None) -> pd.DataFrame:
    """Return one row a region of the drawn sizes: `region`, `start`, `end`.

    `regions`: those of the curve; None where its form has no floor that could be told.
    """
    sizes, used = fit.points[fit.x].to_numpy(dtype=float), fit.points["used"].to_numpy()
    low, high = drawn_sizes(fit)
    small = sizes[(fit.points["region"] == Region.SMALL_DATA).to_numpy()]
    first = math.sqrt(small.max() * sizes[used].min()) if len(small) else low
    floor = min(high, math.inf if regions is None else max(regions.floor_begins, first))
    rows = [
        (str(Region.SMALL_DATA), low, first),
        (str(Region.POWER_LAW), first, floor),
        (str(Region.FLOOR), floor, high),
    ]
    table = pd.DataFrame(rows, columns=["region", "start", "end"])
    return table[table["start"] < table["end"]].reset_index(drop=True)


def drawn_sizes(fit: PowerLawFit) -> tuple[float, float]:
    """Return the sizes between which a chart is drawn."""
    smallest, largest = fit.points[fit.x].min(), fit.points[fit.x].max()
    return float(smallest), max(float(largest), EXTRAPOLATED * float(fit.curve.size.max()))

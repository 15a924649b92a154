"""Charts of learning curves and of exponents: one Altair definition each, for HTML and PNG.

Every chart says in its subtitle how many cells it rests on and what its intervals are. Data are
means and intervals; raw rows are never embedded.
"""

import io
import math

import altair as alt
import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.chart_style import (
    FACTOR_NAMES,
    INK,
    LINE,
    MUTED,
    VERDICT_COLOURS,
    WIDTH,
    axis_name,
    finished,
    inline_data,
    interval_text,
    log_axis,
)
from analysis.power_law import PowerLawFit

__all__ = ["chart_png", "curve_table", "exponents_chart", "learning_curve_chart"]

FRAME = 420
"""Pixels across the frame of exponents: names stand left of it, numbers right."""
BOUNDS = ["lower95", "upper95", "lower90", "upper90"]


def chart_png(chart: alt.TopLevelMixin, *, scale: float = 2.0) -> bytes:
    """Return the chart as PNG, `scale` device pixels per chart pixel."""
    buffer = io.BytesIO()
    chart.save(buffer, format="png", scale_factor=scale)
    return buffer.getvalue()


def curve_table(fit: PowerLawFit, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row a size: `size`, `error`, `lower`, `upper`, `interval`, `used`, `why`, `seeds`.

    At sizes used, the geometric mean over seeds with its 95 % t interval. Where that does not
    exist (sizes left out, a single seed), the range of all cells of that size in `cells`.
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
    return pd.DataFrame(rows, columns=names)


def learning_curve_chart(fit: PowerLawFit, cells: pd.DataFrame) -> alt.TopLevelMixin:
    """Return error against size on log axes, with the fitted curve and its 95 % band.

    `cells`: the table that was fitted, for the ranges at sizes that were left out.
    """
    table = curve_table(fit, cells)
    table["points"] = np.where(table["used"], "used in the fit", "left out of the fit")
    within = np.geomspace(fit.curve.size.min(), fit.curve.size.max(), 60)
    band = fit.predict_interval(within).rename_axis("size").reset_index()
    low, high = fit.conf_int().loc[["beta"]].to_numpy(dtype=float)[0]
    size = alt.X("size:Q", title=f"{axis_name(fit.x)} (log scale)", **log_axis(table["size"]))
    around = table[["lower", "upper"]].to_numpy()
    # the whole band where it is of use; an unidentified one would squeeze the points to a line
    reach = band[["lower", "upper"]].clip(around.min() / 2, around.max() * 2).to_numpy()
    errors = np.concatenate([around, reach])
    error = alt.Y("error:Q", title=f"{axis_name(fit.y)} (log scale)", **log_axis(errors))
    fitted = alt.Chart(inline_data(band.rename(columns={"predicted": "error"})))
    points = alt.Chart(inline_data(table))
    complete = bool(table["used"].all())
    legend = None if complete else alt.Legend(title=None, orient="top")
    kinds = ["used in the fit", "left out of the fit"]
    tooltip = [
        alt.Tooltip("size:Q", title=axis_name(fit.x)),
        alt.Tooltip("error:Q", title="mean error", format=".4g"),
        alt.Tooltip("lower:Q", format=".4g"),
        alt.Tooltip("upper:Q", format=".4g"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("why:N", title="left out because"),
    ]
    layers = [
        fitted.mark_area(color=LINE, opacity=0.18, clip=True).encode(
            x=size, y=alt.Y("lower:Q"), y2="upper:Q"
        ),
        fitted.mark_line(color=LINE, strokeWidth=2).encode(x=size, y=error),
        points.mark_rule(color=INK, opacity=0.7).encode(x=size, y=alt.Y("lower:Q"), y2="upper:Q"),
        points.mark_point(color=INK, size=55, strokeWidth=1.5, opacity=1).encode(
            x=size,
            y=error,
            shape=alt.Shape(
                "points:N", scale=alt.Scale(domain=kinds, range=["circle", "diamond"])
            ).legend(legend),
            fill=alt.Fill("points:N", scale=alt.Scale(domain=kinds, range=[INK, "#ffffff"])).legend(
                legend
            ),
            tooltip=tooltip,
        ),
    ]
    sampled = ("", "")
    if fit.curve.binomial_variance.any():
        sampled = (", sampling of the held-out set included", ", on this held-out set")
    left_out = "" if complete else "; at sizes left out, the range of the cells"
    best = f" Best of {', '.join(fit.choose)}, scored on left-out seeds." if fit.choose else ""
    return finished(
        alt.layer(*layers).properties(width=WIDTH - 100, height=340),
        f"Learning curve of the {axis_name(fit.y)}",
        [
            f"Exponent β = {fit.beta:.3f}, 95 % interval {interval_text(low, high)}; "
            f"{fit.n_cells} cells, {len(fit.seeds)} seeds.{best}",
            f"Band: 95 % interval of the curve{sampled[0]}.",
            f"Bars: 95 % interval of the mean over seeds{sampled[1]}{left_out}.",
            f"Fit: {fit.status}.",
        ],
    )


def exponents_chart(verdicts: pd.DataFrame) -> alt.TopLevelMixin | None:
    """Return the exponents with intervals beside the band that counts as the claim.

    `verdicts`: rows of `verdict_table`. Rows without a claimed exponent or an estimate are not
    drawn; None where no row is left.
    """
    rows = verdicts[verdicts["claimed"].notna() & verdicts["exponent"].notna()].copy()
    if rows.empty:
        return None
    several = rows[["study", "grid", "part"]].drop_duplicates().shape[0] > 1
    where = rows["grid"] + rows["part"].where(rows["part"] == "", ", " + rows["part"])
    factor = rows["factor"].map(FACTOR_NAMES)
    rows["place"] = factor + "\n" + where if several else factor
    rows["text"] = [
        f"{exponent:.2f} {interval_text(low, high, 2)} {verdict}"
        for exponent, low, high, verdict in rows[
            ["exponent", "lower95", "upper95", "verdict"]
        ].to_numpy()
    ]
    rows["band_low"] = rows["claimed"] - rows["margin"]
    rows["band_high"] = rows["claimed"] + rows["margin"]
    bounds = rows[["lower95", "upper95", "exponent", "band_low", "band_high"]].to_numpy()
    bounds = bounds[np.isfinite(bounds)]
    low, high = max(bounds.min(), -1.0) - 0.1, min(bounds.max(), 3.0) + 0.1
    rows[BOUNDS] = rows[BOUNDS].clip(low, high)
    drawn = ["place", "exponent", "claimed", "band_low", "band_high", "verdict", "text"]
    y = alt.Y(
        "place:N",
        title=None,
        sort=None,
        axis=alt.Axis(labelLimit=240, ticks=False, labelExpr="split(datum.label, '\\n')"),
        scale=alt.Scale(paddingInner=0),
    )
    x = alt.X(
        "exponent:Q",
        title="exponent",
        scale=alt.Scale(domain=[low, high], nice=False, zero=False),
        axis=alt.Axis(tickCount=6),
    )
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(
            domain=[str(v) for v in VERDICT_COLOURS], range=[*VERDICT_COLOURS.values()]
        ),
        legend=None,
    )
    base = alt.Chart(inline_data(rows[[*drawn, *BOUNDS, "n_cells", "seeds"]])).encode(y=y)
    layers = [
        base.mark_bar(color="#e8efe9", height=alt.RelativeBandSize(1.0)).encode(
            x=alt.X("band_low:Q"), x2="band_high:Q"
        ),
        base.mark_tick(color=MUTED, height=alt.RelativeBandSize(1.0), thickness=1).encode(
            x=alt.X("claimed:Q")
        ),
        base.mark_rule(strokeWidth=1.5).encode(x=alt.X("lower95:Q"), x2="upper95:Q", color=colour),
        base.mark_rule(strokeWidth=4).encode(x=alt.X("lower90:Q"), x2="upper90:Q", color=colour),
        base.mark_point(filled=True, size=60, opacity=1, clip=True).encode(
            x=x,
            color=colour,
            tooltip=["place:N", "text:N", "n_cells:Q", "seeds:Q"],
        ),
        base.mark_text(align="left", color=INK, fontSize=12).encode(
            x=alt.value(FRAME + 10), text="text:N"
        ),
    ]
    return finished(
        alt.layer(*layers).properties(width=FRAME, height=alt.Step(38 if several else 30)),
        "Exponents of the batch-size law",
        [
            "Point: estimate. Thick: 90 % interval; thin: 95 % interval (jackknife over seeds), "
            "cut at the frame where unbounded.",
            f"Shaded: the band [1 − δ, 1 + δ] that counts as 1. "
            f"Behind each exponent: {_span(rows['n_cells'])} cells, {_span(rows['seeds'])} seeds.",
        ],
    )


def _span(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"

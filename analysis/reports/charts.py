"""Charts of learning curves: one Altair definition each, for HTML and PNG.

Every chart says in its subtitle how many cells it rests on and what its intervals are. Data are
means and intervals; raw rows are never embedded.
"""

import io
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis.curves.curve_points import Region
from analysis.curves.power_law import PowerLawFit
from analysis.curves.regions import CurveRegions, curve_regions
from analysis.errors import FitError
from analysis.reports.chart_style import (
    INK,
    LINE,
    WIDTH,
    axis_name,
    finished,
    inline_data,
    interval_text,
    log_axis,
)
from analysis.reports.curve_data import curve_lines, curve_table, drawn_sizes, region_table
from analysis.summary_table import format_number

__all__ = ["chart_png", "learning_curve_chart"]

REGION_COLOURS = {
    str(Region.SMALL_DATA): "#d9d9e0",
    str(Region.POWER_LAW): "#e2eedf",
    str(Region.FLOOR): "#f8ddb8",
}
KINDS = ("used in the fit", "left out of the fit")


def chart_png(chart: alt.TopLevelMixin, *, scale: float = 2.0) -> bytes:
    """Return the chart as PNG, `scale` device pixels per chart pixel."""
    buffer = io.BytesIO()
    chart.save(buffer, format="png", scale_factor=scale)
    return buffer.getvalue()


def learning_curve_chart(fit: PowerLawFit, cells: pd.DataFrame) -> alt.TopLevelMixin:
    """Return error against size on log axes with the fit, and what the fit leaves beneath.

    The curve has its 95 % band, goes on dashed beyond the sizes, and stands on the regions of the
    sizes. `cells`: the table that was fitted, for the ranges at sizes that were left out.
    """
    table, lines = curve_table(fit, cells), curve_lines(fit)
    regions = _regions(fit)
    axis = log_axis(drawn_sizes(fit))
    panels = [
        _curve_panel(fit, table, lines, region_table(fit, regions), axis),
        _residual_panel(fit, table, axis),
    ]
    return finished(
        alt.vconcat(*panels, spacing=6),
        f"Learning curve of the {axis_name(fit.y)}",
        _subtitle(fit, table, lines, regions),
    )


def _regions(fit: PowerLawFit) -> CurveRegions | None:
    try:
        return curve_regions(fit)
    except FitError:
        return None


def _frame(table: pd.DataFrame, lines: pd.DataFrame) -> tuple[float, float]:
    """Return the errors of the frame: bars, curve, and of its band what is not far from them.

    A band without use would squeeze the points to a line. Of the bars, what is above 0: a cell
    without an error has no place on a log axis.
    """
    bars = table[["error", "lower", "upper"]].to_numpy().ravel()
    drawn = np.concatenate([bars[bars > 0], lines["error"]])
    low, high = float(drawn.min()), float(drawn.max())
    band = lines[["lower", "upper"]].to_numpy()
    band = np.clip(band[np.isfinite(band)], low / 3, high * 2)
    return min([low, *band]), max([high, *band])


def _curve_panel(
    fit: PowerLawFit,
    table: pd.DataFrame,
    lines: pd.DataFrame,
    regions: pd.DataFrame,
    axis: dict[str, Any],
) -> Any:
    silent = alt.Axis(values=axis["axis"].values, labels=False, title=None, ticks=False)
    x = alt.X("size:Q", scale=axis["scale"], axis=silent)
    y_axis = log_axis(_frame(table, lines))
    y_axis["axis"].minExtent = 44
    y = alt.Y("error:Q", title=f"{axis_name(fit.y)} (log scale)", **y_axis)
    ends = {"y": alt.Y("lower:Q"), "y2": "upper:Q"}
    layers = [_region_layer(regions, axis)]
    for beyond, opacity, dash in ((False, 0.22, [1, 0]), (True, 0.10, [5, 4])):
        part = lines[lines["beyond"] == beyond]
        banded = part[part["lower"].notna()]
        if len(banded):
            band = alt.Chart(inline_data(banded))
            layers.append(
                band.mark_area(color=LINE, opacity=opacity, clip=True).encode(x=x, **ends)
            )
            layers += [
                band.mark_line(
                    color=LINE, strokeWidth=0.8, opacity=0.6, strokeDash=dash, clip=True
                ).encode(x=x, y=alt.Y(f"{side}:Q"))
                for side in ("lower", "upper")
            ]
        layers.append(
            alt.Chart(inline_data(part))
            .mark_line(color=LINE, strokeWidth=2, strokeDash=dash, clip=True)
            .encode(x=x, y=y)
        )
    points = _points(fit, table, x, y, _frame(table, lines)[0])
    return alt.layer(*layers, *points).properties(width=WIDTH - 100, height=320)


def _region_layer(regions: pd.DataFrame, axis: dict[str, Any]) -> Any:
    """Return the regions as grounds, the first and the last up to the frame."""
    drawn = regions.copy()
    drawn.loc[drawn.index[0], "start"], drawn.loc[drawn.index[-1], "end"] = axis["scale"].domain
    present = {name: REGION_COLOURS[name] for name in drawn["region"]}
    return (
        alt.Chart(inline_data(drawn))
        .mark_rect(opacity=0.6)  # lets the grid through
        .encode(
            x=alt.X("start:Q", scale=axis["scale"]),
            x2="end:Q",
            color=alt.Color(
                "region:N",
                scale=alt.Scale(domain=[*present], range=[*present.values()]),
                legend=alt.Legend(title=None, orient="top", symbolType="square", symbolOpacity=1),
            ),
            tooltip=["region:N", alt.Tooltip("start:Q", format=".4g")],
        )
    )


def _points(fit: PowerLawFit, table: pd.DataFrame, x: alt.X, y: alt.Y, lowest: float) -> list[Any]:
    """Return bars and points; a bar from an error of 0 begins at the frame's `lowest`."""
    bars = alt.Chart(inline_data(table.assign(**table[["lower", "upper"]].clip(lower=lowest))))
    named = table.assign(points=np.where(table["used"], *KINDS))
    points = alt.Chart(inline_data(named))
    legend = None if table["used"].all() else alt.Legend(title=None, orient="top")
    tooltip = [
        alt.Tooltip("size:Q", title=axis_name(fit.x)),
        alt.Tooltip("error:Q", title="geometric mean", format=".4g"),
        alt.Tooltip("lower:Q", format=".4g"),
        alt.Tooltip("upper:Q", format=".4g"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("why:N", title="left out because"),
    ]
    shape = alt.Scale(domain=list(KINDS), range=["circle", "diamond"])
    fill = alt.Scale(domain=list(KINDS), range=[INK, "#ffffff"])
    return [
        bars.mark_rule(color=INK, opacity=0.7).encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q"),
        points.mark_point(color=INK, size=55, strokeWidth=1.5, opacity=1).encode(
            x=x,
            y=y,
            shape=alt.Shape("points:N", scale=shape).legend(legend),
            fill=alt.Fill("points:N", scale=fill).legend(legend),
            tooltip=tooltip,
        ),
    ]


def _residual_panel(fit: PowerLawFit, table: pd.DataFrame, axis: dict[str, Any]) -> Any:
    """Return error over the fitted one less 1, against size."""
    names = ["residual", "residual_lower", "residual_upper"]
    used = table.loc[table["used"], ["size", *names, "interval"]]
    reach = 1.15 * float(used[names].abs().to_numpy().max()) or 0.01
    x = alt.X("size:Q", title=f"{axis_name(fit.x)} (log scale)", **axis)
    y = alt.Y(
        "residual:Q",
        title="error / fit − 1",
        scale=alt.Scale(domain=[-reach, reach], nice=False),
        axis=alt.Axis(format="+.2~p", tickCount=4, minExtent=44),
    )
    zero = alt.Chart(inline_data(pd.DataFrame({"zero": [0.0]})))
    points = alt.Chart(inline_data(used))
    layers = [
        zero.mark_rule(color=LINE, strokeWidth=2).encode(y=alt.Y("zero:Q")),
        points.mark_rule(color=INK, opacity=0.7).encode(
            x=x, y=alt.Y("residual_lower:Q"), y2="residual_upper:Q"
        ),
        points.mark_point(color=INK, size=40, filled=True, opacity=1).encode(
            x=x, y=y, tooltip=["size:Q", alt.Tooltip("residual:Q", format="+.2~p"), "interval:N"]
        ),
    ]
    return alt.layer(*layers).properties(width=WIDTH - 100, height=110)


def _subtitle(
    fit: PowerLawFit, table: pd.DataFrame, lines: pd.DataFrame, regions: CurveRegions | None
) -> list[str]:
    held_out = bool(fit.curve.binomial_variance.any())
    best = (
        f" Best of {', '.join(fit.choose)}, scored on left-out seeds." if fit.curve.chosen else ""
    )
    left_out = "" if table["used"].all() else "; at sizes left out, the range of the cells"
    within = ", on this held-out set" if held_out else ""
    sentences = [
        f"{_exponent_text(fit)}; {fit.n_cells} cells, {len(fit.seeds) or 1} seeds, "
        f"{int(table['used'].sum())} of {len(table)} sizes.",
        _band_text(fit, table, lines, held_out=held_out),
        f"Bars: 95 % t interval of the mean over seeds{within}{left_out}. "
        "Below: what the fit leaves.",
        f"Fit of {fit.form}: {fit.status}. {_regions_text(regions)}{best}",
    ]
    return [sentence.strip() for sentence in sentences if sentence]


def _exponent_text(fit: PowerLawFit) -> str:
    if "beta" not in fit.params:
        numbers = ", ".join(f"{name} {format_number(v)}" for name, v in fit.params.items())
        return f"Parameters {numbers}"
    if fit.ci is None:
        return f"Exponent β = {fit.beta:.3f}, without interval"
    low, high = fit.conf_int().loc[["beta"]].to_numpy(dtype=float)[0]
    method = "jackknife over seeds" if fit.ci == "jackknife" else "profile likelihood"
    return f"Exponent β = {fit.beta:.3f}, 95 % interval {interval_text(low, high)} ({method})"


def _band_text(
    fit: PowerLawFit, table: pd.DataFrame, lines: pd.DataFrame, *, held_out: bool
) -> str:
    beyond = "Dashed: beyond the sizes, if the form goes on to hold"
    if fit.ci is None:
        return f"{beyond}."
    low, high = _frame(table, lines)
    cut = bool((lines["lower"] < low).any() or (lines["upper"] > high).any())
    sampling = ", sampling of the held-out set included" if held_out else ""
    unbounded = "" if fit.identified else "; its band has no bounds there"
    return (
        f"Band: 95 % interval of the curve, jackknife over seeds{sampling}"
        f"{', cut at the frame' if cut else ''}. {beyond}{unbounded}."
    )


def _regions_text(regions: CurveRegions | None) -> str:
    if regions is None:
        return ""
    if not regions.has_floor:
        return "No floor can be told from 0."
    bounds = interval_text(regions.lower, regions.upper, 4, general=True)
    return f"Floor from {format_number(regions.floor_begins)} on, 95 % interval {bounds}."

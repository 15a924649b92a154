"""Charts of the batch-size law: the curves whose optima it is about, and the optima themselves."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.batch_law import BatchSizeLaw
from analysis.censored_regression import fit_interval_censored
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
    powers_of_two,
)
from analysis.optimum import OptimumLabel
from analysis.peak_regression import FACTORS
from analysis.verdict import Verdict

__all__ = ["batch_curves_chart", "optimum_chart"]

Floats = NDArray[np.float64]

MARKS = {
    "interior": "circle",
    "plateau": "square",
    "censored below": "triangle-down",
    "censored above": "triangle-up",
    "flat": "cross",
}
MOST_ROWS, MOST_COLUMNS, MOST_COLOURS = 6, 4, 6
"""Facets and colours up to which a page of batch-size curves stays readable."""


def batch_curves_chart(law: BatchSizeLaw, cells: pd.DataFrame) -> alt.TopLevelMixin:
    """Return the error against the batch size for each (ε, N, m), with what is known of B_opt.

    The factor with the most levels is the colour, the next the row, the last the column. `cells`:
    the table that was checked.
    """
    kept = cells[cells[columns.CELL_ID].isin(law.cell_ids)]
    factors = [columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM]
    colour, row, column = sorted(factors, key=lambda name: -kept[name].nunique())
    limits = {colour: MOST_COLOURS, row: MOST_ROWS, column: MOST_COLUMNS}
    shown = {name: _some(np.sort(kept[name].unique()), most) for name, most in limits.items()}
    inside = np.logical_and.reduce([kept[name].isin(levels) for name, levels in shown.items()])
    kept = kept[inside]
    by = [*factors, columns.BATCH_SIZE]
    curves = kept.groupby(by)[law.y].agg(["mean", "min", "max"]).reset_index()
    curves = curves.set_axis([*factors, "batch", "error", "lower", "upper"], axis=1)
    positive = bool(curves["lower"].min() > 0)
    errors = curves[["lower", "upper"]].to_numpy()
    marks = _optimum_marks(law, curves, factors)
    data = pd.concat([curves.assign(kind="curve"), marks.assign(kind="optimum")])
    data = data.rename(columns={colour: "colour", row: "row", column: "column"})
    n_columns = len(shown[column])
    width = min(300, (WIDTH - 130) / n_columns - 16)
    axes: dict[str, Any] = {
        "x": alt.X(
            "batch:Q",
            title=axis_name(columns.BATCH_SIZE),
            **log_axis(curves["batch"], powers_of_two(curves["batch"])),
        ),
        "color": alt.Color(
            "colour:O",
            title=axis_name(colour),
            scale=alt.Scale(range=_shades(len(shown[colour]))),
            legend=alt.Legend(
                orient="top", symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1
            ),
        ),
    }
    y = alt.Y("error:Q", title=None, **(log_axis(errors) if positive else {}))
    tooltip = [
        alt.Tooltip("colour:O", title=axis_name(colour)),
        alt.Tooltip("batch:Q", title="batch size", format=".4g"),
        alt.Tooltip("error:Q", format=".4g"),
    ]
    bounds = [alt.Tooltip("lower:Q", format=".4g"), alt.Tooltip("upper:Q", format=".4g")]
    base = alt.Chart().encode(**axes)
    of_curves = base.transform_filter(alt.datum.kind == "curve")
    of_optima = base.transform_filter(alt.datum.kind == "optimum")
    layered = alt.layer(
        of_curves.mark_rule(opacity=0.4).encode(y=alt.Y("lower:Q"), y2="upper:Q"),
        of_curves.mark_line(strokeWidth=1.4).encode(y=y, tooltip=[*tooltip, *bounds]),
        of_optima.mark_point(
            size=70, filled=True, stroke="#ffffff", strokeWidth=0.8, opacity=1
        ).encode(
            y=y,
            shape=alt.Shape(
                "optimum:N",
                title="optimum",
                scale=alt.Scale(domain=list(MARKS), range=list(MARKS.values())),
                legend=alt.Legend(orient="top", symbolFillColor=MUTED, symbolStrokeColor=MUTED),
            ),
            tooltip=[*tooltip, alt.Tooltip("optimum:N"), alt.Tooltip("between:N", title="B_opt")],
        ),
        data=inline_data(data),
    ).properties(width=width, height=130)
    header = alt.Header(
        labelFontSize=11, titleFontSize=11, titleFontWeight="normal", labelPadding=4
    )
    facets: dict[str, Any] = {}
    if len(shown[row]) > 1:
        facets["row"] = alt.Row("row:O", title=axis_name(row), header=header)
    if n_columns > 1:
        facets["column"] = alt.Column("column:O", title=axis_name(column), header=header)
    chart = layered.facet(**facets, spacing=10) if facets else layered
    hidden = [
        f"{len(levels)} of {cells[name].nunique()} values of {name}"
        for name, levels in shown.items()
        if len(levels) < cells[name].nunique()
    ]
    return finished(
        chart,
        f"{axis_name(law.y).capitalize()} against batch size"
        + (" (log scales)" if positive else " (batch size on a log scale)"),
        [
            f"{law.n_cells} cells, {law.degrees_of_freedom + 1} seeds, {len(law.optima)} curves. "
            "Lines: mean over seeds. Bars: range of the seeds.",
            "Marks: best batch size by label; its interval is in the tooltip and in the table.",
            *([f"Shown are {', '.join(hidden)}; the tables hold all."] if hidden else []),
        ],
    )


def optimum_chart(law: BatchSizeLaw) -> alt.TopLevelMixin | None:
    """Return B_opt against each factor, the others' fitted effects taken out; None without a fit.

    Where the regression has no exponent there is nothing to take out the others with, and the
    curves themselves are what can be looked at.
    """
    exponents = law.exponents["exponent"].to_numpy()
    estimated = np.isfinite(exponents)
    if not estimated.any():
        return None
    octaves = law.observations.octaves
    centred = octaves - octaves.mean(axis=0)
    effects = np.where(estimated, centred * np.nan_to_num(exponents), 0.0)
    lower, upper = law.observations.lower[:1], law.observations.upper[:1]
    total = effects.sum(axis=1)
    constant = np.ones((len(octaves), 1))
    level = float(fit_interval_censored(constant, lower - total, upper - total).coefficients[0, 0])
    informative = law.observations.informative
    factors = [int(factor) for factor in np.flatnonzero(estimated)]
    known = np.concatenate([lower[0], upper[0]])
    adjusted = [np.exp2(known - np.tile(total - effects[:, f], 2)) for f in factors]
    fitted = [np.exp2(level + centred[:, f] * max(exponents[f], 1.0)) for f in factors]
    heights = np.concatenate([*adjusted, *fitted])
    panels = [
        _optimum_panel(law, f, centred, total - effects[:, f], level, heights) for f in factors
    ]
    words = {str(label): int((law.optima["label"] == label).sum()) for label in OptimumLabel}
    counts = ", ".join(f"{count} {label}" for label, count in words.items() if count)
    return finished(
        alt.hconcat(*panels, spacing=24).resolve_scale(y="shared"),
        "Best batch size against each factor",
        [
            f"{informative.sum()} of {len(octaves)} groups ({counts}); {law.n_cells} cells, "
            f"{law.degrees_of_freedom + 1} seeds. The other factors are held at their mean by "
            "their fitted exponents.",
            "Line: fitted exponent. Band: its 95 % interval, about the mean. Dashed: exponent 1. "
            "Bars: no vertex, B_opt lies in between.",
            "Triangles: B_opt is above (▲) or below (▼) the mark. Flat groups say nothing and are "
            "not drawn. Groups of one level stand side by side.",
        ],
    )


def _optimum_panel(
    law: BatchSizeLaw, factor: int, centred: Floats, others: Floats, level: float, heights: Floats
) -> Any:
    """Return B_opt less the effects of the `others` (octaves) against one factor."""
    name = FACTORS[factor]
    octaves = law.observations.octaves
    value = np.exp2(octaves[:, factor])
    low, high = law.observations.lower[0] - others, law.observations.upper[0] - others
    optima = law.optima["log2_optimum"].to_numpy() - others
    rows = pd.DataFrame({"value": value, "optimum": np.exp2(optima)})
    rows["lower"], rows["upper"] = np.exp2(low), np.exp2(high)
    rows["mark"] = _mark_names(law)
    rows = rows[law.observations.informative]
    rows["beside"] = rows["value"] * _beside(rows["value"])
    between = rows[np.isfinite(rows["lower"]) & np.isfinite(rows["upper"]) & (rows["lower"] > 0)]
    between = between[between["lower"] < between["upper"]]
    one_sided = rows[rows["mark"].str.startswith("censored")].copy()
    above = one_sided["mark"] == "censored above"
    one_sided["optimum"] = np.where(above, one_sided["lower"], one_sided["upper"])
    one_sided = one_sided[np.isfinite(one_sided["optimum"]) & (one_sided["optimum"] > 0)]
    exponent = law.exponents.loc[name]
    start, end = centred[:, factor].min(), centred[:, factor].max()
    along = np.linspace(start, end, 25)
    slopes = exponent[["exponent", "lower95", "upper95"]].to_numpy(dtype=float)
    line = pd.DataFrame(
        {
            "value": np.exp2(along - start) * value.min(),
            "optimum": np.exp2(level + slopes[0] * along),
            "one": np.exp2(level + along),
        }
    )
    layers = []
    if np.isfinite(slopes).all():
        sides = np.exp2(level + np.outer(slopes[1:], along))
        line["lower"], line["upper"] = sides.min(axis=0), sides.max(axis=0)
    x = alt.X(
        "value:Q",
        title=f"{FACTOR_NAMES[name]} (log scale)",
        **log_axis(value, np.unique(value)),
    )
    y = alt.Y("optimum:Q", title="B_opt (log scale)", **log_axis(heights, powers_of_two(heights)))
    lines = alt.Chart(inline_data(line))
    if "lower" in line:
        layers.append(
            lines.mark_area(color=LINE, opacity=0.18).encode(x=x, y=alt.Y("lower:Q"), y2="upper:Q")
        )
    beside = alt.X("beside:Q")
    tooltip = ["value:Q", alt.Tooltip("optimum:Q", format=".4g"), "mark:N"]
    layers += [
        lines.mark_line(color=MUTED, strokeDash=[5, 4]).encode(x=x, y=alt.Y("one:Q")),
        lines.mark_line(color=LINE, strokeWidth=2).encode(x=x, y=y),
        alt.Chart(inline_data(between))
        .mark_rule(color=INK, opacity=0.5)
        .encode(x=beside, y=alt.Y("lower:Q"), y2="upper:Q"),
        alt.Chart(inline_data(rows[rows["optimum"].notna()]))
        .mark_point(filled=True, color=INK, size=36, opacity=0.55)
        .encode(x=beside, y=y, tooltip=tooltip),
        alt.Chart(inline_data(one_sided[one_sided["mark"] == "censored above"]))
        .mark_point(shape="triangle-up", color=VERDICT_COLOURS[Verdict.CENSORED], size=50)
        .encode(x=beside, y=y, tooltip=tooltip),
        alt.Chart(inline_data(one_sided[one_sided["mark"] == "censored below"]))
        .mark_point(shape="triangle-down", color=VERDICT_COLOURS[Verdict.CENSORED], size=50)
        .encode(x=beside, y=y, tooltip=tooltip),
    ]
    heading = (
        f"exponent {slopes[0]:.2f} {interval_text(slopes[1], slopes[2], 2)}, {law.verdicts[name]}"
    )
    return alt.layer(*layers).properties(
        width=(WIDTH - 60) / 3 - 60, height=250, title=alt.Title(heading, fontSize=12)
    )


def _beside(value: "pd.Series[float]") -> "pd.Series[float]":
    """Return factors that set groups of one level apart, across a fifth of the least gap."""
    octaves = np.unique(np.log2(value))
    gap = np.diff(octaves).min() if len(octaves) > 1 else 1.0
    rank = value.groupby(value).cumcount() / value.groupby(value).transform("size")
    return 2.0 ** (gap / 5 * (rank - 0.5))


def _optimum_marks(law: BatchSizeLaw, curves: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """Return where each group's optimum is drawn on its curve, what it is, and its interval."""
    optima = law.optima.assign(optimum=_mark_names(law))
    lowest = curves.loc[curves.groupby(list(factors))["error"].idxmin()]
    marks = lowest.drop(columns=["lower", "upper"]).merge(optima, on=list(factors))
    marks["batch"] = marks["optimal_batch_size"].fillna(marks["batch"])
    marks["between"] = [
        interval_text(2.0**low, 2.0**high, 4, general=True)
        for low, high in marks[["log2_lower", "log2_upper"]].to_numpy()
    ]
    return marks[[*factors, "batch", "error", "optimum", "between"]]


def _mark_names(law: BatchSizeLaw) -> list[str]:
    names = []
    for label, high in law.optima[["label", "log2_upper"]].itertuples(index=False):
        side = " above" if math.isinf(high) else " below"
        names.append(f"{label}{side if label == OptimumLabel.CENSORED else ''}")
    return names


def _some(levels: Any, most: int) -> list[Any]:
    """Return at most `most` of the levels, spread evenly from the first to the last."""
    places = np.unique(np.linspace(0, len(levels) - 1, min(most, len(levels))).round().astype(int))
    return [levels[place] for place in places]


def _shades(count: int) -> list[str]:
    """Return colours from dark to light of viridis, without its pale end: ordered levels."""
    viridis = ["#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90b52f"]
    return _some(viridis, count) if count > 1 else ["#31688e"]

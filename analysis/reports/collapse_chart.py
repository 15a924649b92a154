"""The curves of a batch-size law before and after its collapse onto one shape."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis import columns
from analysis.batches.batch_law import BatchSizeLaw
from analysis.batches.factors import FACTORS
from analysis.reports.chart_style import (
    INK,
    WIDTH,
    axis_name,
    finished,
    inline_data,
    interval_text,
    log_axis,
    powers_of_two,
    shades,
)

__all__ = ["collapse_chart", "collapse_table"]

LETTERS = dict(zip(FACTORS, ("ε", "N", "1/(1−m)"), strict=True))


def collapse_table(law: BatchSizeLaw) -> pd.DataFrame:
    """Return `law.collapse.curves` with what the chart draws.

    Columns also `batch`, `above_level` (mean error less the level that the collapse gives the
    group) and `by`, the value of the factor with the most levels.
    """
    curves = law.collapse.curves
    table = curves.assign(batch=np.exp2(curves["log2_batch"]), above_level=np.nan)
    for _, rows in curves.groupby("group"):
        # the scaled error is the error less a level, over a height: two numbers a group
        _, level = np.polyfit(rows["scaled_error"], rows["mean_error"], 1)
        table.loc[rows.index, "above_level"] = rows["mean_error"] - level
    by = most_levels(law)
    return table.assign(by=law.optima[by].to_numpy()[curves["group"]])


def most_levels(law: BatchSizeLaw) -> str:
    """Return the factor of which the law's groups have the most levels."""
    factors = [columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM]
    return max(factors, key=lambda name: law.optima[name].nunique())


def collapse_chart(law: BatchSizeLaw) -> alt.TopLevelMixin | None:
    """Return the windowed curves as they are, and moved onto one another; None without collapse."""
    if law.collapse.curves.empty:
        return None
    table = collapse_table(law)
    values = table[["above_level", "scaled_error", "shape"]].to_numpy()
    room = 0.06 * float(np.ptp(values))
    scale = alt.Scale(domain=[float(values.min()) - room, float(values.max()) + room], nice=False)
    levels = np.sort(table["by"].unique())
    colour = alt.Color(
        "by:O",
        title=axis_name(most_levels(law)),
        scale=alt.Scale(range=shades(len(levels))),
        legend=alt.Legend(orient="top", symbolType="circle", symbolOpacity=1, labelOverlap=True),
    )
    panels = [_before(law, table, scale, colour), _after(law, table, scale, colour)]
    return finished(
        alt.hconcat(*panels, spacing=28), "Curves before and after the collapse", _subtitle(law)
    )


def _before(law: BatchSizeLaw, table: pd.DataFrame, scale: alt.Scale, colour: alt.Color) -> Any:
    size = axis_name(columns.BATCH_SIZE) if law.form == "B" else "B / (1 − B/N)"
    base = alt.Chart(inline_data(table[["group", "batch", "above_level", "by", "mean_error"]]))
    x = alt.X(
        "batch:Q",
        title=f"{size} (log scale)",
        **log_axis(table["batch"], powers_of_two(table["batch"])),
    )
    y = alt.Y("above_level:Q", title="error above its group's level", scale=scale)
    tooltip = [alt.Tooltip("batch:Q", format=".4g"), alt.Tooltip("mean_error:Q", format=".4g")]
    layers = [
        base.mark_line(strokeWidth=1, opacity=0.6).encode(x=x, y=y, color=colour, detail="group:N"),
        base.mark_point(filled=True, size=14, opacity=0.7).encode(
            x=x, y=y, color=colour, tooltip=[*tooltip, "by:O"]
        ),
    ]
    return _panel(layers, "Before: as measured")


def _after(law: BatchSizeLaw, table: pd.DataFrame, scale: alt.Scale, colour: alt.Color) -> Any:
    widths = law.collapse.stretched
    moved = table[["octaves_from_optimum", "scaled_error", "by", "batch"]]
    shape = table[["octaves_from_optimum", "shape"]].sort_values("octaves_from_optimum")
    shape = shape.iloc[np.unique(np.linspace(0, len(shape) - 1, 200).round().astype(int))]
    low, high = shape["octaves_from_optimum"].iloc[[0, -1]] + np.array([-0.15, 0.15])
    x = alt.X(
        "octaves_from_optimum:Q",
        title="octaves from the law's optimum" + (", over the width" if widths else ""),
        scale=alt.Scale(domain=[float(low), float(high)], nice=False),
    )
    tooltip = [alt.Tooltip("batch:Q", format=".4g"), alt.Tooltip("scaled_error:Q", format=".4g")]
    layers = [
        alt.Chart(inline_data(moved))
        .mark_point(filled=True, size=16, opacity=0.7)
        .encode(
            x=x,
            y=alt.Y("scaled_error:Q", title="the same over its group's height", scale=scale),
            color=colour,
            tooltip=[*tooltip, "by:O"],
        ),
        alt.Chart(inline_data(shape))
        .mark_line(color=INK, strokeWidth=1.6, interpolate="monotone")
        .encode(x=x, y=alt.Y("shape:Q", scale=scale)),
    ]
    how = "moved by the exponents, and stretched" if widths else "moved by the exponents"
    return _panel(layers, f"After: {how}. Line: the common shape")


def _panel(layers: list[Any], title: str) -> Any:
    return alt.layer(*layers).properties(
        width=(WIDTH - 160) / 2, height=280, title=alt.Title(title, fontSize=12)
    )


def _subtitle(law: BatchSizeLaw) -> list[str]:
    exponents, curves = law.collapse.exponents, law.collapse.curves
    bounds = exponents[["exponent", "lower95", "upper95"]].to_numpy(dtype=float)
    said = [
        f"{LETTERS[factor]} {exponent:.2f} {interval_text(low, high, 2)}"
        for factor, (exponent, low, high) in zip(exponents.index, bounds, strict=True)
        if np.isfinite(exponent)
    ]
    interval = "95 % intervals, jackknife over seeds"
    if law.collapse.failure:
        interval = f"no interval: {law.collapse.failure}"
    fit = ""
    if np.isfinite(law.collapse.lack_of_fit):
        fit = f" Lack of fit: p\u00a0=\u00a0{law.collapse.lack_of_fit:.2g}."
    seeds = law.degrees_of_freedom + 1
    return [
        f"Exponents {', '.join(said)}; {interval}.{fit}" if said else f"No exponent; {interval}.",
        f"{curves['group'].nunique()} of {len(law.optima)} groups, {len(curves)} batch sizes of "
        f"them within 2.5 octaves of the optimum and above the cliff: "
        f"{len(curves) * seeds} of {law.n_cells} cells, means of {seeds} seeds.",
    ]

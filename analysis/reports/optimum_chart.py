"""The best batch sizes against each factor, about the exponents that were fitted to them."""

import math
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.batches.batch_law import BatchSizeLaw
from analysis.batches.factors import FACTORS
from analysis.batches.optimum import OptimumLabel
from analysis.fits.censored_regression import fit_interval_censored
from analysis.reports.chart_style import (
    FACTOR_NAMES,
    INK,
    LINE,
    MUTED,
    VERDICT_COLOURS,
    WIDTH,
    finished,
    inline_data,
    interval_text,
    log_axis,
    powers_of_two,
)
from analysis.verdict import Verdict

__all__ = ["mark_names", "optimum_chart"]

Floats = NDArray[np.float64]


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
            "Line: fitted exponent. Band: its 95 % interval, jackknife over seeds, about the mean. "
            "Dashed: exponent 1. Bars: no vertex, B_opt lies in between.",
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
    rows["mark"] = mark_names(law)
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


def mark_names(law: BatchSizeLaw) -> list[str]:
    """Return the label of each group, with the side of one that is censored."""
    names = []
    for label, high in law.optima[["label", "log2_upper"]].itertuples(index=False):
        side = " above" if math.isinf(high) else " below"
        names.append(f"{label}{side if label == OptimumLabel.CENSORED else ''}")
    return names

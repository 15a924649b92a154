"""The curves of error against batch size, with what is known of their optima and edges."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis import columns
from analysis.batches.batch_law import BatchSizeLaw
from analysis.reports.chart_style import (
    MUTED,
    WIDTH,
    axis_name,
    finished,
    inline_data,
    interval_text,
    log_axis,
    powers_of_two,
    shades,
    some,
)
from analysis.reports.optimum_chart import mark_names

__all__ = ["batch_curves_chart"]

FACTORS = [columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM]
MARKS = {
    "interior": "circle",
    "plateau": "square",
    "censored below": "triangle-down",
    "censored above": "triangle-up",
    "flat": "cross",
}
EDGE_MARK = "M0,-1.3L0,1.3"
"""An upright tick."""
MOST_ROWS, MOST_COLUMNS, MOST_COLOURS = 6, 4, 6
"""Facets and colours up to which a page of batch-size curves stays readable."""


@dataclass(frozen=True)
class _Layout:
    """Which factor is the colour, the row and the column, and which of their levels are shown."""

    colour: str
    row: str
    column: str
    shown: Mapping[str, list[Any]]

    @classmethod
    def of(cls, cells: pd.DataFrame) -> "_Layout":
        colour, row, column = sorted(FACTORS, key=lambda name: -cells[name].nunique())
        limits = {colour: MOST_COLOURS, row: MOST_ROWS, column: MOST_COLUMNS}
        levels = {name: some(np.sort(cells[name].unique()), most) for name, most in limits.items()}
        return cls(colour, row, column, levels)

    def inside(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a table that are shown."""
        shown = [table[name].isin(levels) for name, levels in self.shown.items()]
        return table[np.logical_and.reduce(shown)]

    def hidden(self, cells: pd.DataFrame) -> list[str]:
        """Return such as `6 of 8 values of momentum` for each factor that is not shown whole."""
        return [
            f"{len(levels)} of {cells[name].nunique()} values of {name}"
            for name, levels in self.shown.items()
            if len(levels) < cells[name].nunique()
        ]


def batch_curves_chart(law: BatchSizeLaw, cells: pd.DataFrame) -> alt.TopLevelMixin:
    """Return the error against the batch size for each (ε, N, m), with what is known of B_opt.

    The factor with the most levels is the colour, the next the row, the last the column. `cells`:
    the table that was checked.
    """
    used = cells[cells[columns.CELL_ID].isin(law.cell_ids)]
    layout = _Layout.of(used)
    curves = _curves(law, layout.inside(used))
    marks = layout.inside(_optimum_marks(law, curves))
    edges = layout.inside(_edge_marks(law, curves))
    kinds = {"curve": curves, "optimum": marks, "edge": edges}
    parts = [part.assign(kind=kind) for kind, part in kinds.items() if len(part)]
    roles = {layout.colour: "colour", layout.row: "row", layout.column: "column"}
    positive = bool(curves["lower"].min() > 0)
    scales = " (log scales)" if positive else " (batch size on a log scale)"
    return finished(
        _faceted(pd.concat(parts).rename(columns=roles), layout, positive=positive),
        f"{axis_name(law.y).capitalize()} against batch size{scales}",
        _subtitle(law, layout.hidden(used), _edges_said(law, drawn=len(edges) > 0)),
    )


def _curves(law: BatchSizeLaw, cells: pd.DataFrame) -> pd.DataFrame:
    """Return mean and range over seeds of each batch size of each group."""
    by = cells.groupby([*FACTORS, columns.BATCH_SIZE])[law.y]
    table = by.agg(["mean", "min", "max"]).reset_index()
    return table.set_axis([*FACTORS, "batch", "error", "lower", "upper"], axis=1)


def _optimum_marks(law: BatchSizeLaw, curves: pd.DataFrame) -> pd.DataFrame:
    """Return where each group's optimum is drawn on its curve, what it is, and its interval."""
    optima = law.optima.assign(optimum=mark_names(law))
    optima["batch"] = optima["optimal_batch_size"].fillna(optima["best_batch_size"])
    optima["between"] = [
        interval_text(2.0**low, 2.0**high, 4, general=True)
        for low, high in optima[["log2_lower", "log2_upper"]].to_numpy()
    ]
    return _on_curves(optima, curves)[[*FACTORS, "batch", "error", "optimum", "between"]]


def _edge_marks(law: BatchSizeLaw, curves: pd.DataFrame) -> pd.DataFrame:
    """Return the middle of each edge that was seen, on its curve, and between what it lies."""
    octaves = law.edges[["log2_lower", "log2_upper"]].to_numpy()
    seen = np.isfinite(octaves).all(axis=1)
    sides = np.exp2(octaves[seen])
    if law.form != "B":
        sides = sides / (1 + sides / law.optima.loc[seen, [columns.TRAIN_EXAMPLES]].to_numpy())
    edges = law.optima.loc[seen, FACTORS].assign(batch=np.sqrt(sides.prod(axis=1)))
    edges["between"] = [interval_text(low, high, 4, general=True) for low, high in sides]
    return _on_curves(edges, curves)[[*FACTORS, "batch", "error", "between"]]


def _on_curves(marks: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return the marks whose group is drawn, with the `error` at which its line passes `batch`."""
    groups = dict(list(curves.groupby(FACTORS)))
    log = bool(curves["lower"].min() > 0)  # as the chart's axis, on which lines are straight
    keys = list(marks[FACTORS].itertuples(index=False, name=None))
    drawn = np.array([key in groups for key in keys], dtype=bool)
    kept = marks[drawn]
    heights = []
    for key, batch in zip(np.array(keys, dtype=object)[drawn], kept["batch"], strict=True):
        group = groups[tuple(key)]
        errors = np.log(group["error"]) if log else group["error"]
        height = float(np.interp(np.log(batch), np.log(group["batch"]), errors))
        heights.append(math.exp(height) if log else height)
    return kept.assign(error=heights)


def _faceted(data: pd.DataFrame, layout: _Layout, *, positive: bool) -> Any:
    across, down = len(layout.shown[layout.column]), len(layout.shown[layout.row])
    width = min(300, (WIDTH - 130) / across - 16) if across > 1 else WIDTH - 220
    panel = _panel(data, layout, positive=positive).properties(
        width=width, height=130 if down > 1 else 220
    )
    header = alt.Header(
        labelFontSize=11, titleFontSize=11, titleFontWeight="normal", labelPadding=4
    )
    facets: dict[str, Any] = {}
    if down > 1:
        facets["row"] = alt.Row("row:O", title=axis_name(layout.row), header=header)
    if across > 1:
        facets["column"] = alt.Column("column:O", title=axis_name(layout.column), header=header)
    return panel.facet(**facets, spacing=10) if facets else panel


def _panel(data: pd.DataFrame, layout: _Layout, *, positive: bool) -> Any:
    curves = data[data["kind"] == "curve"]
    x = alt.X(
        "batch:Q",
        title=axis_name(columns.BATCH_SIZE),
        **log_axis(curves["batch"], powers_of_two(curves["batch"])),
    )
    errors = curves[["lower", "upper"]].to_numpy()
    y = alt.Y("error:Q", title=None, **(log_axis(errors) if positive else {}))
    colour = alt.Color(
        "colour:O",
        title=axis_name(layout.colour),
        scale=alt.Scale(range=shades(len(layout.shown[layout.colour]))),
        legend=alt.Legend(orient="top", symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1),
    )
    present = {name: mark for name, mark in MARKS.items() if (data["optimum"] == name).any()}
    shape = alt.Shape(
        "optimum:N",
        title="optimum",
        scale=alt.Scale(domain=[*present], range=[*present.values()]),
        legend=alt.Legend(orient="top", symbolFillColor=MUTED, symbolStrokeColor=MUTED),
    )
    named = [alt.Tooltip("colour:O", title=axis_name(layout.colour))]
    named += [alt.Tooltip("batch:Q", title="batch size", format=".4g")]
    bounds = [alt.Tooltip(f"{name}:Q", format=".4g") for name in ("error", "lower", "upper")]
    base = alt.Chart().encode(x=x, color=colour)
    of = {
        kind: base.transform_filter(alt.datum.kind == kind) for kind in ("curve", "optimum", "edge")
    }
    return alt.layer(
        of["curve"].mark_rule(opacity=0.4).encode(y=alt.Y("lower:Q"), y2="upper:Q"),
        of["curve"].mark_line(strokeWidth=1.4).encode(y=y, tooltip=[*named, *bounds]),
        of["edge"]
        .mark_point(shape=EDGE_MARK, size=60, filled=False, strokeWidth=1.6, opacity=1)
        .encode(y=y, tooltip=[*named, alt.Tooltip("between:N", title="stability edge")]),
        of["optimum"]
        .mark_point(size=70, filled=True, stroke="#ffffff", strokeWidth=0.8, opacity=1)
        .encode(
            y=y,
            shape=shape,
            tooltip=[*named, "optimum:N", alt.Tooltip("between:N", title="B_opt")],
        ),
        data=inline_data(data),
    )


def _edges_said(law: BatchSizeLaw, *, drawn: bool) -> str:
    """Return what the ticks of stability edges are, or why there is none."""
    if law.edges["log2_upper"].isna().all():
        return "No chance error is known by which training fails: no stability edge is sought."
    said = "No batch size below an optimum fails to train: no stability edge is seen."
    if drawn:
        said = (
            "Upright ticks: stability edge, halfway from the last batch size that fails to the "
            "next."
        )
    untrained = law.stability_edge.attrs["untrained_groups"]
    return f"{said} {untrained} curves train at no batch size." if untrained else said


def _subtitle(law: BatchSizeLaw, hidden: list[str], edge: str) -> list[str]:
    label = law.optima["label"].astype(str).value_counts()
    counts = ", ".join(f"{count} {name}" for name, count in label.items())
    return [
        f"{law.n_cells} cells, {law.degrees_of_freedom + 1} seeds, {len(law.optima)} curves "
        f"({counts}). Lines: mean over seeds. Bars: range of the seeds.",
        "Marks: best batch size by label, an interior one where its vertex is estimated; intervals "
        "stand in the tooltips and in the table.",
        edge,
        *([f"Shown are {', '.join(hidden)}; the tables hold all."] if hidden else []),
    ]

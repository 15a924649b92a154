"""How every chart here looks: colours, names of axes, log scales, and data as strict JSON."""

import math
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis import columns
from analysis.verdict import Verdict

__all__ = [
    "FACTOR_NAMES",
    "INK",
    "LINE",
    "MUTED",
    "VERDICT_COLOURS",
    "WIDTH",
    "axis_name",
    "finished",
    "inline_data",
    "interval_text",
    "log_axis",
    "powers_of_two",
    "shades",
    "some",
]

WIDTH = 860
"""Pixels across a chart: what fits a page with a margin."""
SUBTITLE = 152
"""Characters of a subtitle's line that fit this width."""
INK, MUTED, GRID, LINE = "#222222", "#595959", "#e3e3e3", "#0072B2"
VERDICT_COLOURS = {
    Verdict.SUPPORTED: "#007a5a",
    Verdict.REFUTED: "#c14a00",
    Verdict.INCONCLUSIVE: "#0072B2",
    Verdict.CENSORED: "#a3487f",
    Verdict.UNIDENTIFIED: "#767676",
}
"""After Okabe & Ito's colours, which colour-blind readers tell apart, darkened to a contrast of 4.5
on white. The word stands beside the colour everywhere."""
NAMES = {
    columns.LEARNING_RATE: "learning rate ε",
    columns.TRAIN_EXAMPLES: "training examples N",
    columns.MOMENTUM: "momentum m",
    columns.BATCH_SIZE: "batch size B",
    columns.VALIDATION_ERROR: "validation error at the final step",
    columns.BEST_VALIDATION_ERROR: "best validation error",
    columns.TEST_ERROR: "test error at the final step",
}
FACTOR_NAMES = NAMES | {columns.MOMENTUM: "momentum 1 / (1 − m)"}
ROUND_DIGITS = (
    np.array([1, 2, 5]),
    np.array([1, 1.5, 2, 3, 4, 5, 7]),
    np.arange(1, 10, 0.5),
    np.arange(1, 10, 0.1),
)
"""Digits of the ticks of a log axis, from coarse to fine."""
FEWEST_TICKS = 4
VIRIDIS = ("#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90b52f")


def finished(chart: Any, title: str, subtitle: Sequence[str]) -> alt.TopLevelMixin:
    """Return the chart with its title, a description for screen readers, and the common style."""
    lines = [line for sentence in subtitle for line in wrap(sentence, SUBTITLE)]
    described = chart.properties(
        title=alt.Title(title, subtitle=lines),
        description=" ".join([f"{title}.", *subtitle]),
    )
    styled: alt.TopLevelMixin = (
        described.configure(
            font="Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif",
            background="#ffffff",
            padding=10,
        )
        .configure_view(stroke="#c8c8c8")
        .configure_axis(
            gridColor=GRID,
            labelColor=INK,
            titleColor=INK,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(
            labelFontSize=11,
            titleFontSize=11,
            labelColor=INK,
            titleColor=INK,
            titleFontWeight="normal",
        )
        .configure_title(
            anchor="start",
            fontSize=15,
            color=INK,
            subtitleColor=MUTED,
            subtitleFontSize=12,
            subtitleLineHeight=16,
            subtitlePadding=6,
            offset=12,
        )
    )
    return styled


def inline_data(frame: pd.DataFrame) -> alt.InlineData:
    """Return rows that strict JSON can hold, numbers to six digits."""
    records = [
        {str(name): _six_digits(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    return alt.InlineData(values=records)


def _six_digits(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def log_axis(values: ArrayLike, ticks: Iterable[float] | None = None) -> dict[str, Any]:
    """Return scale and axis of a log channel that holds the positive of `values`, with a margin.

    `ticks` are labelled where they fit; by default round numbers, as coarse as leaves 4 of them.
    """
    given = np.asarray(values, dtype=float)
    positive = given[np.isfinite(given) & (given > 0)]
    low, high = float(positive.min() / 1.12), float(positive.max() * 1.12)
    if ticks is None:
        decades = 10.0 ** np.arange(math.floor(math.log10(low)), math.log10(high) + 1)
        choices = [np.sort(np.outer(decades, digits).ravel()) for digits in ROUND_DIGITS]
        enough = (c for c in choices if ((c >= low) & (c <= high)).sum() >= FEWEST_TICKS)
        ticks = next(enough, choices[-1])
    shown = [_six_digits(float(tick)) for tick in ticks if low <= tick <= high]
    return {
        "scale": alt.Scale(type="log", domain=[_six_digits(low), _six_digits(high)], nice=False),
        "axis": alt.Axis(values=shown, format="~g", labelOverlap=True),
    }


def powers_of_two(values: ArrayLike) -> list[float]:
    """Return the powers of two about the positive of `values`: all, or every second of many."""
    given = np.asarray(values, dtype=float)
    octaves = np.log2(given[np.isfinite(given) & (given > 0)])
    low, high = math.floor(octaves.min()), math.ceil(octaves.max())
    return [2.0**power for power in range(low, high + 1, 1 if high - low <= 6 else 2)]


def some(levels: Any, most: int) -> list[Any]:
    """Return at most `most` of the levels, spread evenly from the first to the last."""
    places = np.unique(np.linspace(0, len(levels) - 1, min(most, len(levels))).round().astype(int))
    return [levels[place] for place in places]


def shades(count: int) -> list[str]:
    """Return `count` colours for ordered levels: viridis without its pale end, dark to light."""
    if count == 1:
        return ["#31688e"]
    place = np.linspace(0, len(VIRIDIS) - 1, count)
    channels = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in VIRIDIS])
    mixed = [np.interp(place, range(len(VIRIDIS)), channel) for channel in channels.T]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in np.array(mixed).T.round().astype(int)]


def axis_name(column: str) -> str:
    """Return what an axis of a column of the store is titled; another column's own name."""
    return NAMES.get(column, column)


def interval_text(low: float, high: float, digits: int = 3, *, general: bool = False) -> str:
    """Return such as `[0.95, 1.05]` or `(−∞, 1.05]`; `general`: significant digits, not places."""
    kind = "g" if general else "f"
    shown = [
        f"{value:.{digits}{kind}}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")
        for value in (low, high)
    ]
    opening = "[" if math.isfinite(low) else "("
    closing = "]" if math.isfinite(high) else ")"
    return f"{opening}{shown[0]}, {shown[1]}{closing}"

"""The exponents of the batch-size law by every estimator, beside the band that counts as 1."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from analysis.reports.chart_style import (
    FACTOR_NAMES,
    INK,
    MUTED,
    VERDICT_COLOURS,
    finished,
    inline_data,
    interval_text,
)

__all__ = ["exponents_chart"]

FRAME = 400
"""Pixels across the frame: names stand left of it, numbers right."""
FACTOR_PLACE, ESTIMATOR_PLACE = -250, -10
"""Pixels from the frame's left side to the names."""
NAMES = {"peaks": "optima", "collapse": "collapse", "stability edge": "stability edge"}
BOUNDS = ["lower95", "upper95", "lower90", "upper90"]
ROW, TALL_ROW = 24, 34
"""Pixels of a row; of one that may hold two lines of names."""
ABOVE, BELOW = 0.28, 0.72
"""Where in its row the two lines of a factor with one row stand, from the top."""


def exponents_chart(exponents: pd.DataFrame) -> alt.TopLevelMixin | None:
    """Return the exponents with intervals beside the band that counts as the claim.

    `exponents`: rows of `exponent_table`. Those without an estimate are not drawn; None where no
    row is left. The judged estimator has its verdict's colour and word, the others neither.
    """
    rows = exponents[exponents["exponent"].notna()].reset_index(drop=True)
    if rows.empty:
        return None
    low, high = _frame(rows)
    drawn = _drawn(rows, low, high)
    data = inline_data(drawn)
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    base = alt.Chart(data).encode(y=_row())
    layers = [*_band(base, scale), *_intervals(base, scale), *_texts(base)]
    return finished(
        alt.layer(*layers).properties(
            width=FRAME, height=alt.Step(TALL_ROW if drawn["alone_where"].any() else ROW)
        ),
        "Exponents of the batch-size law",
        _subtitle(rows),
    )


def _row(**options: Any) -> alt.Y:
    scale = alt.Scale(paddingInner=0, paddingOuter=0)
    return alt.Y("row:O", title=None, axis=None, scale=scale, **options)


def _frame(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the exponents of the frame: all estimates, and bounds that are not far away."""
    claimed = rows["claimed"].dropna().to_numpy()
    margin = rows["margin"].dropna().to_numpy()
    estimates = rows["exponent"].to_numpy()
    bounds = rows[["lower95", "upper95"]].to_numpy()
    bounds = np.clip(bounds[np.isfinite(bounds)], estimates.min() - 1, estimates.max() + 1)
    shown = np.concatenate([estimates, bounds, claimed - margin, claimed + margin])
    return float(shown.min()) - 0.1, float(shown.max()) + 0.1


def _drawn(rows: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """Return what the marks stand for, intervals cut at the frame.

    Where there are several grids, the second row of a factor names its grid in `where`. A factor
    with one row has its names one above the other: `alone` and `alone_where`.
    """
    where = rows["grid"] + rows["part"].where(rows["part"] == "", ", " + rows["part"])
    several = rows[["study", "grid", "part"]].drop_duplicates().shape[0] > 1
    place = [rows[name] for name in ("study", "grid", "part", "factor")]
    together = rows.groupby(place, sort=False)["factor"]
    turn = together.cumcount()
    alone = several & (together.transform("size") == 1)
    factor = rows["factor"].map(FACTOR_NAMES)
    drawn = rows[["exponent", "claimed", "judged", "n_cells", "seeds"]].assign(
        row=range(len(rows)),
        factor=factor.where((turn == 0) & ~alone, ""),
        where=where.where((turn == 1) & several, ""),
        alone=factor.where(alone, ""),
        alone_where=where.where(alone, ""),
        estimator=rows["estimator"].map(NAMES),
        colour=rows["verdict"].where(rows["judged"], "none"),
        first=turn == 0,
        band_low=rows["claimed"] - rows["margin"],
        band_high=rows["claimed"] + rows["margin"],
    )
    bounds = rows[["lower95", "upper95"]].to_numpy()
    drawn["text"] = [
        f"{exponent:.2f} {interval_text(low95, high95, 2)} {verdict}".strip()
        for (low95, high95), exponent, verdict in zip(
            bounds, rows["exponent"], rows["verdict"], strict=True
        )
    ]
    drawn[BOUNDS] = rows[BOUNDS].clip(low, high)
    return drawn


def _band(base: Any, scale: alt.Scale) -> list[Any]:
    claimed = base.transform_filter("isValid(datum.claimed)")
    return [
        claimed.mark_bar(color="#e8efe9", height=alt.RelativeBandSize(1.0)).encode(
            x=alt.X("band_low:Q", scale=scale), x2="band_high:Q"
        ),
        claimed.mark_tick(color=MUTED, height=alt.RelativeBandSize(1.0), thickness=1).encode(
            x=alt.X("claimed:Q", scale=scale)
        ),
        base.transform_filter("datum.first && datum.row > 0")
        .mark_rule(color="#c8c8c8")
        .encode(y=_row(bandPosition=0)),
    ]


def _intervals(base: Any, scale: alt.Scale) -> list[Any]:
    words = [*map(str, VERDICT_COLOURS), "none"]
    colour = alt.Color(
        "colour:N",
        scale=alt.Scale(domain=words, range=[*VERDICT_COLOURS.values(), "#8a8a8a"]),
        legend=None,
    )
    judged = base.transform_filter("datum.judged")
    beside = base.transform_filter("!datum.judged")
    x = alt.X("exponent:Q", title="exponent", scale=scale, axis=alt.Axis(tickCount=6))
    tooltip = ["estimator:N", "text:N", "n_cells:Q", "seeds:Q"]
    thin = alt.X("lower95:Q", scale=scale)
    thick = alt.X("lower90:Q", scale=scale)
    return [
        base.mark_rule(strokeWidth=1.5).encode(x=thin, x2="upper95:Q", color=colour),
        base.mark_rule(strokeWidth=4).encode(x=thick, x2="upper90:Q", color=colour),
        judged.mark_point(filled=True, size=70, opacity=1).encode(
            x=x, color=colour, tooltip=tooltip
        ),
        beside.mark_point(size=50, fill="#ffffff", opacity=1, strokeWidth=1.5).encode(
            x=x, color=colour, tooltip=tooltip
        ),
    ]


def _texts(base: Any) -> list[Any]:
    """Return factor and estimator left of the frame and the numbers right of it."""
    left = {"fontSize": 12, "color": INK}
    factors = base.mark_text(align="left", fontWeight="bold", **left)
    grids = base.mark_text(align="left", fontSize=11, color=MUTED, limit=150)
    place = alt.value(FACTOR_PLACE)
    return [
        factors.encode(x=place, text="factor:N"),
        grids.encode(x=place, text="where:N"),
        factors.encode(x=place, text="alone:N", y=_row(bandPosition=ABOVE)),
        grids.encode(x=place, text="alone_where:N", y=_row(bandPosition=BELOW)),
        base.transform_filter("datum.judged")
        .mark_text(align="right", fontWeight="bold", **left)
        .encode(x=alt.value(ESTIMATOR_PLACE), text="estimator:N"),
        base.transform_filter("!datum.judged")
        .mark_text(align="right", fontSize=12, color=MUTED)
        .encode(x=alt.value(ESTIMATOR_PLACE), text="estimator:N"),
        base.mark_text(align="left", **left).encode(x=alt.value(FRAME + 10), text="text:N"),
    ]


def _subtitle(rows: pd.DataFrame) -> list[str]:
    judged = sorted(rows.loc[rows["judged"], "estimator"].map(NAMES).unique())
    asked = f"Filled, with its verdict: the {' or the '.join(judged)}, as asked. " if judged else ""
    edge = ""
    if (rows["estimator"] == "stability edge").any():
        edge = " Edge: below it training fails; no law claims its exponent."
    return [
        f"{asked}Hollow: beside it, without a verdict.{edge}",
        "Thick: 90 % interval; thin: 95 % interval (jackknife over seeds), cut at the frame.",
        f"Shaded: the band [1 − δ, 1 + δ] that counts as 1. "
        f"Behind each exponent: {_span(rows['n_cells'])} cells, {_span(rows['seeds'])} seeds.",
    ]


def _span(counts: "pd.Series[int]") -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"

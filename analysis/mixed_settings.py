"""Settings that a law does not speak of: where they vary unsaid, their effect passes for the law's.

An optimizer that changes with the shard moves the exponent of N, and no run repeats to show it.
"""

import json
from collections.abc import Collection
from typing import Any

import pandas as pd

from analysis import columns
from analysis.errors import FitError

__all__ = ["HELD", "SETTINGS", "refuse_mixed"]

SETTINGS = (
    columns.OPTIMIZER,
    columns.LEARNING_RATE_SCHEDULE,
    columns.BATCH_SIZE_SCHEDULE,
    columns.WEIGHT_DECAY,
    columns.WORKLOAD_AXES,
)
"""What a call must name to vary it. Budgets, steps and looks do not belong here: they may follow
from the sizes that a law is about."""
HELD = (columns.WORKLOAD, columns.WORKLOAD_VERSION, *SETTINGS)
"""The same for a table that may hold several workloads."""


def refuse_mixed(
    table: pd.DataFrame, settings: Collection[str], named: Collection[str], why: str, remedy: str
) -> None:
    """Raise `FitError` where one of `settings` varies in `table` and is not `named` in the call.

    A setting that only some rows lack varies. `workload_axes` varies where an axis in it does that
    is not `named`. `why` a mixture is wrong and another `remedy` than to filter end the message.
    """
    for setting in settings:
        if setting in named or setting not in table:
            continue
        name = _mixed_axis(table, named) if setting == columns.WORKLOAD_AXES else setting
        values = [] if name is None else _distinct(table[name])
        if len(values) < 2:
            continue
        known = [value for value in values if not pd.isna(value)]
        gaps = " (nan: fill in what those rows had)" if len(known) < len(values) else ""
        raise FitError(
            f"{name!r} has the values {', '.join(map(repr, values))}{gaps}; {why}. Filter to one, "
            f"such as cells[cells.{name} == {known[0]!r}], or {remedy}."
        )


def _distinct(column: "pd.Series[Any]") -> list[Any]:
    """Return the values in order of appearance, a missing one as NaN."""
    return column.where(column.notna()).unique().tolist()


def _mixed_axis(table: pd.DataFrame, named: Collection[str]) -> str | None:
    """Return the column that shows an axis of the workload varying that is not `named`, if any."""
    texts = _distinct(table[columns.WORKLOAD_AXES])
    try:
        axes = pd.DataFrame([{} if pd.isna(text) else json.loads(text) for text in texts])
    except (TypeError, ValueError):  # of a table from elsewhere, not JSON
        return columns.WORKLOAD_AXES
    mixed = [str(axis) for axis in axes if axis not in named and len(_distinct(axes[axis])) > 1]
    if not mixed:
        return None
    return next((axis for axis in mixed if axis in table), columns.WORKLOAD_AXES)

"""From a table of any origin to the points of a fit: refused where unusable, else annotated.

No row is dropped: what is doubtful about rows stands in their column `note` and in `flags`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.errors import FitError
from analysis.forms.base import Array, Form

__all__ = ["ScalingRows", "numbers", "scaling_rows"]

DECADE = 10.0
COLLINEAR = 0.999
"""Correlation of log columns above which their exponents can hardly be told apart."""


@dataclass(frozen=True, eq=False)
class ScalingRows:
    """The points of one fit."""

    table: pd.DataFrame
    """The columns used, in the table's order, with `weight` and `note`."""
    x: Array
    """(n, v)"""
    log_y: Array
    """(n,)"""
    weights: Array
    """(n,)"""
    flags: tuple[str, ...]
    """What to know about the table, one sentence each."""
    narrow: bool
    """Whether a variable spans less than a decade."""

    @property
    def used(self) -> int:
        """Number of rows with a weight above 0."""
        return int((self.weights > 0).sum())


def scaling_rows(
    table: pd.DataFrame,
    x: Sequence[str],
    y: str,
    form: Form,
    weights: str | ArrayLike | None,
) -> ScalingRows:
    """Return the points that `form` is fitted to; see `fit_scaling_law`."""
    _check_columns(table, x, y, form)
    weight = _weights(table, weights)
    columns = {name: _positive_numbers(table, name) for name in (*x, y)}
    points = np.stack([columns[name] for name in x], axis=1)
    used = weight > 0
    _check_number(points[used], form)
    _check_spread(points[used], x)
    notes = pd.Series("", index=range(len(table)))
    repeated = pd.DataFrame(columns)[used].duplicated().reindex(notes.index, fill_value=False)
    notes[repeated] = "repeats an earlier row in x and y"
    notes[~used] = "weight 0: not fitted"
    frame = pd.DataFrame({**columns, "weight": weight, "note": notes})
    narrow = _narrow(points[used], x)
    flags = [*narrow, *_collinear(points[used], x), *_repeats(int(repeated.sum()))]
    return ScalingRows(
        table=frame.set_axis(table.index),
        x=points,
        log_y=np.log(columns[y]),
        weights=weight,
        flags=tuple(flags),
        narrow=bool(narrow),
    )


def _check_columns(table: pd.DataFrame, x: Sequence[str], y: str, form: Form) -> None:
    if len(x) != len(form.variables):
        raise FitError(
            f"{form.name} is a law of {', '.join(form.variables)}, and x names {len(x)} columns: "
            f"{', '.join(x)}. Name {len(form.variables)}."
        )
    if len({*x, y}) < len(x) + 1:
        raise FitError(f"x and y must be different columns; got {', '.join((*x, y))}.")
    if missing := [name for name in (*x, y) if name not in table]:
        raise FitError(f"No column {missing[0]!r}. Columns here: {', '.join(map(str, table))}.")


def numbers(table: pd.DataFrame, name: str) -> Array:
    """Return (n,) values of a column, NaN where missing; `FitError` where it holds no numbers."""
    if name not in table:
        raise FitError(f"No column {name!r}. Columns here: {', '.join(map(str, table))}.")
    column = table[name]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise FitError(f"Column {name!r} is of type {column.dtype}; numbers are needed.")
    return np.asarray(column.to_numpy(dtype=float, na_value=np.nan))


def _positive_numbers(table: pd.DataFrame, name: str) -> Array:
    values = numbers(table, name)
    if bad := int((~np.isfinite(values)).sum()):
        raise FitError(
            f"{bad} of {len(values)} rows have no finite {name}. Leave them out yourself, such as "
            f"table[numpy.isfinite(table[{name!r}])], and say so beside the fit."
        )
    if bad := int((values <= 0).sum()):
        raise FitError(
            f"{bad} of {len(values)} rows have a {name} of 0 or below (lowest {values.min():g}); "
            "a scaling law needs values above 0."
        )
    return values


def _weights(table: pd.DataFrame, weights: str | ArrayLike | None) -> Array:
    if isinstance(weights, str) and weights not in table:
        raise FitError(
            f"No column {weights!r} for weights. Columns here: {', '.join(map(str, table))}."
        )
    given = table[weights] if isinstance(weights, str) else weights
    try:
        values = np.ones(len(table)) if given is None else np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise FitError(f"weights must be numbers, and one is not: {error}.") from error
    if values.shape != (len(table),):
        raise FitError(f"weights have the shape {values.shape}; the table has {len(table)} rows.")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise FitError("weights must be finite and 0 or above; 0 leaves a row out of the fit.")
    return values


def _check_number(points: Array, form: Form) -> None:
    needed, distinct = len(form.parameters) + 1, len(np.unique(points, axis=0))
    if len(points) < needed:
        raise FitError(
            f"{form.name} has {needed - 1} parameters and needs {needed} points; there are "
            f"{len(points)}. Train more, or choose a form with fewer parameters."
        )
    if distinct < needed - 1:
        raise FitError(
            f"{form.name} has {needed - 1} parameters, and the {len(points)} rows lie at only "
            f"{distinct} distinct values of {', '.join(form.variables)}. Train others."
        )


def _check_spread(points: Array, x: Sequence[str]) -> None:
    for name, column in zip(x, points.T, strict=True):
        if column.min() == column.max():
            raise FitError(
                f"{name} is {column[0]:g} in every row; its exponent cannot be told. Vary it, or "
                "fit a form of the other variable."
            )


def _narrow(points: Array, x: Sequence[str]) -> list[str]:
    spans = points.max(axis=0) / points.min(axis=0)
    return [
        f"{name} spans a factor of {span:.3g}, less than a decade: do not extrapolate."
        for name, span in zip(x, spans, strict=True)
        if span < DECADE
    ]


def _collinear(points: Array, x: Sequence[str]) -> list[str]:
    if len(x) < 2:
        return []
    correlation = np.corrcoef(np.log(points).T)[0, 1]
    if abs(correlation) < COLLINEAR:
        return []
    return [
        f"{x[0]} and {x[1]} vary together (correlation of logs {correlation:.4f}): what each "
        "contributes can hardly be told apart."
    ]


def _repeats(number: int) -> list[str]:
    if not number:
        return []
    return [f"{number} rows repeat an earlier one in x and y; each still counts."]

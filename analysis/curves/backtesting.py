"""How well does a form extrapolate on these data? Fit the smaller shards, predict the larger ones.

A good fit is no good forecast: forms that agree within the points part beyond them. Here every form
is judged by what it did not see, at each horizon, with the coverage of its intervals beside.
Source: Alabdulmohsin et al. 2022, arXiv:2209.06640, who judge forms by the root mean square of
the log loss's error on the larger part of each curve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis import columns
from analysis.curves.holdout import (
    Held,
    Observations,
    chosen_forms,
    fit_folds,
    forecast,
    observe,
    predict_held_out,
    refuse_missing,
    scores,
)
from analysis.errors import FitError
from analysis.forms import find_form
from analysis.forms.base import Array, Form
from analysis.json_values import json_value
from analysis.summary_table import Summary

__all__ = ["POST_SELECTION", "Backtest", "backtest"]

LEVEL = 0.9
FORMS = ("M1", "M2", "M3", "M4", "BNSL")
MOST_SPLITS = 20
POST_SELECTION = (
    "The form was chosen from these data: its own held-out error is the smallest of several and so "
    "too small, and intervals made with it on the same data are post-selection: they cover less "
    "than they say. Fix the form before new data are seen."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Backtest:
    """Errors of forms on what they did not see."""

    x: tuple[str, ...]
    """Columns of the sizes."""
    y: str
    """Column of the error."""
    level: float
    """Nominal coverage of the prediction intervals."""
    forms: pd.DataFrame
    """Index form; `parameters`; `rmse` and `bias` of predicted less observed log error and `n`, on
    the predictions that every compared form made; `covered`, the share of those inside their
    intervals; `aic` and `bic` on all sizes; NaN for what a form is too large for."""
    by_horizon: pd.DataFrame
    """The same errors by form and horizon, on the predictions that every compared form made;
    horizon 1 is the next size after the largest fitted."""
    predictions: pd.DataFrame
    """One row a form, split and held-out point: the columns of `curves` and x, `form`,
    `sizes_fitted`, `horizon`, `observed`, `predicted`, `lower`, `upper`, `log_error` (predicted
    less observed), and `compared`, whether every compared form has the prediction."""
    chosen: str
    """The form with the lowest `rmse`; of equals that with fewer parameters."""
    notes: tuple[str, ...]
    """What a reader should know."""
    n_cells: int
    """Number of cells behind it."""
    curves: tuple[tuple[object, ...], ...]
    """Values that tell the curves apart; one empty one for a single curve."""
    observations: tuple[Observations, ...] = field(repr=False)
    """What was fitted, curve by curve."""

    def predict(
        self, x: ArrayLike, *, form: str | None = None, seeds: int | None = None
    ) -> pd.DataFrame:
        """Return `predicted`, `lower` and `upper` of the mean of `seeds` new runs at sizes `x`.

        All points of the one curve are fitted. `form`: by default the chosen one, whose intervals
        are post-selection. `seeds`: as many as the largest size has; `lower` and `upper` hold
        their spread and the jackknife of the curve, and not that the form may be wrong.
        """
        if len(self.observations) > 1 or len(self.x) > 1:
            raise FitError("predict() is for one curve over one column; select it, and backtest.")
        theirs = find_form(self.chosen if form is None else form)
        size = np.asarray(x, dtype=float).reshape(-1, 1)
        if not (np.isfinite(size) & (size > 0)).all():
            raise FitError("Sizes to predict at must be finite and above 0.")
        held = forecast(theirs, self.observations[0], size, self.level, seeds)
        named = {"predicted": held.log_predicted, "lower": held.log_lower, "upper": held.log_upper}
        index = pd.Index(size[:, 0], name=self.x[0])
        return pd.DataFrame({name: np.exp(log[0]) for name, log in named.items()}, index=index)

    def summary(self) -> Summary:
        """Return a printable summary."""
        facts = (
            ("Error", self.y),
            ("Size", ", ".join(self.x)),
            ("Curves", str(len(self.curves))),
            ("Cells", str(self.n_cells)),
            ("Lowest held-out error", self.chosen),
            ("Intervals", f"{self.level:.0%}"),
        )
        title = "Backtest: log error of what was not fitted"
        return Summary(title=title, facts=facts, table=self.forms, notes=self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is missing is None."""
        return {
            "x": list(self.x),
            "y": self.y,
            "level": self.level,
            "chosen": self.chosen,
            "forms": json_value(self.forms.to_dict("index")),
            "by_horizon": json_value(self.by_horizon.to_dict("records")),
            "predictions": json_value(self.predictions.to_dict("records")),
            "curves": json_value(self.curves),
            "n_cells": self.n_cells,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def backtest(
    cells: pd.DataFrame,
    x: str | Sequence[str] = columns.TRAIN_EXAMPLES,
    y: str = columns.BEST_VALIDATION_ERROR,
    *,
    forms: Sequence[str] = FORMS,
    seed: str | None = columns.SEED,
    choose: Sequence[str] | None = None,
    curves: Sequence[str] = (),
    training: str | None = None,
    level: float = LEVEL,
    most_splits: int = MOST_SPLITS,
    chance_error: float | None = None,
    validation_examples: int | None = None,
) -> Backtest:
    """Fit forms to the smaller sizes and predict the larger ones, rolling over the sizes.

    Every number of smallest sizes above a form's number of parameters is a split, and every larger
    size is predicted from it. Sizes are chosen, scored and left out as by `fit_power_law`; note
    that the size below which a curve is best-guess is told from all of it.

    Forms are compared on the predictions that all of them made; a form too large for every split of
    every curve is named and not compared. For several curves `rmse` and `bias` are means over
    the curves' own. AIC and BIC of a fit to all sizes stand beside, and know nothing of
    extrapolation. Predictions from one curve are correlated: no n in the tables is a number of
    independent trials.

    Prediction intervals are for the observed mean: the jackknife of the curve and the spread of as
    many new seeds, t with S - 1 degrees. At a nominal 90 %, fitted to 7 to 10 sizes of factor 2 and
    predicting the largest, 1 to 4 sizes ahead, those of the true form covered
    .92 to 1.00 (M1), .89 to 1.00 (M2) and .78 to .98 (M4, BNSL; 60 sets each) of means over the
    same seeds, and .86 to 1.00, .87 to 1.00 and .78 to .97 of means over fresh ones (5 and 10
    seeds; independent, shifted, tilted and falling noise; 150 to 600 sets). They hold if the form
    does; `covered` shows whether it did.

    Args:
        cells: one row a cell.
        x: column of sizes; several columns for a form of several variables, with `training`.
        y: column of the error; another quantity above 0, such as a loss, is fitted alike.
        forms: names of forms (`analysis.forms`).
        seed: column that tells replicates apart; None for a table without.
        choose: columns over which the best is chosen at each size; by default the model's size
            where the table has it and x and `curves` do not name it, and () for none.
        curves: columns that tell curves apart, each of which is fitted on its own.
        training: column that is true (1) where a point is to be fitted and false (0) where it is to
            be predicted; one split, in place of rolling.
        level: nominal coverage of the prediction intervals.
        most_splits: of a curve with more splits than this, so many spread evenly are made.
        chance_error: as in `fit_power_law`.
        validation_examples: as in `fit_power_law`.

    Raises:
        FitError: too few sizes for any form, unknown forms, and what `fit_power_law` refuses.
    """
    x = (x,) if isinstance(x, str) else tuple(x)
    chosen = chosen_forms(forms, len(x))
    _check(cells, x, curves, training, level, most_splits)
    choose = _choices(cells, x, curves) if choose is None else choose
    plans = []
    for key, part in _parts(cells, curves):
        observed = observe(
            part,
            x,
            y,
            seed=seed,
            choose=choose,
            chance_error=chance_error,
            validation_examples=validation_examples,
        )
        fitted = None if training is None else _flags(part, x, training, observed.x)
        plans.append(_Curve(key, observed, fitted))
    predictions, small = _predictions(plans, chosen, x, curves, level, most_splits)
    compared = [form for form in chosen if form.name not in small]
    if not compared:
        raise FitError(_too_few(plans, chosen))
    predictions["compared"] = _common(predictions, [form.name for form in compared])
    if not predictions["compared"].any():
        raise FitError("No prediction was made by every form; choose forms of fewer parameters.")
    table = _form_table(predictions, plans, chosen, curves)
    best = _best(table)
    return Backtest(
        x=x,
        y=y,
        level=level,
        forms=table,
        by_horizon=_by_horizon(predictions, curves),
        predictions=predictions,
        chosen=best,
        notes=_notes(table, best, small, plans, level),
        n_cells=sum(plan.observed.n_cells for plan in plans),
        curves=tuple(plan.key for plan in plans),
        observations=tuple(plan.observed for plan in plans),
    )


@dataclass(frozen=True, eq=False)
class _Curve:
    key: tuple[object, ...]
    observed: Observations
    fitted: NDArray[np.bool_] | None
    """(n,) points to fit, where a column names them."""

    def splits(self, form: Form, most: int) -> NDArray[np.bool_]:
        """Return (K, n) points that each split of this form fits, more than it has parameters."""
        n, needed = len(self.observed.x), len(form.parameters) + 1
        if self.fitted is not None:
            enough = self.fitted.sum() >= needed and not self.fitted.all()
            return self.fitted[None][: int(enough)]
        counts = np.arange(needed, n)
        if len(counts) > most:
            # From the end, so that the splits of forms of different size coincide.
            stride = -(-(n - 1) // most)
            counts = counts[(n - 1 - counts) % stride == 0]
        return np.arange(n) < counts[:, None]


def _check(
    cells: pd.DataFrame,
    x: Sequence[str],
    curves: Sequence[str],
    training: str | None,
    level: float,
    most_splits: int,
) -> None:
    if isinstance(curves, str):
        raise FitError(f"curves is {curves!r}; pass column names, such as ({curves!r},).")
    wanted = [*x, *curves, *([] if training is None else [training])]
    refuse_missing(cells, wanted)
    if len(x) > 1 and training is None:
        raise FitError(
            "Rolling over size needs one column x. For several, name with `training` the column "
            "that is 1 where a point is to be fitted and 0 where it is to be predicted."
        )
    if not 0 < level < 1:
        raise FitError(f"level is {level}; it must lie between 0 and 1, such as 0.9.")
    if most_splits < 1:
        raise FitError(f"most_splits is {most_splits}; it must be at least 1.")


def _choices(cells: pd.DataFrame, x: Sequence[str], curves: Sequence[str]) -> tuple[str, ...]:
    named = {*x, *curves}
    free = columns.MODEL_SIZE in cells and not named & {columns.MODEL_SIZE, columns.PARAMETER_COUNT}
    return (columns.MODEL_SIZE,) if free else ()


def _parts(
    cells: pd.DataFrame, curves: Sequence[str]
) -> list[tuple[tuple[object, ...], pd.DataFrame]]:
    if not curves:
        return [((), cells)]
    groups = cells.groupby(list(curves), sort=True, observed=True)
    return [(tuple(key), part) for key, part in groups]


def _flags(part: pd.DataFrame, x: Sequence[str], training: str, values: Array) -> NDArray[np.bool_]:
    """Return (n,) whether each point is to be fitted."""
    flags = part.groupby(list(x))[training]
    if (flags.nunique() > 1).any() or not part[training].isin([0, 1]).all():
        raise FitError(f"{training!r} must be 0 or 1, the same in all rows of a point.")
    first = flags.first().astype(bool)
    at = values[:, 0] if len(x) == 1 else pd.MultiIndex.from_arrays(list(values.T))
    return np.asarray(first.reindex(at), dtype=bool)


def _predictions(
    plans: Sequence[_Curve],
    forms: Sequence[Form],
    x: Sequence[str],
    curves: Sequence[str],
    level: float,
    most: int,
) -> tuple[pd.DataFrame, set[str]]:
    """Return all predictions, and the names of forms that are too large for every curve."""
    frames, made = [], set()
    for plan in plans:
        for form in forms:
            train = plan.splits(form, most)
            if len(train):
                held = predict_held_out(form, plan.observed, train, level)
                frame = _prediction_frame(plan, form, train, held, x)
                for place, (name, value) in enumerate(zip(curves, plan.key, strict=True)):
                    frame.insert(place, name, pd.Series([value] * len(frame)))
                frames.append(frame)
                made.add(form.name)
    if not frames:
        raise FitError(_too_few(plans, forms))
    return pd.concat(frames, ignore_index=True), {form.name for form in forms} - made


def _prediction_frame(
    plan: _Curve, form: Form, train: NDArray[np.bool_], held: Held, x: Sequence[str]
) -> pd.DataFrame:
    split, point = np.nonzero(~train)
    observed, predicted = plan.observed.log_y[0, point], held.log_predicted[split, point]
    steps = np.cumsum(~train, axis=1)[split, point]
    with np.errstate(over="ignore"):
        return pd.DataFrame(
            {
                "form": form.name,
                "sizes_fitted": train.sum(axis=1)[split],
                **{name: plan.observed.x[point, i] for i, name in enumerate(x)},
                "horizon": steps,
                "observed": np.exp(observed),
                "predicted": np.exp(predicted),
                "lower": np.exp(held.log_lower[split, point]),
                "upper": np.exp(held.log_upper[split, point]),
                "log_error": predicted - observed,
                "point": point,
            }
        )


def _common(predictions: pd.DataFrame, forms: Sequence[str]) -> "pd.Series[bool]":
    """Return whether each prediction was made by all of `forms`, and is one of theirs."""
    keys = predictions.columns.difference(_OF_A_FORM, sort=False)
    theirs = predictions["form"].isin(forms)
    count = predictions[theirs].groupby([*keys], dropna=False)["form"].transform("nunique")
    return (count == len(forms)).reindex(predictions.index, fill_value=False)


_OF_A_FORM = ["form", "predicted", "lower", "upper", "log_error", "compared"]


def _form_table(
    predictions: pd.DataFrame,
    plans: Sequence[_Curve],
    forms: Sequence[Form],
    curves: Sequence[str],
) -> pd.DataFrame:
    errors = _errors(predictions, ["form"], curves).set_index("form")
    rows = {}
    for form in forms:
        criteria = np.array([_criteria(form, plan.observed) for plan in plans]).sum(axis=0)
        row: Mapping[Any, Any] = dict(errors.loc[form.name]) if form.name in errors.index else {}
        rows[form.name] = {
            "parameters": len(form.parameters),
            **{name: row.get(name, np.nan) for name in ("rmse", "bias", "covered", "n")},
            "aic": criteria[0],
            "bic": criteria[1],
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.fillna({"n": 0}).astype({"n": int, "parameters": int}).rename_axis("form")


def _criteria(form: Form, observed: Observations) -> tuple[float, float]:
    whole = np.ones((1, len(observed.x)), dtype=bool)
    return scores(form, observed, fit_folds(form, observed, whole)[0, 0])


def _errors(predictions: pd.DataFrame, by: list[str], curves: Sequence[str]) -> pd.DataFrame:
    """Return errors of the compared predictions: of each curve, then the mean over curves."""
    used = predictions[predictions["compared"]]
    inside = (used["observed"] >= used["lower"]) & (used["observed"] <= used["upper"])
    used = used.assign(
        square=used["log_error"] ** 2, covered=inside.where(used["lower"].notna()).astype(float)
    )
    groups = used.groupby([*by, *curves], sort=False)
    each = groups.agg(
        rmse=("square", "mean"),
        bias=("log_error", "mean"),
        covered=("covered", "mean"),
        n=("square", "size"),
    ).reset_index()
    each["rmse"] **= 0.5
    means = {name: (name, "mean") for name in ("rmse", "bias", "covered")}
    return each.groupby(by, sort=False).agg(**means, n=("n", "sum")).reset_index()


def _by_horizon(predictions: pd.DataFrame, curves: Sequence[str]) -> pd.DataFrame:
    return _errors(predictions, ["form", "horizon"], curves)


def _best(table: pd.DataFrame) -> str:
    ranked = table.dropna(subset=["rmse"]).sort_values("parameters", kind="stable")
    return str(ranked["rmse"].idxmin())


def _notes(
    table: pd.DataFrame, best: str, small: set[str], plans: Sequence[_Curve], level: float
) -> tuple[str, ...]:
    notes = [
        f"{name} is not compared: with {row['parameters']:.0f} parameters it needs "
        f"{row['parameters'] + 1:.0f} sizes to fit and one to predict."
        for name, row in table.iterrows()
        if name in small
    ]
    made, covered = table[["n", "covered"]].to_numpy(dtype=float)[list(table.index).index(best)]
    if not np.isnan(covered):
        notes.append(
            f"Of the {made:.0f} observed means that {best} was asked for, {covered:.0%} "
            f"lay in their {level:.0%} intervals. Predictions from one curve are correlated."
        )
    for criterion in ("aic", "bic"):
        told = table[criterion]
        if told.notna().any() and (other := told.idxmin()) != best:
            notes.append(f"{criterion.upper()} prefers {other}, by the fit to all sizes alone.")
    if len(table) > 1:
        notes.append(POST_SELECTION)
    return (*notes, *_left_out(plans))


def _left_out(plans: Sequence[_Curve]) -> tuple[str, ...]:
    """Return why sizes were left out, one by one for a single curve."""
    if len(plans) == 1:
        return plans[0].observed.why
    count = sum(len(plan.observed.why) for plan in plans)
    return (f"{count} sizes of the curves were not used; a curve alone names them.",) * (count > 0)


def _too_few(plans: Sequence[_Curve], forms: Sequence[Form]) -> str:
    least = min(len(form.parameters) for form in forms)
    most = max(len(plan.observed.x) for plan in plans)
    return (
        f"A curve has {most} sizes that can be used, and the smallest form asked for needs "
        f"{least + 1} to fit and one to predict. Train more sizes, or choose a smaller form."
    )

"""Does one curve serve all groups? Fit all groups but one, predict the one left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import columns
from analysis.curves.holdout import Observations, chosen_forms, observe, refuse_missing
from analysis.errors import FitError
from analysis.fits.fitting import fit_form
from analysis.forms.base import Form
from analysis.json_values import json_value
from analysis.summary_table import Summary

__all__ = ["GroupHoldout", "leave_one_group_out"]

MIN_GROUPS = 3
WITHOUT_INTERVALS = (
    "No intervals: how much groups differ is in no spread of seeds. The errors of the groups, side "
    "by side, are the evidence."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupHoldout:
    """Errors of forms on groups that they did not see."""

    group: str
    """Column of the groups."""
    x: tuple[str, ...]
    """Columns of the sizes."""
    y: str
    """Column of the error."""
    forms: pd.DataFrame
    """Index form; `parameters`, `rmse` and `bias` of predicted less observed log error, both the
    mean over groups, `worst_group` and its `worst_rmse`."""
    by_group: pd.DataFrame
    """One row a form and group: `points`, `rmse`, `bias`."""
    predictions: pd.DataFrame
    """One row a form, group and point: x, `observed`, `predicted`, `log_error`."""
    chosen: str
    """The form with the lowest `rmse`; of equals that with fewer parameters."""
    n_cells: int
    """Number of cells."""
    notes: tuple[str, ...]
    """What a reader should know."""

    def summary(self) -> Summary:
        """Return a printable summary."""
        facts = (
            ("Error", self.y),
            ("Size", ", ".join(self.x)),
            ("Left out in turn", self.group),
            ("Groups", str(self.by_group[self.group].nunique())),
            ("Cells", str(self.n_cells)),
            ("Lowest held-out error", self.chosen),
        )
        title = "Log error of the group left out"
        return Summary(title=title, facts=facts, table=self.forms, notes=self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "group": self.group,
            "x": list(self.x),
            "y": self.y,
            "chosen": self.chosen,
            "forms": json_value(self.forms.to_dict("index")),
            "by_group": json_value(self.by_group.to_dict("records")),
            "predictions": json_value(self.predictions.to_dict("records")),
            "n_cells": self.n_cells,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def leave_one_group_out(
    cells: pd.DataFrame,
    group: str,
    x: str | Sequence[str] = columns.TRAIN_EXAMPLES,
    y: str = columns.BEST_VALIDATION_ERROR,
    *,
    forms: Sequence[str] = ("M1", "M2"),
    seed: str | None = columns.SEED,
    choose: Sequence[str] = (),
    chance_error: float | None = None,
    validation_examples: int | None = None,
) -> GroupHoldout:
    """Fit each form to the points of all groups but one, and predict those of the one left out.

    Points, one each group and x, are means over seeds of log error by the rules of `fit_power_law`
    and count alike. All groups left out are rows of one call of `fit_form`.

    Args:
        cells: one row a cell.
        group: column of the groups, such as an optimizer, a data set or a budget.
        x: column or columns of sizes, as many as the forms have variables.
        y: column of the error.
        forms: names of forms (`analysis.forms`).
        seed: column that tells replicates apart; None for a table without.
        choose: columns over which the best is chosen at each size.
        chance_error: as in `fit_power_law`.
        validation_examples: as in `fit_power_law`.

    Raises:
        FitError: fewer than 3 groups with points, rows without a group, too few points for a form
            without one of them, and what `fit_power_law` refuses.
    """
    x = (x,) if isinstance(x, str) else tuple(x)
    chosen = chosen_forms(forms, len(x))
    refuse_missing(cells, [group])
    groups = {
        name: observe(
            part,
            x,
            y,
            seed=seed,
            choose=choose,
            chance_error=chance_error,
            validation_examples=validation_examples,
        )
        for name, part in cells.groupby(group, sort=True, observed=True)
    }
    parts = {name: part for name, part in groups.items() if len(part.x)}
    unusable = [str(name) for name in groups if name not in parts]
    if len(parts) < MIN_GROUPS:
        without = f" with a point to fit (none in {', '.join(unusable)})" if unusable else ""
        raise FitError(
            f"{group!r} has {len(parts)} groups{without}; at least {MIN_GROUPS} are needed."
        )
    predictions = pd.concat(
        [_predictions(form, parts, group, x) for form in chosen], ignore_index=True
    )
    by_group = _by_group(predictions, group)
    table = _form_table(by_group, chosen, group)
    best = str(table.sort_values("parameters", kind="stable")["rmse"].idxmin())
    why = (sentence for part in groups.values() for sentence in part.why)
    return GroupHoldout(
        group=group,
        x=x,
        y=y,
        forms=table,
        by_group=by_group,
        predictions=predictions,
        chosen=best,
        n_cells=sum(part.n_cells for part in parts.values()),
        notes=(WITHOUT_INTERVALS, *why),
    )


def _predictions(
    form: Form, parts: dict[Any, Observations], group: str, x: Sequence[str]
) -> pd.DataFrame:
    """Return the predictions of one form, each point by the fit without its group."""
    values = np.concatenate([part.x for part in parts.values()])
    log_y = np.concatenate([part.log_y[0] for part in parts.values()])
    member = np.repeat(np.arange(len(parts)), [len(part.x) for part in parts.values()])
    seen = np.arange(len(parts))[:, None] != member
    needed = len(form.parameters) + 1
    if (seen.sum(axis=1) < needed).any():
        raise FitError(
            f"{form.name} needs {needed} points outside each group, and there are "
            f"{int(seen.sum(axis=1).min())}. Choose a smaller form."
        )
    theta = fit_form(
        form, values, np.tile(log_y, (len(parts), 1)), weights=seen.astype(float)
    ).theta
    predicted = form.log_value(theta, values)[member, np.arange(len(member))]
    names = list(parts)
    return pd.DataFrame(
        {
            "form": form.name,
            group: [names[i] for i in member],
            **{name: values[:, i] for i, name in enumerate(x)},
            "observed": np.exp(log_y),
            "predicted": np.exp(predicted),
            "log_error": predicted - log_y,
        }
    )


def _by_group(predictions: pd.DataFrame, group: str) -> pd.DataFrame:
    squares = predictions.assign(square=predictions["log_error"] ** 2)
    table = (
        squares.groupby(["form", group], sort=False)
        .agg(points=("square", "size"), rmse=("square", "mean"), bias=("log_error", "mean"))
        .reset_index()
    )
    table["rmse"] **= 0.5
    return table


def _form_table(by_group: pd.DataFrame, forms: Sequence[Form], group: str) -> pd.DataFrame:
    rows = {}
    for form in forms:
        mine = by_group[by_group["form"] == form.name].reset_index(drop=True)
        worst = int(mine["rmse"].to_numpy().argmax())
        rows[form.name] = {
            "parameters": len(form.parameters),
            "rmse": mine["rmse"].mean(),
            "bias": mine["bias"].mean(),
            "worst_group": mine.loc[worst, group],
            "worst_rmse": mine.loc[worst, "rmse"],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("form")

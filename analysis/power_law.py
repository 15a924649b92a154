"""The power law of generalization error, ε(m) = α m^β + γ, with an interval for each number.

Source: Hestness et al. 2017, §3, arXiv:1712.00409. Two forms, fixed before the data are seen:
M1 without floor, for the best model at each size; M2 with γ ≥ 0, for one model at all sizes.

What to use when, by coverage of nominal 95 % intervals of β (9 sizes over 2.4 decades, 5 seeds):
the jackknife over seeds covers .942, and .95 where a seed shifts its whole curve; the profile
likelihood .953, and .89 there. Bootstraps of five seeds cover .77 to .92 and are not offered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtri, stdtrit

from analysis import columns
from analysis.curve_points import CurvePoints, curve_points
from analysis.errors import FitError
from analysis.fit_status import FitStatus, fit_status
from analysis.jackknife import Jackknife
from analysis.least_squares import (
    Array,
    fit_curves,
    log_curve,
    log_curve_gradient,
)
from analysis.profile import profile_intervals
from analysis.summary_table import Summary, format_number, json_number

__all__ = ["INTERVAL_NOTE", "FitStatus", "Form", "IntervalMethod", "PowerLawFit", "fit_power_law"]

INTERVAL_NOTE = "Intervals are provisional until calibrated: their coverage is not yet certified."
"""Printed by every summary, until the calibration suite has passed on this code."""

MIN_SIZES = 4
LEVEL = 0.95


class Form(StrEnum):
    """What is fitted; named as in Alabdulmohsin et al. 2022, arXiv:2209.06640."""

    POWER_LAW = "M1"
    """ε = α m^β."""
    POWER_LAW_WITH_FLOOR = "M2"
    """ε = α m^β + γ, γ ≥ 0."""


class IntervalMethod(StrEnum):
    """How `conf_int` is made."""

    JACKKNIFE = "jackknife"
    """Leave out one whole seed at a time; t with S - 1 degrees of freedom."""
    PROFILE = "profile"
    """Profile likelihood, F with SK - p degrees of freedom; seeds independent across sizes."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PowerLawFit:
    """A fitted power law; look at `status` before extrapolating."""

    x: str
    """Column of the sizes m."""
    y: str
    """Column of the error ε."""
    form: Form
    """The form, fixed in advance."""
    ci: IntervalMethod | None
    """Method of `conf_int`; None where no interval was asked for."""
    status: FitStatus
    """Whether, and with what reserve, the fit can be used; its value is the sentence."""
    choose: tuple[str, ...]
    """Columns over which the best was chosen at each size."""
    curve: CurvePoints
    """The points fitted to."""
    theta: Array
    """(3,) log α, β, γ."""
    folds: Array
    """(S, 3) the same with one seed left out each; (0, 3) for a table of one seed."""

    @property
    def alpha(self) -> float:
        """α, the error of the power term at m = 1."""
        return float(np.exp(self.theta[0]))

    @property
    def beta(self) -> float:
        """β, the exponent; negative where error falls."""
        return float(self.theta[1])

    @property
    def gamma(self) -> float:
        """γ, the floor; 0 by definition in M1."""
        return float(self.theta[2])

    @property
    def params(self) -> pd.Series:
        """The fitted parameters by name."""
        values = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        return pd.Series({name: values[name] for name in self._names}, name="estimate")

    @property
    def points(self) -> pd.DataFrame:
        """One row a size: seeds, mean error, region, `used` or `why` not, what was chosen.

        `binomial_variance` is (1 - ε)/(n ε) where the held-out set of n examples expects fewer
        than 100 errors there, else 0. It is what intervals add (see `conf_int`).
        """
        return self.curve.table

    @property
    def n_cells(self) -> int:
        """Number of cells at the sizes used, of every choice compared."""
        return self.curve.n_cells

    @property
    def cell_ids(self) -> tuple[str, ...]:
        """Their ids; empty where the table has no column `cell_id`."""
        return self.curve.cell_ids

    @property
    def seeds(self) -> tuple[object, ...]:
        """Seeds at the sizes used."""
        return self.curve.seeds

    @property
    def identified(self) -> bool:
        """Whether the data bound β. The exponent of M1 always is, of a flat curve too: 0."""
        if self.form == Form.POWER_LAW:
            return True
        return self.status not in (FitStatus.FLAT, FitStatus.UNIDENTIFIED)

    def conf_int(self, level: float = LEVEL) -> pd.DataFrame:
        """Return the bounds of each parameter, columns `lower` and `upper`.

        An unidentified β has infinite bounds. α is bounded on the log scale and γ from below by 0.
        The seeds share one held-out set, whose own sampling no seed shows. So the variance of the
        fit under errors in the points of variance `points.binomial_variance` is added to the
        squared standard error: (1 - ε)/(n ε), the delta method on a binomial share, propagated
        through the fit either as independent from size to size or as nested (what a larger shard
        gets wrong, a smaller one does too), whichever gives more. As part of it differs between
        seeds and is counted there already, this errs on the wide side.
        """
        self._require_interval(level)
        if self.ci == IntervalMethod.PROFILE:
            bounds = self._profile_bounds(level)
        elif self.identified:
            half = self._half_width(Jackknife(self.theta, self.folds), self._sensitivity(), level)
            bounds = self.theta[:, None] + half[:, None] * np.array([-1.0, 1.0])
        else:
            bounds = np.array([[-np.inf, np.inf], [-np.inf, np.inf], [0.0, np.inf]])
        with np.errstate(over="ignore"):
            bounds[0] = np.exp(bounds[0])
        bounds[2] = bounds[2].clip(min=0)
        frame = pd.DataFrame(bounds, index=["alpha", "beta", "gamma"], columns=["lower", "upper"])
        return frame.loc[self._names]

    def predict(self, m: ArrayLike) -> NDArray[np.float64]:
        """Return α m^β + γ, in the shape of `m`."""
        size = _positive(m)
        log_error = log_curve(self.theta[None], np.log(size.ravel()))[0]
        return np.asarray(np.exp(log_error)).reshape(size.shape)

    def predict_interval(self, m: ArrayLike, level: float = LEVEL) -> pd.DataFrame:
        """Return `predicted`, `lower` and `upper` of the curve at sizes `m`, one row each.

        A jackknife of the log of the curve, under both methods of `conf_int`. It holds if the form
        does: that the form bends beyond the points is not in it. Beyond the points an
        unidentified fit has bounds 0 and infinity.
        """
        self._require_interval(level)
        size = _positive(m).ravel()
        log_size = np.log(size)
        estimate = log_curve(self.theta[None], log_size)[0]
        jackknife = Jackknife(estimate, log_curve(self.folds, log_size))
        gradient = log_curve_gradient(self.theta[None], log_size)[0]
        half = self._half_width(jackknife, gradient @ self._sensitivity(), level)
        inside = (size >= self.curve.size.min()) & (size <= self.curve.size.max())
        half = np.where(inside | self.identified, half, np.inf)
        bounds = {"lower": np.exp(estimate - half), "upper": np.exp(estimate + half)}
        return pd.DataFrame(
            {"predicted": np.exp(estimate), **bounds}, index=pd.Index(size, name=self.x)
        )

    def summary(self) -> Summary:
        """Return a printable summary: what was fitted to what, the estimates, and the reserves."""
        used = self.points[self.points["used"]]
        decades = np.log10(used[self.x].max() / used[self.x].min())
        table = self.params.to_frame()
        if self.ci is not None:
            table = table.join(self.conf_int())
        facts = (
            ("Error", self.y),
            ("Size", self.x),
            ("Form", f"{self.form} {_EQUATIONS[self.form]}"),
            ("Interval", "none" if self.ci is None else f"{self.ci}, {LEVEL:.0%}"),
            ("Sizes", f"{len(used)} of {len(self.points)}, {decades:.2g} decades"),
            ("Seeds", str(len(self.seeds) or 1)),
            ("Cells", str(self.n_cells)),
            ("Misfit of log error", format_number(self._misfit())),
        )
        return Summary(title="Power law", facts=facts, table=table, notes=self._notes())

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as plain values for JSON; infinite bounds are "inf" and "-inf"."""
        bounds = None
        if self.ci is not None:
            bounds = {
                str(name): {side: json_number(value) for side, value in row.items()}
                for name, row in self.conf_int().to_dict("index").items()
            }
        return {
            "x": self.x,
            "y": self.y,
            "form": str(self.form),
            "equation": _EQUATIONS[self.form],
            "status": self.status.name.lower(),
            "status_text": str(self.status),
            "params": {name: json_number(value) for name, value in self.params.items()},
            "interval": None if self.ci is None else str(self.ci),
            "level": None if self.ci is None else LEVEL,
            "conf_int": bounds,
            "n_cells": self.n_cells,
            "cell_ids": list(self.cell_ids),
            "seeds": [_plain(seed) for seed in self.seeds],
            "choose": list(self.choose),
            "points": [
                {name: _plain(value) for name, value in row.items()}
                for row in self.points.to_dict("records")
            ],
            "notes": list(self._notes()),
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={format_number(v)}" for name, v in self.params.items())
        return f"PowerLawFit({numbers}, status={self.status.name}, n_cells={self.n_cells})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @property
    def _names(self) -> list[str]:
        return ["alpha", "beta", "gamma"][: _parameters(self.form)]

    def _notes(self) -> tuple[str, ...]:
        notes = [f"Status: {self.status}."]
        for _, row in self.points[self.points["why"] != ""].iterrows():
            verb = "used" if row["used"] else "not used"
            notes.append(f"{self.x} {row[self.x]:g} {verb}: {row['why']}.")
        if not self.curve.chance_known:
            notes.append("No chance error is known: no size could be excluded as best-guess.")
        if len(self.curve.log_error[0]) > 1:
            notes.append(f"Best {', '.join(self.choose)} at each size, scored on left-out seeds.")
        if self.curve.binomial_variance.any():
            notes.append("Intervals include the sampling of the held-out set (few errors in it).")
        if self.ci is not None:
            notes.append(INTERVAL_NOTE)
        return tuple(notes)

    def _require_interval(self, level: float) -> None:
        if self.ci is None:
            raise FitError("This fit was made with ci=None; fit again with ci='jackknife'.")
        if not 0 < level < 1:
            raise FitError(f"level is {level}; it must lie between 0 and 1, such as 0.95.")

    def _misfit(self) -> float:
        residual = self.curve.mean_log_error() - log_curve(self.theta[None], self._log_size)[0]
        return float(np.sqrt((residual**2).mean()))

    @property
    def _log_size(self) -> Array:
        return np.asarray(np.log(self.curve.size))

    def _sensitivity(self) -> Array:
        """Return (3, n) derivatives of (log α, β, γ) by the mean log error at each size."""
        jacobian = log_curve_gradient(self.theta[None], self._log_size)[0]
        free = 3 if self.theta[2] > 0 else 2
        return np.concatenate(
            [np.linalg.pinv(jacobian[:, :free]), np.zeros((3 - free, len(jacobian)))]
        )

    def _held_out_variance(self, sensitivity: Array) -> Array:
        """Return (p,) variances from the sampling of the held-out set, under (p, n) derivatives."""
        variance = self.curve.binomial_variance
        nested = np.minimum(variance[:, None], variance)
        independent = np.diag(variance)
        forms = [
            np.einsum("pi,ij,pj->p", sensitivity, covariance, sensitivity)
            for covariance in (nested, independent)
        ]
        return np.asarray(np.max(forms, axis=0))

    def _half_width(self, jackknife: Jackknife, sensitivity: Array, level: float) -> Array:
        variance = jackknife.standard_error**2 + self._held_out_variance(sensitivity)
        quantile = stdtrit(jackknife.degrees_of_freedom, (1 + level) / 2)
        return np.asarray(quantile * np.sqrt(variance))

    def _profile_bounds(self, level: float) -> Array:
        scores = self.curve.envelope.log_error.T
        floor = self.form == Form.POWER_LAW_WITH_FLOOR
        bounds, estimate = profile_intervals(self._log_size, scores, floor=floor, level=level)
        quantile = fdtri(1, scores.size - _parameters(self.form), level)
        added = quantile * self._held_out_variance(self._sensitivity())[:, None]
        sign = np.array([-1.0, 1.0])
        return np.asarray(
            estimate[:, None] + sign * np.sqrt((bounds - estimate[:, None]) ** 2 + added)
        )


def fit_power_law(
    cells: pd.DataFrame,
    x: str = columns.TRAIN_EXAMPLES,
    y: str = columns.BEST_VALIDATION_ERROR,
    *,
    seed: str | None = columns.SEED,
    choose: Sequence[str] | None = None,
    form: Form | str = Form.POWER_LAW_WITH_FLOOR,
    ci: IntervalMethod | str | None = IntervalMethod.JACKKNIFE,
    chance_error: float | None = None,
    validation_examples: int | None = None,
) -> PowerLawFit:
    """Fit ε(m) = α m^β + γ, γ ≥ 0, by least squares on the mean over seeds of log error.

    Sizes count alike. Those with a mean error above 0.9 of chance are left out of the fit and kept,
    with the reason, in `points`. Where several models (or other choices) were trained at a size,
    each seed is scored on the one that the other seeds choose, and every fold of the jackknife
    chooses anew. A diverged run counts with the error it has in the table: that of chance.

    Args:
        cells: one row a cell.
        x: column of sizes m > 0: numbers of examples, parameters, FLOPs, ….
        y: column of the error; another quantity above 0, such as a loss, is fitted alike.
        seed: column that tells replicates apart; None for a table without replicates.
        choose: columns over which the best is chosen at each size; by default the model's size
            where the table has it, and () for none.
        form: "M2", or "M1" without floor. An interval holds for a form fixed in advance, not for
            the better-looking of two.
        ci: "jackknife", "profile" (see `IntervalMethod`), or None for no interval.
        chance_error: what the best guess scores. By default the column `chance_error`, where the
            table has it and y is one of the store's error rates; otherwise no size is left out.
        validation_examples: number n of examples that y was measured on, by default from the
            columns of the store. A zero error counts as log(½/(n + 1)).

    Returns:
        A `PowerLawFit`; look at `.status` before extrapolating.

    Raises:
        FitError: fewer than 4 usable sizes, fewer than 2 seeds for an interval, several rows of one
            size, seed and choice, missing or non-finite numbers, or a mixture of workloads.
    """
    form = _member(Form, form, "form")
    ci = None if ci is None else _member(IntervalMethod, ci, "ci")
    if choose is None:
        choose = (
            [columns.MODEL_SIZE] if columns.MODEL_SIZE in cells and x != columns.MODEL_SIZE else []
        )
    points = curve_points(
        cells,
        x=x,
        y=y,
        seed=seed,
        choose=choose,
        chance_error=chance_error,
        validation_examples=validation_examples,
    )
    _check_points(points, x, ci)
    log_size = np.log(points.size)
    without: list[int | None] = [None]
    if len(points.seeds) > 1:
        without += range(len(points.seeds))
    means = np.stack([points.mean_log_error(seed_index) for seed_index in without])
    floor = form == Form.POWER_LAW_WITH_FLOOR
    theta, loss = fit_curves(log_size, means, floor=floor)
    return PowerLawFit(
        x=x,
        y=y,
        form=form,
        ci=ci,
        status=fit_status(points, means, theta, loss[0], floor=floor),
        choose=tuple(choose),
        curve=points,
        theta=theta[0],
        folds=theta[1:],
    )


Choice = TypeVar("Choice", bound=StrEnum)

_EQUATIONS = {Form.POWER_LAW: "α m^β", Form.POWER_LAW_WITH_FLOOR: "α m^β + γ"}


def _parameters(form: Form) -> int:
    return 2 if form == Form.POWER_LAW else 3


def _member(kind: type[Choice], value: str, name: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(str(choice)) for choice in kind)
        raise FitError(f"Unknown {name} {value!r}. Available: {allowed}.") from None


def _check_points(points: CurvePoints, x: str, ci: IntervalMethod | None) -> None:
    if len(points.size) < MIN_SIZES:
        out = points.table[~points.table["used"]]
        reasons = "; ".join(
            f"{size:g}: {why}" for size, why in zip(out[x], out["why"], strict=True)
        )
        raise FitError(
            f"{len(points.size)} distinct values of {x} can be used, and {MIN_SIZES} are needed."
            + (f" Left out were {reasons}." if reasons else " Train more sizes.")
        )
    if ci is not None and len(points.seeds) < 2:
        raise FitError(
            "An interval needs at least 2 seeds, and there is 1. Train more seeds, or pass ci=None "
            "for a fit without interval."
        )
    if ci == IntervalMethod.PROFILE:
        if points.log_error.shape[1] > 1:
            raise FitError(
                "ci='profile' does not know of the choice among several models. Use "
                "ci='jackknife', which chooses anew in each fold, or select one model first."
            )
        if np.isnan(points.envelope.log_error).any():
            raise FitError(
                "ci='profile' needs every seed at every size. Train what is missing, or use "
                "ci='jackknife'."
            )


def _positive(m: ArrayLike) -> Array:
    size = np.asarray(m, dtype=float)
    if not (np.isfinite(size) & (size > 0)).all():
        raise FitError("Sizes to predict at must be finite and above 0.")
    return size


def _plain(value: Any) -> Any:
    """Return a value that JSON holds: numpy's scalars as Python's, NaN as null."""
    value = value.item() if isinstance(value, np.generic) else value
    return json_number(value) if isinstance(value, float) else value

"""Scaling laws of tables of any origin: losses over parameters and data, published curves, ….

What to use when: `fit_power_law` for learning curves with seeds, whose intervals are made for
them; this for forms of several variables, for published refits with Huber's loss, and for tables
without replicates. With seeds, `ci="jackknife"` leaves out one at a time, as there. Draws of a
bootstrap show how parameters trade off. They are no verdict's interval: bootstraps of few
replicates cover .77 to .92 at a nominal .95.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.errors import FitError
from analysis.fits.fit_covariance import condition_of, inverse_information
from analysis.fits.fitting import (
    FormFits,
    Huber,
    Loss,
    ResidualScale,
    SquaredError,
    fit_form,
    residuals,
)
from analysis.fits.jackknife import Jackknife
from analysis.fits.profile_likelihood import profile_intervals
from analysis.fits.scaling_rows import ScalingRows, numbers, scaling_rows
from analysis.fits.scaling_status import ScalingStatus, scaling_status
from analysis.forms import Form, find_form
from analysis.forms.base import Array
from analysis.json_values import json_value
from analysis.mixed_settings import HELD, refuse_mixed
from analysis.summary_table import Summary, format_number

__all__ = ["FitResult", "ScalingInterval", "ScalingStatus", "fit_scaling_law"]

LEVEL = 0.95
DRAWS = 200
DIAGNOSTIC = (
    "Bootstrap of rows, percentiles: a diagnostic of how parameters trade off, too narrow for a "
    "verdict."
)


class ScalingInterval(StrEnum):
    """How `conf_int` is made."""

    JACKKNIFE = "jackknife"
    """Refits without one seed each, Student's t with S - 1 degrees."""
    BOOTSTRAP = "bootstrap"
    """Percentiles of refits to rows drawn with replacement; a diagnostic."""
    PROFILE = "profile"
    """Profile likelihood, F with n - p degrees; squared error, independent rows."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FitResult:
    """A fitted scaling law; look at `status` and `flags` before extrapolating."""

    form: Form
    """The form, fixed in advance."""
    x: tuple[str, ...]
    """Columns of its variables, in its order."""
    y: str
    """Column of what is predicted."""
    loss: Loss
    """What was minimized, summed over rows."""
    scale: ResidualScale
    """Whether residuals are of log y or of y."""
    ci: ScalingInterval | None
    """Method of `conf_int`; None where no interval was asked for."""
    status: ScalingStatus
    """Whether, and with what reserve, the law can be used; its value is the sentence."""
    flags: tuple[str, ...]
    """What is doubtful about the table, and which parameters ended at a bound."""
    objective: float
    """The loss at the fit."""
    theta: Array
    """(p,) working parameters."""
    covariance: Array
    """(p, p) linearized covariance of the working parameters; 0 for those at a bound."""
    rows: ScalingRows
    """What was fitted to."""
    draws: pd.DataFrame | None
    """(d, p) refits to rows drawn with replacement: a diagnostic, or for published refits."""
    folds: Array | None = None
    """(S, p) working parameters of the refits without one seed each."""

    @property
    def params(self) -> pd.Series:
        """The parameters by name, as the form reports them."""
        return pd.Series(
            self.form.reported(self.theta), index=list(self.form.parameters), name="estimate"
        )

    @property
    def condition(self) -> float:
        """Condition number of the covariance scaled to unit diagonal: 1 where none trade off."""
        return condition_of(self.covariance)

    @property
    def points(self) -> pd.DataFrame:
        """The columns used, one row a row of the table, with `weight`, `note`, `fitted`."""
        log_value = self.form.log_value(self.theta, self.rows.x)
        return self.rows.table.assign(fitted=np.exp(log_value))

    def conf_int(self, level: float = LEVEL) -> pd.DataFrame:
        """Return bounds of each parameter, columns `lower` and `upper`; infinite where none."""
        if self.ci is None:
            raise FitError("This law was fitted with ci=None; fit again with ci='profile'.")
        if not 0 < level < 1:
            raise FitError(f"level is {level}; it must lie between 0 and 1, such as 0.95.")
        if self.ci == ScalingInterval.BOOTSTRAP:
            assert self.draws is not None
            bounds = _percentiles(self.draws, level)
        elif self.ci == ScalingInterval.JACKKNIFE:
            bounds = self._jackknife(level)
        else:
            bounds = self._profile(level)
        return pd.DataFrame(bounds, index=self.params.index, columns=["lower", "upper"])

    def predict(self, x: pd.DataFrame | ArrayLike) -> NDArray[np.float64]:
        """Return predictions at a table with the columns `x`, or at (n, v) or (n,) values."""
        if isinstance(x, pd.DataFrame):
            points = np.stack([numbers(x, name) for name in self.x], axis=1)
        else:
            points = np.asarray(x, dtype=float)
        points = points.reshape(-1, 1) if len(self.x) == 1 else np.atleast_2d(points)
        if points.shape[1] != len(self.x):
            raise FitError(
                f"x has the shape {np.shape(x)}; columns {', '.join(self.x)} are needed."
            )
        if not (np.isfinite(points) & (points > 0)).all():
            raise FitError("Values to predict at must be finite and above 0.")
        return np.asarray(np.exp(self.form.log_value(self.theta, points)))

    def summary(self) -> Summary:
        """Return a printable summary."""
        table = pd.DataFrame({"estimate": self.params})
        if self.ci is not None:
            table = table.join(self.conf_int())
        facts = (
            ("Fitted", self.y),
            ("Over", ", ".join(self.x)),
            ("Form", self.form.name),
            ("Loss", _loss_text(self.loss)),
            ("Residuals", f"of {'log ' if self.scale == ResidualScale.LOG else ''}{self.y}"),
            ("Rows", f"{self.rows.used} of {len(self.rows.table)}"),
            ("Objective", format_number(self.objective)),
            ("Condition", format_number(self.condition)),
            ("Interval", "none" if self.ci is None else f"{self.ci}, {LEVEL:.0%}"),
        )
        title = f"Scaling law {self.form.equation}"
        return Summary(title=title, facts=facts, table=table, notes=self._notes())

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as plain values for JSON; infinite bounds are "inf" and "-inf"."""
        bounds = None if self.ci is None else json_value(self.conf_int().to_dict("index"))
        return {
            "form": self.form.name,
            "equation": self.form.equation,
            "x": list(self.x),
            "y": self.y,
            "loss": _loss_text(self.loss),
            "scale": str(self.scale),
            "status": self.status.name.lower(),
            "status_text": str(self.status),
            "params": json_value(self.params.to_dict()),
            "interval": None if self.ci is None else str(self.ci),
            "level": None if self.ci is None else LEVEL,
            "conf_int": bounds,
            "objective": self.objective,
            "condition": json_value(self.condition),
            "draws": 0 if self.draws is None else len(self.draws),
            "rows": json_value(self.points.to_dict("records")),
            "notes": list(self._notes()),
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={format_number(v)}" for name, v in self.params.items())
        return f"FitResult({self.form.name}: {numbers}, status={self.status.name})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _notes(self) -> tuple[str, ...]:
        notes = [f"Status: {self.status}.", *self.flags]
        if self.ci == ScalingInterval.BOOTSTRAP:
            notes.append(DIAGNOSTIC)
        return tuple(notes)

    def _jackknife(self, level: float) -> Array:
        assert self.folds is not None
        bounds = Jackknife(self.theta, self.folds).interval(level)
        lowest, highest = np.array(self.form.lower), np.array(self.form.upper)
        # What cannot be negative ends there; at all other ends of the search, there is no bound.
        floor = np.where(lowest >= 0, lowest, -np.inf)
        lower = np.where(bounds[:, 0] > lowest, bounds[:, 0], floor)
        upper = np.where(bounds[:, 1] < highest, bounds[:, 1], np.inf)
        which = np.arange(len(self.theta))
        ends = np.tile(self.theta, (2, len(which), 1))
        ends[:, which, which] = lower, upper
        with np.errstate(over="ignore"):
            return np.asarray(self.form.reported(ends)[:, which, which].T)

    def _profile(self, level: float) -> Array:
        return profile_intervals(
            self.form,
            self.rows.x,
            self.rows.log_y,
            self.rows.weights,
            scale=self.scale,
            theta=self.theta,
            objective=self.objective,
            covariance=self.covariance,
            level=level,
        )


def fit_scaling_law(
    table: pd.DataFrame,
    x: Sequence[str] | str,
    y: str,
    *,
    form: str,
    loss: str = "squared",
    delta: float = 1e-3,
    scale: str = "log",
    weights: str | ArrayLike | None = None,
    ci: str | None = None,
    seed: str | None = None,
    draws: int = DRAWS,
    rng: int | np.random.Generator | None = None,
) -> FitResult:
    """Fit a form to the rows of any table, by squared error or Huber's loss, summed over rows.

    Args:
        table: one row a run.
        x: columns of the form's variables, in the form's order, such as ["N", "D"]; above 0.
        y: column of what is predicted, above 0.
        form: a name in `analysis.forms.FORMS`, such as "Chinchilla".
        loss: "squared", or "huber" for published refits.
        delta: δ of Huber's loss, in the unit of the residual.
        scale: "log" for residuals of log y, "linear" for residuals of y.
        weights: a column or (n,) values >= 0 that multiply each row's loss; 0 leaves it out.
        ci: None; "jackknife" (replicates told apart by `seed`); "profile" (squared error,
            independent rows); or "bootstrap", a diagnostic.
        seed: column that tells replicates apart, for the jackknife.
        draws: number of bootstrap draws.
        rng: seed or generator of the draws; must be given for them.

    Returns:
        A `FitResult`; look at `.status` and `.flags` before extrapolating.

    Raises:
        FitError: fewer rows than parameters + 1, no spread in a variable, values that are not
            finite or not above 0 (their number is named), unknown names, or rows of several
            workloads, optimizers, schedules or axes of the workload that are none of `x`.
    """
    chosen = find_form(form)
    columns = (x,) if isinstance(x, str) else tuple(x)
    minimized = _loss(loss, delta)
    interval = _interval(ci, minimized, seed, draws, rng)
    rows = scaling_rows(table, columns, y, chosen, weights)
    refuse_mixed(table[rows.weights > 0], HELD, columns, "one law needs one", "fit each apart")
    fits = fit_form(chosen, rows.x, rows.log_y, loss=minimized, scale=scale, weights=rows.weights)
    covariance = _covariance(chosen, rows, fits, scale)
    drawn = folds = None
    if interval == ScalingInterval.BOOTSTRAP:
        drawn = _draw(chosen, rows, fits, minimized, scale, draws, np.random.default_rng(rng))
    if interval == ScalingInterval.JACKKNIFE:
        assert seed is not None
        folds = _without_a_seed(chosen, table, seed, rows, fits, minimized, scale)
    result = FitResult(
        form=chosen,
        x=columns,
        y=y,
        loss=minimized,
        scale=ResidualScale(scale),
        ci=interval,
        status=ScalingStatus.CONVERGED,
        flags=(*rows.flags, *_bound_flags(chosen, fits)),
        objective=float(fits.objective[0]),
        theta=fits.theta[0],
        covariance=covariance,
        rows=rows,
        draws=drawn,
        folds=folds,
    )
    judged = interval in (ScalingInterval.PROFILE, ScalingInterval.JACKKNIFE)
    bounds = result.conf_int().to_numpy() if judged else None
    return replace(result, status=scaling_status(chosen, rows, fits, covariance, bounds, minimized))


def _loss(name: str, delta: float) -> Loss:
    if name == "huber":
        return Huber(delta)
    if name == "squared":
        return SquaredError()
    raise FitError(f"Unknown loss {name!r}. Available: 'squared', 'huber'.")


def _loss_text(loss: Loss) -> str:
    return f"Huber, delta {loss.delta:g}" if isinstance(loss, Huber) else "squared error"


def _interval(
    ci: str | None,
    loss: Loss,
    seed: str | None,
    draws: int,
    rng: int | np.random.Generator | None,
) -> ScalingInterval | None:
    if (ci == ScalingInterval.JACKKNIFE) != (seed is not None):
        raise FitError(
            f"ci is {ci!r} and seed is {seed!r}: the jackknife leaves out one seed at a time. Pass "
            "ci='jackknife' and the column of the seed together, or neither."
        )
    if ci is None:
        return None
    if ci not in list(ScalingInterval):
        allowed = ", ".join(repr(str(choice)) for choice in ScalingInterval)
        raise FitError(f"Unknown ci {ci!r}. Available: {allowed}, or None.")
    if ci == ScalingInterval.PROFILE and not isinstance(loss, SquaredError):
        raise FitError(
            "ci='profile' rests on squared error; with loss='huber' use ci='bootstrap', a "
            "diagnostic, or ci=None."
        )
    if ci == ScalingInterval.BOOTSTRAP and rng is None:
        raise FitError("ci='bootstrap' draws at random: pass a seed, such as rng=0.")
    if ci == ScalingInterval.BOOTSTRAP and draws < 2:
        raise FitError(f"draws is {draws}; it must be at least 2, such as {DRAWS}.")
    return ScalingInterval(ci)


def _covariance(form: Form, rows: ScalingRows, fits: FormFits, scale: str) -> Array:
    """Return σ² (J'WJ)⁻¹, σ² the weighted mean square of the residuals a degree of freedom."""
    theta = fits.theta[0]
    jacobian = form.log_gradient(theta, rows.x)
    if scale == ResidualScale.LINEAR:
        jacobian = jacobian * np.exp(form.log_value(theta, rows.x))[:, None]
    residual = residuals(form, theta, rows.x, rows.log_y, scale)
    variance = float(rows.weights @ residual**2) / (rows.used - len(theta))
    return variance * inverse_information(jacobian, rows.weights, ~fits.at_bound[0])


def _bound_flags(form: Form, fits: FormFits) -> list[str]:
    theta = fits.theta[0]
    reported = form.reported(theta)
    return [
        f"{name} ended at its {'lower' if theta[i] <= form.lower[i] else 'upper'} bound, "
        f"{format_number(reported[i])}."
        for i, name in enumerate(form.parameters)
        if fits.at_bound[0, i]
    ]


def _draw(
    form: Form,
    rows: ScalingRows,
    fits: FormFits,
    loss: Loss,
    scale: str,
    draws: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return (draws, p) refits to rows drawn with replacement; one drawn twice counts twice."""
    used = rows.weights > 0
    counts = np.zeros((draws, len(used)))
    counts[:, used] = rng.multinomial(used.sum(), np.full(used.sum(), 1 / used.sum()), draws)
    drawn = _refitted(form, rows, fits, loss, scale, counts)
    return pd.DataFrame(form.reported(drawn), columns=list(form.parameters))


def _without_a_seed(
    form: Form,
    table: pd.DataFrame,
    seed: str,
    rows: ScalingRows,
    fits: FormFits,
    loss: Loss,
    scale: str,
) -> Array:
    """Return (S, p) refits without one seed each."""
    if seed not in table:
        raise FitError(f"No column {seed!r}. Columns here: {', '.join(map(str, table))}.")
    used = rows.weights > 0
    seeds = table[seed]
    if seeds[used].isna().any():
        raise FitError(f"{seeds[used].isna().sum()} rows have no {seed}; each needs one.")
    others = [(seeds != left_out).to_numpy() for left_out in seeds[used].unique()]
    if len(others) < 2:
        raise FitError(f"The jackknife needs at least 2 seeds; {seed} has {len(others)}.")
    needed, left = len(form.parameters) + 1, min(int((used & kept).sum()) for kept in others)
    if left < needed:
        raise FitError(
            f"Without one of its seeds the table has {left} rows, and {form.name} needs {needed}: "
            "train more points, or use ci='profile'."
        )
    return _refitted(form, rows, fits, loss, scale, np.stack(others).astype(float))


def _refitted(
    form: Form, rows: ScalingRows, fits: FormFits, loss: Loss, scale: str, counts: Array
) -> Array:
    """Return (k, p) working parameters of fits that count each row so often, from the first fit.

    `counts`: (k, n). Refits differ in weights alone and are made in one batch.
    """
    return fit_form(
        form,
        rows.x,
        np.broadcast_to(rows.log_y, counts.shape),
        loss=loss,
        scale=scale,
        weights=counts * rows.weights,
        starts=fits.theta,
    ).theta


def _percentiles(draws: pd.DataFrame, level: float) -> Array:
    tails = [(1 - level) / 2, (1 + level) / 2]
    return np.asarray(np.quantile(draws.to_numpy(), tails, axis=0).T)

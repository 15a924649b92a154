"""Fits of any form to many tables at once: bounds, weights, squared error or Huber's loss.

Folds of a jackknife, bootstrap draws and rolling windows are rows of one call: a point that a row
leaves out has weight 0. Starts come from the form; poor ones are dropped after a few cheap steps.
Squared error is minimized by damped Levenberg-Marquardt steps. Huber's loss with a small δ is
nearly least absolute deviations, where such steps crawl: δ is lowered to its value over several
rounds of reweighted steps, and Newton steps with the exact curvature finish.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import FitError
from analysis.forms.base import Array, Form
from analysis.losses import Huber, Loss, SquaredError

__all__ = ["FormFits", "Huber", "Loss", "ResidualScale", "SquaredError", "fit_form", "residuals"]

Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]

_SCREENED = 16
"""Starts of a row that get a few steps, by the loss at the start."""
_FINISHED = 4
"""Starts of a row that are followed to the end, by the loss after those steps."""
_FIRST_STEPS = 6
_STEPS = 40
_FINISHING_STEPS = 200
_ROUND_STEPS = 12
"""Reweighted steps at each δ on the way down."""
_LOWERING = 0.25
_CHANGE = 1e-12
"""A step that moves no prediction by more, relative to the data's size, is the last."""
_DAMPING_LIMIT = 1e8
_LARGEST_LOG = 300.0
"""Predictions on the linear scale end at e^300: their squares are still finite."""
_CHUNK = 2_000_000
"""Derivatives held at once (16 MB): rows beyond are fitted after these."""


class ResidualScale(StrEnum):
    """What is fitted."""

    LOG = "log"
    """Residuals of log y."""
    LINEAR = "linear"
    """Residuals of y."""


@dataclass(frozen=True, eq=False)
class FormFits:
    """k fits of one form."""

    theta: Array
    """(k, p) working parameters."""
    objective: Array
    """(k,) the loss, summed over points with their weights."""
    converged: Flags
    """(k,) whether the steps ended by themselves, not at their number's limit."""
    at_bound: Flags
    """(k, p) whether a parameter that was free ended at a bound."""


@dataclass(frozen=True, eq=False)
class _Problem:
    """Rows of data that fits refer to by index."""

    form: Form
    x: Array
    """(n, v)"""
    target: Array
    """(k, n) log y or y."""
    weights: Array
    """(k, n)"""
    unit: Array
    """(k,) what a change of predictions is measured against."""
    linear: bool
    lower: Array
    upper: Array

    def residual(self, theta: Array, rows: Rows) -> Array:
        """Return (b, n) residuals; 0 where the weight is 0."""
        predicted = self.form.log_value(theta, self.x)
        if self.linear:
            predicted = np.exp(np.minimum(predicted, _LARGEST_LOG))
        residual = self.target[rows] - predicted
        return np.where(self.weights[rows] > 0, np.nan_to_num(residual, nan=1e130), 0.0)

    def jacobian(self, theta: Array, rows: Rows) -> Array:
        """Return (b, n, p) derivatives of the prediction."""
        del rows
        gradient = np.nan_to_num(self.form.log_gradient(theta, self.x))
        if self.linear:
            value = np.exp(np.minimum(self.form.log_value(theta, self.x), _LARGEST_LOG))
            gradient = gradient * value[..., None]
        return gradient

    def objective(self, residual: Array, rows: Rows, loss: Loss) -> Array:
        """Return (b,) weighted sums of the loss."""
        return np.asarray((self.weights[rows] * loss.value(residual)).sum(axis=1))


def fit_form(
    form: Form,
    x: ArrayLike,
    log_y: ArrayLike,
    *,
    loss: Loss | None = None,
    scale: ResidualScale | str = ResidualScale.LOG,
    weights: ArrayLike | None = None,
    starts: ArrayLike | None = None,
    held: ArrayLike | None = None,
) -> FormFits:
    """Fit `form` to k rows of data at the same n points; each row is fitted as if alone.

    Args:
        form: a form, such as `find_form("M2")`.
        x: (n, v) or, for one variable, (n,) values > 0.
        log_y: (k, n) or (n,) logs of what is fitted, finite where the weight is above 0.
        loss: `SquaredError()` by default, or `Huber(delta)`; summed, not averaged.
        scale: "log" for residuals of log y, "linear" for residuals of y.
        weights: (n,) or (k, n) >= 0, factors of each point's loss; 0 leaves it out.
        starts: (p,), (s, p) or (k, s, p) working parameters to start from in place of the form's.
        held: (p,) or (k, p) working values to hold, NaN for a parameter that is free.

    Raises:
        FitError: shapes that do not fit, values that are not finite, or a row without weight.
    """
    loss = SquaredError() if loss is None else loss
    problem = _problem(form, x, log_y, scale, weights)
    rows, parameters = len(problem.target), len(form.parameters)
    fixed = np.full((rows, parameters), np.nan)
    if held is not None:
        fixed = np.broadcast_to(np.asarray(held, dtype=float), fixed.shape)
    given = None if starts is None else _given_starts(starts, rows, parameters)
    size = max(1, _CHUNK // (_SCREENED * len(problem.x) * parameters))
    parts = [
        _fit_rows(problem, loss, given, fixed, np.arange(first, min(first + size, rows)))
        for first in range(0, rows, size)
    ]
    return FormFits(
        theta=np.concatenate([part.theta for part in parts]),
        objective=np.concatenate([part.objective for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
        at_bound=np.concatenate([part.at_bound for part in parts]),
    )


def residuals(
    form: Form, theta: Array, x: Array, log_y: Array, scale: ResidualScale | str
) -> Array:
    """Return (..., n) residuals of (n,) log y at (..., p) working parameters."""
    log_value = form.log_value(theta, x)
    if scale == ResidualScale.LINEAR:
        return np.asarray(np.exp(log_y) - np.exp(log_value))
    return np.asarray(log_y - log_value)


def _problem(
    form: Form, x: ArrayLike, log_y: ArrayLike, scale: str, weights: ArrayLike | None
) -> _Problem:
    if scale not in list(ResidualScale):
        raise FitError(f"Unknown scale {scale!r}. Available: 'log', 'linear'.")
    points = np.asarray(x, dtype=float)
    points = points[:, None] if points.ndim == 1 else points
    if points.ndim != 2 or points.shape[1] != len(form.variables) or not len(points):
        raise FitError(
            f"x has the shape {np.shape(x)}; {form.name} needs one row a point and the columns "
            f"{', '.join(form.variables)}."
        )
    if not (np.isfinite(points) & (points > 0)).all():
        raise FitError("x must be finite and above 0 at every point.")
    logs = np.atleast_2d(np.asarray(log_y, dtype=float))
    if logs.shape[1] != len(points):
        raise FitError(f"log_y has {logs.shape[1]} values a row and x {len(points)} points.")
    each = np.ones_like(logs) if weights is None else np.asarray(weights, dtype=float)
    if each.shape not in (logs.shape, logs.shape[1:]):
        raise FitError(
            f"weights have the shape {each.shape}; allowed: {logs.shape} and {logs.shape[1:]}."
        )
    each = np.broadcast_to(each, logs.shape)
    _check_weights(each, logs)
    logs = np.where(each > 0, logs, 0.0)
    linear = scale == ResidualScale.LINEAR
    target = np.exp(logs) if linear else logs
    unit = np.where(each > 0, target, 0.0).max(axis=1) if linear else np.ones(len(logs))
    lower, upper = np.array(form.lower), np.array(form.upper)
    return _Problem(form, points, target, each, unit, linear, lower, upper)


def _check_weights(weights: Array, log_y: Array) -> None:
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise FitError("weights must be finite and 0 or above.")
    if (empty := int((weights.sum(axis=1) <= 0).sum())) > 0:
        raise FitError(f"{empty} rows have no point with a weight above 0.")
    if bad := int((~np.isfinite(log_y) & (weights > 0)).sum()):
        raise FitError(f"{bad} values of log y are not finite; give them weight 0 to leave them.")


def _given_starts(starts: ArrayLike, rows: int, parameters: int) -> Array:
    given = np.asarray(starts, dtype=float)
    given = given[None] if given.ndim == 1 else given
    if given.shape[-1] != parameters or given.ndim > 3:
        raise FitError(f"starts have the shape {np.shape(starts)}; the last must be {parameters}.")
    return np.broadcast_to(given, (rows, *given.shape[-2:]))


def _fit_rows(
    problem: _Problem, loss: Loss, given: Array | None, fixed: Array, chunk: Rows
) -> FormFits:
    """Fit the rows of `chunk`."""
    part = replace(
        problem,
        target=problem.target[chunk],
        weights=problem.weights[chunk],
        unit=problem.unit[chunk],
    )
    fixed = fixed[chunk]
    if given is None:
        logs = np.log(part.target) if part.linear else part.target
        starts = part.form.starts(part.x, logs, part.weights)
    else:
        starts = given[chunk]
    starts = np.clip(starts, part.lower, part.upper)
    starts = np.where(np.isnan(fixed)[:, None], starts, fixed[:, None])
    theta, converged = _best_fit(part, loss, starts, np.isnan(fixed))
    rows = np.arange(len(theta))
    at_bound = np.isnan(fixed) & ((theta <= part.lower) | (theta >= part.upper))
    objective = part.objective(part.residual(theta, rows), rows, loss)
    return FormFits(theta=theta, objective=objective, converged=converged, at_bound=at_bound)


def _best_fit(problem: _Problem, loss: Loss, starts: Array, free: Flags) -> tuple[Array, Flags]:
    """Return (k, p) best parameters over (k, s, p) starts, and (k,) whether they converged."""
    starts = _keep(problem, loss, starts, _SCREENED)
    if starts.shape[1] > _FINISHED:
        starts, _ = _each(problem, loss, starts, free, _first_steps)
        starts = _keep(problem, loss, starts, _FINISHED)
    ended, converged = _each(problem, loss, starts, free, _minimize)
    best = _losses(problem, loss, ended).argmin(axis=1)
    rows = np.arange(len(starts))
    return ended[rows, best], converged[rows, best]


Steps = Callable[[_Problem, Loss, Array, Rows, Flags], tuple[Array, Flags]]


def _each(
    problem: _Problem, loss: Loss, starts: Array, free: Flags, steps: Steps
) -> tuple[Array, Flags]:
    """Return (k, s, p) parameters after `steps` from every start, and (k, s) whether ended."""
    k, s, p = starts.shape
    rows = np.repeat(np.arange(k), s)
    theta, ended = steps(problem, loss, starts.reshape(-1, p), rows, free[rows])
    return theta.reshape(k, s, p), ended.reshape(k, s)


def _losses(problem: _Problem, loss: Loss, starts: Array) -> Array:
    """Return (k, s) objectives at (k, s, p) parameters, a few columns at a time."""
    k, s, _ = starts.shape
    rows = np.arange(k)
    columns = [
        problem.objective(problem.residual(starts[:, i], rows), rows, loss) for i in range(s)
    ]
    return np.stack(columns, axis=1)


def _keep(problem: _Problem, loss: Loss, starts: Array, number: int) -> Array:
    """Return the `number` best starts of each row, in the order of their loss."""
    if starts.shape[1] <= number:
        return starts
    best = np.argsort(_losses(problem, loss, starts), axis=1, kind="stable")[:, :number]
    return np.take_along_axis(starts, best[..., None], axis=1)


def _first_steps(
    problem: _Problem, loss: Loss, theta: Array, rows: Rows, free: Flags
) -> tuple[Array, Flags]:
    return _reweighted_steps(problem, loss, theta, rows, free, _FIRST_STEPS)


def _minimize(
    problem: _Problem, loss: Loss, theta: Array, rows: Rows, free: Flags
) -> tuple[Array, Flags]:
    """Return (b, p) parameters at the minimum near (b, p) `theta`, and (b,) whether reached."""
    if not isinstance(loss, Huber):
        theta, ended = _reweighted_steps(problem, loss, theta, rows, free, _STEPS)
        rest = np.flatnonzero(~ended)
        # Along a curved valley the steps crawl, as they take the form for linear.
        theta[rest], ended[rest] = _newton_steps(
            problem, loss, theta[rest], rows[rest], free[rest], _FINISHING_STEPS
        )
        return theta, ended
    residual = np.abs(problem.residual(theta, rows))
    delta = float(np.median(residual[problem.weights[rows] > 0]))
    while delta > loss.delta:
        theta, _ = _reweighted_steps(problem, Huber(delta), theta, rows, free, _ROUND_STEPS)
        delta *= _LOWERING
    theta, _ = _reweighted_steps(problem, loss, theta, rows, free, _ROUND_STEPS)
    return _newton_steps(problem, loss, theta, rows, free, _FINISHING_STEPS)


def _reweighted_steps(
    problem: _Problem, loss: Loss, theta: Array, rows: Rows, free: Flags, steps: int
) -> tuple[Array, Flags]:
    """Levenberg-Marquardt steps on squares, reweighted to the slope of the loss."""

    def matrix(
        residual: Array, weighted: Array, jacobian: Array, theta: Array, rows: Rows
    ) -> Array:
        del theta, rows
        return np.asarray(np.swapaxes(jacobian * weighted[..., None], 1, 2) @ jacobian)

    return _descend(problem, loss, theta, rows, free, steps, matrix)


def _newton_steps(
    problem: _Problem, loss: Loss, theta: Array, rows: Rows, free: Flags, steps: int
) -> tuple[Array, Flags]:
    """Newton steps with the loss's own curvature and that of the form."""

    def matrix(
        residual: Array, weighted: Array, jacobian: Array, theta: Array, rows: Rows
    ) -> Array:
        del weighted
        weights = problem.weights[rows]
        own = weights * loss.curvature(residual)
        squares = np.swapaxes(jacobian * own[..., None], 1, 2) @ jacobian
        return np.asarray(
            squares - _form_curvature(problem, theta, rows, weights * loss.slope(residual))
        )

    return _descend(problem, loss, theta, rows, free, steps, matrix)


def _form_curvature(problem: _Problem, theta: Array, rows: Rows, pull: Array) -> Array:
    """Return (b, p, p) second derivatives of the predictions, summed with (b, n) weights.

    By central differences of the analytic derivatives, whose error of about 1e-9 is far below
    what a Newton matrix needs.
    """
    size = theta.shape[1]
    result = np.empty((len(theta), size, size))
    for i in range(size):
        step = 1e-5 * np.maximum(np.abs(theta[:, i]), 1e-3)
        ahead, behind = theta.copy(), theta.copy()
        # Inside the bounds: beyond them a form may have no value.
        ahead[:, i] = np.minimum(theta[:, i] + step, problem.upper[i])
        behind[:, i] = np.maximum(theta[:, i] - step, problem.lower[i])
        width = np.maximum(ahead[:, i] - behind[:, i], 1e-300)
        change = problem.jacobian(ahead, rows) - problem.jacobian(behind, rows)
        result[:, i] = (pull[:, None] @ change)[:, 0] / width[:, None]
    return (result + np.swapaxes(result, 1, 2)) / 2


Matrix = Callable[[Array, Array, Array, Array, Rows], Array]


def _descend(
    problem: _Problem,
    loss: Loss,
    theta: Array,
    rows: Rows,
    free: Flags,
    steps: int,
    matrix: Matrix,
) -> tuple[Array, Flags]:
    """Return (b, p) parameters after damped steps that never raise the loss, and whether ended.

    Fits that ended drop out, so that the slowest do not hold up the rest.
    """
    theta = theta.copy()
    residual = problem.residual(theta, rows)
    objective = problem.objective(residual, rows, loss)
    damping = np.full(len(theta), 1e-3)
    live = np.arange(len(theta))
    for _ in range(steps):
        at, r, of = theta[live], residual[live], rows[live]
        step = _step(problem, loss, at, r, of, free[live], damping[live], matrix)
        trial = np.clip(at + step, problem.lower, problem.upper)
        trial = np.where(free[live], trial, at)
        new = problem.residual(trial, of)
        value = problem.objective(new, of, loss)
        better = value < objective[live]
        change = np.abs(new - r).max(axis=1) / problem.unit[of]
        moved = live[better]
        theta[moved], residual[moved], objective[moved] = trial[better], new[better], value[better]
        damping[live] = np.where(better, np.maximum(damping[live] * 0.1, 1e-12), damping[live] * 8)
        live = live[(change > _CHANGE) & (damping[live] < _DAMPING_LIMIT)]
        if not len(live):
            break
    ended = np.ones(len(theta), dtype=bool)
    ended[live] = False
    return theta, ended


def _step(
    problem: _Problem,
    loss: Loss,
    theta: Array,
    residual: Array,
    rows: Rows,
    free: Flags,
    damping: Array,
    matrix: Matrix,
) -> Array:
    """Return (b, p) damped steps; a parameter at a bound that would leave it stays."""
    jacobian = problem.jacobian(theta, rows)
    slope = problem.weights[rows] * loss.slope(residual)
    weighted = np.divide(slope, residual, out=problem.weights[rows].copy(), where=residual != 0)
    downhill = (slope[:, None] @ jacobian)[:, 0]
    stuck = ((theta <= problem.lower) & (downhill <= 0)) | (
        (theta >= problem.upper) & (downhill >= 0)
    )
    movable = free & ~stuck
    jacobian = jacobian * movable[:, None]
    normal = matrix(residual, weighted, jacobian, theta, rows)
    normal = normal * (movable[:, :, None] & movable[:, None])
    # Scaled to unit diagonal of the squares, so that parameters of very different size solve alike.
    squares = np.einsum("bnp,bn,bnp->bp", jacobian, weighted, jacobian, optimize=False)
    root = np.sqrt(np.where(squares > 0, squares, 1.0))
    normal = normal / (root[:, :, None] * root[:, None])
    pull = downhill * movable / root
    return _solve(normal, pull, damping, squares > 0) / root


def _solve(normal: Array, pull: Array, damping: Array, known: Flags) -> Array:
    """Return (b, p) solutions of (|normal| + damping) step = pull, |·| by its eigenvalues."""
    size = normal.shape[1]
    idle = np.where(known, 0.0, 1.0)
    normal = normal + np.eye(size) * idle[:, None]
    values, vectors = np.linalg.eigh(normal)
    along = (pull[:, None] @ vectors)[:, 0]
    along = along / (np.abs(values) + damping[:, None])
    return np.asarray((vectors @ along[..., None])[..., 0])

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
from analysis.fits.losses import Huber, Loss, SquaredError
from analysis.forms.base import Array, Form

__all__ = ["FormFits", "Huber", "Loss", "ResidualScale", "SquaredError", "fit_form", "residuals"]

Flags = NDArray[np.bool_]

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
_TINY = 1e-200
"""A parameter whose derivatives have no larger sum of squares moves nothing."""
_ROUNDING = 1 + 1e-15
"""Close to the minimum a sum is flat to rounding, and the last step is still right."""
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
    """Data of k fits of one form, one row each."""

    form: Form
    x: Array
    """(n, v)"""
    target: Array
    """(k, n) log y or y."""
    weights: Array
    """(k, n)"""
    free: Flags
    """(k, p) parameters that are not held."""
    unit: Array
    """(k,) what a change of predictions is measured against."""
    linear: bool
    lower: Array
    upper: Array

    def take(self, rows: NDArray[np.intp]) -> "_Problem":
        """Return the rows of those indices, each as often as it is named."""
        return replace(
            self,
            target=self.target[rows],
            weights=self.weights[rows],
            free=self.free[rows],
            unit=self.unit[rows],
        )

    def residual(self, theta: Array) -> Array:
        """Return (k, n) residuals; 0 where the weight is 0."""
        predicted = self.form.log_value(theta, self.x)
        if self.linear:
            predicted = np.exp(np.minimum(predicted, _LARGEST_LOG))
        return np.where(self.weights > 0, self.target - predicted, 0.0)

    def jacobian(self, theta: Array, residual: Array | None = None) -> Array:
        """Return (k, n, p) derivatives of the prediction, of use where the weight is above 0.

        `residual`: (k, n) at `theta`, where known; it saves computing the prediction again.
        """
        gradient = self.form.log_gradient(theta, self.x)
        if not self.linear:
            return gradient
        residual = self.residual(theta) if residual is None else residual
        return gradient * (self.target - residual)[..., None]

    def objective(self, residual: Array, loss: Loss) -> Array:
        """Return (k,) weighted sums of the loss; infinite where the form has no value."""
        total = (self.weights * loss.value(residual)).sum(axis=1)
        return np.where(np.isnan(total), np.inf, total)


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
    problem, fixed = _problem(form, x, log_y, scale, weights, held)
    rows, parameters = fixed.shape
    given = None if starts is None else _given_starts(starts, rows, parameters)
    size = max(1, _CHUNK // (_SCREENED * len(problem.x) * parameters))
    chunks = [np.arange(first, min(first + size, rows)) for first in range(0, rows, size)]
    parts = [
        _fit_rows(problem.take(rows), loss, None if given is None else given[rows], fixed[rows])
        for rows in chunks
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
    form: Form,
    x: ArrayLike,
    log_y: ArrayLike,
    scale: str,
    weights: ArrayLike | None,
    held: ArrayLike | None,
) -> tuple[_Problem, Array]:
    """Return the checked data, and (k, p) values to hold, NaN where free."""
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
    fixed = np.full((len(logs), len(form.parameters)), np.nan)
    if held is not None:
        fixed = np.broadcast_to(np.asarray(held, dtype=float), fixed.shape)
    lower, upper = np.array(form.lower), np.array(form.upper)
    problem = _Problem(form, points, target, each, np.isnan(fixed), unit, linear, lower, upper)
    return problem, fixed


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


def _fit_rows(problem: _Problem, loss: Loss, given: Array | None, fixed: Array) -> FormFits:
    """Return the fits of all rows of `problem`, from (k, s, p) `given` starts or the form's."""
    starts = given
    if starts is None:
        logs = np.log(problem.target) if problem.linear else problem.target
        starts = problem.form.starts(problem.x, logs, problem.weights)
    starts = np.clip(starts, problem.lower, problem.upper)
    starts = np.where(problem.free[:, None], starts, fixed[:, None])
    theta, converged = _best_fit(problem, loss, starts)
    return FormFits(
        theta=theta,
        objective=problem.objective(problem.residual(theta), loss),
        converged=converged,
        at_bound=problem.free & ((theta <= problem.lower) | (theta >= problem.upper)),
    )


def _best_fit(problem: _Problem, loss: Loss, starts: Array) -> tuple[Array, Flags]:
    """Return (k, p) best parameters over (k, s, p) starts, and (k,) whether they converged."""
    starts = _keep(problem, loss, starts, _SCREENED)
    if starts.shape[1] > _FINISHED:
        starts, _ = _each(problem, loss, starts, _first_steps)
        starts = _keep(problem, loss, starts, _FINISHED)
    ended, converged = _each(problem, loss, starts, _minimize)
    best = _losses(problem, loss, ended).argmin(axis=1)
    rows = np.arange(len(starts))
    return _finish(problem, loss, ended[rows, best], converged[rows, best])


def _finish(problem: _Problem, loss: Loss, theta: Array, converged: Flags) -> tuple[Array, Flags]:
    """Return `theta` with the rows that have not converged taken on by Newton steps.

    Along a curved valley reweighted steps crawl, as they take the form for linear.
    """
    rest = np.flatnonzero(~converged)
    if len(rest):
        theta[rest], converged[rest] = _descend(
            problem.take(rest), loss, theta[rest], _FINISHING_STEPS, _newton_step
        )
    return theta, converged


Steps = Callable[[_Problem, Loss, Array], tuple[Array, Flags]]


def _each(problem: _Problem, loss: Loss, starts: Array, steps: Steps) -> tuple[Array, Flags]:
    """Return (k, s, p) parameters after `steps` from every start, and (k, s) whether ended."""
    k, s, p = starts.shape
    repeated = problem if s == 1 else problem.take(np.repeat(np.arange(k), s))
    theta, ended = steps(repeated, loss, starts.reshape(-1, p))
    return theta.reshape(k, s, p), ended.reshape(k, s)


def _losses(problem: _Problem, loss: Loss, starts: Array) -> Array:
    """Return (k, s) objectives at (k, s, p) parameters, some columns at a time for memory."""
    k, s, p = starts.shape
    width = max(1, _CHUNK // 10 // (k * len(problem.x)))
    blocks = []
    for first in range(0, s, width):
        block = starts[:, first : first + width]
        repeated = problem.take(np.repeat(np.arange(k), block.shape[1]))
        residual = repeated.residual(block.reshape(-1, p))
        blocks.append(repeated.objective(residual, loss).reshape(k, -1))
    return np.concatenate(blocks, axis=1)


def _keep(problem: _Problem, loss: Loss, starts: Array, number: int) -> Array:
    """Return the `number` best starts of each row, in the order of their loss."""
    if starts.shape[1] <= number:
        return starts
    best = np.argsort(_losses(problem, loss, starts), axis=1, kind="stable")[:, :number]
    return np.take_along_axis(starts, best[..., None], axis=1)


def _first_steps(problem: _Problem, loss: Loss, theta: Array) -> tuple[Array, Flags]:
    return _descend(problem, loss, theta, _FIRST_STEPS, _reweighted_step)


def _minimize(problem: _Problem, loss: Loss, theta: Array) -> tuple[Array, Flags]:
    """Return (k, p) parameters at the minimum near (k, p) `theta`, and (k,) whether reached."""
    if isinstance(loss, Huber):
        theta = _lower_delta(problem, loss, theta)
        return _descend(problem, loss, theta, _FINISHING_STEPS, _newton_step)
    return _descend(problem, loss, theta, _STEPS, _reweighted_step)


def _lower_delta(problem: _Problem, loss: Huber, theta: Array) -> Array:
    """Return (k, p) parameters near the minimum, by way of larger δ."""
    theta, delta = theta.copy(), loss.delta
    residual = np.abs(problem.residual(theta))
    counted = np.where(problem.weights > 0, residual, np.nan)
    typical = np.nanmedian(counted, axis=1)
    rounds = np.ceil(np.log(np.maximum(typical / delta, 1.0)) / np.log(1 / _LOWERING))
    for step in range(int(rounds.max()), -1, -1):
        rows = np.flatnonzero(rounds >= step)
        theta[rows], _ = _descend(
            problem.take(rows),
            Huber(delta * _LOWERING**-step),
            theta[rows],
            _ROUND_STEPS,
            _reweighted_step,
        )
    return theta


Step = Callable[[_Problem, Loss, Array, Array, Array], Array]
"""Problem, loss, (k, p) parameters, (k, n) residuals and (k,) damping -> (k, p) steps."""


def _descend(
    problem: _Problem, loss: Loss, theta: Array, steps: int, step: Step
) -> tuple[Array, Flags]:
    """Return (k, p) parameters after damped steps that lower the loss, and whether ended.

    Fits that ended drop out, so that the slowest do not hold up the rest.
    """
    result, live = theta.copy(), np.arange(len(theta))
    at, residual = theta.copy(), problem.residual(theta)
    objective = problem.objective(residual, loss)
    damping = np.full(len(theta), 1e-3)
    for _ in range(steps):
        trial = np.clip(
            at + step(problem, loss, at, residual, damping), problem.lower, problem.upper
        )
        trial = np.where(problem.free, trial, at)
        new = problem.residual(trial)
        value = problem.objective(new, loss)
        better = value <= objective * _ROUNDING
        change = np.abs(new - residual).max(axis=1)
        at = np.where(better[:, None], trial, at)
        residual = np.where(better[:, None], new, residual)
        objective = np.where(better, value, objective)
        damping = np.where(better, np.maximum(damping * 0.1, 1e-12), damping * 8)
        # NaN, where a trial has no value, is not the end.
        ended = (change <= _CHANGE * problem.unit) | (damping > _DAMPING_LIMIT)
        if not ended.any():
            continue
        result[live] = at
        going = np.flatnonzero(~ended)
        live, at, residual = live[going], at[going], residual[going]
        objective, damping, problem = objective[going], damping[going], problem.take(going)
        if not len(live):
            break
    result[live] = at
    finished = np.ones(len(theta), dtype=bool)
    finished[live] = False
    return result, finished


def _reweighted_step(
    problem: _Problem, loss: Loss, theta: Array, residual: Array, damping: Array
) -> Array:
    """Return Levenberg-Marquardt steps on squares, reweighted to the slope of the loss."""
    jacobian, slope, weighted = _linearized(problem, loss, theta, residual)
    downhill = (slope[:, None] @ jacobian)[:, 0]
    free = _movable(problem, theta, downhill)
    normal = np.swapaxes(jacobian * weighted[..., None], 1, 2) @ jacobian
    normal, root = _scaled(normal, np.einsum("kpp->kp", normal), free)
    normal = normal + damping[:, None, None] * np.eye(len(root[0]))
    pull = np.where(free, downhill, 0.0) / root
    return np.asarray(np.linalg.solve(normal, pull[..., None])[..., 0] / root)


def _newton_step(
    problem: _Problem, loss: Loss, theta: Array, residual: Array, damping: Array
) -> Array:
    """Return Newton steps with the curvature of the loss and of the form.

    Where the curvature is negative its sign is turned, so that every step goes downhill.
    """
    jacobian, slope, weighted = _linearized(problem, loss, theta, residual)
    downhill = (slope[:, None] @ jacobian)[:, 0]
    free = _movable(problem, theta, downhill)
    own = problem.weights * loss.curvature(residual)
    normal = np.swapaxes(jacobian * own[..., None], 1, 2) @ jacobian
    normal = normal - _form_curvature(problem, theta, slope)
    squares = np.einsum("knp,kn,knp->kp", jacobian, weighted, jacobian)
    normal, root = _scaled(np.nan_to_num(normal), np.nan_to_num(squares), free)
    values, vectors = np.linalg.eigh(normal)
    pull = np.where(free, downhill, 0.0) / root
    along = (pull[:, None] @ vectors)[:, 0] / (np.abs(values) + damping[:, None])
    return np.asarray((vectors @ along[..., None])[..., 0] / root)


def _linearized(
    problem: _Problem, loss: Loss, theta: Array, residual: Array
) -> tuple[Array, Array, Array]:
    """Return derivatives (k, n, p), weighted slopes of the loss (k, n), and weights of squares."""
    slope = problem.weights * loss.slope(residual)
    jacobian = problem.jacobian(theta, residual)
    if isinstance(loss, SquaredError):
        return jacobian, slope, problem.weights
    weighted = np.divide(slope, residual, out=problem.weights.copy(), where=residual != 0)
    return jacobian, slope, weighted


def _movable(problem: _Problem, theta: Array, downhill: Array) -> Flags:
    """Return (k, p) parameters to move: not held, and not at a bound that they would leave."""
    stuck = ((theta <= problem.lower) & (downhill <= 0)) | (
        (theta >= problem.upper) & (downhill >= 0)
    )
    return problem.free & ~stuck


def _scaled(normal: Array, squares: Array, free: Flags) -> tuple[Array, Array]:
    """Return `normal` on the scale where `squares` is 1, and the (k, p) scale.

    Parameters of very different size then solve alike. Those that do not move, or move nothing,
    have the unit matrix.
    """
    known = free & (squares > _TINY)
    root = np.sqrt(np.where(known, squares, 1.0))
    size = normal.shape[1]
    kept = normal / (root[:, :, None] * root[:, None])
    kept = np.where(known[:, :, None] & known[:, None], kept, 0.0)
    return kept + np.eye(size) * ~known[:, None], root


def _form_curvature(problem: _Problem, theta: Array, pull: Array) -> Array:
    """Return (k, p, p) second derivatives of the predictions, summed with (k, n) weights.

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
        change = problem.jacobian(ahead) - problem.jacobian(behind)
        result[:, i] = (pull[:, None] @ change)[:, 0] / width[:, None]
    return (result + np.swapaxes(result, 1, 2)) / 2

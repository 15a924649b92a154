"""Least squares of log ε(m) = log(α m^β + γ): many small problems at once, no start to choose.

A search over a grid of β and of the floor's share, where the level is linear and projected out,
finds the basin; Levenberg-Marquardt steps finish it to rounding. Folds of a jackknife and points
of a profile are solved together, since each problem has only some ten points.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXPONENT_LIMIT", "Array", "fit_curves", "log_curve", "log_curve_gradient", "polish"]

Array = NDArray[np.float64]

EXPONENT_LIMIT = 4.0
"""|β| beside a floor is sought up to here. Theory has -1 at most; what fits best at -4 has no
exponent. Without floor the fit is a line, and its slope as steep as the points are."""

_MAGNITUDES = np.geomspace(0.005, EXPONENT_LIMIT, 36)
_EXPONENTS = np.concatenate([-_MAGNITUDES[::-1], [0.0], _MAGNITUDES[::3], [EXPONENT_LIMIT]])
# The floor's share of ε at the geometric mean of the sizes: dense near 1, where curves are flat.
_SHARES = np.concatenate([[0.0], 1 / (1 + np.exp(-np.linspace(-4, 7, 24)))])
_BASINS = np.array([0, 1, 13, 19, len(_SHARES)])
"""First share of each group that sends its best grid point to be polished."""
_ITERATIONS = 200


def log_curve(theta: Array, log_size: Array) -> Array:
    """Return (k, n) log(α m^β + γ) for (k, 3) rows (log α, β, γ) at (n,) log sizes."""
    with np.errstate(divide="ignore"):
        floor = np.log(theta[:, 2:3])
    return np.logaddexp(theta[:, :1] + theta[:, 1:2] * log_size, floor)


def log_curve_gradient(theta: Array, log_size: Array) -> Array:
    """Return (k, n, 3) derivatives of `log_curve` by (log α, β, γ)."""
    log_value = log_curve(theta, log_size)
    share = np.exp(theta[:, :1] + theta[:, 1:2] * log_size - log_value)
    return np.stack([share, share * log_size, np.exp(-log_value)], axis=2)


def fit_curves(
    log_size: Array, log_error: Array, *, floor: bool, exponent: float | None = None
) -> tuple[Array, Array]:
    """Return (k, 3) parameters (log α, β, γ) and (k,) sums of squares of k curves.

    `log_size`: (n,); `log_error`: (k, n). Without `floor`, γ = 0 and the fit is linear. With
    `exponent`, β is held there.
    """
    starts = _grid_starts(log_size, log_error, floor=floor, exponent=exponent)
    basins = starts.shape[1]
    held = np.array([False, exponent is not None, not floor])
    theta, loss = polish(
        log_size,
        np.repeat(log_error, basins, axis=0),
        starts.reshape(-1, 3),
        held,
        limit=EXPONENT_LIMIT if floor else np.inf,
    )
    best = loss.reshape(-1, basins).argmin(axis=1)
    rows = np.arange(len(log_error))
    return theta.reshape(-1, basins, 3)[rows, best], loss.reshape(-1, basins)[rows, best]


def _grid_starts(
    log_size: Array, log_error: Array, *, floor: bool, exponent: float | None
) -> Array:
    """Return (k, basins, 3) best grid points of k curves, one in each group of floor shares."""
    exponents = _EXPONENTS if exponent is None else np.array([exponent])
    shares = _SHARES if floor else _SHARES[:1]
    edges = _BASINS[:-1] if floor else _BASINS[:1]
    centre = log_size.mean()
    power = np.exp(exponents[:, None] * (log_size - centre))
    shape = np.log((1 - shares[:, None, None]) * power + shares[:, None, None])
    level = shape.mean(axis=2)
    shape = shape - level[..., None]
    centred = log_error - log_error.mean(axis=1, keepdims=True)
    loss = (shape**2).sum(axis=2) - 2 * np.einsum("kn,sbn->ksb", centred, shape)
    starts = np.empty((len(log_error), len(edges), 3))
    for basin, (first, last) in enumerate(zip(edges, [*edges[1:], len(shares)], strict=True)):
        best = loss[:, first:last].reshape(len(log_error), -1).argmin(axis=1)
        at, beta = np.unravel_index(best, (last - first, len(exponents)))
        share = shares[first + at]
        total = log_error.mean(axis=1) - level[first + at, beta]
        slope = exponents[beta]
        starts[:, basin] = np.stack(
            [total + np.log1p(-share) - slope * centre, slope, np.exp(total) * share], axis=1
        )
    return starts


def polish(
    log_size: Array,
    log_error: Array,
    start: Array,
    held: NDArray[np.bool_],
    *,
    limit: float = EXPONENT_LIMIT,
    precision: float = 1e-12,
) -> tuple[Array, Array]:
    """Return parameters and sums of squares after Levenberg-Marquardt steps from `start`.

    `log_error`: (k, n); `start`: (k, 3); `held`: (3,) or (k, 3), parameters to keep. γ stays at or
    above 0, and |β| at or below `limit`. `precision`: the change of a log error
    at which a fit has ended.
    """
    lower = np.array([-np.inf, -limit, 0.0])
    upper = np.array([np.inf, limit, np.inf])
    theta = start.copy()
    held = np.broadcast_to(held, theta.shape)
    residual = log_error - log_curve(theta, log_size)
    loss = (residual**2).sum(axis=1)
    damping = np.full(len(theta), 1e-3)
    live = np.arange(len(theta))
    for _ in range(_ITERATIONS):
        now, misfit = theta[live], residual[live]
        jacobian = log_curve_gradient(now, log_size)
        downhill = np.einsum("knp,kn->kp", jacobian, misfit)
        stuck = ((now <= lower) & (downhill <= 0)) | ((now >= upper) & (downhill >= 0))
        step = _damped_step(jacobian, downhill, ~(held[live] | stuck), damping[live])
        trial = np.clip(now + step, lower, upper)
        trial_residual = log_error[live] - log_curve(trial, log_size)
        trial_loss = (trial_residual**2).sum(axis=1)
        better = trial_loss < loss[live]
        # In units of log error: what the step changes, or would.
        change = np.abs(trial_residual - misfit).max(axis=1)
        damping[live] = np.maximum(damping[live] * np.where(better, 0.1, 8.0), 1e-12)
        accepted = live[better]
        theta[accepted], residual[accepted] = trial[better], trial_residual[better]
        loss[accepted] = trial_loss[better]
        live = live[(change > precision) & (damping[live] < 1e6)]
        if not len(live):
            break
    return theta, loss


def _damped_step(
    jacobian: Array, downhill: Array, free: NDArray[np.bool_], damping: Array
) -> Array:
    """Return (k, 3) Levenberg-Marquardt steps of the `free` parameters."""
    jacobian = jacobian * free[:, None, :]
    normal = np.einsum("knp,knq->kpq", jacobian, jacobian)
    scale = np.einsum("kpp->kp", normal)
    # Scaled to unit diagonal, so that parameters of very different size solve alike.
    root = np.sqrt(np.where(scale > 0, scale, 1.0))
    normal = normal / (root[:, :, None] * root[:, None, :])
    matrix = normal + np.eye(3) * np.where(scale > 0, damping[:, None], 1.0)[:, None, :]
    return np.asarray(np.linalg.solve(matrix, (downhill * free / root)[..., None])[..., 0] / root)

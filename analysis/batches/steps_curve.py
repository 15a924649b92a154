"""Least squares of log S(B) = log(a + b/B), steps to a target against batch size, with bounds.

As in `analysis.curves.bounds`, a bound is where a test first rejects a value, the rest of the
curve fitted anew, so that what the data leave open is infinite.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtri, stdtrit

from analysis.fits.jackknife import Jackknife

__all__ = ["StepsToTarget", "fit_steps", "log_steps_at", "steps_bounds"]

Array = NDArray[np.float64]
Misfit = Callable[[Array, NDArray[np.intp]], Array]
"""(k, 2) parameters and (k,) which quantity is tested -> (k,), above 0 where rejected."""

_WEIGHTS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
"""log of each quantity from (log a, log b)."""
_ALONG = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
"""Direction in (log a, log b) that leaves each of them as it is."""
_ACROSS = np.array([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.5]])
"""Direction that raises the log of each of them by 1."""
_FAR = np.log(1e6)
"""Bounds are sought up to this far, in log, beyond the batch sizes, steps and examples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepsToTarget:
    """Steps to the target of one group."""

    batch_size: Array
    """(n,) distinct batch sizes."""
    log_steps: Array
    """(n, S) log steps; NaN where a seed was not run."""

    @property
    def seeds(self) -> int:
        """S, at least 1."""
        return int(self.log_steps.shape[1])

    @property
    def means(self) -> Array:
        """(1 + S, n) mean log steps of all seeds, then without each; (1, n) for one seed."""
        all_seeds: Array = np.nanmean(self.log_steps, axis=1)
        if self.seeds == 1:
            return all_seeds[None]
        without = [np.delete(self.log_steps, s, axis=1) for s in range(self.seeds)]
        return np.stack([all_seeds, *(np.nanmean(rest, axis=1) for rest in without)])


def log_steps_at(theta: Array, log_batch: Array) -> Array:
    """Return (k, n) log(a + b/B) for (k, 2) rows (log a, log b)."""
    return np.logaddexp(theta[:, :1], theta[:, 1:] - log_batch)


def _gradient(theta: Array, log_batch: Array) -> Array:
    """Return (k, n, 2) derivatives of `log_steps_at`."""
    share = np.exp(theta[:, :1] - log_steps_at(theta, log_batch))
    return np.stack([share, 1 - share], axis=2)


def fit_steps(log_batch: Array, log_steps: Array) -> Array:
    """Return (k, 2) least-squares (log a, log b) of (k, n) log steps.

    Given B_crit, the level is the mean of what is left: a search over B_crit alone, whose best
    grid point is refined by halving the bracket in which the derivative changes its sign. A curve
    without plateau, or without slope, ends at the end of the grid.
    """
    grid = np.arange(log_batch.min() - _FAR, log_batch.max() + _FAR, 0.05)
    shapes = np.logaddexp(0, grid[:, None] - log_batch)
    left = log_steps[:, None, :] - shapes
    best = left.var(axis=2).argmin(axis=1)
    lower, upper = grid[(best - 1).clip(0)], grid[(best + 1).clip(max=len(grid) - 1)]
    for _ in range(60):
        middle = (lower + upper) / 2
        shape = np.logaddexp(0, middle[:, None] - log_batch)
        slope = np.exp(middle[:, None] - log_batch - shape)
        rest = log_steps - shape
        rest = rest - rest.mean(axis=1, keepdims=True)
        # The derivative of the misfit by log B_crit, up to a factor of -2.
        uphill = (rest * slope).sum(axis=1) > 0
        lower, upper = np.where(uphill, middle, lower), np.where(uphill, upper, middle)
    ratio = (lower + upper) / 2
    level = (log_steps - np.logaddexp(0, ratio[:, None] - log_batch)).mean(axis=1)
    return np.stack([level, level + ratio], axis=1)


def steps_bounds(steps: StepsToTarget, level: float) -> Array:
    """Return (3, 2) bounds of the logs of the three quantities, infinite where open."""
    log_batch, means = np.log(steps.batch_size), steps.means
    if steps.seeds > 1:
        rejected = _score_test(log_batch, means, level)
    else:
        rejected = _profile_test(log_batch, means[0], level)
    return _walk_out(log_batch, means[0], rejected)


def _score_test(log_batch: Array, means: Array, level: float) -> Misfit:
    jackknife = Jackknife(means[0], means[1:])
    quantile = float(stdtrit(jackknife.degrees_of_freedom, (1 + level) / 2))

    def misfit(theta: Array, which: NDArray[np.intp]) -> Array:
        gradient = _gradient(theta, log_batch)
        along = np.einsum("knp,kp->kn", gradient, _ALONG[which])
        across = np.einsum("knp,kp->kn", gradient, _ACROSS[which])
        length = np.linalg.norm(along, axis=1, keepdims=True)
        along = np.divide(along, length, out=np.zeros_like(along), where=length > 0)
        across = across - (across * along).sum(axis=1, keepdims=True) * along
        score = (across * (means[0] - log_steps_at(theta, log_batch))).sum(axis=1)
        variance = np.einsum("ki,ij,kj->k", across, jackknife.covariance, across)
        return np.asarray(np.abs(score) - quantile * np.sqrt(variance.clip(min=0)))

    return misfit


def _profile_test(log_batch: Array, log_steps: Array, level: float) -> Misfit:
    least = _loss(fit_steps(log_batch, log_steps[None]), log_batch, log_steps)[0]
    freedom = len(log_batch) - 2
    allowed = least * (1 + float(fdtri(1, freedom, level)) / freedom)

    def misfit(theta: Array, which: NDArray[np.intp]) -> Array:
        del which
        return np.asarray(_loss(theta, log_batch, log_steps) - allowed)

    return misfit


def _loss(theta: Array, log_batch: Array, log_steps: Array) -> Array:
    return np.asarray(((log_steps - log_steps_at(theta, log_batch)) ** 2).sum(axis=1))


def _walk_out(log_batch: Array, log_steps: Array, rejected: Misfit) -> Array:
    """Return (3, 2) values where `rejected` begins, in doubling strides and then by halving."""
    which = np.repeat(np.arange(3), 2)
    sign = np.tile([-1.0, 1.0], 3)
    theta = np.repeat(fit_steps(log_batch, log_steps[None]), 6, axis=0)
    inside = (theta * _WEIGHTS[which]).sum(axis=1)
    outside = np.full(6, np.nan)
    low, high = log_steps.min(), log_steps.max()
    examples = log_steps + log_batch
    ends = np.array(
        [
            [low - _FAR, high + _FAR],
            [examples.min() - _FAR, examples.max() + _FAR],
            [log_batch.min() - _FAR, log_batch.max() + _FAR],
        ]
    )
    end = ends[which, (sign > 0).astype(int)]
    stride = np.full(6, 0.01)
    unbounded = sign * (end - inside) <= 0
    for _ in range(120):
        walking = np.isnan(outside)
        ahead = np.where(
            sign > 0, np.minimum(inside + stride, end), np.maximum(inside - stride, end)
        )
        target = np.where(walking, ahead, (inside + outside) / 2)
        moved = target - (theta * _WEIGHTS[which]).sum(axis=1)
        trial = theta + moved[:, None] * _ACROSS[which]
        trial = _descend(log_batch, log_steps, trial, _ALONG[which])
        fine = (rejected(trial, which) <= 0) & ~unbounded
        theta = np.where(fine[:, None], trial, theta)
        inside = np.where(fine, target, inside)
        outside = np.where(fine | unbounded, outside, target)
        unbounded |= fine & walking & (target == end)
        stride = stride * np.where(walking, 2.0, 1.0)
        if (unbounded | (np.abs(outside - inside) < 1e-10)).all():
            break
    return np.where(unbounded, sign * np.inf, inside).reshape(3, 2)


def _descend(log_batch: Array, log_steps: Array, theta: Array, along: Array) -> Array:
    """Return (k, 2) parameters of least misfit on the lines from `theta` in directions `along`."""
    damping = np.full(len(theta), 1e-3)
    loss = _loss(theta, log_batch, log_steps)
    for _ in range(100):
        slope = np.einsum("knp,kp->kn", _gradient(theta, log_batch), along)
        residual = log_steps - log_steps_at(theta, log_batch)
        curvature = (slope**2).sum(axis=1) * (1 + damping)
        downhill = (slope * residual).sum(axis=1)
        step = np.divide(downhill, curvature, out=np.zeros_like(downhill), where=curvature > 0)
        trial = theta + step.clip(-5, 5)[:, None] * along
        trial_loss = _loss(trial, log_batch, log_steps)
        better = trial_loss < loss
        theta = np.where(better[:, None], trial, theta)
        loss = np.where(better, trial_loss, loss)
        damping = np.where(better, damping * 0.1, damping * 8)
        if (np.abs(step) < 1e-9).all() or (damping > 1e6).all():
            break
    return theta

"""The check of the batch-size law as a script would do it: loops, scipy, one fold at a time."""

import numpy as np
import pandas as pd
from scipy.interpolate import BSpline
from scipy.optimize import minimize
from scipy.stats import norm, ttest_rel

__all__ = ["scripted_law"]

GROUP = ["learning_rate", "train_examples", "momentum"]
KNOTS = np.array([-2.5] * 4 + [0.0] + [2.5] * 4)


def scripted_law(cells: pd.DataFrame) -> np.ndarray:
    """Return the exponents by optima and by collapse, of all seeds and without each."""
    seeds = sorted(cells["seed"].unique())
    kept = [cells, *(cells[cells["seed"] != seed] for seed in seeds)]
    return np.array([np.concatenate(_exponents(table)) for table in kept])


def _exponents(cells: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    factors, bounds, curves = [], [], []
    for (rate, train, momentum), runs in cells.groupby(GROUP):
        wide = runs.pivot_table(index="seed", columns="batch_size", values="validation_error")
        octave, mean = np.log2(wide.columns.to_numpy(float)), wide.mean().to_numpy()
        best = int(mean.argmin())
        good = [k for k in range(len(mean)) if _as_good(wide, k, best)]
        factors.append(np.log2([rate, train, 1 / (1 - momentum)]))
        bounds.append(_bounds(octave, mean, best, good))
        near = np.abs(octave - octave[best]) <= 2.5
        curves.append((octave[near], mean[near], octave[best]))
    x = np.array(factors) - np.mean(factors, axis=0)
    peaks = _censored(x, np.array(bounds))
    return peaks, _collapse(x, curves, peaks)


def _as_good(wide: pd.DataFrame, k: int, best: int) -> bool:
    if k == best:
        return True
    worse = ttest_rel(wide.iloc[:, k], wide.iloc[:, best], alternative="greater")
    return bool(worse.pvalue > 0.05 / (wide.shape[1] - 1))


def _bounds(
    octave: np.ndarray, mean: np.ndarray, best: int, good: list[int]
) -> tuple[float, float]:
    first, last = good[0], good[-1]
    low = -np.inf if first == 0 else octave[first - 1]
    high = np.inf if last == len(mean) - 1 else octave[last + 1]
    if np.isfinite(low) and np.isfinite(high) and octave[last] - octave[first] <= 2:
        a, b, _ = np.polyfit(octave[best - 1 : best + 2], mean[best - 1 : best + 2], 2)
        if a > 0:
            return -b / (2 * a), -b / (2 * a)
    return low, high


def _censored(x: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    exact = bounds[:, 0] == bounds[:, 1]

    def loss(theta: np.ndarray) -> float:
        centre, scale = theta[0] + x @ theta[1:4], np.exp(theta[4])
        z = (bounds - centre[:, None]) / scale
        between = np.log(np.maximum(norm.cdf(z[:, 1]) - norm.cdf(z[:, 0]), 1e-300))
        return -float(np.where(exact, norm.logpdf(z[:, 0]) - theta[4], between).sum())

    start = np.array([np.median(bounds[exact, 0]), 0.5, 0.5, 0.5, -1.0])
    return minimize(loss, start, method="BFGS").x[1:4]


def _collapse(x: np.ndarray, curves: list, start: np.ndarray) -> np.ndarray:
    middle = np.mean([best for *_, best in curves])

    def loss(exponents: np.ndarray) -> float:
        rows, y = [], []
        for group, (octave, mean, _) in enumerate(curves):
            u = np.clip(octave - middle - x[group] @ exponents, -2.5, 2.5)
            basis = BSpline.design_matrix(u, KNOTS, 3).toarray()
            rows.append(basis - basis.mean(axis=0))
            y.append(mean - mean.mean())
        design, left = np.vstack(rows), np.concatenate(y)
        return float(((left - design @ np.linalg.lstsq(design, left, rcond=None)[0]) ** 2).sum())

    return minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4}).x

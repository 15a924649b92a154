"""Coverage of the intervals of `fit_critical_batch_size` and of `gradient_noise_scale`.

Steps to a target: ten batch sizes, each twice the one before; B_crit log-uniform from four times
the smallest to a quarter of the largest, so that both ends are seen. Noise of log steps is 5 % at
every run; with slope, each seed's curve is tilted by .03 per e-fold of batch size as well.

Gradients: six weights of a linear model whose covariance has a closed form; batches of 4 and 64.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import gradient_noise_scale
from analysis.batches.critical_batch import QUANTITIES
from analysis.batches.steps_curve import StepsToTarget, steps_bounds
from tests.analysis.calibration.power_law import STRATUM
from tests.analysis.calibration.registry import Row, share_row

Array = NDArray[np.float64]

BATCH_SIZES = 8 * 2.0 ** np.arange(10)
LOG_BATCH_SIZES = np.log(BATCH_SIZES)
STEPS_MIN = 500.0
SIGMA, TILT = 0.05, 0.03
KINDS = (
    ("independent", 1),
    ("independent", 5),
    ("independent", 10),
    ("seed × slope", 5),
    ("seed × slope", 10),
)
REPLICATES = (20, 40)
NOISE_SCALE = (STRATUM[0], 1.0)
"""Coverage required of B_simple: not too low. With few replicates of skew norms it is too high."""
LEVEL = 0.95
CHUNK = 250
CURVATURE = np.geomspace(1.0, 0.05, 6)
WEIGHT_ERROR = np.linspace(1.0, 0.3, 6)
LABEL_NOISE = 1.5


class Task(NamedTuple):
    """Tables of one kind that are made and judged together."""

    what: str
    """A noise of steps, or "gradients"."""
    replicates: int
    sets: int
    random: tuple[int, ...]
    """Seed of the random numbers."""


class Result(NamedTuple):
    """What the intervals of one task's tables were."""

    task: Task
    covered: dict[str, int]
    """How many had the truth inside, by quantity."""
    unbounded: int = 0
    """How many had no upper bound, of noise scales."""


def make_steps(task: Task) -> tuple[list[StepsToTarget], Array]:
    """Return steps to a target, and the (d, 3) true S_min, E_min and B_crit."""
    rng = np.random.default_rng(task.random)
    limits = np.log([4 * BATCH_SIZES[0], BATCH_SIZES[-1] / 4])
    critical = np.exp(rng.uniform(*limits, size=task.sets))
    shape = (task.sets, len(BATCH_SIZES), task.replicates)
    noise = SIGMA * rng.normal(size=shape)
    if task.what == "seed × slope":
        centred = (LOG_BATCH_SIZES - LOG_BATCH_SIZES.mean())[None, :, None]
        noise += centred * TILT * rng.normal(size=(task.sets, 1, task.replicates))
    log_steps = np.log(STEPS_MIN * (1 + critical[:, None] / BATCH_SIZES))[:, :, None] + noise
    tables = [StepsToTarget(batch_size=BATCH_SIZES, log_steps=table) for table in log_steps]
    least = np.full(task.sets, STEPS_MIN)
    return tables, np.stack([least, least * critical, critical], axis=1)


def gradient_norms(rng: np.random.Generator, replicates: int) -> pd.DataFrame:
    """Return squared norms of mean gradients of the linear model y = w·x + noise, x ~ N(0, H)."""
    rows = []
    for size in (4, 64):
        x = rng.normal(size=(replicates, size, len(CURVATURE))) * np.sqrt(CURVATURE)
        error = x @ WEIGHT_ERROR - LABEL_NOISE * rng.normal(size=(replicates, size))
        norms = ((error[:, :, None] * x).mean(axis=1) ** 2).sum(axis=1)
        table = {"seed": range(replicates), "batch_size": size, "squared_gradient_norm": norms}
        rows.append(pd.DataFrame(table))
    return pd.concat(rows, ignore_index=True)


def true_gradient_moments() -> tuple[float, float]:
    """Return |G|² and tr Σ of the linear model.

    At weight error d the gradient of (d·x - ξ)²/2 is (d·x - ξ) x, so that G = H d. With s² = d'Hd,
    E[(d·x)² x x'] = s² H + 2 G G' (Isserlis), hence Σ = (s² + σ²) H + G G'.
    """
    gradient = CURVATURE * WEIGHT_ERROR
    squared = float(gradient @ gradient)
    spread = float(WEIGHT_ERROR @ gradient) + LABEL_NOISE**2
    return squared, spread * float(CURVATURE.sum()) + squared


def tasks(sets: int) -> list[Task]:
    """Return the tasks of the section, `sets` tables of each kind."""
    kinds = [*KINDS, *(("gradients", replicates) for replicates in REPLICATES)]
    return [
        Task(what, replicates, min(CHUNK, sets - first), (21, index, chunk))
        for index, (what, replicates) in enumerate(kinds)
        for chunk, first in enumerate(range(0, sets, CHUNK))
    ]


def measure(task: Task) -> Result:
    """Return how many tables of a task had the truth inside."""
    if task.what == "gradients":
        covered, unbounded = _noise_scales(task)
        return Result(task, {"B_simple": covered}, unbounded)
    tables, truth = make_steps(task)
    bounds = np.exp([steps_bounds(table, LEVEL) for table in tables])
    inside = (bounds[:, :, 0] <= truth) & (truth <= bounds[:, :, 1])
    return Result(task, dict(zip(QUANTITIES, inside.sum(axis=0).tolist(), strict=True)))


def _noise_scales(task: Task) -> tuple[int, int]:
    """Return how many intervals of B_simple cover the truth, and how many have no upper bound."""
    rng = np.random.default_rng(task.random)
    squared, trace = true_gradient_moments()
    covered = unbounded = 0
    for _ in range(task.sets):
        lower, upper = gradient_noise_scale(gradient_norms(rng, task.replicates)).conf_int(LEVEL)
        covered += lower <= trace / squared <= upper
        unbounded += np.isinf(upper)
    return int(covered), int(unbounded)


def rows(results: list[Result]) -> list[Row]:
    """Return the coverage of each quantity over each kind of tables."""
    sets: dict[tuple[str, str], int] = defaultdict(int)
    hits: dict[tuple[str, str], int] = defaultdict(int)
    for task, covered, unbounded in results:
        truth = f"{task.what}, {task.replicates} {_unit(task)}"
        found = {f"{name}, 95 % coverage, {_method(task)}": n for name, n in covered.items()}
        if task.what == "gradients":
            found["B_simple, share of infinite intervals, jackknife"] = unbounded
        for what, number in found.items():
            sets[what, truth] += task.sets
            hits[what, truth] += number
    return [share_row(*kind, hits[kind], sets[kind], _required(kind[0])) for kind in sets]


def _required(what: str) -> tuple[float, float] | None:
    if "coverage" not in what:
        return None
    return NOISE_SCALE if what.startswith("B_simple") else STRATUM


def _method(task: Task) -> str:
    return "profile" if task.replicates == 1 else "jackknife"


def _unit(task: Task) -> str:
    if task.what == "gradients":
        return "replicates"
    return "seed" if task.replicates == 1 else "seeds"

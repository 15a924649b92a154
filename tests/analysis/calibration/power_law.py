"""Coverage and width of the intervals of β by `fit_power_law` (M2), over five kinds of noise.

Nine sizes over 2.4 decades; β uniform on [-.6, -.1], the error at the smallest size on [.3, .8],
and γ either 0 or uniform on (0, .03). Noise of log error, σ = 4 %, with S seeds:

- independent: σ at every size and seed;
- seed shift: the same, and each seed's whole curve shifted by another σ;
- seed × slope: the same as independent, and each seed's curve tilted by .02 per e-fold of size;
- falling: sd from 8 % at the smallest size to 2 % at the largest;
- t3: Student's t with 3 degrees of freedom, scaled to sd σ;
- AR(.7): σ, with correlation .7 between neighbouring sizes of a seed (reported only).
"""

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.curves.bounds import profile_bounds, score_bounds
from analysis.curves.least_squares import fit_curves, polish
from tests.analysis.calibration.registry import FULL, TOLERANCE, Row, share_row

Array = NDArray[np.float64]

SIZES = np.geomspace(50, 50 * 10**2.4, 9)
LOG_SIZES = np.log(SIZES)
SIGMA = 0.04
NOISES = ("independent", "seed shift", "seed × slope", "falling", "t3")
REPORTED_NOISES = ("AR(.7)",)
FLOORS = ("γ = 0", "γ in (0, .03)")
SEEDS = (5, 10)
LEVEL = 0.95
CHUNK = 500
"""Tables that are fitted together."""
DRAWS = 199
"""Draws of the bootstrap that must be found wanting."""

POOLED, STRATUM = (0.93, 0.97), (0.91, 0.985)
"""Coverage required of all tables, and of each kind."""
WIDER = 1.5
"""Highest median width against the profile's: of all tables, and of each kind where the profile
itself covers `POOLED[0]`. An interval that is too short is no measure of another's width."""


class Task(NamedTuple):
    """Tables of one kind that are made and fitted together."""

    noise: str
    floor: str
    seeds: int
    sets: int
    random: tuple[int, ...]
    """Seed of the random numbers."""
    bootstrap: bool = False
    """Whether the percentile bootstrap is run as well."""


@dataclass(frozen=True)
class Tables:
    """Tables of known truth."""

    log_error: Array
    """(d, n, S)"""
    beta: Array
    """(d,) true exponents."""
    first: Array
    """(d,) true errors at the smallest size."""
    gamma: Array
    """(d,) true floors."""


class Result(NamedTuple):
    """What the intervals of one task's tables were."""

    task: Task
    beta: Array
    """(d,) true exponents."""
    bounds: dict[str, Array]
    """(d, 2) bounds of β by method."""


def noise(kind: str, sets: int, seeds: int, rng: np.random.Generator) -> Array:
    """Return (sets, n, seeds) noise of log error."""
    shape = (sets, len(SIZES), seeds)
    independent = SIGMA * rng.normal(size=shape)
    if kind == "independent":
        return independent
    if kind == "seed shift":
        return independent + SIGMA * rng.normal(size=(sets, 1, seeds))
    if kind == "seed × slope":
        centred = (LOG_SIZES - LOG_SIZES.mean())[None, :, None]
        return independent + centred * 0.02 * rng.normal(size=(sets, 1, seeds))
    if kind == "falling":
        return independent / SIGMA * np.geomspace(0.08, 0.02, len(SIZES))[None, :, None]
    if kind == "t3":
        return SIGMA / math.sqrt(3) * rng.standard_t(3, size=shape)
    if kind == "AR(.7)":
        for size in range(1, len(SIZES)):
            fresh = independent[:, size] * math.sqrt(1 - 0.7**2)
            independent[:, size] = 0.7 * independent[:, size - 1] + fresh
        return independent
    raise ValueError(f"Unknown noise {kind!r}. Available: {NOISES + REPORTED_NOISES}.")


def make_tables(task: Task) -> Tables:
    """Return the tables of a task."""
    rng = np.random.default_rng(task.random)
    beta = rng.uniform(-0.6, -0.1, task.sets)
    first = rng.uniform(0.3, 0.8, task.sets)
    gamma = rng.uniform(0, 0.03, task.sets) * (task.floor != FLOORS[0])
    power = (first - gamma)[:, None] * (SIZES / SIZES[0]) ** beta[:, None]
    log_error = np.log(power + gamma[:, None])[:, :, None]
    noisy = log_error + noise(task.noise, task.sets, task.seeds, rng)
    return Tables(noisy, beta, first, gamma)


def jackknife(log_error: Array) -> Array:
    """Return (d, 2) bounds of β as `fit_power_law` gives them by default."""
    seeds = log_error.shape[2]
    without = [np.delete(log_error, seed, axis=2).mean(axis=2) for seed in range(seeds)]
    means = np.stack([log_error.mean(axis=2), *without], axis=1)
    none = np.zeros((len(SIZES), len(SIZES)))
    return score_bounds(LOG_SIZES, means, (none, none), floor=True, level=LEVEL)[:, 1]


def profile(log_error: Array) -> Array:
    """Return (d, 2) bounds of β as `fit_power_law` gives them with ci="profile"."""
    return profile_bounds(LOG_SIZES, log_error, floor=True, level=LEVEL)[:, 1]


def percentile_bootstrap(log_error: Array, rng: np.random.Generator) -> Array:
    """Return (d, 2) percentiles of β over draws of whole seeds: an interval known to be too short.

    Five seeds drawn with replacement have a variance that is too small by (S - 1)/S, and a normal's
    quantiles where Student's belong.
    """
    tables, sizes, seeds = log_error.shape
    estimate = fit_curves(LOG_SIZES, log_error.mean(axis=2), floor=True)[0]
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=(tables, DRAWS)) / seeds
    means = np.einsum("dns,dks->dkn", log_error, drawn).reshape(-1, sizes)
    start = np.repeat(estimate, DRAWS, axis=0)
    theta, _ = polish(LOG_SIZES, means, start, np.zeros(3, dtype=bool))
    beta = theta[:, 1].reshape(tables, DRAWS)
    return np.quantile(beta, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1).T


def tasks(sets: int) -> list[Task]:
    """Return the tasks of the section, `sets` tables of each kind."""
    kinds = [(n, f, s) for n in NOISES for f in FLOORS for s in SEEDS]
    kinds += [(n, FLOORS[1], 5) for n in REPORTED_NOISES]
    found = []
    for index, (of_noise, floor, seeds) in enumerate(kinds):
        control = (of_noise, floor, seeds) == (NOISES[0], FLOORS[1], 5)
        for chunk, first in enumerate(range(0, sets, CHUNK)):
            random = (20, index, chunk)
            found.append(
                Task(of_noise, floor, seeds, min(CHUNK, sets - first), random, bootstrap=control)
            )
    return found


def measure(task: Task) -> Result:
    """Return the intervals of a task's tables."""
    tables = make_tables(task)
    bounds = {"jackknife": jackknife(tables.log_error), "profile": profile(tables.log_error)}
    if task.bootstrap:
        rng = np.random.default_rng((*task.random, 1))
        bounds["percentile bootstrap"] = percentile_bootstrap(tables.log_error, rng)
    return Result(task, tables.beta, bounds)


def rows(results: list[Result]) -> list[Row]:
    """Return coverage and width, of all tables and of each kind, and the methods side by side."""
    required = [result for result in results if result.task.noise in NOISES]
    everything = "all kinds of five noises"
    found = [
        _coverage("jackknife", everything, required, POOLED),
        _width(everything, required, WIDER),
        _unbounded(everything, required),
        *(_coverage_of_steepness(third, required) for third in range(3)),
    ]
    kinds: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        kinds[f"{result.task.noise}, {result.task.seeds} seeds, {result.task.floor}"].append(result)
    for truth, of_kind in kinds.items():
        found += _rows_of_kind(truth, of_kind, asked=of_kind[0].task.noise in NOISES)
    control = [result for result in results if result.task.bootstrap]
    truth = f"{NOISES[0]}, 5 seeds, {FLOORS[1]}"
    missing = _coverage("percentile bootstrap", truth, control, (0.0, STRATUM[0]))
    return [*found, replace(missing, what=f"{missing.what} (control: must miss)")]


def _rows_of_kind(truth: str, results: list[Result], *, asked: bool) -> list[Row]:
    of_profile = _coverage("profile", truth, results, None)
    compared = asked and of_profile.value >= POOLED[0]
    return [
        _coverage("jackknife", truth, results, STRATUM if asked else None),
        of_profile,
        _width(truth, results, WIDER if compared else None),
    ]


def _covered(method: str, results: list[Result]) -> NDArray[np.bool_]:
    covered = [
        (of.bounds[method][:, 0] <= of.beta) & (of.beta <= of.bounds[method][:, 1])
        for of in results
    ]
    return np.concatenate(covered)


def _coverage(
    method: str, truth: str, results: list[Result], required: tuple[float, float] | None
) -> Row:
    covered = _covered(method, results)
    what = f"β, 95 % coverage, {method}"
    return share_row(what, truth, int(covered.sum()), len(covered), required)


def _coverage_of_steepness(third: int, results: list[Result]) -> Row:
    edges = np.linspace(-0.6, -0.1, 4)[third : third + 2]
    beta = np.concatenate([result.beta for result in results])
    inside = (beta >= edges[0]) & (beta <= edges[1])
    covered = _covered("jackknife", results)[inside]
    truth = f"of all, β in [{edges[0]:.2f}, {edges[1]:.2f}]"
    what = "β, 95 % coverage, jackknife"
    return share_row(what, truth, int(covered.sum()), len(covered), STRATUM)


def _width(truth: str, results: list[Result], highest: float | None) -> Row:
    """Return the ratio of the median widths; its allowance takes the two for uncorrelated."""
    widths = {
        name: np.concatenate([np.diff(of.bounds[name])[:, 0] for of in results])
        for name in ("jackknife", "profile")
    }
    lower, middle, upper = np.quantile(list(widths.values()), [0.25, 0.5, 0.75], axis=1)
    ratio, sets = float(middle[0] / middle[1]), len(widths["profile"])
    # The median of n normal values has a standard error of 1.253 sd / √n, and sd = IQR / 1.349.
    relative = 1.253 * (upper - lower) / 1.349 / middle / math.sqrt(sets)
    return Row(
        what="β, median width, jackknife / profile",
        truth=truth,
        sets=sets,
        value=ratio,
        required=None if highest is None else (-math.inf, highest),
        allowance=TOLERANCE * ratio * float(np.hypot(*relative)) if sets < FULL else 0.0,
    )


def _unbounded(truth: str, results: list[Result]) -> Row:
    bounds = np.concatenate([result.bounds["jackknife"] for result in results])
    unbounded = int(np.isinf(bounds).any(axis=1).sum())
    return share_row("β, share of infinite intervals, jackknife", truth, unbounded, len(bounds))

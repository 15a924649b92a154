"""Coverage of the intervals of `fit_power_law` where the best of several settings is chosen.

As the curves of docs/results.md: five seeds, noise of log error of 4 % at every run; at each size
one setting is best, by chance, and lies on the curve ε(m) = α m^β + γ; the error of every other is
higher by a factor. β is uniform on [-.6, -.1], the error at the smallest size on [.3, .8], and γ
uniform on (0, .03) or, where it says so, on (.1, .25), as in curves that a short training bends; 0
where the form is M1. One setting is covered as every kind is; where the best of several is chosen,
intervals may cover more: what a near tie decides differs from fold to fold, and widens them.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import fit_power_law
from tests.analysis.calibration.power_law import STRATUM
from tests.analysis.calibration.registry import Row, share_row

SEEDS = 5
SIGMA = 0.04
CHUNK = 100
HIGH = (0.1, 0.25)


class Kind(NamedTuple):
    """What tables are made of."""

    settings: int
    least: float
    """Log error of any other setting less that of the best, at least."""
    spread: float
    """Mean of what is added to that: exponential."""
    sizes: int
    """Each twice the one before."""
    floor: tuple[float, float] = (0.0, 0.03)
    """γ is uniform between these, where there is one."""


KINDS: Mapping[str, Kind] = {
    "one setting, 9 sizes": Kind(1, 0.0, 0.0, 9),
    "one setting, 7 sizes": Kind(1, 0.0, 0.0, 7),
    "best of 12, others worse by 20 % and more, 9 sizes": Kind(12, 0.2, 0.2, 9),
    "best of 12, others worse by 5 % on average, 9 sizes": Kind(12, 0.0, 0.05, 9),
    "best of 12, others worse by 5 % on average, 7 sizes": Kind(12, 0.0, 0.05, 7),
    "one setting, 9 sizes, γ in (.1, .25)": Kind(1, 0.0, 0.0, 9, HIGH),
    "best of 12, others worse by 5 % on average, 9 sizes, γ in (.1, .25)": Kind(
        12, 0.0, 0.05, 9, HIGH
    ),
}
CHOSEN = (STRATUM[0], 1.0)
"""Coverage required where the best of several is chosen: not too low."""
FORMS = {"M2": ("beta", "gamma"), "M1": ("beta",)}


class Task(NamedTuple):
    """Tables of one kind that are made and fitted together."""

    kind: str
    form: str
    sets: int
    random: tuple[int, ...]
    """Seed of the random numbers."""


class Result(NamedTuple):
    """How many of one task's tables had the truth inside, by parameter."""

    task: Task
    covered: dict[str, int]


def make_table(
    kind: Kind, *, floor: bool, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return a table of cells, and its true parameters."""
    sizes = 100 * 2 ** np.arange(kind.sizes)
    beta, first = rng.uniform(-0.6, -0.1), rng.uniform(0.3, 0.8)
    gamma = rng.uniform(*kind.floor) if floor else 0.0
    best = np.log((first - gamma) * (sizes / sizes[0]) ** beta + gamma)
    worse = kind.least + rng.exponential(kind.spread, size=(kind.sizes, kind.settings))
    worse[np.arange(kind.sizes), rng.integers(kind.settings, size=kind.sizes)] = 0.0
    shape = (kind.sizes, kind.settings, SEEDS)
    log_error = best[:, None, None] + worse[:, :, None] + SIGMA * rng.normal(size=shape)
    size, setting, seed = np.indices(shape)
    table = {
        "train_examples": sizes[size.ravel()],
        "setting": setting.ravel(),
        "seed": seed.ravel(),
        "error": np.exp(log_error).ravel(),
    }
    return pd.DataFrame(table), {"beta": beta, "gamma": gamma}


def tasks(sets: int) -> list[Task]:
    """Return the tasks of the section, `sets` tables of each kind."""
    kinds = [(kind, form) for form in FORMS for kind in KINDS]
    kinds = [each for each in kinds if each[1] == "M2" or KINDS[each[0]].floor != HIGH]
    return [
        Task(kind, form, min(CHUNK, sets - first), (25, index, chunk))
        for index, (kind, form) in enumerate(kinds)
        for chunk, first in enumerate(range(0, sets, CHUNK))
    ]


def measure(task: Task) -> Result:
    """Return how many tables of a task had the truth inside."""
    rng = np.random.default_rng(task.random)
    covered = dict.fromkeys(FORMS[task.form], 0)
    for _ in range(task.sets):
        table, truth = make_table(KINDS[task.kind], floor=task.form == "M2", rng=rng)
        bounds = fit_power_law(table, y="error", choose=["setting"], form=task.form).conf_int()
        for name in covered:
            lower, upper = bounds.loc[name]
            covered[name] += bool(lower <= truth[name] <= upper)
    return Result(task, covered)


def rows(results: list[Result]) -> list[Row]:
    """Return the coverage of each parameter over each kind of tables."""
    sets: dict[tuple[str, str], int] = defaultdict(int)
    hits: dict[tuple[str, str], int] = defaultdict(int)
    for task, covered in results:
        for name, number in covered.items():
            key = (f"{name} of {task.form}, 95 % coverage, jackknife", task.kind)
            sets[key] += task.sets
            hits[key] += number
    return [
        share_row(*key, hits[key], sets[key], STRATUM if key[1].startswith("one") else CHOSEN)
        for key in sets
    ]

"""The verdicts on B_opt ∝ εN/(1-m): coverage, false positives, power, and what must never pass.

Curves are 64 groups, four levels of each factor an octave apart, at twelve batch sizes a factor of
2 apart unless it says otherwise; half of the tables have a symmetric and half an asymmetric shape;
the grid's phase is random. Noise is such that standard errors are .02 to .06.
"""

from collections import defaultdict
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.batches.factors import FACTORS
from analysis.batches.law_judgement import Estimator, judge_curves
from analysis.verdict import Verdict, t_interval
from tests.analysis.calibration.registry import Row, share_row
from tests.analysis.synthetic_batches import asymmetric_bowl
from tests.analysis.synthetic_curves import Curves, Noise, symmetric_bowl

Array = NDArray[np.float64]

POOLED = (0.93, 0.97)
FALSE_POSITIVES = (-np.inf, 0.06)
POWER = (0.80, np.inf)
NEVER = (-np.inf, 0.0)
BIAS = 0.02
CHUNK = 25
RARE = 10
"""Traps, whose verdicts hardly vary, are made one for so many tables of the other kinds."""


def flat(octaves_above: Array) -> Array:
    """No batch size is better than another."""
    return np.full_like(octaves_above, 0.1)


def falling_throughout(octaves_above: Array) -> Array:
    """The largest batch size of every grid is the best."""
    return 0.3 - 0.015 * octaves_above


def flat_above_a_cliff(octaves_above: Array) -> Array:
    """Chance below the place that the law gives, and flat above."""
    return np.where(octaves_above < 0, 1.0, 0.1)


class Kind(NamedTuple):
    """Tables that belong together in a row."""

    name: str
    curves: Curves
    share: int = 1
    """One for so many of the tables that were asked for."""


def _margins() -> list[Kind]:
    noises = [kind for kind in Noise if kind is not Noise.RISING]
    strata = [(kind, seeds) for kind in noises for seeds in (5, 10)]
    return [
        Kind(
            f"at {truth:g}",
            Curves(truth=(truth,) * 3, noise=0.012 * (seeds / 5) ** 0.5, kind=kind, seeds=seeds),
            len(strata),
        )
        for truth in (0.85, 1.15)
        for kind, seeds in strata
    ]


ONE = Curves(truth=(1, 1, 1), noise=0.008)
RISING = replace(ONE, noise=0.004, kind=Noise.RISING)
"""Some thirty times as noisy at the small batch sizes as at the optimum."""
KINDS = (
    *_margins(),
    Kind("at 1, 4 levels × 5 seeds, noise .008", ONE, 4),
    Kind("at 1, 6 levels × 5 seeds, noise .012", replace(ONE, levels=6, noise=0.012), 20),
    Kind("at 1, noise rising with the error", RISING, RARE),
    Kind("at .85, noise rising with the error", replace(RISING, truth=(0.85,) * 3), RARE),
    Kind("at (1, 0, 1)", replace(ONE, truth=(1, 0, 1)), RARE),
    Kind("at (½, ½, ½)", replace(ONE, truth=(0.5,) * 3), RARE),
    Kind("at 1, cliff as (1, 0, 1)", replace(ONE, cliff=(1, 0, 1))),  # its bias is near the limit
    Kind(
        "at ½, cliff as (1, 0, 1)", replace(ONE, truth=(0.5,) * 3, cliff=(1, 0, 1), gap=3.5), RARE
    ),
    Kind("at .85, heights fall with N", replace(ONE, truth=(0.85,) * 3, heights=-0.5), RARE),
    Kind("at .85, widths change with N", replace(ONE, truth=(0.85,) * 3, widths=0.15), RARE),
    Kind(
        "at .85, factor √2, 10 seeds",
        replace(ONE, truth=(0.85,) * 3, noise=0.016, seeds=10, spacing=0.5, batch_sizes=22),
        RARE,
    ),
    Kind("flat", replace(ONE, shape=flat), RARE),
    Kind("all at the edge", replace(ONE, shape=falling_throughout), RARE),
    Kind("flat above a cliff", replace(ONE, shape=flat_above_a_cliff), RARE),
)
TRAPS = ("flat", "all at the edge", "flat above a cliff")


class Task(NamedTuple):
    """Tables of one kind that are made and judged together."""

    kind: int
    """Index in `KINDS`."""
    sets: int
    random: tuple[int, ...]
    """Seed of the random numbers."""


class Result(NamedTuple):
    """What one task's tables said."""

    task: Task
    exponents: Array
    """(sets, 2, 3) by optima and by collapse."""
    errors: Array
    """(sets, 2, 3) their standard errors."""
    verdicts: list[list[tuple[str, ...]]]
    """Of each table, by either estimator, of the factors and jointly."""


def tasks(sets: int) -> list[Task]:
    """Return the tasks of the section, `sets` tables of each kind, or a share of them."""
    made = []
    for index, kind in enumerate(KINDS):
        wanted = max(sets // kind.share, 1)
        made += [
            Task(index, min(CHUNK, wanted - first), (31, index, chunk))
            for chunk, first in enumerate(range(0, wanted, CHUNK))
        ]
    return made


def measure(task: Task) -> Result:
    """Return exponents and verdicts of a task's tables."""
    rng = np.random.default_rng(task.random)
    curves = KINDS[task.kind].curves
    exponents, errors, verdicts = [], [], []
    for number in range(task.sets):
        shape = curves.shape
        if shape is asymmetric_bowl and number % 2:
            shape = symmetric_bowl
        grid = replace(curves, shape=shape).grid(rng)
        judged = judge_curves(grid, curves.octaves)
        by = [judged.exponents(estimator) for estimator in Estimator]
        exponents.append([each.exponents for each in by])
        errors.append([np.sqrt(np.diagonal(each.covariance)) for each in by])
        said = judged.judged.values()
        verdicts.append([tuple(str(j.verdict) for j in each.values()) for each in said])
    return Result(task, np.array(exponents), np.array(errors), verdicts)


def rows(results: list[Result]) -> list[Row]:
    """Return coverage, false positives, power and traps."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[KINDS[result.task.kind].name].append(result)
    made: list[Row] = []
    for name, of_kind in by_kind.items():
        truth = np.asarray(KINDS[of_kind[0].task.kind].curves.truth, dtype=float)
        for index, estimator in enumerate(Estimator):
            made += _rows(name, estimator, index, truth, of_kind)
    return [*_pooled(results), *made]


def _pooled(results: list[Result]) -> list[Row]:
    """Return the coverage over all tables at the margins, by estimator."""
    margins = [
        result for result in results if KINDS[result.task.kind].name in ("at 0.85", "at 1.15")
    ]
    made = []
    for index, estimator in enumerate(Estimator):
        inside = np.concatenate([covered(result, index).ravel() for result in margins])
        error = np.median(np.concatenate([result.errors[:, index].ravel() for result in margins]))
        what = f"law, exponents by {estimator}"
        made.append(
            share_row(
                f"{what}, 95 % coverage",
                "pooled, at .85 and 1.15",
                int(inside.sum()),
                len(inside),
                POOLED,
            )
        )
        made.append(
            Row(
                what=f"{what}, median standard error",
                truth="the same",
                sets=len(inside),
                value=float(error),
            )
        )
    return made


def _rows(
    name: str, estimator: Estimator, index: int, truth: Array, results: list[Result]
) -> list[Row]:
    what = f"law, by {estimator}"
    verdicts = np.array([table[index] for result in results for table in result.verdicts])
    sets = len(verdicts)

    def share(saying: str, hits: NDArray[np.bool_], required: tuple[float, float] | None) -> Row:
        return share_row(f"{what}: {saying}", name, int(hits.sum()), sets, required)

    said = verdicts[:, :3]
    if name in TRAPS:
        decided = np.isin(verdicts, [Verdict.SUPPORTED, Verdict.REFUTED]).any(axis=1)
        return [share("anything supported or refuted", decided, NEVER)]
    made = []
    if name in ("at 0.85", "at 1.15"):
        for factor, column in zip(FACTORS, said.T, strict=True):
            made.append(share(f"{factor} supported", column == Verdict.SUPPORTED, FALSE_POSITIVES))
    elif (truth == 1).all() and "cliff" not in name:
        for factor, column in zip(FACTORS, said.T, strict=True):
            made.append(share(f"{factor} supported", column == Verdict.SUPPORTED, POWER))
    elif (truth <= 0.5).any():
        right = np.where(truth == 1, str(Verdict.SUPPORTED), str(Verdict.REFUTED))
        made.append(share("every factor as it is", (said == right).all(axis=1), POWER))
        wrong = (said[:, truth != 1] == Verdict.SUPPORTED).any(axis=1)
        made.append(share("a wrong factor supported", wrong, NEVER))
    inside = np.concatenate([covered(result, index) for result in results])
    made.append(share("95 % intervals cover all three", inside.all(axis=1), None))
    bias = np.concatenate([result.exponents[:, index] for result in results]).mean(axis=0) - truth
    largest = float(np.abs(bias).max())
    made.append(
        Row(
            what=f"{what}: largest bias",
            truth=name,
            sets=sets,
            value=largest,
            required=(-np.inf, BIAS),
            allowance=_bias_allowance(results, index),
        )
    )
    return made


def _bias_allowance(results: list[Result], index: int) -> float:
    """Return three standard errors of a mean exponent."""
    exponents = np.concatenate([result.exponents[:, index] for result in results])
    return float(3 * exponents.std(axis=0).max() / np.sqrt(len(exponents)))


def covered(result: Result, index: int) -> NDArray[np.bool_]:
    """Return (sets, 3) whether the 95 % interval holds the truth."""
    curves = KINDS[result.task.kind].curves
    truth = np.asarray(curves.truth, dtype=float)
    bounds = np.array(
        [
            [t_interval(a, e, curves.seeds - 1, 0.95) for a, e in zip(*pair, strict=True)]
            for pair in zip(result.exponents[:, index], result.errors[:, index], strict=True)
        ]
    )
    return np.asarray((bounds[..., 0] <= truth) & (truth <= bounds[..., 1]))

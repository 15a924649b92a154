"""The verdicts' exponents on exact risks of a noisy quadratic, whose curves have not one shape.

Four levels an octave apart of ε, N and 1/(1 - m), a √2 grid of batch sizes, five seeds, additive
noise such that the standard errors of exponents are about .02 to .05. The truth is the exact local
exponent over the same levels. One table is made for four of the other sections.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.batches.batch_grid import arrange_batch_grid
from analysis.batches.batch_law import POOR_FIT
from analysis.batches.factors import FACTORS
from analysis.batches.law_judgement import Estimator, judge_curves
from analysis.verdict import t_interval
from tests.analysis.calibration.registry import TOLERANCE, Row, share_row
from tests.analysis.noisy_quadratic import Risks, exact_risks

Array = NDArray[np.float64]

NOISE = 8e-4
"""Standard deviation of the risk, whose least values are .0006 to .004."""
SEEDS = 5
SHARE = 4
CHUNK = 25
LEVEL = 0.995
COVERAGE = (0.95, 1.0)
"""Share of the peaks' 99.5 % intervals that must hold the truth. They hold what bias there is."""
BIAS = (-0.03, 0.03)
"""Of the exponents by peaks: no correction by one shape makes up for curves that have several."""
FLAGGED = (0.99, 1.0)
"""Share of tables whose collapse must be called into question."""
TRUTH = "noisy quadratic, 4 epochs"


class Task(NamedTuple):
    """Tables that are made and judged together."""

    sets: int
    random: tuple[int, ...]
    """Seed of the random numbers."""


class Result(NamedTuple):
    """What one task's tables said."""

    exponents: Array
    """(sets, 2, 3) by optima and by collapse."""
    errors: Array
    """(sets, 2, 3) their standard errors."""
    flagged: NDArray[np.bool_]
    """(sets,) whether the collapse says that curves have not one shape."""


def risks() -> Risks:
    """Return the exact risks; optima lie 2.5 octaves and 1.5 inside the ends of the grid."""
    return exact_risks(0.01, 8192, 13, 0.03125)


def noisy(rng: np.random.Generator) -> Array:
    """Return (64, K, S) risks with noise."""
    risk = risks().risk[:, :, None]
    return np.asarray(risk + NOISE * rng.normal(size=(*risk.shape[:2], SEEDS)))


def tasks(sets: int) -> list[Task]:
    """Return the tasks of the section, a quarter of `sets` tables."""
    wanted = max(sets // SHARE, 1)
    return [
        Task(min(CHUNK, wanted - first), (32, chunk))
        for chunk, first in enumerate(range(0, wanted, CHUNK))
    ]


def measure(task: Task) -> Result:
    """Return exponents by either estimator, and whether the shapes were called into question."""
    rng = np.random.default_rng(task.random)
    exponents, errors, flagged = [], [], []
    octaves = np.log2(risks().groups)
    for _ in range(task.sets):
        grid = arrange_batch_grid(
            risks().table(noisy(rng)),
            y="y",
            by=FACTORS,
            batch_size="batch_size",
            train_examples="train_examples",
            seed="seed",
            chance_error=1.0,
        )
        judged = judge_curves(grid, octaves)
        by = [judged.exponents(estimator) for estimator in Estimator]
        exponents.append([each.exponents for each in by])
        errors.append([np.sqrt(np.diagonal(each.covariance)) for each in by])
        flagged.append(judged.by_collapse.lack_of_fit < POOR_FIT)
    return Result(np.array(exponents), np.array(errors), np.array(flagged))


def rows(results: list[Result]) -> list[Row]:
    """Return coverage and bias by estimator, and how often the shapes are called into question."""
    exponents = np.concatenate([result.exponents for result in results])
    errors = np.concatenate([result.errors for result in results])
    flagged = np.concatenate([result.flagged for result in results])
    sets = len(exponents)
    made = []
    for index, estimator in enumerate(Estimator):
        for factor, name in enumerate(FACTORS):
            found, error = exponents[:, index, factor], errors[:, index, factor]
            what, truth = f"law, {name} by {estimator}", risks().exponents[factor]
            inside = sum(
                lower <= truth <= upper
                for lower, upper in (
                    t_interval(a, e, SEEDS - 1, LEVEL) for a, e in zip(found, error, strict=True)
                )
            )
            covers = f"{what}, 99.5 % intervals that hold the truth"
            asked = estimator is Estimator.PEAKS
            required = COVERAGE if asked else None
            made.append(share_row(covers, TRUTH, int(inside), sets, required))
            made.append(
                Row(
                    what=f"{what}, bias",
                    truth=TRUTH,
                    sets=sets,
                    value=float(found.mean() - truth),
                    required=BIAS if asked else None,
                    allowance=TOLERANCE * float(found.std()) / math.sqrt(sets) if asked else 0.0,
                )
            )
            middle = float(np.median(error))
            made.append(
                Row(what=f"{what}, median standard error", truth=TRUTH, sets=sets, value=middle)
            )
    said = "law, flagged: curves have not one shape"
    return [*made, share_row(said, TRUTH, int(flagged.sum()), sets, FLAGGED)]

"""What is to be learned of B_opt from HPOBench's MLP, where many optima lie at an edge of the grid.

Batch sizes 4 … 256, ten learning rates, ten widths, ten weight decays (`alpha`), three depths, five
seeds, Adam, and one number of examples a data set. A slice is one width and weight decay: ten
learning rates. Source: Eggensperger et al. 2021, arXiv:2109.06716.

Three answers for the exponent of the learning rate: that of the smallest mean error (naive), which
takes an edge for an optimum; `check_batch_size_law` of each slice; and the interval-censored
regression of all slices of a depth on learning rate, width and weight decay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis import OptimumLabel, Verdict, check_batch_size_law
from analysis.batches.batch_grid import arrange_batch_grid
from analysis.batches.law_judgement import MARGIN
from analysis.batches.optimum import find_peaks
from analysis.batches.peak_regression import PeakObservations, evidence, regress_peaks
from analysis.verdict import judge_factor, t_interval
from tests.analysis.published_data import published

Floats = NDArray[np.float64]

DATASETS = ("car", "credit_g")
DEPTHS = (1, 2, 3)
FACTORS = ("learning_rate_init", "width", "alpha")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the slices of one data set and depth say."""

    dataset: str
    depth: int
    labels: Counter[str]
    """Of each learning rate in each slice."""
    naive: Floats
    """(slices, 2) exponent and p of the regression of argmins."""
    verdicts: Counter[str]
    """On the learning rate, of each slice."""
    bounded: int
    """Slices whose exponent has a finite 95 % interval."""
    pooled_naive: tuple[float, float, float]
    """Exponent and 95 % interval of the regression of all argmins, by least squares."""
    pooled: tuple[float, float, float]
    """The same by `regress_peaks`, interval-censored, jackknife over seeds; infinite bounds where
    fewer than three learning rates have an optimum inside the grid."""
    pooled_verdict: str
    """On that exponent, against 1."""
    residual_octaves: float
    """Standard deviation of optima about the latter."""

    @property
    def groups(self) -> int:
        """Number of learning rates in all slices."""
        return sum(self.labels.values())

    @property
    def censored(self) -> int:
        """Optima of which only one bound is known."""
        return self.labels[OptimumLabel.CENSORED]

    @property
    def slices(self) -> int:
        """Number of slices."""
        return sum(self.verdicts.values())

    @property
    def supported(self) -> int:
        """Slices whose exponent counts as 1."""
        return self.verdicts[Verdict.SUPPORTED]


@cache
def runs() -> pd.DataFrame:
    """Return one row a run."""
    table = pd.read_parquet(published("hpobench_mlp/car_credit_g.parquet"))
    seeds = [f"val_acc_s{i}" for i in range(5)]
    keys = ["dataset", "depth", *FACTORS, "batch_size", "n_instances"]
    long = table.melt(keys, seeds, "seed", "accuracy")
    return long.assign(validation_error=1 - long["accuracy"], momentum=0.0)


def one_slice(dataset: str, depth: int, width: int, alpha: float) -> pd.DataFrame:
    """Return the runs of one slice."""
    table = runs()
    here = (table["dataset"] == dataset) & (table["depth"] == depth) & (table["width"] == width)
    return table[here & np.isclose(table["alpha"], alpha)]


@cache
def measured(dataset: str, depth: int) -> Told:
    """Return what all slices of a data set and depth say."""
    table = runs()[(runs()["dataset"] == dataset) & (runs()["depth"] == depth)]
    naive, verdicts, bounded = [], Counter[str](), 0
    for _, cells in table.groupby(["width", "alpha"]):
        law = check_batch_size_law(
            cells, learning_rate="learning_rate_init", train_examples="n_instances"
        )
        line = stats.linregress(
            np.log2(law.optima["learning_rate_init"]), np.log2(law.optima["best_batch_size"])
        )
        naive.append((line.slope, line.pvalue))
        verdicts[law.verdicts["learning_rate"]] += 1
        bounded += np.isfinite(law.conf_int().loc["learning_rate"]).all()
    return Told(
        dataset=dataset,
        depth=depth,
        naive=np.array(naive),
        verdicts=verdicts,
        bounded=int(bounded),
        **_pooled(table),
    )


def _pooled(table: pd.DataFrame) -> dict[str, object]:
    grid = arrange_batch_grid(
        table,
        y="validation_error",
        by=FACTORS,
        batch_size="batch_size",
        train_examples="n_instances",
        seed="seed",
        chance_error="chance_error",
    )
    folds = np.concatenate([np.ones((1, 5), dtype=bool), ~np.eye(5, dtype=bool)])
    peaks = find_peaks(grid, folds)
    factors = np.log2(grid.groups[list(FACTORS)].to_numpy(float))
    # The regression's second and third factor are here width and weight decay.
    observed = PeakObservations(factors, *peaks.observed, peaks.label, grid.seeds)
    regression = regress_peaks(observed)
    exponent, error = regression.exponents[0], np.sqrt(regression.covariance[0, 0])
    design = np.column_stack([np.ones(len(factors)), factors - factors.mean(axis=0)])
    best = np.take_along_axis(grid.batch_sizes, grid.errors.mean(axis=0).argmin(1)[:, None], 1)
    return {
        "labels": Counter(str(label) for label in peaks.label),
        "pooled_naive": _least_squares(design, np.log2(best[:, 0])),
        "pooled": (float(exponent), *t_interval(float(exponent), float(error), 4, 0.95)),
        "pooled_verdict": str(
            judge_factor(evidence(observed, regression, 0), margin=MARGIN).verdict
        ),
        "residual_octaves": regression.residual_octaves,
    }


def _least_squares(design: Floats, y: Floats) -> tuple[float, float, float]:
    """Return the second coefficient and its 95 % interval, residuals taken for independent."""
    coefficients, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(y) - design.shape[1]
    variance = float(squares[0]) / freedom * np.linalg.inv(design.T @ design)[1, 1]
    slope = float(coefficients[1])
    return (slope, *t_interval(slope, float(np.sqrt(variance)), freedom, 0.95))


HEAD = (
    "data set, depth",
    "optima",
    "censored",
    "flat",
    "plateau",
    "interior",
    "slices",
    "naive: p < .05",
    "naive exponent, median (quartiles)",
    "naive, all slices (95 %)",
    "verdicts of slices",
    "slices with an interval",
    "interval-censored, all slices (95 %)",
    "its verdict",
    "residual, octaves",
)


def markdown(told: Sequence[Told] | None = None) -> str:
    """Return one row a data set and depth, of all by default."""
    if told is None:
        told = [measured(dataset, depth) for dataset in DATASETS for depth in DEPTHS]
    rule = ["---", *["---:"] * (len(HEAD) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (HEAD, rule, *map(_cells, told)))


def _cells(told: Told) -> tuple[str, ...]:
    kinds = (OptimumLabel.FLAT, OptimumLabel.PLATEAU, OptimumLabel.INTERIOR)
    low, middle, high = np.quantile(told.naive[:, 0], [0.25, 0.5, 0.75])
    verdicts = ", ".join(f"{count} {name}" for name, count in sorted(told.verdicts.items()))
    return (
        f"{told.dataset}, {told.depth}",
        str(told.groups),
        f"{told.censored / told.groups:.1%}",
        *(f"{told.labels[kind] / told.groups:.1%}" for kind in kinds),
        str(told.slices),
        str(int((told.naive[:, 1] < 0.05).sum())),
        f"{middle:.2f} ({low:.2f}, {high:.2f})",
        _interval(told.pooled_naive),
        verdicts,
        str(told.bounded),
        _interval(told.pooled),
        told.pooled_verdict,
        f"{told.residual_octaves:.2f}",
    )


def _interval(bounds: tuple[float, float, float]) -> str:
    estimate, lower, upper = bounds
    if np.isinf(lower):
        return f"{estimate:.3f} (-∞, ∞)"
    return f"{estimate:.3f} ({lower:.3f}, {upper:.3f})"

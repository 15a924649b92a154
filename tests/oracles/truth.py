"""What the results of an oracle's study say, beside what is true: one row a number."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis import check_batch_size_law, fit_power_law, load_cells
from orchestrator import Study
from workloads import Workload
from workloads.oracles import linear_spectrum, linear_spectrum_risk, memorizer_error
from workloads.oracles.linear_spectrum import LinearSpectrum
from workloads.oracles.memorizer import Memorizer
from workloads.oracles.noisy_quadratic import (
    POOL,
    NoisyQuadratic,
    curvatures,
    noise_floor,
    target_variances,
)
from workloads.oracles.noisy_quadratic_risk import expected_excess_risk, local_exponents

__all__ = [
    "LEVEL",
    "ORACLES",
    "Answer",
    "Oracle",
    "excess_risk",
    "markdown",
    "noisy_quadratic_exponents",
]

LEVEL = 0.995
"""Of every interval: some twenty of them must all hold."""

STUDIES = Path(__file__).parents[2] / "studies" / "oracles"

FACTORS = ("learning_rate", "train_examples", "momentum")


@dataclass(frozen=True)
class Answer:
    """A number that the study gives, with its interval, and the truth."""

    what: str
    truth: float
    estimate: float
    lower: float
    upper: float
    said: str = ""
    """Verdict, or status of the fit."""

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth."""
        return self.lower <= self.truth <= self.upper


@dataclass(frozen=True)
class Oracle:
    """A study whose answers are known."""

    name: str
    workload: type[Workload]
    answers: Callable[[Path], list[Answer]]
    """From the store that the study has filled."""

    @property
    def study(self) -> Study:
        """The study of `studies/oracles`, whether or not the workload is installed by name."""
        return Study.from_file(STUDIES / f"{self.name}.yaml", self.workload())


def noisy_quadratic_exponents(
    cells: pd.DataFrame, *, distance: float, epochs: int
) -> tuple[float, float, float]:
    """Return the exact exponents of the best batch size over the levels of `cells`."""
    size = int(cells.model_size.iloc[0])
    return local_exponents(
        learning_rates=_levels(cells.learning_rate),
        train_examples=_levels(cells.train_examples),
        momenta=_levels(cells.momentum),
        curvature=tuple(curvatures(size)),
        variance=tuple(target_variances(size)),
        distance=distance,
        epochs=epochs,
        pool_examples=POOL,
    )


def excess_risk(cell: Any, *, size: int = 16, distance: float = 0.25) -> float:
    """Return the expected excess risk of one cell of the noisy quadratic."""
    return expected_excess_risk(
        learning_rate=cell.learning_rate,
        momentum=cell.momentum,
        curvature=curvatures(size),
        variance=target_variances(size),
        distance=distance,
        train_examples=int(cell.train_examples),
        batch_size=cell.batch_size,
        steps=int(cell.steps),
        pool_examples=POOL,
    )


def noisy_quadratic(store: Path) -> list[Answer]:
    """Exponents of the best batch size, and the mean loss of every setting."""
    cells = load_cells(store, grid="batch_law")
    size, (distance,) = int(cells.model_size.iloc[0]), cells.distance.unique()
    (budget,) = cells.budget.unique()
    epochs = int(budget.removeprefix("epochs="))
    truths = noisy_quadratic_exponents(cells, distance=distance, epochs=epochs)
    # What has learned nothing is at the start: the floor and the distance from the minimum.
    start = noise_floor(size) + 0.5 * curvatures(size).sum() * distance**2
    law = check_batch_size_law(cells, y="validation_loss", chance_error=start)
    bounds = law.conf_int(LEVEL)

    def expected(cell: pd.Series) -> float:
        return noise_floor(size) + excess_risk(cell, size=size, distance=distance)

    return [
        *(
            Answer(
                f"B_opt: exponent of {'1/(1-m)' if factor == 'momentum' else factor}",
                truth,
                law.exponents.exponent[factor],
                *bounds.loc[factor],
                said=law.verdicts[factor],
            )
            for factor, truth in zip(FACTORS, truths, strict=True)
        ),
        _deviation(cells, [*FACTORS, "batch_size", "steps"], "validation_loss", expected),
    ]


def linear_regression(store: Path) -> list[Answer]:
    """The learning curve's exponent for each target, and the mean loss at every size."""
    cells = load_cells(store, grid="learning_curve")
    (ridge,) = cells.weight_decay.unique()

    def numbers(row: pd.Series) -> dict[str, np.ndarray]:
        return {
            "scales": linear_spectrum.scales(row.spectrum_exponent),
            "coefficients": linear_spectrum.coefficients(row.target_exponent),
        }

    answers = []
    for target, curve in cells.groupby("target_exponent"):
        truth = linear_spectrum_risk.local_exponent(
            _levels(curve.train_examples), ridge=ridge, **numbers(curve.iloc[0])
        )
        what = f"β of the loss, b = {target:g}"
        answers.append(_slope(what, truth, curve, "train_examples", "validation_loss"))

    def expected(cell: pd.Series) -> float:
        examples = int(cell.train_examples)
        risk = linear_spectrum_risk.expected_risk(
            train_examples=examples, ridge=ridge, **numbers(cell)
        )
        return risk / 2

    settings = ["spectrum_exponent", "target_exponent", "train_examples"]
    return [*answers, _deviation(cells, settings, "validation_loss", expected)]


def memory(store: Path) -> list[Answer]:
    """Exponents by the number of examples and by the size of the table, and mean errors."""
    cells = load_cells(store, grid="learning_curve")
    answers = []
    for tail, curve in cells.groupby("tail_exponent"):
        truth = memorizer_error.local_exponent(_levels(curve.train_examples), tail)
        what = f"β of the error, a = {tail:g}"
        answers.append(_slope(what, truth, curve, "train_examples", "validation_error"))
    curve = load_cells(store, grid="model_curve")
    ((examples, tail),) = curve[["train_examples", "tail_exponent"]].drop_duplicates().to_numpy()
    sizes = [int(size) for size in _levels(curve.model_size)]
    errors = [memorizer_error.expected_error([examples], tail, size)[0] for size in sizes]
    truth = float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])
    what = f"exponent of the table's size, a = {tail:g}"
    answers.append(_slope(what, truth, curve, "model_size", "validation_error"))

    def expected(cell: pd.Series) -> float:
        data = Memorizer().data({"tail_exponent": cell.tail_exponent})
        size, room = int(cell.train_examples), int(cell.model_size)
        return float(memorizer_error.expected_error_given(data, [size], room)[0])

    # Of the learning curves: every seed fills a small table, and their errors are one number.
    settings = ["tail_exponent", "train_examples", "model_size"]
    return [*answers, _deviation(cells, settings, "validation_error", expected)]


ORACLES = (
    Oracle("noisy_quadratic", NoisyQuadratic, noisy_quadratic),
    Oracle("linear_spectrum", LinearSpectrum, linear_regression),
    Oracle("memorizer", Memorizer, memory),
)


def markdown(answers: Iterable[tuple[str, Answer]]) -> str:
    """Return the table of docs/oracles.md from (study, answer) pairs."""
    return "\n".join(_lines(answers))


def _lines(answers: Iterable[tuple[str, Answer]]) -> Iterator[str]:
    yield f"| study | what | truth | measured | {LEVEL:.1%} interval | holds | said |"
    yield "| --- | --- | ---: | ---: | --- | --- | --- |"
    for study, a in answers:
        numbers = f"{a.truth:.3f} | {a.estimate:.3f} | {a.lower:.3f} to {a.upper:.3f}"
        yield f"| {study} | {a.what} | {numbers} | {'yes' if a.holds else '**no**'} | {a.said} |"


def _slope(what: str, truth: float, cells: pd.DataFrame, x: str, y: str) -> Answer:
    """Fit a power law without floor: the local exponent is what it makes of the exact curve."""
    choose = () if x == "model_size" else None
    fit = fit_power_law(cells, x=x, y=y, form="M1", choose=choose)
    bounds = fit.conf_int(LEVEL).loc["beta"]
    return Answer(what, truth, fit.beta, *bounds, said=fit.status.name.lower())


def _deviation(
    cells: pd.DataFrame, settings: list[str], y: str, expected: Callable[[pd.Series], float]
) -> Answer:
    """Say how far the mean over seeds is from the expected one, in the setting where it is most.

    In standard errors. The interval about it is Student's t at the level, Bonferroni over settings;
    the truth is 0.
    """
    means = cells.groupby(settings)[y].agg(["mean", "sem", "count"]).reset_index()
    far = (means["mean"] - means.apply(expected, axis=1)) / means["sem"]
    worst = int(far.abs().argmax())
    half = stats.t.isf((1 - LEVEL) / 2 / len(means), means["count"][worst] - 1)
    what = f"largest of {len(means)} deviations of means from expected, in standard errors"
    return Answer(what, 0.0, far[worst], far[worst] - half, far[worst] + half)


def _levels(values: pd.Series) -> tuple:
    return tuple(value.item() for value in np.sort(values.unique()))

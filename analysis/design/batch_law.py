"""Design before data: what a study of B_opt ∝ ε N / (1 - m) can be expected to decide.

Studies of the planned size are made up, with curves and noise that are assumed or a pilot's, and
judged like real ones; how often each verdict comes out is the answer. It is a forecast under
assumptions, and no promise: a real study may have other noise, other curves, or its optimum
elsewhere. What no data could decide is said at once (`analysis.design.limits`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.batches.factors import FACTORS
from analysis.batches.law_judgement import MARGIN, Estimator, JudgedCurves, judge_curves
from analysis.batches.optimum import OptimumLabel
from analysis.design.assumed_curves import (
    AssumedCurves,
    Bowl,
    Curve,
    assumed_curves,
    curves_of_pilot,
)
from analysis.design.limits import BatchLawLimits, batch_law_limits
from analysis.design.planned_runs import DesignGrid
from analysis.errors import FitError
from analysis.json_values import json_value
from analysis.summary_table import Summary
from analysis.verdict import Verdict, t_interval

__all__ = ["BatchLawDesign", "batch_law_design", "forecast_batch_law"]

Floats = NDArray[np.float64]

SETS = 200
"""Simulated studies of each truth: a share of 90 % is then known to ±2 points (one σ)."""
CLAIM = (1.0, 1.0, 1.0)
ALTERNATIVE = (0.5, 0.0, 0.5)
"""Exponents to be told from 1: of the square-root rule, and an optimum that N does not move."""
ENOUGH_POWER = 0.8
"""Share of studies in which a design should come to the right verdict."""
JUDGED = (*FACTORS, "joint")
FORECAST = "A forecast under these assumptions, not a promise:"


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchLawDesign:
    """How a planned study is expected to come out, if the law holds and if it does not."""

    limits: BatchLawLimits
    """What it cannot decide whatever the noise."""
    exponents: pd.DataFrame
    """If the law holds, by factor: median `standard_error` and `half_width95` of the 95 % interval
    (infinite where half of the studies have none), `spread` (standard deviation of the exponents
    that come out) and `mean` of them."""
    verdicts: pd.DataFrame
    """Share of studies with each verdict: one row a truth ("claim", "alternative") and factor or
    "joint", with the `exponent` that is true there (NaN for joint)."""
    groups: pd.DataFrame
    """Mean number of groups of each label, one row a truth."""
    assumptions: tuple[str, ...]
    """Sentences."""
    noise: float
    """Standard deviation of a run's error."""
    margin: float
    """δ of the verdicts."""
    estimator: Estimator
    """What is judged."""
    sets: int
    """Simulated studies of each truth; 0 where no factor could be decided anyway."""

    def power(self, factor: str) -> float:
        """Return the share of studies that support a true exponent of 1; of "joint", all three."""
        if factor not in JUDGED:
            raise FitError(f"Unknown factor {factor!r}. Available: {', '.join(JUDGED)}.")
        return self._share("claim", factor, Verdict.SUPPORTED)

    def sentences(self) -> tuple[str, ...]:
        """Return what the study can and cannot decide, with the figures."""
        limits = self.limits.sentences()
        if not self.sets:
            return limits
        said = [self._about(name) for name in self.limits.decidable]
        if len(self.limits.decidable) == len(FACTORS):
            said.append(
                f"It would support all three exponents at once in {self.power('joint'):.0%} of "
                "studies."
            )
        return (*limits, *said, self._about_groups(), self._forecast())

    def _about(self, name: str) -> str:
        alternative = float(
            np.asarray(self._of_truth("alternative")["exponent"])[FACTORS.index(name)]
        )
        power = self.power(name)
        refuted = self._share("alternative", name, Verdict.REFUTED)
        opening = (
            f"This study can decide {name}"
            if min(power, refuted) >= ENOUGH_POWER
            else f"This study is only a screening design for {name}"
        )
        half = float(np.asarray(self.exponents["half_width95"])[FACTORS.index(name)])
        interval = (
            f"expected 95 % interval ±{half:.2g}"
            if np.isfinite(half)
            else "no interval is to be expected"
        )
        return (
            f"{opening}: with noise σ = {self.noise:.2g} it would support a true exponent of 1 in "
            f"{power:.0%} of studies{self._otherwise(name)}, and refute the claim in {refuted:.0%} "
            f"if the exponent is {alternative:.3g} ({interval})."
        )

    def _otherwise(self, name: str) -> str:
        """Return the commonest other verdict on a factor whose exponent is 1."""
        others = self._of_truth("claim").loc[name].drop(["exponent", str(Verdict.SUPPORTED)])
        word = str(others.astype(float).idxmax())
        share = float(np.asarray(others, dtype=float).max())
        return f" (in {share:.0%} the verdict is {word})" if share >= 0.05 else ""

    def _about_groups(self) -> str:
        counts = self.groups.loc["claim"]
        listed = ", ".join(f"{count:.1f} {label}" for label, count in counts.items())
        return f"If the law holds, {len(self.limits.grid.groups)} curves are expected as {listed}."

    def _forecast(self) -> str:
        return (
            f"{FORECAST} {' '.join(self.assumptions)} Optima lie on the law exactly. {self.sets} "
            "simulated studies of each truth "
            f"(shares ±{50 / np.sqrt(self.sets):.0f} points at most), margin {self.margin:g}, "
            f"judged by {self.estimator}."
        )

    def _share(self, truth: str, name: str, verdict: Verdict) -> float:
        return float(np.asarray(self._of_truth(truth)[str(verdict)])[JUDGED.index(name)])

    def _of_truth(self, truth: str) -> pd.DataFrame:
        """Return the rows of `verdicts` of one truth, by factor."""
        return self.verdicts[self.verdicts.index.get_level_values("truth") == truth].droplevel(0)

    def summary(self) -> Summary:
        """Return a printable summary: expected intervals, shares of verdicts, sentences."""
        shares = self._of_truth("claim").drop(columns="exponent")
        table = shares.join(self.exponents[["standard_error", "half_width95"]])
        facts = (
            ("Groups", str(len(self.limits.grid.groups))),
            ("Seeds", str(self.limits.grid.seeds)),
            ("Noise σ", f"{self.noise:.3g}"),
            ("Margin", f"{self.margin:g}"),
            ("Estimator", self.estimator),
            ("Simulated studies", str(self.sets)),
        )
        title = "Forecast: verdicts on B_opt = ε^a N^b (1/(1-m))^c · const if a = b = c = 1"
        return Summary(title=title, facts=facts, table=table, notes=self.sentences())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: infinite numbers are "inf", NaN is None."""
        return {
            "limits": self.limits.to_dict(),
            "exponents": json_value(self.exponents.to_dict(orient="index")),
            "verdicts": {
                truth: json_value(self._of_truth(truth).to_dict(orient="index"))
                for truth in ("claim", "alternative")
            },
            "groups": json_value(self.groups.to_dict(orient="index")),
            "assumptions": list(self.assumptions),
            "noise": self.noise,
            "margin": self.margin,
            "estimator": str(self.estimator),
            "sets": self.sets,
            "sentences": list(self.sentences()),
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def batch_law_design(
    learning_rates: Sequence[float],
    train_examples: Sequence[float],
    momenta: Sequence[float],
    batch_sizes: Sequence[float],
    seeds: int,
    *,
    noise: float | None = None,
    pilot: pd.DataFrame | None = None,
    curve: Curve | None = None,
    optimum: float | None = None,
    alternative: Sequence[float] = ALTERNATIVE,
    margin: float = MARGIN,
    estimator: Estimator | str = Estimator.PEAKS,
    sets: int = SETS,
    rng_seed: int = 0,
) -> BatchLawDesign:
    """Forecast the verdicts of a full cross ε × N × m, each at the batch sizes below its shard.

    `noise`, or a `pilot`, from which noise, shape, heights and place of the optimum are taken.

    Independent noise of .005 about the default bowl (depth .02), levels an octave apart, 60 to 200
    studies; median standard error of ε's exponent and power at a true 1:

    | curves | batch sizes | seeds | standard error | power |
    |---|---|---|---|---|
    | 4, along ε alone | 2× | 5 | .050 | .46 |
    | 6, along ε alone | 2× | 5 | .031 | .80 |
    | 4, along ε alone | √2× | 10 | .048 | .63 |
    | 3 × 3 × 3 | 2× | 5 | .035 | .85 |
    | 4 × 4 × 4 | 2× | 5 | .017 | 1.00 |

    A cross spends each curve on all three factors. Where optima move by the grid's own steps, as at
    a true 1 here, all curves are seen alike; at (.9, 1.1, .95) the exponents of the 4 × 4 × 4
    scattered by .036, twice their standard error: take 1 as the best case.

    Args:
        learning_rates: levels of ε.
        train_examples: levels of N.
        momenta: levels of m.
        batch_sizes: of every curve, where below N.
        seeds: replicates.
        noise: standard deviation of a run's error, less what its seed does at all batch sizes
            alike.
        pilot: a table of runs under the store's names of columns, instead of `noise`.
        curve: excess of the error over its lowest at octaves above the optimum; a `Bowl()`.
        optimum: best batch size at the middle (geometric) of the factors; by default the middle of
            the batch sizes. Half a step of the grid, up or down, is drawn at random.
        alternative: exponents of ε, N and 1/(1 - m) that the claim is to be told from.
        margin: δ of the verdicts.
        estimator: "peaks" or "collapse", which of them is judged.
        sets: simulated studies of each truth.
        rng_seed: of the random numbers.

    Raises:
        FitError: a value that is not allowed, or a pilot that shows no common shape.
    """
    grid = DesignGrid.crossed(learning_rates, train_examples, momenta, batch_sizes, seeds)
    return forecast_batch_law(
        grid,
        noise=noise,
        pilot=pilot,
        curve=curve,
        optimum=optimum,
        alternative=alternative,
        margin=margin,
        estimator=estimator,
        sets=sets,
        rng_seed=rng_seed,
    )


def forecast_batch_law(
    grid: DesignGrid,
    *,
    noise: float | None = None,
    pilot: pd.DataFrame | None = None,
    curve: Curve | None = None,
    optimum: float | None = None,
    alternative: Sequence[float] = ALTERNATIVE,
    margin: float = MARGIN,
    estimator: Estimator | str = Estimator.PEAKS,
    sets: int = SETS,
    rng_seed: int = 0,
) -> BatchLawDesign:
    """Return the forecast of `batch_law_design` for any `grid`, crossed or not."""
    _check(margin, alternative, sets)
    judged_by = Estimator.named(estimator)
    if (noise is None) == (pilot is None):
        raise FitError("Pass either `noise` or a `pilot`: how far runs scatter must be assumed.")
    if pilot is not None and (curve is not None or optimum is not None):
        raise FitError("`curve` and `optimum` are the pilot's own; leave them out with a `pilot`.")
    if pilot is None:
        assert noise is not None
        curves = assumed_curves(grid, noise, curve or Bowl(), optimum)
    else:
        curves = curves_of_pilot(grid, pilot)
    limits = batch_law_limits(grid)
    sets = sets if limits.decidable else 0
    truths = {"claim": CLAIM, "alternative": tuple(float(value) for value in alternative)}
    judged = {
        name: _simulated(grid, curves, truth, margin, judged_by, sets, (rng_seed, index))
        for index, (name, truth) in enumerate(truths.items())
    }
    return BatchLawDesign(
        limits=limits,
        exponents=_exponents(judged["claim"], grid.seeds),
        verdicts=_verdicts(judged, truths),
        groups=_groups(judged),
        assumptions=curves.sentences,
        noise=curves.noise,
        margin=margin,
        estimator=judged_by,
        sets=sets,
    )


def _check(margin: float, alternative: Sequence[float], sets: int) -> None:
    if not 0 < margin < 1:
        raise FitError(f"`margin` is {margin!r}; allowed: a number between 0 and 1.")
    if len(alternative) != len(FACTORS) or not np.isfinite(alternative).all():
        raise FitError(
            f"`alternative` is {alternative!r}; allowed: three exponents, of {', '.join(FACTORS)}."
        )
    if sets < 1 or sets != int(sets):
        raise FitError(f"`sets` is {sets!r}; allowed: a whole number from 1.")


@dataclass(frozen=True, eq=False)
class _Outcome:
    """What one simulated study gave."""

    exponents: Floats
    """(3,)"""
    standard_errors: Floats
    """(3,) infinite where there is none."""
    verdicts: Mapping[str, Verdict]
    labels: Mapping[str, int]
    """Groups of each label."""

    @classmethod
    def of(cls, judged: JudgedCurves, estimator: Estimator) -> "_Outcome":
        primary = judged.exponents(estimator)
        errors = np.sqrt(np.diagonal(primary.covariance))
        label = judged.peaks.label
        said = judged.judged[estimator]
        return cls(
            exponents=primary.exponents,
            standard_errors=np.where(np.isfinite(errors), errors, np.inf),
            verdicts={name: judgement.verdict for name, judgement in said.items()},
            labels={str(each): int((label == each).sum()) for each in OptimumLabel},
        )


def _simulated(
    grid: DesignGrid,
    curves: AssumedCurves,
    truth: Sequence[float],
    margin: float,
    estimator: Estimator,
    sets: int,
    random: tuple[int, int],
) -> list[_Outcome]:
    """Return what `sets` studies give whose optima move by the exponents `truth`."""
    rng = np.random.default_rng(random)
    outcomes = []
    for _ in range(sets):
        study = curves.draw(grid, truth, rng)
        judged = judge_curves(study, grid.octaves, margin=margin)
        outcomes.append(_Outcome.of(judged, estimator))
    return outcomes


def _exponents(outcomes: Sequence[_Outcome], seeds: int) -> pd.DataFrame:
    index = pd.Index(FACTORS, name="factor")
    names = ["standard_error", "half_width95", "spread", "mean"]
    if not outcomes:
        return pd.DataFrame(np.nan, index=index, columns=names)
    errors = np.median([outcome.standard_errors for outcome in outcomes], axis=0)
    half = [t_interval(0.0, error, seeds - 1, 0.95)[1] for error in errors]
    found = pd.DataFrame([outcome.exponents for outcome in outcomes])
    # pandas leaves out the studies that have no exponent, and gives NaN where none has one
    values = [errors, np.array(half), found.std().to_numpy(), found.mean().to_numpy()]
    return pd.DataFrame(dict(zip(names, values, strict=True)), index=index)


def _verdicts(
    judged: Mapping[str, Sequence[_Outcome]], truths: Mapping[str, Sequence[float]]
) -> pd.DataFrame:
    rows = {}
    for truth, outcomes in judged.items():
        for name, exponent in zip(JUDGED, (*truths[truth], np.nan), strict=True):
            came = [outcome.verdicts[name] for outcome in outcomes]
            shares = {
                str(verdict): came.count(verdict) / len(came) if came else np.nan
                for verdict in Verdict
            }
            rows[truth, name] = {"exponent": exponent, **shares}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(list(rows), names=["truth", "factor"])
    return frame


def _groups(judged: Mapping[str, Sequence[_Outcome]]) -> pd.DataFrame:
    order = [str(label) for label in reversed(OptimumLabel)]
    rows = {
        truth: {
            label: float(np.mean([outcome.labels[label] for outcome in outcomes]))
            if outcomes
            else np.nan
            for label in order
        }
        for truth, outcomes in judged.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=order)

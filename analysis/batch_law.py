"""Does the best batch size follow B_opt ∝ ε N / (1 - m)? One verdict per factor, and a joint one.

The optimum of each (ε, N, m), or the interval that is known of it, is regressed on the three
factors in octaves; the whole way from the table to the exponents is repeated without each seed
in turn, and the spread of the exponents gives their standard errors. Source of the claim:
Smith & Le 2018, arXiv:1710.06451.

Verdicts rest on this regression of peaks alone: the windowed collapse of the curves, which will
make a factor inconclusive where the two disagree, is not part of this version.
"""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.batch_grid import BatchGrid, arrange_batch_grid
from analysis.censored_regression import fit_interval_censored
from analysis.errors import FitError
from analysis.jackknife import Jackknife
from analysis.optimum import ALPHA, BatchForm, OptimumLabel, find_peaks, optima_frame
from analysis.verdict import (
    PROVISIONAL,
    Evidence,
    Judgement,
    Verdict,
    judge_factor,
    judge_interval,
    judge_jointly,
    t_interval,
)

__all__ = ["FACTORS", "BatchSizeLaw", "PeakObservations", "check_batch_size_law"]

Floats = NDArray[np.float64]

FACTORS = ("learning_rate", "train_examples", "momentum")
"""Keys of exponents and verdicts; the momentum factor is 1 / (1 - m)."""
MARGIN = 0.15
"""Default half width δ of the band that counts as an exponent of 1."""
PEAKS_ALONE = (
    "Verdicts rest on the regression of peaks alone; the windowed collapse is not part of this "
    "version."
)
START_UP = 10.0
"""Steps times (1 - m) below which momentum has hardly built up when training ends."""
LARGE_BATCH_SHARE = 0.1
"""B_opt / N from which B and B / (1 - B/N) give different exponents."""


@dataclass(frozen=True, eq=False)
class PeakObservations:
    """What the regression sees: G groups, in S + 1 folds of which the first has every seed."""

    octaves: Floats
    """(G, 3) log₂ ε, log₂ N, log₂ 1/(1 - m)."""
    lower: Floats
    """(S + 1, G) lower bounds on log₂ B_opt; equal to `upper` where there is an estimate."""
    upper: Floats
    """(S + 1, G) upper bounds."""
    label: NDArray[np.object_]
    """(G,) labels with every seed."""
    seeds: tuple[object, ...]
    """(S) labels; fold 1 + s leaves out seed s."""

    @property
    def informative(self) -> NDArray[np.bool_]:
        """(G,) whether anything is known of the group's optimum."""
        return self.label != OptimumLabel.FLAT


@dataclass(frozen=True, eq=False)
class PeakRegression:
    """Exponents of a regression of peaks, their jackknife, and what could not be estimated."""

    exponents: Floats
    """(3,) NaN where the design does not determine the factor's exponent."""
    covariance: Floats
    """(3, 3) jackknife covariance; infinite where a fold could not be estimated."""
    residual_octaves: float
    """Standard deviation of B_opt about the law, in octaves."""
    variance_inflation: Floats
    """(3,) infinite for a factor that does not vary or is collinear."""
    failure: str
    """Why there is no standard error, as a clause; empty if there is."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchSizeLaw:
    """The check of B_opt ∝ ε^a N^b (1/(1 - m))^c: exponents, verdicts, and why."""

    exponents: pd.DataFrame
    """Index learning_rate, train_examples, momentum; columns exponent, standard_error, lower95,
    upper95, lower90, upper90. Bounds are infinite where nothing can be said."""
    verdicts: Mapping[str, Verdict]
    """Verdict of learning_rate, train_examples, momentum and joint, in that order."""
    reasons: Mapping[str, str]
    """One sentence for each verdict."""
    flags: tuple[str, ...]
    """What a reader should know before using the verdicts."""
    optima: pd.DataFrame
    """The frame of `optimal_batch_sizes`."""
    excluded: pd.DataFrame
    """Runs of the table that were not used, with the reason."""
    momentum_equivalence: Mapping[str, Any]
    """Test of a = c (momentum acts as ε/(1 - m)): difference, standard_error, lower95, upper95,
    lower90, upper90, verdict, reason."""
    regime: Mapping[str, Any]
    """Where the study stands: labels, B/N, steps against 1/(1 - m), residual in octaves."""
    y: str
    """Column of the error."""
    form: BatchForm
    """Form of the batch size."""
    margin: float
    """δ: supported means inside [1 - δ, 1 + δ]."""
    degrees_of_freedom: int
    """Seeds - 1."""
    n_cells: int
    """Runs used."""
    cell_ids: tuple[str, ...]
    """Those runs; empty where the table names none."""
    observations: PeakObservations = field(repr=False)
    """What the regression saw."""

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Return the exponents' intervals: indexed by factor, columns `lower` and `upper`."""
        if not 0 < level < 1:
            raise FitError(f"`level` is {level!r}; allowed: a number between 0 and 1.")
        bounds = [
            t_interval(row.exponent, row.standard_error, self.degrees_of_freedom, level)
            for row in self.exponents.itertuples()
        ]
        return pd.DataFrame(bounds, index=self.exponents.index, columns=["lower", "upper"])

    def summary(self) -> str:
        """Return the result as text: exponents, verdicts with reasons, regime, exclusions."""
        labels = ", ".join(f"{n} {label}" for label, n in self.regime["labels"].items())
        lines = [
            f"B_opt ∝ ε^a N^b (1/(1-m))^c on {self.y}: {self.n_cells} cells, {len(self.optima)} "
            f"groups ({labels}), {self.degrees_of_freedom + 1} seeds, form {self.form}, "
            f"margin {self.margin:g}.",
            "",
            self.exponents.to_string(float_format=lambda value: f"{value:.3f}"),
            "",
            *(f"{name}: {self.verdicts[name]}. {self.reasons[name]}" for name in self.verdicts),
            f"a = c: {self.momentum_equivalence['verdict']}. {self.momentum_equivalence['reason']}",
            *(f"Flag: {flag}" for flag in self.flags),
            *self.optima.attrs["notes"],
            PEAKS_ALONE,
            PROVISIONAL,
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; an infinite bound or a missing number is None."""
        optima = self.optima.astype(object)
        return {
            "y": self.y,
            "form": self.form,
            "margin": self.margin,
            "degrees_of_freedom": self.degrees_of_freedom,
            "exponents": _plain(self.exponents.to_dict(orient="index")),
            "verdicts": {name: str(verdict) for name, verdict in self.verdicts.items()},
            "reasons": dict(self.reasons),
            "momentum_equivalence": _plain(self.momentum_equivalence),
            "flags": list(self.flags),
            "regime": _plain(self.regime),
            "notes": list(self.optima.attrs["notes"]),
            "optima": _plain(optima.to_dict(orient="records")),
            "excluded": _plain(self.excluded.astype(object).to_dict(orient="records")),
            "n_cells": self.n_cells,
            "cell_ids": list(self.cell_ids),
            "status": [PEAKS_ALONE, PROVISIONAL],
        }


def check_batch_size_law(
    cells: pd.DataFrame,
    *,
    y: str = columns.VALIDATION_ERROR,
    learning_rate: str = columns.LEARNING_RATE,
    train_examples: str = columns.TRAIN_EXAMPLES,
    momentum: str = columns.MOMENTUM,
    batch_size: str = columns.BATCH_SIZE,
    seed: str = columns.SEED,
    chance_error: str | float = columns.CHANCE_ERROR,
    form: BatchForm = "B",
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> BatchSizeLaw:
    """Check log₂B_opt = c₀ + a log₂ε + b log₂N + c log₂ 1/(1-m) against (a, b, c) = (1, 1, 1).

    Optima are found as in `optimal_batch_sizes` and regressed by interval-censored maximum
    likelihood: an interior optimum enters as an exact observation of its parabola's vertex (as
    its bounds, where it has no vertex), a plateau as an interval, a censored one with an open
    bound; a flat group says nothing. Standard errors: jackknife over seeds, optima and labels
    found again in every fold, Student's t with S - 1 degrees. Verdicts: `judge_factor` and
    `judge_jointly`.

    A factor that does not vary is unidentified, and left out of the regression. If a fold
    cannot be estimated, no exponent has an interval, and the reason names the seed.

    Args:
        cells: one row per run, with the final-step error; diverged runs at chance.
        y: column of the error.
        learning_rate: column of ε > 0.
        train_examples: column of N >= 1; runs with B >= N are excluded.
        momentum: column of m in [0, 1).
        batch_size: column of B >= 1.
        seed: column of the replicate, shared across batch sizes and groups.
        chance_error: a column or a number; the table's largest error where the column is absent.
        form: "B", or "B/(1-B/N)" for every batch size.
        margin: δ in (0, 1).
        alpha: level at which a batch size counts as worse than the best.

    Raises:
        FitError: the table cannot be analyzed as asked.
    """
    if not 0 < margin < 1:
        raise FitError(f"`margin` is {margin!r}; allowed: a number between 0 and 1.")
    by = (learning_rate, train_examples, momentum)
    grid = arrange_batch_grid(
        cells,
        y=y,
        by=by,
        batch_size=batch_size,
        train_examples=train_examples,
        seed=seed,
        chance_error=chance_error,
    )
    octaves = _factor_octaves(grid.groups, learning_rate, train_examples, momentum)
    peaks = find_peaks(grid, _folds(len(grid.seeds)), form=form, alpha=alpha)
    lower, upper = peaks.observed
    observations = PeakObservations(octaves, lower, upper, peaks.label[0], grid.seeds)
    regression = regress_peaks(observations)
    freedom = len(grid.seeds) - 1
    judged = {
        name: judge_factor(evidence(observations, regression, factor), margin=margin)
        for factor, name in enumerate(FACTORS)
    }
    judged["joint"] = judge_jointly(judged)
    optima = optima_frame(grid, peaks, form=form)
    exponents = _exponents_frame(regression, freedom)
    regime = _regime(grid, optima, regression, learning_rate, momentum, batch_size, train_examples)
    return BatchSizeLaw(
        exponents=exponents,
        verdicts={name: judgement.verdict for name, judgement in judged.items()},
        reasons={name: judgement.reason for name, judgement in judged.items()},
        flags=_flags(judged, exponents, regime, y),
        optima=optima,
        excluded=grid.excluded,
        momentum_equivalence=_momentum_equivalence(regression, freedom, margin),
        regime=regime,
        y=y,
        form=form,
        margin=margin,
        degrees_of_freedom=freedom,
        n_cells=len(grid.cells),
        cell_ids=tuple(cell_id for group in grid.cell_ids for cell_id in group),
        observations=observations,
    )


def regress_peaks(observations: PeakObservations) -> PeakRegression:
    """Regress the optima of all folds on the factors that the informative groups vary."""
    octaves, informative = observations.octaves, observations.informative
    inflation = variance_inflation(octaves[informative])
    exponents, covariance = np.full(3, np.nan), np.full((3, 3), np.inf)
    used = _independent(octaves[informative])
    design = np.column_stack([np.ones(len(octaves)), octaves[:, used] - octaves[:, used].mean(0)])
    fits = fit_interval_censored(design, observations.lower, observations.upper)
    failure = _failure(fits.identified, observations.seeds)
    determined = np.isfinite(inflation[used])
    named = np.array(used, dtype=np.intp)[determined]
    estimates = fits.coefficients[:, 1:][:, determined]
    exponents[named] = estimates[0]
    if not failure:
        covariance[np.ix_(named, named)] = Jackknife(estimates[0], estimates[1:]).covariance
    return PeakRegression(exponents, covariance, float(fits.scale[0]), inflation, failure)


def evidence(observations: PeakObservations, regression: PeakRegression, factor: int) -> Evidence:
    """Return what the verdict on one factor (its index in `FACTORS`) rests on."""
    octaves, label = observations.octaves[:, factor], observations.label
    return Evidence(
        exponent=float(regression.exponents[factor]),
        standard_error=math.sqrt(regression.covariance[factor, factor]),
        degrees_of_freedom=len(observations.seeds) - 1,
        levels=len(np.unique(octaves)),
        octaves=float(np.ptp(octaves)),
        variance_inflation=float(regression.variance_inflation[factor]),
        seeds=len(observations.seeds),
        groups=len(label),
        flat=int((label == OptimumLabel.FLAT).sum()),
        plateau=int((label == OptimumLabel.PLATEAU).sum()),
        censored=int((label == OptimumLabel.CENSORED).sum()),
        interior_levels=len(np.unique(octaves[label == OptimumLabel.INTERIOR])),
        failure=regression.failure,
    )


def variance_inflation(octaves: Floats) -> Floats:
    """Return (3,) 1/(1 - R²) of each factor on the others; infinite if constant or collinear."""
    centred = octaves - octaves.mean(axis=0) if len(octaves) else np.zeros((1, 3))
    size = np.sqrt((centred**2).sum(axis=0))
    scaled = centred / np.where(size > 1e-9, size, np.inf)
    inflation = np.full(scaled.shape[1], np.inf)
    for factor in np.flatnonzero(size > 1e-9):
        others = np.delete(scaled, factor, axis=1)
        left = (
            scaled[:, factor] - others @ np.linalg.lstsq(others, scaled[:, factor], rcond=1e-9)[0]
        )
        unexplained = float(left @ left)
        if unexplained > 1e-9:
            inflation[factor] = 1 / unexplained
    return inflation


def _independent(octaves: Floats) -> list[int]:
    """Return the first factors that are linearly independent and vary."""
    used: list[int] = []
    for factor in range(octaves.shape[1]):
        chosen = octaves[:, [*used, factor]]
        centred = chosen - chosen.mean(axis=0) if len(chosen) else chosen
        if len(chosen) and np.linalg.matrix_rank(centred, tol=1e-6) == len(used) + 1:
            used.append(factor)
    return used


def _folds(seeds: int) -> NDArray[np.bool_]:
    """Return (S + 1, S) seeds kept: all of them, then all but each; one row for a single seed."""
    everyone = np.ones((1, seeds), dtype=bool)
    return np.concatenate([everyone, ~np.eye(seeds, dtype=bool)]) if seeds > 1 else everyone


def _failure(identified: NDArray[np.bool_], seeds: tuple[object, ...]) -> str:
    if not identified[0]:
        return "the optima do not determine the regression (too few, or all at the same edge)"
    lost = [str(seed) for seed, fold in zip(seeds, identified[1:], strict=False) if not fold]
    if lost:
        return f"without seed {', '.join(lost)} the optima no longer determine the regression"
    if len(seeds) < 2:
        return "one seed has no spread"
    return ""


def _factor_octaves(
    groups: pd.DataFrame, learning_rate: str, train_examples: str, momentum: str
) -> Floats:
    for name in (learning_rate, train_examples, momentum):
        if not pd.api.types.is_numeric_dtype(groups[name]):
            raise FitError(f"{name!r} is {groups[name].iloc[0]!r}; allowed: numbers.")
    if (groups[learning_rate] <= 0).any():
        value = groups[learning_rate].min()
        raise FitError(f"{learning_rate!r} is {value:g} in the table; allowed: above 0.")
    m = groups[momentum]
    if not m.between(0, 1, inclusive="left").all():
        value = m[~m.between(0, 1, inclusive="left")].iloc[0]
        raise FitError(f"{momentum!r} is {value:g} in the table; allowed: in [0, 1).")
    factors = np.column_stack([groups[learning_rate], groups[train_examples], 1 / (1 - m)])
    return np.asarray(np.log2(factors).round(9), dtype=np.float64)


def _exponents_frame(regression: PeakRegression, freedom: int) -> pd.DataFrame:
    error = np.sqrt(np.diagonal(regression.covariance))
    rows = [
        (a, se, *t_interval(a, se, freedom, 0.95), *t_interval(a, se, freedom, 0.90))
        for a, se in zip(regression.exponents, error, strict=True)
    ]
    names = ["exponent", "standard_error", "lower95", "upper95", "lower90", "upper90"]
    return pd.DataFrame(rows, index=pd.Index(FACTORS, name="factor"), columns=names)


def _momentum_equivalence(
    regression: PeakRegression, freedom: int, margin: float
) -> dict[str, Any]:
    covariance = regression.covariance
    difference = float(regression.exponents[0] - regression.exponents[2])
    known = math.isfinite(difference) and bool(
        np.isfinite(covariance[np.ix_([0, 2], [0, 2])]).all()
    )
    error = math.inf
    if known:
        variance = covariance[0, 0] + covariance[2, 2] - 2 * covariance[0, 2]
        error = math.sqrt(max(variance, 0.0))
        judged = judge_interval(difference, error, freedom, claimed=0.0, margin=margin)
    else:
        judged = Judgement(
            verdict=Verdict.UNIDENTIFIED,
            reason="The exponents of ε and 1/(1-m) are not both estimated.",
        )
    low95, high95 = t_interval(difference, error, freedom, 0.95)
    low90, high90 = t_interval(difference, error, freedom, 0.90)
    return {
        "difference": difference,
        "standard_error": error,
        "lower95": low95,
        "upper95": high95,
        "lower90": low90,
        "upper90": high90,
        "verdict": judged.verdict,
        "reason": judged.reason,
    }


def _regime(
    grid: BatchGrid,
    optima: pd.DataFrame,
    regression: PeakRegression,
    learning_rate: str,
    momentum: str,
    batch_size: str,
    train_examples: str,
) -> dict[str, Any]:
    used = grid.cells
    share = used[batch_size] / used[train_examples]
    optimal_share = optima["optimal_batch_size"] / grid.train_examples
    regime: dict[str, Any] = {
        "labels": {str(k): int((optima["label"] == k).sum()) for k in OptimumLabel},
        "batch_over_train_examples": [float(share.min()), float(share.max())],
        "optimum_over_train_examples": [float(optimal_share.min()), float(optimal_share.max())],
        "residual_octaves": regression.residual_octaves,
    }
    if columns.STEPS in used:
        steps = used[columns.STEPS].astype(np.float64)
        built_up = steps * (1 - used[momentum])
        regime["steps"] = [float(steps.min()), float(steps.max())]
        regime["smallest_steps_times_one_minus_momentum"] = float(built_up.min())
        regime["share_of_cells_in_momentum_start_up"] = float((built_up < START_UP).mean())
        regime["held_fixed"] = _held_fixed(steps, used, learning_rate, batch_size, train_examples)
    return regime


def _held_fixed(
    steps: "pd.Series[float]",
    used: pd.DataFrame,
    learning_rate: str,
    batch_size: str,
    train_examples: str,
) -> str:
    """Return which budget the steps follow: steps, epochs, cumulative learning rate, or mixed."""
    candidates = {
        "steps": steps,
        "cumulative learning rate": steps * used[learning_rate],
        "examples": steps * used[batch_size],
        "epochs": steps * used[batch_size] / used[train_examples],
    }
    # 5 %: steps are whole numbers, and a partial last batch is dropped
    held = [name for name, value in candidates.items() if value.max() <= 1.05 * value.min()]
    return held[0] if held else "mixed"


def _flags(
    judged: Mapping[str, Judgement],
    exponents: pd.DataFrame,
    regime: Mapping[str, Any],
    y: str,
) -> tuple[str, ...]:
    flags = [
        f"{name}: 1 itself excluded, though the exponent counts as 1 within the margin "
        f"(95 % interval [{row.lower95:.3f}, {row.upper95:.3f}])."
        for name, row in zip(FACTORS, exponents.itertuples(), strict=True)
        if judged[name].verdict is Verdict.SUPPORTED and judged[name].one_excluded
    ]
    if regime["optimum_over_train_examples"][1] > LARGE_BATCH_SHARE:
        flags.append(
            f"B_opt / N reaches {regime['optimum_over_train_examples'][1]:.2f}: B and "
            "B/(1-B/N) differ there; compare form='B/(1-B/N)'."
        )
    start_up = regime.get("share_of_cells_in_momentum_start_up", 0.0)
    if start_up > 0:
        flags.append(
            f"{start_up:.0%} of cells train fewer than {START_UP:g}/(1-m) steps: momentum has "
            "hardly built up, and its exponent is biased."
        )
    if regime.get("held_fixed") in ("epochs", "examples"):
        flags.append(
            f"Cells train for fixed {regime['held_fixed']}: steps shrink as B grows, and the "
            "exponents mix the batch size's noise with under-training."
        )
    if y.startswith("best_"):
        flags.append(
            f"{y} is the best along training, which erases the effect of the batch size; "
            "use the final-step error."
        )
    return tuple(flags)


def _plain(value: Any) -> Any:
    """Return `value` as what JSON knows; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Verdict | OptimumLabel) else value

"""Does the best batch size follow B_opt ∝ ε N / (1 - m)? One verdict per factor, and a joint one.

The optimum of each (ε, N, m), or the interval that is known of it, is regressed on the three
factors in octaves; the whole way from the table to the exponents is repeated without each seed
in turn, and the spread of the exponents gives their standard errors. Source of the claim:
Smith & Le 2018, arXiv:1710.06451.

Verdicts rest on this regression of peaks alone: the windowed collapse of the curves, which will
make a factor inconclusive where the two disagree, is not part of this version.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.batch_grid import arrange_batch_grid
from analysis.errors import FitError
from analysis.json_values import json_value
from analysis.optimum import ALPHA, BatchForm, find_peaks, optima_frame
from analysis.peak_regression import (
    FACTORS,
    PeakObservations,
    PeakRegression,
    evidence,
    regress_peaks,
)
from analysis.regime import regime_diagnostics, regime_flags
from analysis.summary_table import Summary
from analysis.verdict import (
    PROVISIONAL,
    Judgement,
    Verdict,
    judge_factor,
    judge_interval,
    judge_jointly,
    t_interval,
    undecided,
)

__all__ = ["PEAKS_ALONE", "BatchSizeLaw", "check_batch_size_law"]

Floats = NDArray[np.float64]

MARGIN = 0.15
"""Default half width δ of the band that counts as an exponent of 1."""
COARSE_OCTAVES = 0.625
"""Wider spacing leaves three points to a parabola. On the noisy quadratic at fixed epochs and four
levels of N, a factor of 2 gave .77 for an exponent of .87, a factor of √2 gave .84."""
PEAKS_ALONE = (
    "Verdicts rest on the regression of peaks alone; the windowed collapse is not part of this "
    "version."
)


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
    """Where the study stands: groups by label, B/N, steps against 1/(1 - m)."""
    residual_octaves: float
    """Standard deviation of B_opt about the law; NaN where there is no regression."""
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
        numbers = self.exponents[["exponent", "standard_error"]].to_numpy()
        bounds = [t_interval(a, se, self.degrees_of_freedom, level) for a, se in numbers]
        return pd.DataFrame(bounds, index=self.exponents.index, columns=["lower", "upper"])

    def summary(self) -> Summary:
        """Return a printable summary: exponents, verdicts with reasons, flags, exclusions."""
        labels = ", ".join(f"{n} {label}" for label, n in self.regime["groups"].items() if n)
        table = self.exponents[["exponent", "standard_error", "lower95", "upper95"]]
        facts = (
            ("Error", self.y),
            ("Batch size", self.form),
            ("Groups", str(len(self.optima))),
            ("Seeds", str(self.degrees_of_freedom + 1)),
            ("Cells", str(self.n_cells)),
            ("Margin", f"{self.margin:g}"),
            ("Residual", self._residual()),
            ("Interval", "jackknife over seeds, 95%"),
            ("Labels", labels),
        )
        equivalence = self.momentum_equivalence
        notes = (
            *self._judgements(),
            f"a = c (ε and 1/(1-m) alike): {equivalence['verdict']}. {equivalence['reason']}",
            *(f"Flag: {flag}" for flag in self.flags),
            *self.optima.attrs["notes"],
            PEAKS_ALONE,
            PROVISIONAL,
        )
        return Summary(
            title="B_opt = ε^a N^b (1/(1-m))^c · const, against a = b = c = 1",
            facts=facts,
            table=table,
            notes=notes,
        )

    def _judgements(self) -> list[str]:
        """Return what is said of the factors, those together that share verdict and reason."""
        said: dict[str, list[str]] = {}
        for name, verdict in self.verdicts.items():
            said.setdefault(f"{verdict}. {self.reasons[name]}", []).append(name)
        return [f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]

    def _residual(self) -> str:
        if math.isnan(self.residual_octaves):
            return "no regression"
        vertices = int(self.optima["log2_optimum"].notna().sum())
        return f"{self.residual_octaves:.2g} octaves, {vertices} vertices"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: infinite bounds are "inf" and "-inf", NaN is None."""
        return {
            "y": self.y,
            "form": self.form,
            "margin": self.margin,
            "degrees_of_freedom": self.degrees_of_freedom,
            "residual_octaves": json_value(self.residual_octaves),
            "exponents": json_value(self.exponents.to_dict(orient="index")),
            "verdicts": json_value(self.verdicts),
            "reasons": dict(self.reasons),
            "momentum_equivalence": json_value(self.momentum_equivalence),
            "flags": list(self.flags),
            "regime": json_value(self.regime),
            "notes": [*self.optima.attrs["notes"], PEAKS_ALONE, PROVISIONAL],
            "optima": json_value(self.optima.to_dict(orient="records")),
            "excluded": json_value(self.excluded.to_dict(orient="records")),
            "n_cells": self.n_cells,
            "cell_ids": list(self.cell_ids),
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
        cells: one row per run, with the final-step error; diverged runs at chance. A column
            `weight_decay`, where there is one, holds one value.
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
    regime = regime_diagnostics(
        grid,
        optima,
        learning_rate=learning_rate,
        train_examples=train_examples,
        momentum=momentum,
        batch_size=batch_size,
    )
    return BatchSizeLaw(
        exponents=exponents,
        verdicts={name: judgement.verdict for name, judgement in judged.items()},
        reasons={name: judgement.reason for name, judgement in judged.items()},
        flags=(*_flags(judged, exponents, optima, y), *regime_flags(regime)),
        optima=optima,
        excluded=grid.excluded,
        momentum_equivalence=_momentum_equivalence(regression, judged, freedom, margin),
        regime=regime,
        residual_octaves=regression.residual_octaves,
        y=y,
        form=form,
        margin=margin,
        degrees_of_freedom=freedom,
        n_cells=len(grid.cells),
        cell_ids=tuple(cell_id for group in grid.cell_ids for cell_id in group),
        observations=observations,
    )


def _folds(seeds: int) -> NDArray[np.bool_]:
    """Return (S + 1, S) seeds kept: all of them, then all but each; one row for a single seed."""
    everyone = np.ones((1, seeds), dtype=bool)
    return np.concatenate([everyone, ~np.eye(seeds, dtype=bool)]) if seeds > 1 else everyone


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
    # 9 digits: 1/(1 - .9) and 10 are one level
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
    regression: PeakRegression, judged: Mapping[str, Judgement], freedom: int, margin: float
) -> dict[str, Any]:
    """Return the test of a = c, which can be no better than the verdicts on a and c."""
    covariance = regression.covariance
    difference = float(regression.exponents[0] - regression.exponents[2])
    error = math.inf
    if np.isfinite(covariance[np.ix_([0, 2], [0, 2])]).all():
        variance = covariance[0, 0] + covariance[2, 2] - 2 * covariance[0, 2]
        error = math.sqrt(max(variance, 0.0))
    told = judge_interval(difference, error, freedom, claimed=0.0, margin=margin)
    for verdict in (Verdict.UNIDENTIFIED, Verdict.CENSORED):
        names = [n for n in ("learning_rate", "momentum") if judged[n].verdict is verdict]
        if names:
            told = Judgement(verdict=verdict, reason=undecided(names, verdict))
            break
    low95, high95 = t_interval(difference, error, freedom, 0.95)
    low90, high90 = t_interval(difference, error, freedom, 0.90)
    return {
        "difference": difference,
        "standard_error": error,
        "lower95": low95,
        "upper95": high95,
        "lower90": low90,
        "upper90": high90,
        "verdict": told.verdict,
        "reason": told.reason,
    }


def _flags(
    judged: Mapping[str, Judgement], exponents: pd.DataFrame, optima: pd.DataFrame, y: str
) -> list[str]:
    flags = [
        f"{name}: 1 itself excluded, though the exponent counts as 1 within the margin "
        f"(95 % interval [{low:.3f}, {high:.3f}])."
        for name, low, high in exponents[["lower95", "upper95"]].itertuples()
        if judged[name].verdict is Verdict.SUPPORTED and judged[name].one_excluded
    ]
    grid_octaves = np.log2(optima["grid_upper"] / optima["grid_lower"])
    spacing = float((grid_octaves / (optima["batch_sizes"] - 1).clip(lower=1)).median())
    if spacing > COARSE_OCTAVES:
        flags.append(
            f"Neighbouring batch sizes differ by a factor of {2**spacing:.3g}. Where so coarse a "
            "grid happens to fall on the curves can move an exponent by about 0.1, which the "
            "intervals do not contain; with a factor of √2 it is about 0.03."
        )
    if y.startswith("best_"):
        flags.append(
            f"{y} is the best along training, which erases the effect of the batch size; "
            "use the final-step error."
        )
    return flags

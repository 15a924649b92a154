"""Does the best batch size follow B_opt ∝ ε N / (1 - m)? One verdict per factor, and a joint one.

Two estimators. The regression of optima: what is known of each (ε, N, m)'s optimum, in octaves,
regressed on the three factors. The windowed collapse: the exponents that bring all curves onto
one. Both are repeated without each seed in turn, and the spread gives their standard errors. One,
named in the call, is judged; the other is printed beside, and where it says the opposite, nothing
is concluded. Source of the claim: Smith & Le 2018, arXiv:1710.06451.

What to use when: the regression of optima needs only that each optimum is found, and says less;
the collapse uses all of the curves, with standard errors of a third, where they have one shape
(see `LawCollapse.lack_of_fit`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.batches.batch_grid import arrange_batch_grid
from analysis.batches.collapse_regression import POOR_FIT, CollapseRegression
from analysis.batches.factors import FACTORS, factor_octaves
from analysis.batches.law_judgement import MARGIN, Estimator, JudgedCurves, judge_curves
from analysis.batches.optimum import ALPHA, BatchForm, Peaks, optima_frame
from analysis.batches.peak_regression import PeakObservations, PeakRegression
from analysis.batches.regime import regime_diagnostics, regime_flags
from analysis.batches.rivals import rank_rivals
from analysis.batches.stability_edge import NEAR_OCTAVES, StabilityEdge, find_stability_edge
from analysis.errors import FitError
from analysis.json_values import json_value
from analysis.summary_table import Summary
from analysis.verdict import (
    Judgement,
    Verdict,
    judge_interval,
    t_interval,
    undecided,
)

__all__ = ["BatchSizeLaw", "Estimator", "LawCollapse", "check_batch_size_law"]

Floats = NDArray[np.float64]

NEAR_SHARE = 0.5
"""Share of the optima near the cliff from which it is flagged."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LawCollapse:
    """The windowed collapse of a law's curves."""

    exponents: pd.DataFrame
    """Like `BatchSizeLaw.exponents`."""
    curves: pd.DataFrame
    """One row a batch size of a group that takes part: `group` (row of `optima`), `log2_batch`,
    `mean_error`, `octaves_from_optimum` (by the law, over the group's width), `scaled_error` (less
    the group's level, over its height) and `shape` (the common one there)."""
    stretched: bool
    """Whether the curves were given widths, powers of the factors, because one did not fit. Such a
    width is not told well from the height: it is no finding of its own."""
    lack_of_fit: float
    """p-value of all curves having one shape, by their residual against the noise of seeds."""
    failure: str
    """Why there are no intervals, as a clause; empty where there are."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchSizeLaw:
    """The check of B_opt ∝ ε^a N^b (1/(1 - m))^c: exponents, verdicts, and why."""

    estimator: Estimator
    """What `exponents` and `verdicts` are by."""
    exponents: pd.DataFrame
    """Index learning_rate, train_examples, momentum; columns exponent, standard_error, lower95,
    upper95, lower90, upper90. Bounds are infinite where nothing can be said."""
    peaks: pd.DataFrame
    """Those of the regression of optima."""
    collapse: LawCollapse
    """Those of the windowed collapse, and its curves."""
    stability_edge: pd.DataFrame
    """Those of the cliff below which training fails, fitted apart; `attrs` has its median
    `distance_octaves` from the optimum, and `untrained_groups`, the number of those that train at
    no batch size. Without exponents where no chance error is known."""
    edges: pd.DataFrame
    """One row a row of `optima`: `log2_lower`, the largest batch size that fails below the best
    one, and `log2_upper`, the next, which trains; -inf where none fails. Of a group that trains at
    no batch size (lowest mean error above .9 of chance) the largest batch size and inf. NaN where
    no chance error was given or in the table."""
    rivals: pd.DataFrame
    """Rival laws by how well they foretell left-out groups; see `rank_rivals`."""
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
    """Standard deviation of B_opt about the law; NaN where there is no regression, or where it
    passes through all that is known."""
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
            ("Estimator", self.estimator),
            ("Batch size", self.form),
            ("Groups", str(len(self.optima))),
            ("Seeds", str(self.degrees_of_freedom + 1)),
            ("Cells", str(self.n_cells)),
            ("Margin", f"{self.margin:g}"),
            ("Residual", self._residual()),
            ("Interval", "jackknife over seeds, 95%"),
            ("Labels", labels),
            ("Held fixed", self.regime.get("held_fixed", "not known")),
        )
        equivalence = self.momentum_equivalence
        notes = (
            *self._judgements(),
            f"a = c (ε and 1/(1-m) alike): {equivalence['verdict']}. {equivalence['reason']}",
            *(f"Flag: {flag}" for flag in self.flags),
            *self._beside(),
            *self.optima.attrs["notes"],
        )
        return Summary(
            title="B_opt = ε^a N^b (1/(1-m))^c · const, against a = b = c = 1",
            facts=facts,
            table=table,
            notes=notes,
        )

    def _beside(self) -> list[str]:
        """Return what the other estimator, the cliff and the rivals say, without verdicts."""
        peaks = self.estimator is Estimator.PEAKS
        other = self.collapse.exponents if peaks else self.peaks
        said = [f"{'Collapse' if peaks else 'Optima'} beside: {_exponents_text(other)}."]
        edge = self.stability_edge
        if edge["exponent"].notna().any():
            said.append(
                f"Stability edge, {edge.attrs['distance_octaves']:.2g} octaves below the optimum "
                f"(median): {_exponents_text(edge)}."
            )
        elif self.edges["log2_upper"].isna().all():
            said.append("No stability edge is sought: no chance error is known to fail by.")
        score = self.rivals["log_score"]
        told = score.dropna()
        if len(told):
            ranked = ", ".join(f"{name} {score:.2f}" for name, score in told.items())
            said.append(f"Rivals by log score on left-out groups, the best first: {ranked}.")
        if len(told) < len(score):
            said.append(
                "Rivals without a log score, as without some group there is no regression, or it "
                f"meets all others and has no residual: {', '.join(score.index[score.isna()])}."
            )
        return said

    def _judgements(self) -> list[str]:
        """Return what is said of the factors, those together that share verdict and reason."""
        said: dict[str, list[str]] = {}
        for name, verdict in self.verdicts.items():
            said.setdefault(f"{verdict}. {self.reasons[name]}", []).append(name)
        return [f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]

    def _residual(self) -> str:
        vertices = int(self.optima["log2_optimum"].notna().sum())
        if math.isnan(self.residual_octaves):
            passes = self.peaks["exponent"].notna().any()
            return f"none, through {vertices} vertices" if passes else "no regression"
        return f"{self.residual_octaves:.2g} octaves, {vertices} vertices"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: infinite bounds are "inf" and "-inf", NaN is None."""
        return {
            "y": self.y,
            "estimator": str(self.estimator),
            "form": self.form,
            "margin": self.margin,
            "degrees_of_freedom": self.degrees_of_freedom,
            "residual_octaves": json_value(self.residual_octaves),
            "exponents": json_value(self.exponents.to_dict(orient="index")),
            "peaks": json_value(self.peaks.to_dict(orient="index")),
            "collapse": {
                "exponents": json_value(self.collapse.exponents.to_dict(orient="index")),
                "stretched": self.collapse.stretched,
                "lack_of_fit": json_value(self.collapse.lack_of_fit),
                "failure": self.collapse.failure or None,
            },
            "stability_edge": {
                "exponents": json_value(self.stability_edge.to_dict(orient="index")),
                **json_value(self.stability_edge.attrs),
                "groups": json_value(self.edges.to_dict(orient="records")),
            },
            "rivals": json_value(self.rivals.to_dict(orient="index")),
            "verdicts": json_value(self.verdicts),
            "reasons": dict(self.reasons),
            "momentum_equivalence": json_value(self.momentum_equivalence),
            "flags": list(self.flags),
            "regime": json_value(self.regime),
            "notes": list(self.optima.attrs["notes"]),
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
    chance_error: str | float | None = None,
    form: BatchForm = "B",
    estimator: Estimator | str = Estimator.PEAKS,
    held_fixed: str | None = None,
    margin: float = MARGIN,
    alpha: float = ALPHA,
) -> BatchSizeLaw:
    """Check log₂B_opt = c₀ + a log₂ε + b log₂N + c log₂ 1/(1-m) against (a, b, c) = (1, 1, 1).

    Optima are found as in `optimal_batch_sizes` and regressed by interval-censored maximum
    likelihood: an interior optimum enters as an exact observation (as its bounds, where it has no
    estimate), a plateau as an interval, a censored one with an open bound; a flat group says
    nothing. The collapse uses the points within 2.5 octaves of each optimum, plateau or edge, above
    the cliff. Standard errors: jackknife over seeds, optima and collapse found again in every fold
    (labels are those of all seeds), Student's t with S - 1 degrees. Verdicts: `judge_factor`,
    `reconcile` and `judge_jointly`.

    A factor that does not vary is unidentified, and left out of the regression. If a fold
    cannot be estimated, no exponent has an interval, and the reason names the seed.

    Args:
        cells: one row per run, with the final-step error; diverged runs at chance. Of workload,
            model size, optimizer, schedules, weight decay and the workload's axes one value each.
        y: column of the error.
        learning_rate: column of ε > 0.
        train_examples: column of N >= 1; runs with B >= N are excluded.
        momentum: column of m in [0, 1).
        batch_size: column of B >= 1.
        seed: column of the replicate, shared across batch sizes and groups.
        chance_error: a column or a number; by default the column `chance_error` where y is one of
            the store's error rates. The table's largest y where the column is absent, or y another:
            no stability edge is sought then.
        form: "B", or "B/(1-B/N)" for every batch size.
        estimator: "peaks" or "collapse": which of them is judged.
        held_fixed: what all cells have alike, one of `regime.POLICIES`: "steps", "cumulative
            learning rate", "cumulative effective learning rate", "examples" or "epochs"; another
            table is refused. None: whatever it is, which `regime` then says.
        margin: δ in (0, 1).
        alpha: level at which a batch size counts as worse than the best.

    Metric, form, estimator and what is held fixed make the question: name them before looking.

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
    octaves = factor_octaves(grid.groups, learning_rate, train_examples, momentum)
    asked = Estimator.named(estimator)
    curves = judge_curves(grid, octaves, form=form, margin=margin, alpha=alpha)
    primary, judged = curves.exponents(asked), curves.judged[asked]
    optima = optima_frame(grid, curves.peaks, form=form)
    freedom = len(grid.seeds) - 1
    edge = find_stability_edge(grid, curves.peaks, octaves)
    regime = regime_diagnostics(
        grid,
        optima,
        learning_rate=learning_rate,
        train_examples=train_examples,
        momentum=momentum,
        batch_size=batch_size,
        held_fixed=held_fixed,
    )
    exponents = _exponents_frame(primary, freedom)
    return BatchSizeLaw(
        estimator=asked,
        exponents=exponents,
        peaks=_exponents_frame(curves.by_peaks, freedom),
        collapse=_collapse(curves.peaks, curves.by_collapse, freedom),
        stability_edge=_edge_frame(edge, curves.peaks, freedom),
        edges=pd.DataFrame({"log2_lower": edge.lower, "log2_upper": edge.upper}),
        rivals=rank_rivals(curves.observations),
        verdicts={name: judgement.verdict for name, judgement in judged.items()},
        reasons={name: judgement.reason for name, judgement in judged.items()},
        flags=(*_flags(judged, curves, exponents, edge, y), *regime_flags(regime)),
        optima=optima,
        excluded=grid.excluded,
        momentum_equivalence=_momentum_equivalence(primary, judged, freedom, margin),
        regime=regime,
        residual_octaves=curves.by_peaks.residual_octaves,
        y=y,
        form=form,
        margin=margin,
        degrees_of_freedom=freedom,
        n_cells=len(grid.cells),
        cell_ids=tuple(cell_id for group in grid.cell_ids for cell_id in group),
        observations=curves.observations,
    )


def _exponents_frame(regression: PeakRegression | CollapseRegression, freedom: int) -> pd.DataFrame:
    error = np.sqrt(np.diagonal(regression.covariance))
    rows = [
        (a, se, *t_interval(a, se, freedom, 0.95), *t_interval(a, se, freedom, 0.90))
        for a, se in zip(regression.exponents, error, strict=True)
    ]
    names = ["exponent", "standard_error", "lower95", "upper95", "lower90", "upper90"]
    return pd.DataFrame(rows, index=pd.Index(FACTORS, name="factor"), columns=names)


def _collapse(peaks: Peaks, regression: CollapseRegression, freedom: int) -> LawCollapse:
    names = ["group", "log2_batch", "mean_error", "octaves_from_optimum", "scaled_error", "shape"]
    curves = pd.DataFrame(columns=names)
    if regression.collapse is not None:
        curves = pd.DataFrame(regression.collapse.points(peaks.curves(0)), columns=names)
    return LawCollapse(
        exponents=_exponents_frame(regression, freedom),
        curves=curves.astype({"group": int}),
        stretched=regression.stretched,
        lack_of_fit=regression.lack_of_fit,
        failure=regression.failure,
    )


def _edge_frame(edge: StabilityEdge, peaks: Peaks, freedom: int) -> pd.DataFrame:
    frame = _exponents_frame(edge.regression, freedom)
    frame.attrs["distance_octaves"] = edge.distance_octaves
    frame.attrs["untrained_groups"] = int(peaks.untrained.sum())
    return frame


def _exponents_text(exponents: pd.DataFrame) -> str:
    """Return such as `learning_rate 1.02 [.91, 1.14]`, of the factors that have an exponent."""
    known = exponents[exponents["exponent"].notna()]
    if known.empty:
        return "no exponent"
    numbers = known[["exponent", "lower95", "upper95"]].to_numpy(dtype=np.float64)
    return ", ".join(
        f"{name} {exponent:.2f} {_interval_text(lower, upper)}"
        for name, (exponent, lower, upper) in zip(known.index, numbers, strict=True)
    )


def _interval_text(lower: float, upper: float) -> str:
    unbounded = math.isinf(lower) and math.isinf(upper)
    return "(no interval)" if unbounded else f"[{lower:.2f}, {upper:.2f}]"


def _momentum_equivalence(
    regression: PeakRegression | CollapseRegression,
    judged: Mapping[str, Judgement],
    freedom: int,
    margin: float,
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
    judged: Mapping[str, Judgement],
    curves: JudgedCurves,
    exponents: pd.DataFrame,
    edge: StabilityEdge,
    y: str,
) -> list[str]:
    collapse = curves.by_collapse
    flags = [
        f"{name}: 1 itself excluded, though the exponent counts as 1 within the margin "
        f"(95 % interval [{low:.3f}, {high:.3f}])."
        for name, low, high in exponents[["lower95", "upper95"]].itertuples()
        if judged[name].verdict is Verdict.SUPPORTED and judged[name].one_excluded
    ]
    if collapse.lack_of_fit < POOR_FIT:
        flags.append(
            "The curves have not one shape: the collapse leaves more than the noise of seeds "
            f"explains (p = {collapse.lack_of_fit:.1g}), and its exponents have no intervals."
        )
    if collapse.stretched:
        flags.append(
            "The curves have not one width: the collapse also stretches them, by powers of the "
            "factors, which about doubles its standard errors."
        )
    if curves.peaks.untrained_note:
        flags.append(
            f"{curves.peaks.untrained_note} Their optima are not known, and the law of the "
            "stability edge is that of the others."
        )
    if edge.near_share > NEAR_SHARE:
        flags.append(
            f"{edge.near_share:.0%} of the known optima lie within {NEAR_OCTAVES:g} octaves of the "
            "batch size below which training fails: the exponents may be those of the stability "
            "edge, which is fitted apart."
        )
    if y.startswith("best_"):
        flags.append(
            f"{y} is the best along training, which erases the effect of the batch size; "
            "use the final-step error."
        )
    return flags

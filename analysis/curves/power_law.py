"""The power law of generalization error, ε(m) = α m^β + γ, with an interval for each number.

Source: Hestness et al. 2017, §3, arXiv:1712.00409. Forms, fixed before the data are seen: M1
without floor, for the best model at each size; M2 with γ ≥ 0, for one model at all sizes. Other
forms of one variable (M3, M4, BNSL) are for curves that bend otherwise; see `analysis.forms`.

What to use when: the jackknife over seeds, unless seeds are known to be independent from size to
size; then the profile likelihood is a little narrower (`analysis.curves.bounds` has the figures).
Bootstraps of five seeds cover .77 to .92 at a nominal .95; their draws are offered as a diagnostic.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from analysis import columns
from analysis.curves.curve_forms import CurveForm, IntervalMethod, curve_form, held_out_effect
from analysis.curves.curve_points import CurvePoints, curve_points
from analysis.curves.fit_status import FitStatus
from analysis.curves.floor_curves import curves_at_floors
from analysis.errors import FitError
from analysis.fits.jackknife import Jackknife
from analysis.forms.base import Array
from analysis.json_values import json_value
from analysis.summary_table import Summary, format_number

__all__ = ["FitStatus", "IntervalMethod", "PowerLawFit", "fit_power_law"]

MIN_SIZES = 4
LEVEL = 0.95
DRAWS = 1000


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PowerLawFit:
    """A fitted power law; look at `status` before extrapolating."""

    x: str
    """Column of the sizes m."""
    y: str
    """Column of the error ε."""
    form: str
    """Name of the form, fixed in advance."""
    ci: IntervalMethod | None
    """Method of `conf_int`; None where no interval was asked for."""
    status: FitStatus
    """Whether, and with what reserve, the fit can be used; its value is the sentence."""
    choose: tuple[str, ...]
    """Columns over which the best was chosen at each size."""
    curve: CurvePoints
    """The points fitted to."""
    theta: Array
    """(p,) working parameters; of M1 and M2 both (3,) log α, β, γ."""
    folds: Array
    """(S, p) the same with one seed left out each; (0, p) for a table of one seed."""
    means: Array
    """(1 + S, n) mean log errors that these were fitted to: of all seeds, then without each."""
    bounds: Array | None
    """(p, 2) bounds of the parameters at 95 %; None where no interval was asked for."""

    @property
    def alpha(self) -> float:
        """α, the error of the power term at m = 1."""
        return self._named("alpha")

    @property
    def beta(self) -> float:
        """β, the exponent; negative where error falls."""
        return self._named("beta")

    @property
    def gamma(self) -> float:
        """γ, the floor of M2 and M4; 0 by definition in M1. In M3, 1/γ is where the curve bends."""
        return 0.0 if self.form == "M1" else self._named("gamma")

    @property
    def params(self) -> pd.Series:
        """The fitted parameters by name."""
        curve = curve_form(self.form)
        return pd.Series(curve.reported(self.theta), index=list(curve.parameters), name="estimate")

    @property
    def points(self) -> pd.DataFrame:
        """One row a size: seeds, mean error, region, `used` or `why` not, what was chosen.

        `binomial_variance` is (1 - ε)/(n ε) where the held-out set of n examples expects fewer
        than 100 errors there, else 0. It is what intervals add (see `conf_int`).
        """
        return self.curve.table

    @property
    def n_cells(self) -> int:
        """Number of cells at the sizes used, of every choice compared."""
        return self.curve.n_cells

    @property
    def cell_ids(self) -> tuple[str, ...]:
        """Their ids; empty where the table has no column `cell_id`."""
        return self.curve.cell_ids

    @property
    def seeds(self) -> tuple[object, ...]:
        """Seeds at the sizes used."""
        return self.curve.seeds

    @property
    def identified(self) -> bool:
        """Whether the data bound β. The exponent of M1 always is, of a flat curve too: 0."""
        if self.form == "M1":
            return True
        return self.status not in (FitStatus.FLAT, FitStatus.UNIDENTIFIED)

    @property
    def held_out_variance(self) -> Array:
        """(q,) variances of `theta` from the held-out set's own sampling; see `conf_int`."""
        effect = curve_form(self.form).sensitivity(self.theta, self.curve.size)
        return held_out_effect(self.curve, effect)

    def conf_int(self, level: float = LEVEL) -> pd.DataFrame:
        """Return the bounds of each parameter, columns `lower` and `upper`.

        The values that a test at 1 - level does not reject (see `analysis.curves.bounds`); γ ≥ 0.
        An exponent that the data do not bound on a side is infinite there, and on both if the curve
        is flat; so is every parameter of an unidentified fit of a form other than M1 and M2. The
        seeds share one held-out set, whose own sampling no seed shows. So errors of variance
        `points.binomial_variance`, (1 - ε)/(n ε) by the delta method on a share of n, are added to
        what the test takes for noise: either as independent from size to size, or as nested (what a
        larger shard gets wrong, a smaller one does too), whichever weighs more. As part of it
        differs between seeds and is counted there already, this errs on the wide side.
        """
        self._require_interval(level)
        curve = curve_form(self.form)
        flat = self.status == FitStatus.FLAT and self.form != "M1"
        if flat or (not self.identified and self.form not in ("M1", "M2")):
            bounds = curve.no_bounds
        elif level == LEVEL and self.bounds is not None:
            bounds = self.bounds
        else:
            bounds = curve.bounds(self.curve, self.means, self._fits, self.ci, level)
        names = list(curve.parameters)
        return pd.DataFrame(bounds.copy(), index=names, columns=["lower", "upper"])

    def predict(self, m: ArrayLike) -> NDArray[np.float64]:
        """Return the error that the law predicts, in the shape of `m`."""
        size = _positive(m)
        log_error = curve_form(self.form).log_curve(self.theta[None], size.ravel())[0]
        return np.asarray(np.exp(log_error)).reshape(size.shape)

    def predict_interval(self, m: ArrayLike, level: float = LEVEL) -> pd.DataFrame:
        """Return `predicted`, `lower` and `upper` of the curve at sizes `m`, one row each.

        A jackknife of the log of the curve, under both methods of `conf_int`. For M2 it is widened
        to the curves fitted with γ at the ends of its interval: where γ̂ ends at 0 in all folds, the
        jackknife takes that for certain, and alone covered .91 to .93 at 16 times the sizes fitted
        and a nominal .95 with a slight floor, with those curves .95 to .96 (docs/validation.md).
        It holds if the form does: that the curve may bend beyond the points is not in it. Beyond
        the points an unidentified fit has bounds 0 and infinity.
        """
        self._require_interval(level)
        size = _positive(m).ravel()
        curve = curve_form(self.form)
        estimate = curve.log_curve(self.theta[None], size)[0]
        jackknife = Jackknife(estimate, curve.log_curve(self.folds, size))
        variance = jackknife.standard_error**2 + self.held_out_curve_variance(size)
        half = stdtrit(self.curve.degrees_of_freedom, (1 + level) / 2) * np.sqrt(variance)
        inside = (size >= self.curve.size.min()) & (size <= self.curve.size.max())
        half = np.where(inside | self.identified, half, np.inf)
        logs = np.stack([estimate, estimate - half, estimate + half])
        if self.form == "M2":
            ends = curve.log_curve(self.curves_at_floors(level), size)
            logs[1] = np.minimum(logs[1], ends.min(axis=0))
            logs[2] = np.maximum(logs[2], ends.max(axis=0))
        index, names = pd.Index(size, name=self.x), ["predicted", "lower", "upper"]
        return pd.DataFrame(np.exp(logs).T, index=index, columns=names)

    def held_out_curve_variance(self, m: ArrayLike) -> Array:
        """Return (a,) variances of the log curve at (a,) sizes from the held-out set's sampling."""
        effect = curve_form(self.form).curve_sensitivity(self.theta, _positive(m), self.curve.size)
        return held_out_effect(self.curve, effect)

    def curves_at_floors(self, level: float = LEVEL) -> Array:
        """Return (2, 3) working parameters of M2 fitted with γ at the ends of its interval."""
        if self.form != "M2":
            raise FitError(f"Only M2 has a floor to hold; this fit is of {self.form}.")
        floors = self.conf_int(level).loc["gamma"].to_numpy(dtype=float)
        return curves_at_floors(self.curve.size, self.means[0], floors)

    def bootstrap(self, draws: int = DRAWS, *, rng: int | np.random.Generator) -> pd.DataFrame:
        """Return (draws, p) refits to seeds drawn with replacement: a diagnostic, no interval.

        They show how parameters trade off. Intervals made of them cover .77 to .92 at a nominal
        .95. A choice among models stays as made from all seeds.
        """
        scores = self.curve.envelope.log_error
        seeds = scores.shape[1]
        counts = np.random.default_rng(rng).multinomial(seeds, np.full(seeds, 1 / seeds), draws)
        # Five seeds can be drawn in 126 ways: each is fitted once.
        counts, drawn = np.unique(counts, axis=0, return_inverse=True)
        there = (~np.isnan(scores)).astype(float)
        number = counts @ there.T
        means = counts @ np.nan_to_num(scores).T / np.maximum(number, 1)
        # A size that a draw has no seed of is not in it.
        weights = (number > 0).astype(float)
        theta = curve_form(self.form).refit(self.curve.size, means, weights, self.theta)
        reported = curve_form(self.form).reported(theta)[drawn]
        return pd.DataFrame(reported, columns=self.params.index)

    def summary(self) -> Summary:
        """Return a printable summary: what was fitted to what, the estimates, and the reserves."""
        used = self.points[self.points["used"]]
        decades = np.log10(used[self.x].max() / used[self.x].min())
        table = self.params.to_frame()
        if self.ci is not None:
            table = table.join(self.conf_int())
        facts = (
            ("Error", self.y),
            ("Size", self.x),
            ("Form", f"{self.form} {curve_form(self.form).equation}"),
            ("Interval", "none" if self.ci is None else f"{self.ci}, {LEVEL:.0%}"),
            ("Sizes", f"{len(used)} of {len(self.points)}, {decades:.2g} decades"),
            ("Seeds", str(len(self.seeds) or 1)),
            ("Cells", str(self.n_cells)),
            ("Misfit of log error", format_number(self._misfit())),
        )
        return Summary(title="Power law", facts=facts, table=table, notes=self._notes())

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as plain values for JSON; infinite bounds are "inf" and "-inf"."""
        bounds = None if self.ci is None else json_value(self.conf_int().to_dict("index"))
        return {
            "x": self.x,
            "y": self.y,
            "form": str(self.form),
            "equation": curve_form(self.form).equation,
            "status": self.status.name.lower(),
            "status_text": str(self.status),
            "params": json_value(self.params.to_dict()),
            "interval": None if self.ci is None else str(self.ci),
            "level": None if self.ci is None else LEVEL,
            "conf_int": bounds,
            "n_cells": self.n_cells,
            "cell_ids": list(self.cell_ids),
            "seeds": json_value(self.seeds),
            "choose": list(self.choose),
            "points": json_value(self.points.to_dict("records")),
            "notes": list(self._notes()),
        }

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={format_number(v)}" for name, v in self.params.items())
        return f"PowerLawFit({numbers}, status={self.status.name}, n_cells={self.n_cells})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @property
    def _fits(self) -> Array:
        """(1 + S, p) working parameters of all seeds, then without each."""
        return np.concatenate([self.theta[None], self.folds])

    def _named(self, name: str) -> float:
        if name not in self.params:
            names = ", ".join(self.params.index)
            raise AttributeError(f"{self.form} has no parameter {name!r}; it has {names}.")
        return float(self.params[name])

    def _notes(self) -> tuple[str, ...]:
        notes = [f"Status: {self.status}."]
        for _, row in self.points[self.points["why"] != ""].iterrows():
            verb = "used" if row["used"] else "not used"
            notes.append(f"{self.x} {row[self.x]:g} {verb}: {row['why']}.")
        if not self.curve.chance_known:
            notes.append("No chance error is known: no size could be excluded as best-guess.")
        if self.curve.chosen:
            notes.append(f"Best {', '.join(self.choose)} at each size, scored on left-out seeds.")
        if self.curve.binomial_variance.any():
            notes.append("Intervals include the sampling of the held-out set (few errors in it).")
        return tuple(notes)

    def _require_interval(self, level: float) -> None:
        if self.ci is None:
            raise FitError("This fit was made with ci=None; fit again with ci='jackknife'.")
        if not 0 < level < 1:
            raise FitError(f"level is {level}; it must lie between 0 and 1, such as 0.95.")

    def _misfit(self) -> float:
        fitted = curve_form(self.form).log_curve(self.theta[None], self.curve.size)[0]
        residual = self.means[0] - fitted
        return float(np.sqrt((residual**2).mean()))


def fit_power_law(
    cells: pd.DataFrame,
    x: str = columns.TRAIN_EXAMPLES,
    y: str = columns.BEST_VALIDATION_ERROR,
    *,
    seed: str | None = columns.SEED,
    choose: Sequence[str] | None = None,
    form: str = "M2",
    ci: IntervalMethod | str | None = IntervalMethod.JACKKNIFE,
    chance_error: float | None = None,
    validation_examples: int | None = None,
) -> PowerLawFit:
    """Fit ε(m) = α m^β + γ, γ ≥ 0, by least squares on the mean over seeds of log error.

    Sizes count alike. Those with a mean error above 0.9 of chance are left out of the fit and kept,
    with the reason, in `points`. Where several models (or other choices) were trained at a size,
    each seed is scored on the one that the other seeds choose, and every fold of the jackknife
    chooses anew. A diverged run counts with the error it has in the table: that of chance.

    Args:
        cells: one row a cell.
        x: column of sizes m > 0: numbers of examples, parameters, FLOPs, ….
        y: column of the error; another quantity above 0, such as a loss, is fitted alike.
        seed: column that tells replicates apart; None for a table without replicates.
        choose: columns over which the best is chosen at each size; by default the model's size
            where the table has it, and () for none.
        form: "M2", "M1" without floor, or another form of one variable in `analysis.forms`
            ("M3", "M4", "BNSL"). An interval holds for a form fixed in advance, not for the
            better-looking of two.
        ci: "jackknife", "profile" (see `IntervalMethod`), or None for no interval.
        chance_error: what the best guess scores. By default the column `chance_error`, where the
            table has it and y is one of the store's error rates; otherwise no size is left out.
        validation_examples: number n of examples that y was measured on, by default from the
            columns of the store. A zero error counts as log(½/(n + 1)).

    Returns:
        A `PowerLawFit`; look at `.status` before extrapolating.

    Raises:
        FitError: fewer than 4 usable sizes, fewer than 2 seeds for an interval, several rows of one
            size, seed and choice, missing or non-finite numbers, a mixture of workloads, or of
            optimizers, schedules, weight decays or axes of the workload that `choose` lacks.
    """
    law = curve_form(form)
    ci = None if ci is None else _member(IntervalMethod, ci, "ci")
    if choose is None:
        choose = (
            [columns.MODEL_SIZE] if columns.MODEL_SIZE in cells and x != columns.MODEL_SIZE else []
        )
    points = curve_points(
        cells,
        x=x,
        y=y,
        seed=seed,
        choose=choose,
        chance_error=chance_error,
        validation_examples=validation_examples,
    )
    _check_points(points, x, ci, law)
    without: list[int | None] = [None]
    if len(points.seeds) > 1:
        without += range(len(points.seeds))
    means = np.stack([points.mean_log_error(seed_index) for seed_index in without])
    fits = law.fit(points.size, means)
    bounds = None if ci is None else law.bounds(points, means, fits.theta, ci, LEVEL)
    return PowerLawFit(
        x=x,
        y=y,
        form=law.name,
        ci=ci,
        status=law.status(points, means, fits, bounds),
        choose=tuple(choose),
        curve=points,
        theta=fits.theta[0],
        folds=fits.theta[1:],
        means=means,
        bounds=bounds,
    )


Choice = TypeVar("Choice", bound=StrEnum)


def _member(kind: type[Choice], value: str, name: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(str(choice)) for choice in kind)
        raise FitError(f"Unknown {name} {value!r}. Available: {allowed}.") from None


def _check_points(points: CurvePoints, x: str, ci: IntervalMethod | None, law: CurveForm) -> None:
    needed = max(MIN_SIZES, len(law.parameters) + 1)
    if len(points.size) < needed:
        out = points.table[~points.table["used"]]
        reasons = "; ".join(
            f"{size:g}: {why}" for size, why in zip(out[x], out["why"], strict=True)
        )
        raise FitError(
            f"{len(points.size)} distinct values of {x} can be used, and {needed} are needed."
            + (f" Left out were {reasons}." if reasons else " Train more sizes.")
        )
    if ci is not None and len(points.seeds) < 2:
        raise FitError(
            "An interval needs at least 2 seeds, and there is 1. Train more seeds, or pass ci=None "
            "for a fit without interval."
        )
    if ci == IntervalMethod.PROFILE:
        law.check_profile()
        if points.chosen:
            raise FitError(
                "ci='profile' does not know of the choice among several models. Use "
                "ci='jackknife', which chooses anew in each fold, or select one model first."
            )
        if np.isnan(points.envelope.log_error).any():
            raise FitError(
                "ci='profile' needs every seed at every size. Train what is missing, or use "
                "ci='jackknife'."
            )


def _positive(m: ArrayLike) -> Array:
    size = np.asarray(m, dtype=float)
    if not (np.isfinite(size) & (size > 0)).all():
        raise FitError("Sizes to predict at must be finite and above 0.")
    return size

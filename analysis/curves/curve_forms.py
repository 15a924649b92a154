"""What fitting a learning curve needs of a form: fits, intervals and a status, over seeds.

M1 and M2 have a search and score intervals made and calibrated for them. Every other form of one
variable is fitted by `analysis.fits.fitting`, with plain jackknife intervals: those of M2 made so
cover .88 where its floor ends at 0, so that they are the second choice.
"""

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import final

import numpy as np
from scipy.special import fdtri, stdtrit
from typing_extensions import override

from analysis.curves.bounds import profile_bounds, score_bounds
from analysis.curves.curve_points import CurvePoints
from analysis.curves.fit_status import FitStatus, fit_status, form_status
from analysis.curves.least_squares import fit_curves, log_curve, log_curve_gradient
from analysis.errors import FitError
from analysis.fits.fitting import FormFits, fit_form
from analysis.fits.jackknife import Jackknife
from analysis.forms import FORMS
from analysis.forms.base import Array, Form

__all__ = ["CurveForm", "IntervalMethod", "curve_form", "held_out_effect"]


class IntervalMethod(StrEnum):
    """How `conf_int` is made."""

    JACKKNIFE = "jackknife"
    """Leave out one whole seed at a time; t with S - 1 degrees of freedom. In M1 and M2 on the
    score, in other forms on the parameters."""
    PROFILE = "profile"
    """Profile likelihood, F with SK - p degrees of freedom; seeds independent across sizes."""


class CurveForm(ABC):
    """A form of one variable, fitted to mean log errors of all seeds and without each."""

    name: str
    equation: str
    parameters: tuple[str, ...]

    @abstractmethod
    def fit(self, size: Array, means: Array) -> FormFits:
        """Return the fits to (k, n) mean log errors at (n,) sizes."""

    @abstractmethod
    def refit(self, size: Array, means: Array, weights: Array, theta: Array) -> Array:
        """Return (k, q) fits to (k, n) means with (k, n) weights, from (q,) parameters nearby."""

    @abstractmethod
    def log_curve(self, theta: Array, size: Array) -> Array:
        """Return (k, n) log errors at (k, q) working parameters."""

    @abstractmethod
    def reported(self, theta: Array) -> Array:
        """Return (..., p) parameters by their names."""

    @abstractmethod
    def sensitivity(self, theta: Array, size: Array) -> Array:
        """Return (q, n) derivatives of the fitted (q,) θ by the mean log error at each size."""

    @abstractmethod
    def curve_sensitivity(self, theta: Array, at: Array, size: Array) -> Array:
        """Return (a, n) derivatives of the log curve at (a,) sizes by the log errors fitted to."""

    @abstractmethod
    def bounds(
        self,
        points: CurvePoints,
        means: Array,
        theta: Array,
        ci: IntervalMethod | None,
        level: float,
    ) -> Array:
        """Return (p, 2) bounds of the reported parameters; `theta`: (1 + S, q) fits to `means`."""

    @abstractmethod
    def status(
        self, points: CurvePoints, means: Array, fits: FormFits, bounds: Array | None
    ) -> FitStatus:
        """Return the first status that applies; `bounds`: (p, 2), None without an interval."""

    @property
    @abstractmethod
    def no_bounds(self) -> Array:
        """(p, 2) bounds of a curve that tells nothing."""

    @abstractmethod
    def check_profile(self) -> None:
        """Raise `FitError` where ci="profile" is not to be had."""


@final
class _FlooredPowerLaw(CurveForm):
    """M1 and M2: θ = (log α, β, γ), γ = 0 in M1."""

    def __init__(self, form: Form) -> None:
        self.name, self.equation, self.parameters = form.name, form.equation, form.parameters
        self.floor = "gamma" in form.parameters

    @override
    def fit(self, size: Array, means: Array) -> FormFits:
        theta, loss = fit_curves(np.log(size), means, floor=self.floor)
        at_bound = np.zeros(theta.shape, dtype=bool)
        at_bound[:, 2] = self.floor & (theta[:, 2] == 0)
        return FormFits(theta, loss, np.ones(len(theta), dtype=bool), at_bound)

    @override
    def refit(self, size: Array, means: Array, weights: Array, theta: Array) -> Array:
        held = np.array([np.nan, np.nan, np.nan if self.floor else 0.0])
        fits = fit_form(FORMS["M2"], size, means, weights=weights, starts=theta, held=held)
        return fits.theta

    @override
    def log_curve(self, theta: Array, size: Array) -> Array:
        return log_curve(theta, np.log(size))

    @override
    def reported(self, theta: Array) -> Array:
        with np.errstate(over="ignore"):
            values = [np.exp(theta[..., 0]), theta[..., 1], theta[..., 2]]
        return np.stack(values, axis=-1)[..., : len(self.parameters)]

    @override
    def curve_sensitivity(self, theta: Array, at: Array, size: Array) -> Array:
        gradient = log_curve_gradient(theta[None], np.log(at))[0]
        return np.asarray(gradient @ self.sensitivity(theta, size))

    @override
    def bounds(
        self,
        points: CurvePoints,
        means: Array,
        theta: Array,
        ci: IntervalMethod | None,
        level: float,
    ) -> Array:
        if ci == IntervalMethod.JACKKNIFE:
            held_out = _held_out_covariances(points)
            working = score_bounds(
                np.log(points.size),
                means,
                held_out,
                floor=self.floor,
                level=level,
                freedom=points.degrees_of_freedom,
                fits=theta[0],
            )
        else:
            working = self._profile(points, theta[0], level)
        return self.reported(working.T).T

    @override
    def status(
        self, points: CurvePoints, means: Array, fits: FormFits, bounds: Array | None
    ) -> FitStatus:
        exponent = None if bounds is None else bounds[1]
        loss = float(fits.objective[0])
        return fit_status(points, means, fits.theta[0], loss, exponent, floor=self.floor)

    @property
    @override
    def no_bounds(self) -> Array:
        return np.array([[0.0, np.inf], [-np.inf, np.inf], [0.0, np.inf]])[: len(self.parameters)]

    @override
    def check_profile(self) -> None:
        return

    def _profile(self, points: CurvePoints, theta: Array, level: float) -> Array:
        """Return (3, 2) bounds of (log α, β, γ), the held-out set's sampling added."""
        scores = points.envelope.log_error
        bounds = profile_bounds(np.log(points.size), scores, floor=self.floor, level=level)
        quantile = fdtri(1, scores.size - len(self.parameters), level)
        added = quantile * held_out_effect(points, self.sensitivity(theta, points.size))
        distance = np.sqrt((bounds - theta[:, None]) ** 2 + added[:, None])
        bounds = theta[:, None] + np.array([-1.0, 1.0]) * distance
        bounds[2] = bounds[2].clip(min=0)
        return np.asarray(bounds)

    @override
    def sensitivity(self, theta: Array, size: Array) -> Array:
        gradient = log_curve_gradient(theta[None], np.log(size))[0]
        free = 3 if theta[2] > 0 else 2
        held = np.zeros((3 - free, len(gradient)))
        return np.concatenate([np.linalg.pinv(gradient[:, :free]), held])


@final
class _AnyForm(CurveForm):
    """Another form of one variable."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.name, self.equation, self.parameters = form.name, form.equation, form.parameters

    @override
    def fit(self, size: Array, means: Array) -> FormFits:
        return fit_form(self.form, size, means)

    @override
    def refit(self, size: Array, means: Array, weights: Array, theta: Array) -> Array:
        return fit_form(self.form, size, means, weights=weights, starts=theta).theta

    @override
    def log_curve(self, theta: Array, size: Array) -> Array:
        return self.form.log_value(theta, size[:, None])

    @override
    def reported(self, theta: Array) -> Array:
        return self.form.reported(theta)

    @override
    def curve_sensitivity(self, theta: Array, at: Array, size: Array) -> Array:
        gradient = self.form.log_gradient(theta, at[:, None])
        return np.asarray(gradient @ self.sensitivity(theta, size))

    @override
    def bounds(
        self,
        points: CurvePoints,
        means: Array,
        theta: Array,
        ci: IntervalMethod | None,
        level: float,
    ) -> Array:
        values = self.reported(theta)
        jackknife = Jackknife(values[0], values[1:])
        effect = self._reported_slopes(theta[0]) @ self.sensitivity(theta[0], points.size)
        variance = jackknife.standard_error**2 + held_out_effect(points, effect)
        half = stdtrit(points.degrees_of_freedom, (1 + level) / 2) * np.sqrt(variance)
        open_ends = self.no_bounds
        bounds = values[0][:, None] + np.array([-1.0, 1.0]) * half[:, None]
        # What ended at the limit of the search, or reaches it, was not bounded by the data there.
        lowest, highest = np.sort(self._reported_limits(theta[0]), axis=0)
        ended = (theta[0] <= self.form.lower) | (theta[0] >= self.form.upper)
        bounds[:, 0] = np.where(ended | (bounds[:, 0] <= lowest), open_ends[:, 0], bounds[:, 0])
        bounds[:, 1] = np.where(ended | (bounds[:, 1] >= highest), open_ends[:, 1], bounds[:, 1])
        return np.asarray(bounds)

    @override
    def status(
        self, points: CurvePoints, means: Array, fits: FormFits, bounds: Array | None
    ) -> FitStatus:
        return form_status(points, means, self.form, fits)

    @property
    @override
    def no_bounds(self) -> Array:
        # A parameter that its form keeps positive has a lower bound of 0 whatever the data.
        positive = self.form.reported(np.array(self.form.lower)) >= 0
        lower = np.where(positive, 0.0, -np.inf)
        return np.stack([lower, np.full(len(lower), np.inf)], axis=1)

    @override
    def check_profile(self) -> None:
        raise FitError(
            f"ci='profile' is made for M1 and M2; for {self.name} use ci='jackknife', or "
            "fit_scaling_law with ci='profile'."
        )

    @override
    def sensitivity(self, theta: Array, size: Array) -> Array:
        gradient = self.form.log_gradient(theta, size[:, None])
        free = (theta > self.form.lower) & (theta < self.form.upper)
        result = np.zeros(gradient.T.shape)
        result[free] = np.linalg.pinv(gradient[:, free], rcond=1e-12)
        return result

    def _reported_limits(self, theta: Array) -> Array:
        """Return (2, p) reported parameters with each in turn at the limits of its search."""
        which = np.arange(len(theta))
        ends = np.tile(theta, (2, len(theta), 1))
        ends[:, which, which] = self.form.lower, self.form.upper
        with np.errstate(over="ignore"):
            return np.asarray(self.form.reported(ends)[:, which, which])

    def _reported_slopes(self, theta: Array) -> Array:
        """Return (p, q) derivatives of the reported parameters, by central differences."""
        steps = np.diag(1e-6 * np.maximum(np.abs(theta), 1e-6))
        change = self.form.reported(theta + steps) - self.form.reported(theta - steps)
        return np.asarray((change / (2 * np.diagonal(steps)[:, None])).T)


def curve_form(name: str) -> CurveForm:
    """Return the form of that name; `FitError` names all forms of one variable."""
    names = [form.name for form in FORMS.values() if len(form.variables) == 1]
    if name not in names:
        raise FitError(
            f"Unknown form {name!r}. Available: {', '.join(map(repr, names))}. Forms of several "
            "variables are fitted by fit_scaling_law."
        )
    form = FORMS[name]
    return _FlooredPowerLaw(form) if name in ("M1", "M2") else _AnyForm(form)


def held_out_effect(points: CurvePoints, effect: Array) -> Array:
    """Return (p,) variances from the held-out set of what has (p, n) derivatives `effect`."""
    variances = [
        np.einsum("pi,ij,pj->p", effect, covariance, effect)
        for covariance in _held_out_covariances(points)
    ]
    return np.asarray(np.max(variances, axis=0))


def _held_out_covariances(points: CurvePoints) -> tuple[Array, Array]:
    """Return (n, n) covariances of log error from the held-out set: independent and nested."""
    variance = points.binomial_variance
    return np.diag(variance), np.minimum(variance[:, None], variance)

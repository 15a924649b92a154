"""Design before data: what interval of β a planned learning curve can be expected to give.

A forecast under an assumed curve and noise, and no promise: see `analysis.design.batch_law`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.curves.bounds import score_bounds
from analysis.curves.curve_points import BINOMIAL_ERRORS, PLATEAU
from analysis.curves.power_law import LEVEL, PowerLawFit
from analysis.design.limits import PowerLawLimits, power_law_limits
from analysis.errors import FitError
from analysis.fits.seed_noise import seed_noise
from analysis.json_values import json_value
from analysis.summary_table import Summary

__all__ = ["AssumedCurve", "PowerLawDesign", "curve_of_pilot", "power_law_design"]

Floats = NDArray[np.float64]

SETS = 300
"""Simulated studies; their walks share steps, so that these take about a second."""
BY_CHANCE_EXCLUDED = f"mean error above {PLATEAU:g} of the chance error"


class AssumedCurve(NamedTuple):
    """A learning curve α m^β + γ, and the standard deviation of a run's log error about it."""

    alpha: float
    beta: float
    gamma: float
    noise: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PowerLawDesign:
    """The 95 % interval of β that a planned learning curve is expected to give."""

    limits: PowerLawLimits
    """What its sizes and seeds admit whatever the noise."""
    curve: tuple[float, float, float]
    """Assumed α, β and γ."""
    noise: float
    """Assumed standard deviation of log error in each run."""
    width: float
    """Median width of the interval; infinite where half of the studies have an open one."""
    bounded: float
    """Share of studies whose interval is bounded on both sides."""
    excludes_zero: float
    """Share of studies whose interval excludes β = 0."""
    covers: float
    """Share of studies whose interval holds the true β."""
    sets: int
    """Simulated studies; 0 where there could be no interval anyway."""
    validation_examples: int | None
    """Examples that errors are measured on; None: so many that their sampling does not count."""
    left_out: tuple[float, ...]
    """Sizes whose error is too near to chance to be fitted."""

    def sentences(self) -> tuple[str, ...]:
        """Return what the study can and cannot decide, with the figures."""
        out = ", ".join(f"{size:g}" for size in self.left_out)
        left_out = [f"Sizes {out} would be left out: {BY_CHANCE_EXCLUDED}."] if out else []
        limits = (*self.limits.sentences(), *left_out)
        if not self.sets:
            return limits
        alpha, beta, gamma = self.curve
        width = f"{self.width:.2g}" if math.isfinite(self.width) else "infinite"
        examples = self.validation_examples
        held_out = "" if examples is None else f", measured on {examples:,} examples"
        return (
            *limits,
            f"With β = {beta:.3g}, the interval of β would be bounded in {self.bounded:.0%} of "
            f"studies and exclude 0 in {self.excludes_zero:.0%}; its median width is {width}.",
            f"A forecast under these assumptions, not a promise: ε = {alpha:.3g} m^{beta:.3g} + "
            f"{gamma:.2g}, independent noise of log error of {self.noise:.2g} in each run, nothing "
            f"chosen among several models{held_out}; {self.sets} simulated studies.",
        )

    def summary(self) -> Summary:
        """Return a printable summary."""
        row = {
            "truth": self.curve[1],
            "median width": self.width,
            "bounded": self.bounded,
            "excludes 0": self.excludes_zero,
        }
        facts = (
            ("Sizes", f"{len(self.limits.sizes)}, {self.limits.decades:.2g} decades"),
            ("Seeds", str(self.limits.seeds)),
            ("Noise of log error", f"{self.noise:.3g}"),
            ("Simulated studies", str(self.sets)),
        )
        return Summary(
            title="Forecast: the interval of β of ε(m) = α m^β + γ",
            facts=facts,
            table=pd.DataFrame([row], index=pd.Index(["beta"])),
            notes=self.sentences(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: infinite numbers are "inf", NaN is None."""
        names = (
            "noise",
            "width",
            "bounded",
            "excludes_zero",
            "covers",
            "sets",
            "left_out",
            "validation_examples",
        )
        return {
            "limits": self.limits.to_dict(),
            "curve": dict(zip(("alpha", "beta", "gamma"), self.curve, strict=True)),
            **{name: json_value(getattr(self, name)) for name in names},
            "sentences": list(self.sentences()),
        }

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def power_law_design(
    sizes: Sequence[float],
    seeds: int,
    *,
    alpha: float,
    beta: float,
    gamma: float,
    noise: float,
    choose: Sequence[str] = (),
    chance_error: float | None = None,
    validation_examples: int | None = None,
    sets: int = SETS,
    rng_seed: int = 0,
) -> PowerLawDesign:
    """Forecast the interval of β that `fit_power_law` (M2, jackknife) gives of ε(m) = α m^β + γ.

    Args:
        sizes: shard sizes m > 0.
        seeds: replicates at each.
        alpha: α > 0.
        beta: β.
        gamma: γ >= 0.
        noise: standard deviation of log error in each run, independent. A shift of a seed's whole
            curve does not touch β.
        choose: axes whose best value is chosen at each size. That costs seeds, and is not
            simulated.
        chance_error: error of the best guess; sizes above 0.9 of it are left out.
        validation_examples: number that errors are measured on; where fewer than 100 of them are
            wrong, the sampling of that set widens the interval.
        sets: simulated studies.
        rng_seed: of the random numbers.

    Raises:
        FitError: a value that is not allowed.
    """
    _check(sizes, seeds, alpha, beta, gamma, noise, sets)
    if chance_error is not None and not 0 < chance_error < math.inf:
        raise FitError(f"`chance_error` is {chance_error!r}; allowed: a number above 0, or None.")
    size = np.array(sorted({float(value) for value in sizes}))
    error = alpha * size**beta + gamma
    used = error <= PLATEAU * (math.inf if chance_error is None else chance_error)
    limits = power_law_limits(size[used].tolist(), seeds, choose=choose)
    left_out = tuple(float(value) for value in size[~used])
    shares = {"width": math.nan, "bounded": math.nan, "excludes_zero": math.nan, "covers": math.nan}
    if not limits.reason:
        sampling = _held_out(error[used], validation_examples)
        bounds = _bounds(size[used], error[used], noise, seeds, sampling, sets, rng_seed)
        shares = {
            "width": float(np.median(bounds[:, 1] - bounds[:, 0])),
            "bounded": float(np.isfinite(bounds).all(axis=1).mean()),
            "excludes_zero": float(((bounds[:, 0] > 0) | (bounds[:, 1] < 0)).mean()),
            "covers": float(((bounds[:, 0] <= beta) & (beta <= bounds[:, 1])).mean()),
        }
    return PowerLawDesign(
        limits=limits,
        curve=(float(alpha), float(beta), float(gamma)),
        noise=noise,
        sets=0 if limits.reason else sets,
        validation_examples=validation_examples,
        left_out=left_out,
        **shares,
    )


def curve_of_pilot(fit: PowerLawFit) -> AssumedCurve:
    """Return the curve and the noise of a pilot's fit, as `power_law_design` takes them.

    The noise is what sizes and seeds leave unexplained of log error.
    """
    scores = fit.curve.envelope.log_error
    if scores.shape[1] < 2:
        raise FitError("The pilot's learning curve has 1 seed and shows no noise; train another.")
    noise = math.sqrt(seed_noise(scores)[0])
    return AssumedCurve(fit.alpha, fit.beta, fit.gamma, noise)


def _check(
    sizes: Sequence[float],
    seeds: int,
    alpha: float,
    beta: float,
    gamma: float,
    noise: float,
    sets: int,
) -> None:
    if not len(sizes) or not all(0 < size < math.inf for size in sizes):
        raise FitError(f"`sizes` is {sizes!r}; allowed: numbers above 0.")
    for name, number in (("seeds", seeds), ("sets", sets)):
        if number < 1 or number != int(number):
            raise FitError(f"`{name}` is {number!r}; allowed: a whole number from 1.")
    for name, value in (("alpha", alpha), ("noise", noise)):
        if not 0 < value < math.inf:
            raise FitError(f"`{name}` is {value!r}; allowed: a number above 0.")
    if not math.isfinite(beta):
        raise FitError(f"`beta` is {beta!r}; allowed: a finite number, below 0 where error falls.")
    if not 0 <= gamma < math.inf:
        raise FitError(f"`gamma` is {gamma!r}; allowed: a floor of 0 or above.")


def _held_out(error: Floats, examples: int | None) -> tuple[Floats, Floats]:
    """Return two (n, n) covariances of log error from the held-out set: independent and nested."""
    variance = np.zeros(len(error))
    if examples is not None:
        few = examples * error < BINOMIAL_ERRORS
        variance = np.where(few, (1 - error) / (examples * error), 0.0)
    return np.diag(variance), np.minimum(variance[:, None], variance)


def _bounds(
    size: Floats,
    error: Floats,
    noise: float,
    seeds: int,
    held_out: tuple[Floats, Floats],
    sets: int,
    rng_seed: int,
) -> Floats:
    """Return (sets, 2) bounds of β of simulated studies."""
    rng = np.random.default_rng(rng_seed)
    scores = np.log(error)[:, None] + noise * rng.standard_normal((sets, len(size), seeds))
    whole = scores.mean(axis=2, keepdims=True)
    without = (whole * seeds - scores) / (seeds - 1)
    means = np.moveaxis(np.concatenate([whole, without], axis=2), 2, 1)
    return score_bounds(np.log(size), means, held_out, floor=True, level=LEVEL)[:, 1]

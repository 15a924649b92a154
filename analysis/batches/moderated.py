"""Variances of many small samples, each drawn towards what they have in common.

Smyth 2004 (Stat. Appl. Genet. Mol. Biol. 3, 3): true variances are taken to spread as a scaled
inverse χ², whose scale and degrees of freedom are estimated from the sample variances themselves.
Where all samples have one noise, that is pooling; where some are far noisier than others, each
keeps to its own.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

__all__ = ["moderate", "variance_prior"]

Floats = NDArray[np.float64]

NEWTON_STEPS = 50
"""More than the inverse of the trigamma function ever needs from its starting point."""


def variance_prior(variances: Floats, freedom: Floats | int) -> tuple[float, float]:
    """Return the variance that samples have in common, and the degrees of freedom that it is worth.

    `variances`: (n,) sample variances, of `freedom` degrees (each); those of zero say nothing. The
    degrees returned are infinite where the samples differ no more than one variance explains, and
    0 where there are fewer than two samples.
    """
    speaks = np.isfinite(variances) & (variances > 0)
    if speaks.sum() < 2:
        return 0.0, 0.0
    # E log s² = log s₀² + ψ(d/2) − ψ(d₀/2) + log(d₀/d); Var log s² = ψ′(d/2) + ψ′(d₀/2).
    half = np.broadcast_to(freedom, variances.shape)[speaks] / 2
    logs = np.log(variances[speaks]) - digamma(half) + np.log(half)
    spread = float(logs.var(ddof=1) - polygamma(1, half).mean())
    if spread <= 0:
        return float(np.exp(logs.mean())), np.inf
    prior_half = _inverse_trigamma(spread)
    return float(np.exp(logs.mean() + digamma(prior_half) - np.log(prior_half))), 2 * prior_half


def moderate(
    variances: Floats, freedom: Floats | int, prior: float, prior_freedom: float
) -> tuple[Floats, Floats]:
    """Return the variances drawn towards `prior`, and their degrees of freedom; NaN without any."""
    both = np.broadcast_to(freedom, variances.shape) + prior_freedom
    if np.isinf(prior_freedom):
        return np.full_like(variances, prior), both
    drawn = np.full_like(variances, np.nan)
    np.divide(freedom * variances + prior_freedom * prior, both, out=drawn, where=both > 0)
    return drawn, both


def _inverse_trigamma(value: float) -> float:
    """Return x with ψ′(x) = `value`, by Newton's method on 1/ψ′ (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(NEWTON_STEPS):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x

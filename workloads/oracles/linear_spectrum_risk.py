"""What ridge regression on power-law features comes to on average, from random-matrix theory.

A deterministic equivalent: the risk's limit where examples and features grow together, which at
finite sizes is off by a share that falls with the number of examples. The tests measure it against
regressions solved exactly on random data.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

__all__ = ["asymptotic_exponent", "expected_risk", "local_exponent"]

Floats = NDArray[np.float64]


def expected_risk(
    *, train_examples: int, scales: Floats, coefficients: Floats, ridge: float = 0.0
) -> float:
    """Return E (y − x·w)², with w the minimum of Σ (y − x·w)² / N + λ ‖w‖² over N examples.

    `scales`: (D,) √λ_i of the features; `coefficients`: (D,) c_i of the target, Σ c_i u_i; `ridge`:
    λ ≥ 0, of which 0 is the limit: of all w that fit, the smallest. Then descent from zero on half
    the squared error with weight decay λ ends at w. With κ the root of

        κ = λ + (κ/N) Σ λ_i / (λ_i + κ),
        E = Σ c_i² κ² / (λ_i + κ)² / (1 − (1/N) Σ λ_i² / (λ_i + κ)²).

    0 where there is no ridge and there are as many examples as features. Source: Bordelon, Canatar
    and Pehlevan 2020, eq. 4 to 6, arXiv:2002.02561; the same as Canatar et al. 2021,
    arXiv:2006.13198, without noise.
    """
    variance = scales**2
    if ridge == 0 and train_examples >= len(scales):
        return 0.0

    def excess(log_kappa: float) -> float:
        kappa = np.exp(log_kappa)
        return float(1 - ridge / kappa - (variance / (variance + kappa)).sum() / train_examples)

    # All of the variance at κ = 0 is too little, and λ + Σ λ_i / N is too much.
    most = float(np.log(ridge + variance.sum() / train_examples)) + 1e-9
    least = np.log(ridge) if ridge else np.log(variance.min()) - 60.0
    kappa = float(np.exp(brentq(excess, least, most, xtol=1e-13)))
    shrink = kappa / (variance + kappa)
    spread = ((1 - shrink) ** 2).sum() / train_examples
    return float((coefficients**2 * shrink**2).sum() / (1 - spread))


def asymptotic_exponent(spectrum_exponent: float, target_exponent: float) -> float:
    """Return −min(b − 1, 2α), of the risk without ridge and with endless features."""
    return -min(target_exponent - 1, 2 * spectrum_exponent)


def local_exponent(
    train_examples: Sequence[int], *, scales: Floats, coefficients: Floats, ridge: float = 0.0
) -> float:
    """Return the slope of log expected risk on log N over these sizes, by least squares.

    What a power law without floor (M1) makes of the exact curve.
    """
    risks = [
        expected_risk(train_examples=size, scales=scales, coefficients=coefficients, ridge=ridge)
        for size in train_examples
    ]
    return float(np.polyfit(np.log(train_examples), np.log(risks), 1)[0])

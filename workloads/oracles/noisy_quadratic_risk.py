"""What the noisy quadratic's training comes to on average, in closed form.

The dynamics are linear: the final weight is a known linear function of the means of the batches, so
that its second moment needs only their covariances. `expected_excess_risk` takes those of the
trainer's own order, reshuffled epochs without replacement over a shard of a finite pool;
`stationary_variance` is the textbook formula, for batches drawn with replacement.
"""

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "expected_excess_risk",
    "local_exponents",
    "optimal_batch_size",
    "responses",
    "stationary_variance",
]

Floats = NDArray[np.float64]


def stationary_variance(
    learning_rate: float,
    momentum: float,
    curvature: ArrayLike,
    gradient_variance: ArrayLike,
    batch_size: float,
) -> Floats:
    """Return Var(w) = ε c (1+m) / (B h (1−m) (2(1+m) − ε h)) of heavy ball that has settled.

    ε, m: learning rate and momentum of v ← m v + ĝ, w ← w − ε v. h: `curvature`. c: variance of
    one example's gradient, so that a batch of B drawn with replacement has c/B. Infinite where the
    ball does not settle, ε h ≥ 2(1+m). As ε h → 0 it tends to ε c/(2 B h (1−m)).
    Source: the second moments of (w, v) are a fixed point of a linear map; the quadratic is that of
    Zhang et al. 2019, arXiv:1907.04164.
    """
    rate, h, c = learning_rate, np.asarray(curvature, float), np.asarray(gradient_variance, float)
    room = 2 * (1 + momentum) - rate * h
    with np.errstate(divide="ignore"):
        variance = rate * c * (1 + momentum) / (batch_size * h * (1 - momentum) * room)
    return np.where(room > 0, variance, np.inf)


def responses(learning_rate: float, momentum: float, curvature: ArrayLike, steps: int) -> Floats:
    """Return (T, D) u: how much of a batch's mean is in the weight k steps later, k = 0 … T−1.

    Heavy ball on ½ h (w − z)² moves by w′ = (1 + m − ε h) w − m w₋ + ε h z̄, with z̄ the batch's
    mean. Hence u₀ = ε h, u₁ = (1 + m − ε h) u₀ and u_{k+1} = (1 + m − ε h) u_k − m u_{k−1}. The
    start is in the weight with what is missing to 1: 1 − Σ u.
    """
    h = np.asarray(curvature, float)
    trace = 1 + momentum - learning_rate * h
    u = np.zeros((steps + 1, len(h)))  # begins with k = -1
    u[1] = learning_rate * h
    for k in range(1, steps):
        u[k + 1] = trace * u[k] - momentum * u[k - 1]
    return u[1:]


def expected_excess_risk(
    *,
    learning_rate: float,
    momentum: float,
    curvature: ArrayLike,
    variance: ArrayLike,
    distance: float,
    train_examples: int,
    batch_size: float,
    steps: int,
    pool_examples: float = np.inf,
    batches_per_epoch: int | None = None,
) -> float:
    """Return E ½ Σ h (w − μ)² after T steps, over shards and batch orders; μ is the pool's mean.

    `variance`: (D,) S², of the targets z over the pool of P examples, with P − 1 below. `distance`:
    of the start from μ, in every coordinate. An epoch is ⌊N/B⌋ disjoint batches of B examples (or
    `batches_per_epoch` of them), drawn anew each time from the same N; what is left is dropped.

    Two means of disjoint random samples of a finite pool have covariance −S²/P, and one of B
    examples has variance S² (1/B − 1/P). Batches of two epochs share nothing but the shard: given
    it they are independent, about its mean, whose variance is S² (1/N − 1/P). With the responses
    u_t of the T batches, U_e their sum over epoch e and U their sum,

        E (w − μ)² = (1 − U)² d² + S² [ Σ u_t² / B − Σ U_e² / N + U² (1/N − 1/P) ].

    The middle term is what shuffling saves over drawing with replacement: a whole epoch's noise
    adds up to that of the shard.
    """
    batches = batches_per_epoch or int(train_examples // batch_size)
    h = np.asarray(curvature, float)
    u = responses(learning_rate, momentum, h, steps)[::-1]  # by the step of the batch
    epochs = np.add.reduceat(u, np.arange(0, steps, batches))
    total = u.sum(axis=0)
    noise = (
        (u**2).sum(axis=0) / batch_size
        - (epochs**2).sum(axis=0) / train_examples
        + total**2 * (1 / train_examples - 1 / pool_examples)
    )
    moment = (1 - total) ** 2 * distance**2 + np.asarray(variance, float) * noise
    return float(0.5 * h @ moment)


def optimal_batch_size(
    *,
    learning_rate: float,
    momentum: float,
    curvature: tuple[float, ...],
    variance: tuple[float, ...],
    distance: float,
    train_examples: int,
    epochs: int,
    pool_examples: float = np.inf,
) -> float:
    """Return log₂ of the batch size of least expected risk after so many epochs.

    B = N/n for whole numbers n of batches an epoch, an eighth of an octave apart or, below 8, one;
    then the vertex of the parabola in log₂ B through the best and its neighbours. A B that is no
    whole number stands for nothing that can be trained; it makes the optimum a smooth function.
    """

    def risk(batches: int) -> float:
        return expected_excess_risk(
            learning_rate=learning_rate,
            momentum=momentum,
            curvature=curvature,
            variance=variance,
            distance=distance,
            train_examples=train_examples,
            batches_per_epoch=batches,
            steps=epochs * batches,
            pool_examples=pool_examples,
            batch_size=train_examples / batches,
        )

    octaves = np.arange(0, np.log2(train_examples) + SPACING / 2, SPACING)
    numbers = np.unique(np.round(2**octaves).astype(int))
    risks: list[float] = []
    for number in numbers:
        risks.append(risk(int(number)))
        # Past the optimum the risk rises with the number of steps, and so does the work.
        if len(risks) > PATIENCE and min(risks) < min(risks[-PATIENCE:]):
            break
    best = int(np.argmin(risks))
    if not 0 < best < len(risks) - 1:
        raise ValueError(
            f"The least risk at N = {train_examples}, ε = {learning_rate:g}, m = {momentum:g} is "
            f"at the edge, {numbers[best]} batches an epoch: there is no optimum inside."
        )
    near = slice(best - 1, best + 2)
    curve = np.polyfit(np.log2(train_examples / numbers[near]), risks[near], 2)
    return float(-curve[1] / (2 * curve[0]))


SPACING = 1 / 8
"""Octaves between the batch sizes among which the optimum is sought; the risk is smooth there."""
PATIENCE = 16
"""Batch sizes, two octaves, that must be worse than the best before the search ends."""


@lru_cache(maxsize=16)
def local_exponents(
    *,
    learning_rates: tuple[float, ...],
    train_examples: tuple[int, ...],
    momenta: tuple[float, ...],
    curvature: tuple[float, ...],
    variance: tuple[float, ...],
    distance: float,
    epochs: int,
    pool_examples: float = np.inf,
) -> tuple[float, float, float]:
    """Return the exponents of B_opt in (ε, N, 1/(1−m)) over all combinations of these levels.

    Least squares of the exact optima, in octaves, on the octaves of the factors: what a perfect
    regression of optima would find. They are local: other levels have others.
    """
    groups = list(product(learning_rates, train_examples, momenta))
    optima = [
        optimal_batch_size(
            learning_rate=rate,
            momentum=momentum,
            curvature=curvature,
            variance=variance,
            distance=distance,
            train_examples=examples,
            epochs=epochs,
            pool_examples=pool_examples,
        )
        for rate, examples, momentum in groups
    ]
    factors = np.log2([[rate, examples, 1 / (1 - m)] for rate, examples, m in groups])
    design = np.column_stack([np.ones(len(groups)), factors])
    slopes = np.linalg.lstsq(design, np.array(optima), rcond=None)[0][1:]
    return float(slopes[0]), float(slopes[1]), float(slopes[2])

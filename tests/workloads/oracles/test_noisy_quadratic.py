"""The closed forms against simulation, other formulas, and the trainer itself."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.analysis.noisy_quadratic import heavy_ball_second_moment
from workloads.oracles.noisy_quadratic import (
    POOL,
    NoisyQuadratic,
    curvatures,
    noise_floor,
    target_variances,
)
from workloads.oracles.noisy_quadratic_risk import (
    expected_excess_risk,
    local_exponents,
    optimal_batch_size,
    stationary_variance,
)
from workloads.recipe import Recipe
from workloads.testing import WorkloadConformance
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.lockstep import train


class TestNoisyQuadratic(WorkloadConformance):
    workload = NoisyQuadratic
    sizes = (1, 16)
    inputs_may_repeat = True  # there is no input: all are 1

    def constant_guesses(self, outputs: Tensor) -> Iterator[Tensor]:
        # Every output of this model ignores the input. Chance is where diverging weights are.
        yield torch.full_like(outputs, 1e6)


AXES = {"distance": 0.25}


def test_the_data_are_the_bytes_they_have_always_been() -> None:
    # Golden, and the ground on which the fingerprint may be taken from the recipe. If this fails,
    # raise RECIPE with the digest.
    assert NoisyQuadratic().data(AXES).fingerprint() == "fad5fb8ccd47dd3a"


def test_every_set_has_the_mean_and_variance_of_the_population() -> None:
    data = NoisyQuadratic().data(AXES)
    for split in (data.train, data.validation, data.test):
        points = split.targets.double()
        # Rounded to float32: 6e-8 of a value of 7 at most, and averaged over hundreds.
        assert (points.mean(0) - 0.25).abs().max() < 1e-7
        variance = points.var(0, correction=0) * torch.from_numpy(curvatures(16))
        assert (variance - 1).abs().max() < 1e-6


def test_the_validation_loss_is_the_excess_risk_and_the_noise_floor() -> None:
    workload, validation = NoisyQuadratic(), NoisyQuadratic().data(AXES).validation
    weights = torch.linspace(-1, 1, 64, dtype=torch.float64)
    loss = workload.loss(weights.expand(512, 64), validation.targets.double()).mean().item()
    excess = 0.5 * (curvatures(16) * (weights.numpy() - 0.25) ** 2).sum()
    assert loss == pytest.approx(noise_floor(16) + excess, rel=1e-7)


def test_it_trains_on_the_fast_path() -> None:
    choice = choose_arithmetic(NoisyQuadratic(), 16, (("distance", 0.25),), 32)
    assert choice.arithmetic is Arithmetic.STACKED_LAYERS


# PAPERS: heavy-ball variances by simulation, and the limit of small ε h in the second case.
@pytest.mark.parametrize(("rate", "variance"), [(0.05, 0.0317), (0.5, 0.360)])
def test_the_stationary_variance_is_the_published_one(rate: float, variance: float) -> None:
    assert stationary_variance(rate, 0.9, 1.0, 1.0, 8) == pytest.approx(variance, rel=2e-3)


def test_a_ball_that_never_settles_has_no_stationary_variance() -> None:
    assert np.isinf(stationary_variance(4.0, 0.5, [0.75, 1.0], 1.0, 8)).all()
    assert np.isfinite(stationary_variance(2.9, 0.5, 1.0, 1.0, 8))


def test_with_an_endless_shard_the_risk_becomes_the_stationary_variance() -> None:
    h = np.array([1.0, 0.3])
    risk = expected_excess_risk(
        learning_rate=0.2,
        momentum=0.8,
        curvature=h,
        variance=1 / h,
        distance=1.0,
        train_examples=10**12,
        steps=4000,
        batch_size=8,
    )
    # c = h² S² = h; 4000 steps leave e^-100 of the start
    assert risk == pytest.approx(0.5 * h @ stationary_variance(0.2, 0.8, h, h, 8), rel=1e-9)


def test_batches_with_replacement_have_the_moments_of_the_linear_map() -> None:
    h = np.array([1.0, 0.5, 0.1])
    for steps in (1, 2, 7, 60):
        risk = expected_excess_risk(
            learning_rate=0.3,
            momentum=0.7,
            curvature=h,
            variance=1 / h,
            distance=1.0,
            train_examples=10**12,
            steps=steps,
            batch_size=4,
        )
        moment = heavy_ball_second_moment(0.3, 0.7, h, 4, steps)
        assert risk == pytest.approx(0.5 * h @ moment, rel=1e-9)


def simulated_risks(
    rate: float, momentum: float, batch: int, examples: int, steps: int, runs: int
) -> np.ndarray:
    """(runs,) ½ Σ h w² by doing what the trainer does, on a pool of 40 with curvatures 1 and ¼."""
    rng = np.random.default_rng(0)
    h = np.array([1.0, 0.25])
    pool = rng.normal(size=(40, 2))
    pool -= pool.mean(axis=0)
    pool /= pool.std(axis=0, ddof=1) * np.sqrt(h)
    shard = pool[rng.random((runs, 40)).argsort(axis=1)[:, :examples]]
    weight, velocity = np.full((runs, 2), -0.7), np.zeros((runs, 2))
    order = np.empty((runs, 0), int)
    for _ in range(steps):
        if order.shape[1] < batch:  # an epoch ends; what is left of it is dropped
            order = rng.random((runs, examples)).argsort(axis=1)
        rows, order = order[:, :batch], order[:, batch:]
        mean = np.take_along_axis(shard, rows[:, :, None], axis=1).mean(axis=1)
        velocity = momentum * velocity + h * (weight - mean)
        weight = weight - rate * velocity
    return 0.5 * (weight**2) @ h


@pytest.mark.parametrize(
    ("rate", "momentum", "batch", "examples", "steps"),
    [
        (0.5, 0.0, 4, 24, 13),  # the last epoch is not finished
        (0.3, 0.8, 5, 24, 12),  # a partial batch is dropped
        (0.9, 0.6, 1, 10, 20),
        (0.4, 0.5, 24, 24, 9),  # the batch is the shard
        (0.4, 0.5, 10, 40, 30),  # the shard is the pool: shuffling takes most of the noise away
    ],
)
def test_the_expected_risk_is_the_mean_of_simulated_training(
    rate: float, momentum: float, batch: int, examples: int, steps: int
) -> None:
    h = np.array([1.0, 0.25])
    risks = simulated_risks(rate, momentum, batch, examples, steps, 40_000)
    expected = expected_excess_risk(
        learning_rate=rate,
        momentum=momentum,
        curvature=h,
        variance=1 / h,
        distance=0.7,
        train_examples=examples,
        batch_size=batch,
        steps=steps,
        pool_examples=40,
    )
    # Four standard errors of the mean, about 2 % of it: a false alarm in 16,000.
    assert abs(risks.mean() - expected) < 4 * risks.std() / np.sqrt(len(risks))


def test_the_order_of_the_trainer_matters() -> None:
    # else the covariances of the closed form would be checked by nothing
    risks = simulated_risks(0.4, 0.5, 10, 40, 30, 40_000)
    h = np.array([1.0, 0.25])
    with_replacement = expected_excess_risk(
        learning_rate=0.4,
        momentum=0.5,
        curvature=h,
        variance=1 / h,
        distance=0.7,
        train_examples=10**12,
        steps=30,
        batch_size=10,
    )
    assert risks.mean() < 0.8 * with_replacement


def test_the_trainer_has_the_expected_risk() -> None:
    # A short run of many seeds, all batches of 24 in shards of 100: four an epoch, four left over.
    losses = [
        train(
            NoisyQuadratic(),
            Recipe(
                train_examples=100,
                model_size=16,
                batch_size=24,
                learning_rate=0.3,
                momentum=0.5,
                steps=10,
                seed=seed,
                axes=(("distance", 0.25),),
                evaluation_schedule="geometric:1",
            ),
            device="cpu",
        ).validation_loss
        for seed in range(48)
    ]
    excess = np.array(losses) - noise_floor(16)
    expected = expected_excess_risk(
        learning_rate=0.3,
        momentum=0.5,
        curvature=curvatures(16),
        variance=target_variances(16),
        distance=0.25,
        train_examples=100,
        batch_size=24,
        steps=10,
        pool_examples=POOL,
    )
    # Four standard errors, 10 %: what this finds is a wrong rate, momentum, batch or loss.
    assert abs(excess.mean() - expected) < 4 * excess.std(ddof=1) / np.sqrt(48)


SETTING = {
    "curvature": tuple(curvatures(4)),
    "variance": tuple(target_variances(4)),
    "distance": 0.5,
    "epochs": 2,
    "pool_examples": POOL,
}


def test_the_optimum_has_less_risk_than_batches_beside_it() -> None:
    cell = {"learning_rate": 0.1, "momentum": 0.5, "train_examples": 2048}
    octaves = optimal_batch_size(**cell, **SETTING)

    def risk(octave: float) -> float:
        batches = round(2048 / 2**octave)
        known = {name: SETTING[name] for name in SETTING if name != "epochs"}
        return expected_excess_risk(
            **cell,
            **known,
            batches_per_epoch=batches,
            steps=2 * batches,
            batch_size=2048 / batches,
        )

    for aside in (-0.25, 0.25):
        assert risk(octaves + aside) > risk(octaves)


def test_an_optimum_at_the_edge_is_refused() -> None:
    with pytest.raises(ValueError, match="at the edge, 1 batches an epoch"):
        optimal_batch_size(learning_rate=1.0, momentum=0.0, train_examples=16, **SETTING)


def test_local_exponents_are_slopes_of_the_optima() -> None:
    levels = {"learning_rates": (0.05, 0.1), "train_examples": (1024, 2048), "momenta": (0.0, 0.5)}
    slopes = local_exponents(**levels, **SETTING)
    optima = {
        (rate, examples, momentum): optimal_batch_size(
            learning_rate=rate, train_examples=examples, momentum=momentum, **SETTING
        )
        for rate, examples, momentum in product(*levels.values())
    }
    # In a full cross of two levels an octave apart, least squares is the mean difference.
    for factor, slope in enumerate(slopes):
        low, high = list(levels.values())[factor]
        upper = [o for place, o in optima.items() if place[factor] == high]
        lower = [o for place, o in optima.items() if place[factor] == low]
        assert slope == pytest.approx(np.mean(upper) - np.mean(lower), abs=1e-9)

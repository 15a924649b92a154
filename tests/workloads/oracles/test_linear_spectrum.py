"""The deterministic equivalent against regressions solved exactly, and so the trainer."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from workloads.oracles.linear_spectrum import FEATURES, LinearSpectrum, coefficients, scales
from workloads.oracles.linear_spectrum_risk import (
    asymptotic_exponent,
    expected_risk,
    local_exponent,
)
from workloads.recipe import Recipe
from workloads.testing import WorkloadConformance
from workloads.training.arithmetic import Arithmetic, choose_arithmetic
from workloads.training.lockstep import train
from workloads.training.sampling import shard_rows

Floats = NDArray[np.float64]
AXES = {"spectrum_exponent": 1.5, "target_exponent": 1.75}


class TestLinearSpectrum(WorkloadConformance):
    workload = LinearSpectrum


def test_the_data_are_the_bytes_they_have_always_been() -> None:
    # Golden, and the ground on which the fingerprint may be taken from the recipe. If this fails,
    # raise RECIPE with the digest.
    assert LinearSpectrum().data(AXES).fingerprint() == "32c6de97f034cb70"


def test_the_held_out_loss_of_any_weights_is_the_expected_loss() -> None:
    workload = LinearSpectrum()
    data = workload.data(AXES)
    weights = np.random.default_rng(0).normal(size=FEATURES)
    expected = 0.5 * ((coefficients(1.75) - scales(1.5) * weights) ** 2).sum()
    for split in (data.validation, data.test):
        outputs = split.inputs.double() @ torch.from_numpy(weights)[:, None]
        loss = workload.loss(outputs, split.targets.double()).mean().item()
        assert loss == pytest.approx(expected, rel=1e-6)  # float32 rounds the targets
    pool = data.train
    outputs = pool.inputs.double() @ torch.from_numpy(weights)[:, None]
    # The pool is random: 8,192 draws, each of relative spread √2; four standard errors.
    loss = workload.loss(outputs, pool.targets.double()).mean().item()
    assert loss == pytest.approx(expected, rel=4 * (2 / 8192) ** 0.5)


def solved(inputs: Floats, targets: Floats, ridge: float) -> Floats:
    """(D,) weights: the minimum of mean squared error + λ ‖w‖², by solving for it."""
    examples = len(targets)
    gram = inputs @ inputs.T / examples + ridge * np.eye(examples)
    return inputs.T @ np.linalg.solve(gram, targets / examples)


@pytest.mark.parametrize("target_exponent", [1.75, 2.5])
@pytest.mark.parametrize(("examples", "runs"), [(23, 800), (128, 100)])
@pytest.mark.parametrize("ridge", [2e-4, 0.0])
def test_the_equivalent_is_the_mean_risk_of_regressions(
    target_exponent: float, examples: int, runs: int, ridge: float
) -> None:
    rng = np.random.default_rng(0)
    s, c = scales(1.5), coefficients(target_exponent)
    risks = []
    for _ in range(runs):
        signs = rng.choice([-1.0, 1.0], size=(examples, FEATURES))
        weights = solved(signs * s, signs @ c, ridge or 1e-12)
        risks.append(((c - s * weights) ** 2).sum())
    expected = expected_risk(train_examples=examples, scales=s, coefficients=c, ridge=ridge)
    # Three standard errors, 2 to 5 %, and as much as the equivalent may be off, of order 1/N.
    allowed = 3 * np.std(risks) / np.sqrt(runs) + expected / examples
    assert abs(np.mean(risks) - expected) < allowed


def test_descent_ends_at_the_ridge_regression() -> None:
    workload = LinearSpectrum()
    recipe = Recipe(
        train_examples=64,
        model_size=FEATURES,
        batch_size=64,
        learning_rate=1.0,
        momentum=0.98,
        weight_decay=2e-4,
        steps=1000,
        seed=5,
        axes=tuple(AXES.items()),
    )
    result = train(workload, recipe, device="cpu")
    pool = workload.data(AXES).train
    rows = shard_rows(workload, recipe, pool)
    weights = solved(pool.inputs[rows].double().numpy(), pool.targets[rows].double().numpy(), 2e-4)
    risk = ((coefficients(1.75) - scales(1.5) * weights) ** 2).sum()
    # What is left of the start, 4e-5 in the slowest directions, is squared or uncorrelated.
    assert result.validation_loss == pytest.approx(0.5 * risk, rel=1e-3)


def test_without_ridge_the_exponent_of_many_features_is_the_theory_s() -> None:
    features = np.arange(1, 400_001)
    sizes = [2**k for k in range(8, 13)]
    for spectrum, target in ((1.5, 1.75), (1.5, 2.5), (2.0, 7.0)):
        slope = local_exponent(
            sizes,
            scales=features ** (-spectrum / 2),
            coefficients=features ** (-target / 2),
        )
        assert slope == pytest.approx(asymptotic_exponent(spectrum, target), abs=0.05)


def test_as_many_examples_as_features_leave_no_error_without_ridge() -> None:
    s, c = scales(1.5), coefficients(1.75)
    assert expected_risk(train_examples=FEATURES, scales=s, coefficients=c) == 0
    assert expected_risk(train_examples=FEATURES, scales=s, coefficients=c, ridge=1e-4) > 0


def test_it_trains_on_the_fast_path() -> None:
    choice = choose_arithmetic(LinearSpectrum(), FEATURES, tuple(AXES.items()), 32)
    assert choice.arithmetic is Arithmetic.STACKED_LAYERS

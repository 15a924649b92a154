"""Two exponents: errors of both kinds at the margin, pairing, and what is refused."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis import FitError, compare_exponents, fit_power_law
from analysis.curves.exponent_comparison import Equivalence
from analysis.curves.power_law import PowerLawFit

Floats = NDArray[np.float64]
SIZES = np.round(np.geomspace(50, 50 * 10**2.4, 9))
LOG_SIZE = np.log(SIZES / SIZES[0])


def fit(
    beta: float, noise: Floats, *, gamma: float = 0.0, form: str = "M1", first_seed: int = 0
) -> PowerLawFit:
    """Fit a curve of known β to (9, S) deviations of log error."""
    sizes, seeds = noise.shape
    log_error = np.log((0.7 - gamma) * np.exp(beta * LOG_SIZE) + gamma)[:, None] + noise
    cells = pd.DataFrame(
        {
            "train_examples": np.repeat(SIZES, seeds),
            "seed": np.tile(np.arange(first_seed, first_seed + seeds), sizes),
            "error": np.exp(log_error).ravel(),
        }
    )
    # The comparison asks whether an exponent is bounded, which without floor it always is.
    return fit_power_law(cells, y="error", form=form, ci=None if form == "M1" else "jackknife")


def tilted(rng: np.random.Generator, seeds: int, sd: float) -> Floats:
    """Seeds that tilt their whole curve, and a little independent noise."""
    tilt = (LOG_SIZE - LOG_SIZE.mean())[:, None] * rng.normal(0, sd, seeds)
    return np.asarray(tilt + rng.normal(0, 0.02, (9, seeds)))


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_of_the_margin_is_seldom_called_equivalent_or_different(
    paired: bool,
) -> None:
    rng = np.random.default_rng(5)
    told = []
    for sign in [-1, 1] * 100:
        first = fit(-0.3, tilted(rng, 5, 0.01))
        second = fit(-0.3 + sign * 0.05, tilted(rng, 5, 0.01), first_seed=0 if paired else 10)
        told.append(compare_exponents(first, second).verdict)
    # nominal 5 % and 2.5 %; of 200 sets more than these have a chance below .5 %
    assert told.count(Equivalence.EQUIVALENT) <= 19
    assert told.count(Equivalence.DIFFERENT) <= 12


@pytest.mark.slow
def test_with_a_floor_too() -> None:
    rng = np.random.default_rng(6)
    told: dict[int, list[Equivalence]] = {-1: [], 1: []}
    for _ in range(150):
        noises = tilted(rng, 5, 0.01), tilted(rng, 5, 0.01)
        first = fit(-0.3, noises[0], gamma=0.02, form="M2")
        for sign, verdicts in told.items():
            second = fit(-0.3 + sign * 0.05, noises[1], gamma=0.02, form="M2")
            verdicts.append(compare_exponents(first, second).verdict)
    # .05 measured in 400 sets; more than 10 % of 150 have a chance below .5 %
    for verdicts in told.values():
        assert verdicts.count(Equivalence.EQUIVALENT) <= 15


def test_equal_exponents_with_enough_seeds_are_equivalent_and_far_ones_different() -> None:
    rng = np.random.default_rng(7)
    first = fit(-0.3, tilted(rng, 5, 0.005))
    assert compare_exponents(first, fit(-0.3, tilted(rng, 5, 0.005))).verdict is (
        Equivalence.EQUIVALENT
    )
    assert compare_exponents(first, fit(-0.45, tilted(rng, 5, 0.005))).verdict is (
        Equivalence.DIFFERENT
    )
    assert compare_exponents(first, fit(-0.3, tilted(rng, 5, 0.2))).verdict is (
        Equivalence.INCONCLUSIVE
    )


def test_shared_noise_cancels_where_seeds_are_paired() -> None:
    rng = np.random.default_rng(8)
    shared = tilted(rng, 5, 0.05)
    first, second = fit(-0.3, shared), fit(-0.28, shared + rng.normal(0, 1e-3, (9, 5)))
    paired = compare_exponents(first, second)
    apart = compare_exponents(first, fit(-0.28, shared, first_seed=10))
    assert (paired.paired, apart.paired) == (True, False)
    assert paired.verdict is Equivalence.EQUIVALENT
    assert apart.verdict is Equivalence.INCONCLUSIVE


def test_both_standard_errors_are_those_of_scipy_on_slopes_seed_by_seed() -> None:
    rng = np.random.default_rng(9)
    noises = tilted(rng, 5, 0.03), tilted(rng, 7, 0.01)
    # Without floor the estimate is the mean of the seeds' own slopes: the tests are Student's.
    slopes = [np.polyfit(LOG_SIZE, noise, 1)[0] for noise in noises]
    welch = compare_exponents(fit(-0.3, noises[0]), fit(-0.3, noises[1], first_seed=10))
    oracle = stats.ttest_ind(*slopes, equal_var=False)
    assert welch.degrees_of_freedom == pytest.approx(oracle.df, rel=1e-9)
    interval = oracle.confidence_interval(0.9)
    np.testing.assert_allclose(welch.interval90, [interval.low, interval.high], rtol=1e-8)
    pair = compare_exponents(fit(-0.3, noises[0]), fit(-0.3, noises[1][:, :5]))
    interval = stats.ttest_rel(slopes[0], slopes[1][:5]).confidence_interval(0.95)
    np.testing.assert_allclose(pair.interval95, [interval.low, interval.high], rtol=1e-8)


def test_an_unidentified_exponent_leaves_the_difference_open() -> None:
    rng = np.random.default_rng(10)
    flat = fit(0.0, rng.normal(0, 0.02, (9, 5)), form="M2")
    assert not flat.identified
    told = compare_exponents(flat, fit(-0.3, tilted(rng, 5, 0.01), gamma=0.1, form="M2"))
    assert told.verdict is Equivalence.INCONCLUSIVE
    assert told.interval90 == (-math.inf, math.inf)
    assert "unidentified" in told.reason
    assert json.loads(json.dumps(told.to_dict(), allow_nan=False))["interval95"] == ["-inf", "inf"]


def test_the_result_is_printable() -> None:
    rng = np.random.default_rng(11)
    told = compare_exponents(fit(-0.3, tilted(rng, 5, 0.005)), fit(-0.3, tilted(rng, 5, 0.005)))
    assert "Verdict: equivalent" in str(told.summary())
    assert "<table" in told._repr_html_()


def test_what_cannot_be_compared_is_refused() -> None:
    rng = np.random.default_rng(12)
    noise = tilted(rng, 5, 0.01)
    with pytest.raises(FitError, match="one form"):
        compare_exponents(fit(-0.3, noise), fit(-0.3, noise, form="M2"))
    with pytest.raises(FitError, match="no one exponent"):
        compare_exponents(fit(-0.3, noise, form="BNSL"), fit(-0.3, noise, form="BNSL"))
    with pytest.raises(FitError, match="margin"):
        compare_exponents(fit(-0.3, noise), fit(-0.3, noise), margin=0.0)

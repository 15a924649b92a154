import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import FitError, gradient_noise_scale

DIMENSIONS = 6


def known_problem():
    """A linear model y = w·x + noise, x ~ N(0, H), whose gradient's covariance has a closed form.

    At weight error d the gradient of (d·x - ξ)²/2 is (d·x - ξ) x. With s² = d'Hd: G = H d and, by
    Isserlis' theorem, Σ = (s² + σ²) H + G G' (since E[(d·x)² x x'] = s² H + 2 G G').
    """
    h = np.diag(np.geomspace(1.0, 0.05, DIMENSIONS))
    d, sigma = np.linspace(1.0, 0.3, DIMENSIONS), 1.5
    gradient = h @ d
    covariance = (d @ h @ d + sigma**2) * h + np.outer(gradient, gradient)
    return h, d, sigma, gradient @ gradient, np.trace(covariance)


def measured(rng, *, replicates, small=4, large=64):
    """Squared norms of mean gradients of batches drawn from the linear model."""
    h, d, sigma, _, _ = known_problem()
    rows = []
    for size in (small, large):
        x = rng.normal(size=(replicates, size, DIMENSIONS)) * np.sqrt(np.diag(h))
        error = x @ d - sigma * rng.normal(size=(replicates, size))
        gradients = (error[:, :, None] * x).mean(axis=1)
        norms = (gradients**2).sum(axis=1)
        rows.append(
            pd.DataFrame(
                {
                    "seed": range(replicates),
                    "batch_size": size,
                    "squared_gradient_norm": norms,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_numerator_and_denominator_are_unbiased_on_a_linear_model():
    _, _, _, squared_gradient, trace = known_problem()
    found = gradient_noise_scale(measured(np.random.default_rng(0), replicates=40_000))
    for values, truth in [
        (found.squared_gradients, squared_gradient),
        (found.noise_traces, trace),
    ]:
        # Four standard errors, each of which is about 1 % of the truth.
        assert stats.sem(values) < 0.015 * truth
        assert values.mean() == pytest.approx(truth, abs=4 * stats.sem(values))
    assert found.noise_scale == pytest.approx(trace / squared_gradient, rel=0.03)
    # The mean of single ratios is no estimate of it.
    ratios = found.noise_traces / found.squared_gradients
    assert abs(np.median(ratios) / (trace / squared_gradient) - 1) > 0.1


def test_the_formulas_are_those_of_mccandlish_et_al():
    table = pd.DataFrame({"b": [2, 8, 2, 8], "run": [0, 0, 1, 1], "g": [5.0, 2.0, 6.0, 2.25]})
    found = gradient_noise_scale(table, squared_norm="g", batch_size="b", replicate="run")
    np.testing.assert_allclose(found.squared_gradients, [1.0, 1.0])
    np.testing.assert_allclose(found.noise_traces, [8.0, 10.0])
    assert found.noise_scale == 9.0
    assert found.batch_sizes == (2.0, 8.0)


def test_the_standard_error_is_the_jackknifes():
    found = gradient_noise_scale(measured(np.random.default_rng(1), replicates=12))
    folds = [
        np.delete(found.noise_traces, i).mean() / np.delete(found.squared_gradients, i).mean()
        for i in range(12)
    ]
    expected = np.sqrt(11 / 12 * ((folds - np.mean(folds)) ** 2).sum())
    assert found.standard_error == pytest.approx(expected)


def test_bounds_are_the_ratios_that_a_t_test_gives_p_05():
    found = gradient_noise_scale(measured(np.random.default_rng(2), replicates=200))
    for bound in found.conf_int():
        rest = found.noise_traces - bound * found.squared_gradients
        assert stats.ttest_1samp(rest, 0).pvalue == pytest.approx(0.05, rel=1e-6)


def test_a_gradient_that_cannot_be_told_from_zero_leaves_the_scale_unbounded():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "seed": np.tile(range(8), 2),
            "batch_size": np.repeat([4, 64], 8),
            # tr Σ = 400 and G = 0: chi-squared norms of mean 100 and 6.25.
            "squared_gradient_norm": np.concatenate(
                [100 * rng.chisquare(50, 8) / 50, 6.25 * rng.chisquare(50, 8) / 50]
            ),
        }
    )
    found = gradient_noise_scale(table)
    lower, upper = found.conf_int()
    assert upper == np.inf
    # Many examples are needed in any case.
    assert lower > 50
    zero = gradient_noise_scale(table.assign(squared_gradient_norm=0.0))
    assert zero.conf_int().tolist() == [0.0, np.inf]
    assert (zero.noise_scale, zero.standard_error) == (np.inf, np.inf)
    document = json.loads(json.dumps(zero.to_dict(), allow_nan=False))
    assert document["conf_int"]["upper"] == "inf"


def test_the_interval_covers_the_known_noise_scale():
    _, _, _, squared_gradient, trace = known_problem()
    rng = np.random.default_rng(4)
    sets, covered = 300, 0
    for _ in range(sets):
        lower, upper = gradient_noise_scale(measured(rng, replicates=40)).conf_int()
        covered += lower <= trace / squared_gradient <= upper
    # .95 with 2.81 binomial standard errors of 300 tables; the norms are skew.
    assert 0.91 < covered / sets < 0.986


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["batch_size"] == 4], "has the values 4; exactly two"),
        (lambda t: t[t["seed"] == 0], "at least 2 values of seed; there is 1"),
        (lambda t: t.drop(index=0), "seed 0 has one batch size only"),
        (lambda t: t.assign(squared_gradient_norm=-1.0), "missing, infinite or negative"),
        (lambda t: t.drop(columns="seed"), "No column 'seed'. Columns here: batch_size, sq"),
    ],
)
def test_tables_that_would_be_misread_are_refused(change, message):
    with pytest.raises(FitError, match=message):
        gradient_noise_scale(change(measured(np.random.default_rng(0), replicates=5)))


def test_the_level_of_an_interval_is_a_probability():
    found = gradient_noise_scale(measured(np.random.default_rng(2), replicates=200))
    assert found.conf_int(0.5)["lower"] > found.conf_int(0.99)["lower"]
    with pytest.raises(FitError, match="level is 95"):
        found.conf_int(95)

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import FitError, gradient_noise_scale
from tests.analysis.calibration.critical_batch import gradient_norms, true_gradient_moments


def measured(seed, *, replicates):
    return gradient_norms(np.random.default_rng(seed), replicates)


def test_numerator_and_denominator_are_unbiased_on_a_linear_model():
    squared_gradient, trace = true_gradient_moments()
    found = gradient_noise_scale(measured(0, replicates=40_000))
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
    found = gradient_noise_scale(measured(1, replicates=12))
    folds = [
        np.delete(found.noise_traces, i).mean() / np.delete(found.squared_gradients, i).mean()
        for i in range(12)
    ]
    expected = np.sqrt(11 / 12 * ((folds - np.mean(folds)) ** 2).sum())
    assert found.standard_error == pytest.approx(expected)


def test_bounds_are_students_of_the_jackknifed_log_ratio():
    found = gradient_noise_scale(measured(2, replicates=200))
    ratios = np.log(
        [
            np.delete(found.noise_traces, i).mean() / np.delete(found.squared_gradients, i).mean()
            for i in range(200)
        ]
    )
    error = np.sqrt(199 / 200 * ((ratios - ratios.mean()) ** 2).sum())
    expected = np.exp(np.log(found.noise_scale) + stats.t.ppf([0.025, 0.975], 199) * error)
    np.testing.assert_allclose(found.conf_int(), expected)


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
    assert stats.ttest_1samp(found.squared_gradients, 0).pvalue > 0.05
    assert found.conf_int()["upper"] == np.inf
    zero = gradient_noise_scale(table.assign(squared_gradient_norm=0.0))
    assert zero.conf_int().tolist() == [0.0, np.inf]
    assert (zero.noise_scale, zero.standard_error) == (np.inf, np.inf)
    document = json.loads(json.dumps(zero.to_dict(), allow_nan=False))
    assert document["conf_int"]["upper"] == "inf"


def test_no_gradient_is_seldom_called_one():
    rng = np.random.default_rng(5)
    sets, bounded = 300, 0
    for _ in range(sets):
        norms = [size_mean * rng.chisquare(50, 8) / 50 for size_mean in (100, 6.25)]
        table = pd.DataFrame({"seed": np.tile(range(8), 2), "batch_size": np.repeat([4, 64], 8)})
        table["squared_gradient_norm"] = np.concatenate(norms)
        bounded += np.isfinite(gradient_noise_scale(table).conf_int()["upper"])
    # 2.5 % and 2.81 binomial standard errors of 300 tables.
    assert bounded / sets < 0.051


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t["batch_size"] == 4], "has the values 4; exactly two"),
        (lambda t: t[t["seed"] == 0], "at least 2 values of seed; there is 1"),
        (lambda t: t.drop(index=0), "seed 0 has one batch size only"),
        (lambda t: t.assign(squared_gradient_norm=-1.0), "missing, infinite or negative"),
        (lambda t: t.assign(seed=t["seed"].mask(t["seed"] == 0)), "2 of 10 rows have no seed"),
        (lambda t: t.assign(batch_size=t["batch_size"].where(t.index > 0)), "1 of 10 rows have no"),
        (lambda t: t.assign(squared_gradient_norm="4"), "'squared_gradient_norm' is of type"),
        (lambda t: t.assign(batch_size=t["batch_size"].astype(str)), "'batch_size' is of type"),
        (lambda t: t.drop(columns="seed"), "No column 'seed'. Columns here: batch_size, sq"),
    ],
)
def test_tables_that_would_be_misread_are_refused(change, message):
    with pytest.raises(FitError, match=message):
        gradient_noise_scale(change(measured(0, replicates=5)))


def test_the_level_of_an_interval_is_a_probability():
    found = gradient_noise_scale(measured(2, replicates=200))
    assert found.conf_int(0.5)["lower"] > found.conf_int(0.99)["lower"]
    with pytest.raises(FitError, match="level is 95"):
        found.conf_int(95)

"""Variances of small samples, drawn towards what they have in common."""

import numpy as np
import pytest
from scipy.special import polygamma

from analysis.batches.moderated import _inverse_trigamma, moderate, variance_prior

FREEDOM = 4


def sample_variances(rng, true_variances):
    return true_variances * rng.chisquare(FREEDOM, len(true_variances)) / FREEDOM


@pytest.mark.parametrize("value", [1e-6, 0.01, 0.5, 1.0, 30.0, 1e6])
def test_the_inverse_is_that_of_the_trigamma_function(value):
    assert polygamma(1, _inverse_trigamma(value)) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("prior_freedom", [1.0, 3.0, 20.0])
def test_scale_and_freedom_of_variances_that_differ_are_found(prior_freedom):
    rng = np.random.default_rng(0)
    true = 0.02 * prior_freedom / rng.chisquare(prior_freedom, 200_000)
    scale, freedom = variance_prior(sample_variances(rng, true), FREEDOM)
    assert scale == pytest.approx(0.02, rel=0.03)
    assert freedom == pytest.approx(prior_freedom, rel=0.06)


def test_where_all_have_one_variance_that_is_pooling():
    rng = np.random.default_rng(1)
    variances = sample_variances(rng, np.full(600, 0.02))
    scale, freedom = variance_prior(variances, FREEDOM)
    assert freedom > 50
    drawn, _ = moderate(variances, FREEDOM, scale, freedom)
    assert drawn.std() < 0.1 * variances.std()
    assert drawn.mean() == pytest.approx(0.02, rel=0.05)


def test_samples_that_differ_less_than_chance_would_have_it_get_one_variance():
    scale, freedom = variance_prior(np.full(10, 0.02), FREEDOM)
    assert freedom == np.inf
    drawn, both = moderate(np.array([0.001, 0.5]), FREEDOM, scale, freedom)
    assert list(drawn) == [scale, scale]
    assert (both == np.inf).all()


def test_one_sample_has_nothing_in_common_with_others():
    assert variance_prior(np.array([0.02]), FREEDOM) == (0.0, 0.0)
    drawn, both = moderate(np.array([0.02]), FREEDOM, 0.0, 0.0)
    assert (drawn[0], both[0]) == (0.02, FREEDOM)
    drawn, _ = moderate(np.array([0.0, 0.02]), np.array([0, FREEDOM]), 0.0, 0.0)
    assert np.isnan(drawn[0])
    assert drawn[1] == 0.02


def test_samples_may_have_different_degrees_of_freedom():
    rng = np.random.default_rng(2)
    freedom = rng.integers(3, 30, 100_000)
    true = 0.02 * 6 / rng.chisquare(6, len(freedom))
    found = variance_prior(true * rng.chisquare(freedom) / freedom, freedom)
    assert found == pytest.approx((0.02, 6), rel=0.04)

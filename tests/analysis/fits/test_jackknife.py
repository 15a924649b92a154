import numpy as np
import pytest
from scipy import stats

from analysis.fits.jackknife import Jackknife


def leave_one_out(values, estimator):
    folds = [estimator(np.delete(values, i, axis=0)) for i in range(len(values))]
    return Jackknife(estimator(values), np.stack(folds))


def test_standard_error_of_a_mean_is_the_textbook_one():
    values = np.random.default_rng(1).normal(size=(7, 3))
    jackknife = leave_one_out(values, lambda rows: rows.mean(axis=0))
    # Algebraically equal; only rounding differs.
    np.testing.assert_allclose(jackknife.standard_error, stats.sem(values), rtol=1e-12)


def test_interval_of_a_mean_is_students():
    values = np.random.default_rng(2).normal(size=(5, 1))
    interval = leave_one_out(values, lambda rows: rows.mean(axis=0)).interval(0.9)
    expected = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values[:, 0]))
    np.testing.assert_allclose(interval[0], expected, rtol=1e-12)


def test_covariance_of_two_means_is_the_sample_covariance_over_n():
    values = np.random.default_rng(3).normal(size=(6, 2)) @ np.array([[1.0, 0.7], [0.0, 0.4]])
    covariance = leave_one_out(values, lambda rows: rows.mean(axis=0)).covariance
    np.testing.assert_allclose(covariance, np.cov(values.T) / 6, rtol=1e-12)


def test_standard_error_of_a_ratio_agrees_with_the_delta_method():
    rng = np.random.default_rng(4)
    values = np.stack([5 + 0.1 * rng.normal(size=400), 2 + 0.1 * rng.normal(size=400)], axis=1)
    jackknife = leave_one_out(values, lambda rows: rows.mean(axis=0)[:1] / rows.mean(axis=0)[1:])
    mean = values.mean(axis=0)
    gradient = np.array([1 / mean[1], -mean[0] / mean[1] ** 2])
    expected = np.sqrt(gradient @ np.cov(values.T) @ gradient / 400)
    # Both are first-order; they differ by terms of relative size 1/400.
    assert jackknife.standard_error[0] == pytest.approx(expected, rel=0.01)


def test_degrees_of_freedom_are_one_less_than_the_seeds():
    assert Jackknife(np.zeros(1), np.zeros((5, 1))).degrees_of_freedom == 4

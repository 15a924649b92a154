import itertools

import numpy as np
import pytest

from analysis.errors import FitError
from analysis.fits.fitting import fit_form
from analysis.forms import FORMS, find_form

forms = pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))


def sizes(form, points=14):
    """Sizes from 1e2 to 1e6: a line of one variable, a square of two."""
    if len(form.variables) == 1:
        return np.geomspace(1e2, 1e6, points)[:, None]
    axis = np.geomspace(1e2, 1e6, 6)
    return np.array(list(itertools.product(axis, repeat=len(form.variables))))


def nearby(form, rows, rng):
    """Working parameters around the typical ones, inside the bounds."""
    typical = np.array(form.typical)
    return typical * (1 + 0.1 * rng.uniform(-1, 1, size=(rows, len(typical))))


@forms
def test_a_form_says_what_it_is(form):
    sizes_of = {len(values) for values in (form.parameters, form.lower, form.upper, form.typical)}
    assert sizes_of == {len(form.parameters)}
    assert len(set(form.parameters)) == len(form.parameters)
    assert "arXiv" in form.reference
    assert form.equation
    assert (np.array(form.lower) <= form.typical).all()
    assert (np.array(form.upper) >= form.typical).all()
    assert find_form(form.name) is form


@forms
def test_gradients_are_those_of_finite_differences(form):
    x = sizes(form)
    for theta in nearby(form, 5, np.random.default_rng(0)):
        steps = np.diag(1e-5 * np.maximum(np.abs(theta), 1e-6))
        numeric = [
            (form.log_value(theta + step, x) - form.log_value(theta - step, x)) / (2 * step.sum())
            for step in steps
        ]
        analytic = form.log_gradient(theta, x).T
        # The differences' own error: the square of the step, and rounding over the step.
        scale = np.abs(analytic).max(axis=1, keepdims=True)
        np.testing.assert_allclose(analytic / scale, numeric / scale, atol=1e-7)


@forms
@pytest.mark.parametrize("scale", ["log", "linear"])
def test_exact_data_give_back_their_parameters(form, scale):
    x = sizes(form)
    truth = nearby(form, 6, np.random.default_rng(1))
    fits = fit_form(form, x, form.log_value(truth, x), scale=scale)
    assert fits.converged.all()
    # Not 1e-12: a flat direction magnifies the rounding of the data.
    np.testing.assert_allclose(form.reported(fits.theta), form.reported(truth), rtol=1e-6)


@forms
def test_starts_lie_in_the_bounds_whatever_the_data(form):
    rng = np.random.default_rng(2)
    x = sizes(form)
    logs = np.stack(
        [rng.normal(size=len(x)), np.zeros(len(x)), np.sort(rng.normal(size=len(x))) + 5]
    )
    fits = [fit_form(form, x, log_y[None]) for log_y in logs]
    for fit in fits:
        assert np.isfinite(fit.theta).all()
        assert (fit.theta >= form.lower).all()
        assert (fit.theta <= form.upper).all()
    starts = form.starts(x, logs, np.ones_like(logs))
    assert np.isfinite(starts).all()
    finite = np.clip(starts, form.lower, form.upper)
    # Only exponents of absurd data may be clipped, never a start's only usable value.
    assert np.isfinite(form.log_value(finite, x)).all()


@forms
def test_reported_parameters_rise_with_the_working_ones(form):
    theta = nearby(form, 5, np.random.default_rng(3))
    for i in range(theta.shape[1]):
        more = theta.copy()
        more[:, i] += 0.01 * np.abs(theta[:, i]) + 1e-6
        change = form.reported(more) - form.reported(theta)
        assert (change[:, i] > 0).all()
        assert (change >= 0).all()


@forms
def test_a_row_does_not_depend_on_the_others(form):
    x = sizes(form)
    rng = np.random.default_rng(4)
    logs = form.log_value(np.array(form.typical), x) + 0.02 * rng.normal(size=(4, len(x)))
    together = fit_form(form, x, logs)
    for row, log_y in enumerate(logs):
        alone = fit_form(form, x, log_y)
        # The curve, as flat directions move parameters at the same loss.
        np.testing.assert_allclose(
            form.log_value(alone.theta[0], x), form.log_value(together.theta[row], x), atol=1e-7
        )
        assert alone.objective[0] == pytest.approx(together.objective[row], rel=1e-9)


@forms
def test_points_without_weight_have_no_influence(form):
    x = sizes(form)
    rng = np.random.default_rng(5)
    log_y = form.log_value(np.array(form.typical), x) + 0.02 * rng.normal(size=len(x))
    weights = (np.arange(len(x)) % 7 != 3).astype(float)
    spoilt = np.where(weights > 0, log_y, np.nan)
    masked = fit_form(form, x, spoilt, weights=weights)
    removed = fit_form(form, x[weights > 0], log_y[weights > 0])
    assert masked.objective[0] == pytest.approx(removed.objective[0], rel=1e-7)


def test_an_unknown_form_is_refused_with_all_names():
    with pytest.raises(FitError, match=r"Unknown form 'M9'. Available: 'M1', 'M2', 'M3', 'M4'"):
        find_form("M9")

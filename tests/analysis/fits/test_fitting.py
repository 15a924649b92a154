import itertools

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize

from analysis.curves.least_squares import fit_curves
from analysis.errors import FitError
from analysis.fits.fitting import Huber, SquaredError, fit_form
from analysis.forms import FORMS, find_form

SIZES = np.geomspace(50, 50 * 10**2.4, 9)
LOSSES = {"squared": SquaredError(), "huber": Huber(1e-3)}


def noisy(form, rows, rng, sd=0.03):
    if len(form.variables) == 1:
        x = np.geomspace(1e2, 1e6, 14)[:, None]
    else:
        x = np.array(list(itertools.product(np.geomspace(1e2, 1e6, 6), repeat=2)))
    return x, form.log_value(np.array(form.typical), x) + sd * rng.normal(size=(rows, len(x)))


def huber(residual, delta):
    inside = np.abs(residual) <= delta
    return np.where(inside, residual**2 / 2, delta * (np.abs(residual) - delta / 2))


def scipys_best(form, x, log_y, delta, starts):
    """The least objective that scipy's L-BFGS finds from many starts, with the form's bounds."""

    def objective(theta):
        residual = log_y - form.log_value(theta, x)
        slope = 2 * residual if delta is None else np.clip(residual, -delta, delta)
        value = residual**2 if delta is None else huber(residual, delta)
        return value.sum(), -slope @ form.log_gradient(theta, x)

    bounds = list(zip(form.lower, form.upper, strict=True))
    options = {"maxiter": 300, "maxfun": 600, "ftol": 1e-15, "gtol": 1e-12}
    return min(
        optimize.minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).fun
        for start in starts
    )


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("delta", [None, 1e-3], ids=["squared", "huber"])
def test_no_start_of_scipy_finds_a_better_fit(form, delta):
    rng = np.random.default_rng(7)
    x, logs = noisy(form, 2, rng)
    fits = fit_form(form, x, logs, loss=SquaredError() if delta is None else Huber(delta))
    typical = np.array(form.typical)
    spread = 0.2 * rng.normal(size=(4, len(typical)))
    starts = [typical, *np.clip(typical * (1 + spread), form.lower, form.upper)]
    for row, log_y in enumerate(logs):
        best = scipys_best(form, x, log_y, delta, [*starts, fits.theta[row]])
        assert fits.objective[row] <= best * (1 + 1e-6)


@pytest.mark.parametrize("beta", [-0.1, -0.3])
def test_floored_power_laws_are_fitted_as_by_the_search_made_for_them(beta):
    truth = np.log(0.7 * (SIZES / SIZES[0]) ** beta + 0.02)
    logs = truth + 0.05 * np.random.default_rng(3).normal(size=(40, 9))
    fits = fit_form(find_form("M2"), SIZES, logs)
    theta, loss = fit_curves(np.log(SIZES), logs, floor=True)
    np.testing.assert_allclose(fits.objective, loss, rtol=1e-8)
    # Along a flat direction parameters differ more than their loss.
    np.testing.assert_allclose(fits.theta, theta, rtol=1e-5, atol=1e-5)


def test_weights_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(0)
    logs, weights = rng.normal(size=(3, 9)), rng.uniform(0, 2, size=(3, 9))
    fits = fit_form(find_form("M1"), SIZES, logs, weights=weights)
    design = sm.add_constant(np.log(SIZES))
    for theta, log_y, weight in zip(fits.theta, logs, weights, strict=True):
        np.testing.assert_allclose(
            theta, sm.WLS(log_y, design, weights=weight).fit().params, rtol=1e-8
        )


def test_linear_residuals_are_those_of_curve_fit():
    y = 30 * SIZES**-0.4 + 0.5 + 0.1 * np.random.default_rng(1).normal(size=9)
    fits = fit_form(find_form("M2"), SIZES, np.log(y), scale="linear")
    peer, _ = optimize.curve_fit(
        lambda m, a, b, g: np.exp(a) * m**b + g, SIZES, y, p0=[3.4, -0.4, 0.5], xtol=1e-14
    )
    # curve_fit differentiates numerically.
    np.testing.assert_allclose(fits.theta[0], peer, rtol=1e-5)


def test_hubers_loss_with_a_wide_delta_is_half_the_squares():
    logs = np.random.default_rng(2).normal(size=(4, 9))
    wide = fit_form(find_form("M1"), SIZES, logs, loss=Huber(1e3))
    squares = fit_form(find_form("M1"), SIZES, logs)
    np.testing.assert_allclose(wide.theta, squares.theta, rtol=1e-8)
    np.testing.assert_allclose(2 * wide.objective, squares.objective, rtol=1e-12)


def test_hubers_line_is_that_of_statsmodels():
    logs = np.random.default_rng(2).standard_t(2, size=40)
    sizes = np.geomspace(1, 1e4, 40)
    ours = fit_form(find_form("M1"), sizes, logs, loss=Huber(0.5))
    norm = sm.robust.norms.HuberT(t=0.5)
    design, theta = sm.add_constant(np.log(sizes)), np.zeros(2)
    # Its iteration with the scale held at 1 minimizes the same sum.
    for _ in range(200):
        weights = norm.weights(logs - design @ theta)
        theta = sm.WLS(logs, design, weights=weights).fit().params
    np.testing.assert_allclose(ours.theta[0], theta, atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_a_held_parameter_keeps_its_value_and_is_at_no_bound(loss):
    truth = np.log(5 * SIZES**-0.3 + 0.02)
    logs = truth + 0.03 * np.random.default_rng(1).normal(size=(2, 9))
    held = np.array([[np.nan, np.nan, 0.0], [np.nan, -0.25, np.nan]])
    fits = fit_form(find_form("M2"), SIZES, logs, loss=loss, held=held)
    assert fits.theta[0, 2] == 0
    assert fits.theta[1, 1] == -0.25
    assert not fits.at_bound[[0, 1], [2, 1]].any()
    without_floor = fit_form(find_form("M1"), SIZES, logs[0], loss=loss)
    assert fits.objective[0] == pytest.approx(without_floor.objective[0], rel=1e-7)


def test_a_parameter_at_its_bound_is_named():
    steep = -6 * np.log(SIZES)
    fits = fit_form(find_form("M1"), SIZES, [steep, 0.1 * steep])
    np.testing.assert_array_equal(fits.at_bound, [[False, True], [False, False]])
    assert fits.theta[0, 1] == -4


def test_given_starts_replace_those_of_the_form():
    truth = np.log(5 * SIZES**-0.3 + 0.02)
    near = fit_form(find_form("M2"), SIZES, truth, starts=[1.6, -0.29, 0.01])
    np.testing.assert_allclose(near.theta[0], [np.log(5), -0.3, 0.02], rtol=1e-6)


def test_rows_beyond_a_chunk_are_fitted_alike(monkeypatch):
    form = find_form("M2")
    logs = np.log(5 * SIZES**-0.3) + 0.03 * np.random.default_rng(1).normal(size=(7, 9))
    whole = fit_form(form, SIZES, logs)
    monkeypatch.setattr("analysis.fits.fitting._CHUNK", 1000)
    np.testing.assert_allclose(fit_form(form, SIZES, logs).objective, whole.objective, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": SIZES[:, None] * np.ones(2)}, "needs one row a point and the columns m"),
        ({"x": -SIZES}, "above 0"),
        ({"log_y": np.zeros(5)}, "5 values a row and x 9 points"),
        ({"log_y": np.full(9, np.nan)}, "9 values of log y are not finite"),
        ({"weights": np.zeros(9)}, "1 rows have no point"),
        ({"weights": -np.ones(9)}, "0 or above"),
        ({"weights": np.ones(4)}, "weights have the shape"),
        ({"starts": np.zeros(2)}, "the last must be 3"),
        ({"scale": "cubic"}, "Unknown scale 'cubic'"),
    ],
)
def test_unusable_input_is_refused(options, message):
    arguments = {"x": SIZES, "log_y": np.zeros(9), **options}
    with pytest.raises(FitError, match=message):
        fit_form(find_form("M2"), arguments.pop("x"), arguments.pop("log_y"), **arguments)


def test_a_delta_of_zero_is_refused():
    with pytest.raises(FitError, match=r"delta is 0.0"):
        Huber(0.0)

"""Against a likelihood in β and log σ, maximized without derivatives, and against OLS."""

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import optimize, stats

from analysis.errors import FitError
from analysis.fits.censored_regression import MINIMUM_SCALE, fit_interval_censored

Floats = NDArray[np.float64]
TRUTH = np.array([5.0, 1.0, 0.5, -1.0])


def mixture(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """60 rows: exact, left-open, right-open, intervals of one unit, and some without content."""
    x = np.column_stack([np.ones(60), rng.normal(size=(60, 3))])
    y = x @ TRUTH + 0.4 * rng.normal(size=60)
    lower, upper = y.copy(), y.copy()
    lower[y > 6.5], upper[y > 6.5] = 6.5, np.inf
    lower[y < 3.5], upper[y < 3.5] = -np.inf, 3.5
    rounded = (y >= 3.5) & (y <= 6.5) & (rng.random(60) < 0.4)
    lower[rounded], upper[rounded] = np.floor(y[rounded]), np.ceil(y[rounded])
    lower[:3], upper[:3] = -np.inf, np.inf
    return x, lower, upper


def log_likelihood_by_kind(theta: Floats, x: Floats, lower: Floats, upper: Floats) -> float:
    centre, scale = x @ theta[:-1], np.exp(theta[-1])
    exact = lower == upper
    density = stats.norm.logpdf(lower[exact], centre[exact], scale)
    low, high = (stats.norm.cdf(b[~exact], centre[~exact], scale) for b in (lower, upper))
    return float(density.sum() + np.log(np.maximum(high - low, 1e-300)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_maximum_that_a_search_without_derivatives_finds(seed: int) -> None:
    x, lower, upper = mixture(np.random.default_rng(seed))
    fit = fit_interval_censored(x, lower, upper)
    found = optimize.minimize(
        lambda theta: -log_likelihood_by_kind(theta, x, lower, upper),
        [*TRUTH, np.log(0.4)],
        method="Nelder-Mead",
        options={"maxiter": 6000, "maxfev": 6000, "xatol": 1e-7, "fatol": 1e-9},
    )
    assert fit.identified
    # Nelder-Mead stops at 1e-7 in the parameters of a surface with curvature of order 100
    np.testing.assert_allclose(fit.coefficients, found.x[:-1], atol=1e-5)
    assert float(fit.scale) == pytest.approx(np.exp(found.x[-1]), abs=1e-5)
    assert float(fit.log_likelihood) == pytest.approx(-found.fun, abs=1e-7)


def test_without_censoring_it_is_least_squares() -> None:
    rng = np.random.default_rng(4)
    x = np.column_stack([np.ones(40), rng.normal(3, 1, size=(40, 3))])
    y = x @ TRUTH + rng.normal(size=40)
    fit, ols = fit_interval_censored(x, y, y), sm.OLS(y, x).fit()
    # Newton's last step gains < 1e-10 in log-likelihood: parameters to about 1e-6
    np.testing.assert_allclose(fit.coefficients, ols.params, atol=1e-6)
    assert float(fit.scale) == pytest.approx(np.sqrt(ols.ssr / 40), abs=1e-6)
    assert float(fit.log_likelihood) == pytest.approx(ols.llf, abs=1e-8)


def test_a_batch_gives_each_fit_alone() -> None:
    parts = [mixture(np.random.default_rng(seed)) for seed in range(4)]
    x, lower, upper = (np.stack(each) for each in zip(*parts, strict=True))
    batch = fit_interval_censored(x, lower, upper)
    for k, part in enumerate(parts):
        alone = fit_interval_censored(*part)
        np.testing.assert_allclose(batch.coefficients[k], alone.coefficients, atol=1e-6)


def test_one_design_serves_many_sets_of_bounds() -> None:
    x, lower, upper = mixture(np.random.default_rng(5))
    shifted = fit_interval_censored(x, np.stack([lower, lower + 2]), np.stack([upper, upper + 2]))
    difference = shifted.coefficients[1] - shifted.coefficients[0]
    np.testing.assert_allclose(difference, [2, 0, 0, 0], atol=1e-6)


def precise_mixture() -> tuple[Floats, Floats, Floats]:
    """40 rows about a plane within .002; a third of them have an open bound."""
    rng = np.random.default_rng(10)
    x = np.column_stack([np.ones(40), rng.normal(size=(40, 3))])
    y = x @ TRUTH + 0.002 * rng.normal(size=40)
    return x, np.minimum(y, 6.5), np.where(y > 6.5, np.inf, y)


def separated() -> tuple[Floats, Floats, Floats]:
    group = np.repeat([0.0, 1.0], 10)
    lower, upper = np.where(group == 0, -np.inf, 5.0), np.where(group == 0, 4.0, np.inf)
    return np.column_stack([np.ones(20), group]), lower, upper


@pytest.mark.parametrize("shift", ["constant", "plane"])
@pytest.mark.parametrize(
    ("rows", "identified"),
    [(mixture(np.random.default_rng(11)), True), (precise_mixture(), True), (separated(), False)],
)
def test_bounds_shifted_by_a_plane_shift_the_coefficients_and_nothing_else(
    rows: tuple[Floats, Floats, Floats], identified: bool, shift: str
) -> None:
    x, lower, upper = rows
    by = np.array([100.0, -30.0, 7.0, 20.0])[: x.shape[1]] * (
        np.arange(x.shape[1]) == 0 if shift == "constant" else 1
    )
    fit = fit_interval_censored(x, lower, upper)
    moved = fit_interval_censored(x, lower + x @ by, upper + x @ by)
    assert bool(fit.identified) is bool(moved.identified) is identified
    # the steps are the same but for the rounding of bounds, 1e-14 of them
    np.testing.assert_allclose(moved.coefficients, fit.coefficients + by, rtol=0, atol=1e-9)
    np.testing.assert_allclose(moved.scale, fit.scale, rtol=0, atol=1e-9)
    np.testing.assert_allclose(moved.log_likelihood, fit.log_likelihood, rtol=0, atol=1e-9)


def test_censoring_at_an_edge_does_not_bend_the_slope_as_the_edge_itself_does() -> None:
    rng = np.random.default_rng(6)
    slopes, naive = [], []
    for _ in range(50):
        x = np.column_stack([np.ones(80), np.repeat(np.arange(8.0), 10)])
        y = x @ [0.0, 1.0] + 0.3 * rng.normal(size=80)
        lower = np.minimum(y, 4.0)
        upper = np.where(y > 4.0, np.inf, y)
        slopes.append(fit_interval_censored(x, lower, upper).coefficients[1])
        naive.append(np.polyfit(x[:, 1], lower, 1)[0])
    # sd of a slope .02 over 50 sets: 4 standard errors of the mean are .012
    assert np.mean(slopes) == pytest.approx(1.0, abs=0.012)
    assert np.mean(naive) < 0.7


def test_a_plane_through_every_point_is_found_with_the_smallest_scale() -> None:
    x, _, _ = mixture(np.random.default_rng(7))
    fit = fit_interval_censored(x, x @ TRUTH, x @ TRUTH)
    np.testing.assert_allclose(fit.coefficients, TRUTH, atol=1e-9)
    assert float(fit.scale) == pytest.approx(MINIMUM_SCALE)


@pytest.mark.parametrize(("rows", "open_rows"), [(4, 2), (6, 3), (8, 3)])
def test_at_the_smallest_scale_open_bounds_still_move_the_plane(rows: int, open_rows: int) -> None:
    x = np.column_stack([np.ones(rows), np.arange(rows)])
    y = x @ [3.0, 1.0]
    is_open = np.arange(rows) >= rows - open_rows
    lower = np.where(is_open, y[rows - open_rows] - MINIMUM_SCALE, y)
    upper = np.where(is_open, np.inf, y)
    fit = fit_interval_censored(x, lower, upper)
    found = optimize.minimize(
        lambda away: (
            -log_likelihood_by_kind(
                np.array([*([3.0, 1.0] + MINIMUM_SCALE * away), np.log(MINIMUM_SCALE)]),
                x,
                lower,
                upper,
            )
        ),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-12},
    )
    assert fit.identified
    assert float(fit.scale) == pytest.approx(MINIMUM_SCALE)
    # Nelder-Mead stops at 1e-7 of the scale; Newton's decrement allows 1e-5 of it
    np.testing.assert_allclose(
        fit.coefficients, [3.0, 1.0] + MINIMUM_SCALE * found.x, atol=2e-5 * MINIMUM_SCALE
    )


@pytest.mark.parametrize(
    ("low_rows", "high_rows"),
    [
        ((-np.inf, np.inf), (-np.inf, np.inf)),  # nothing is known
        ((-np.inf, 4.0), (5.0, np.inf)),  # separated: the slope grows for ever
        ((-np.inf, 5.0), (5.0, np.inf)),
        ((0.0, 4.0), (1.0, 5.0)),  # every slope from -3 to 5 fits
    ],
)
def test_a_likelihood_without_one_finite_maximum_is_not_identified(
    low_rows: tuple[float, float], high_rows: tuple[float, float]
) -> None:
    group = np.repeat([0.0, 1.0], 10)
    x = np.column_stack([np.ones(20), group])
    lower, upper = (
        np.where(group == 0, low, high) for low, high in zip(low_rows, high_rows, strict=True)
    )
    fit = fit_interval_censored(x, lower, upper)
    assert not fit.identified
    assert np.isnan(fit.coefficients).all()


def test_collinear_columns_are_not_identified() -> None:
    x, lower, upper = mixture(np.random.default_rng(8))
    x[:, 3] = x[:, 1] - x[:, 2]
    assert not fit_interval_censored(x, lower, upper).identified


def test_bounds_that_cross_and_designs_with_gaps_are_refused() -> None:
    x, lower, upper = mixture(np.random.default_rng(9))
    with pytest.raises(FitError, match="no larger than its upper"):
        fit_interval_censored(x, upper + 1, lower)
    with pytest.raises(FitError, match="no larger than its upper"):
        fit_interval_censored(x, np.full(60, np.nan), upper)
    x[0, 1] = np.nan
    with pytest.raises(FitError, match="not finite"):
        fit_interval_censored(x, lower, upper)

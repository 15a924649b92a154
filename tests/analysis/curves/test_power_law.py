import itertools
import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, stats

from analysis import FitError, FitStatus, PowerLawFit, find_form, fit_power_law
from analysis.curves.bounds import score_bounds
from analysis.curves.least_squares import fit_curves
from analysis.fits.fitting import fit_form
from tests.analysis.reproduction import lcdb_curve, steepening_curve

SIZES = np.round(np.geomspace(50, 50 * 10**2.4, 9)).astype(int)
"""Nine sizes over 2.4 decades, as in the calibration of the intervals."""


def truth(beta, gamma=0.0, first=0.7, sizes=SIZES):
    return (first - gamma) * (sizes / sizes[0]) ** beta + gamma


def table(log_error, sizes=SIZES, y="best_validation_error", **columns):
    """A table of cells from (sizes, seeds) log errors."""
    n_sizes, n_seeds = log_error.shape
    return pd.DataFrame(
        {
            "train_examples": np.repeat(sizes, n_seeds),
            "seed": np.tile(np.arange(n_seeds), n_sizes),
            y: np.exp(log_error).ravel(),
            **columns,
        }
    )


def noisy(beta=-0.3, gamma=0.02, *, sd=0.04, seeds=5, rng=0, sizes=SIZES, **columns):
    noise = sd * np.random.default_rng(rng).normal(size=(len(sizes), seeds))
    return table(np.log(truth(beta, gamma, sizes=sizes))[:, None] + noise, sizes, **columns)


@pytest.mark.parametrize("beta", [-0.6, -0.45, -0.3, -0.2, -0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.03])
def test_exact_curves_are_recovered(beta, gamma):
    cells = table(np.repeat(np.log(truth(beta, gamma))[:, None], 3, axis=1))
    fit = fit_power_law(cells)
    alpha = (0.7 - gamma) / SIZES[0] ** beta
    # Without noise only rounding and the end of the iteration are left.
    np.testing.assert_allclose(fit.params, [alpha, beta, gamma], rtol=1e-6, atol=1e-6)
    bounds = fit.conf_int()
    assert (bounds["upper"] - bounds["lower"] < 1e-6).all()
    assert fit.status == (FitStatus.CONVERGED if gamma else fit.status)


def test_floorless_fit_is_the_straight_line_of_statsmodels():
    cells = noisy(gamma=0.0)
    fit = fit_power_law(cells, form="M1")
    means = np.log(cells["best_validation_error"]).groupby(cells["train_examples"]).mean()
    line = sm.OLS(means.to_numpy(), sm.add_constant(np.log(SIZES))).fit()
    # The same linear problem solved twice.
    assert np.log(fit.alpha) == pytest.approx(line.params[0], abs=1e-10)
    assert fit.beta == pytest.approx(line.params[1], abs=1e-10)
    assert fit.gamma == 0
    assert fit.params.index.tolist() == ["alpha", "beta"]
    assert fit.conf_int().index.tolist() == ["alpha", "beta"]


@pytest.mark.parametrize(("beta", "gamma"), [(-0.1, 0.0), (-0.1, 0.03), (-0.3, 0.02), (-0.6, 0.03)])
@pytest.mark.parametrize("seed", range(4))
def test_no_start_of_scipy_finds_a_better_fit(beta, gamma, seed):
    cells = noisy(beta, gamma, sd=0.08, rng=seed)
    fit = fit_power_law(cells, ci=None)
    log_size = np.log(SIZES)
    means = np.log(cells["best_validation_error"]).groupby(cells["train_examples"]).mean()

    def residual(theta):
        return np.log(np.exp(theta[0] + theta[1] * log_size) + theta[2]) - means.to_numpy()

    losses = []
    for b, g in itertools.product([-2, -1, -0.5, -0.2, -0.05], [1e-4, 0.05, 0.2]):
        start = [np.log(0.5) - b * log_size.mean(), b, g]
        box = ([-np.inf, -4, 0], [np.inf, 4, np.inf])
        best = optimize.least_squares(residual, start, bounds=box, xtol=1e-14, ftol=1e-14)
        losses.append(2 * best.cost)
    ours = (residual([np.log(fit.alpha), fit.beta, fit.gamma]) ** 2).sum()
    # scipy stops a little before its minimum at a bound.
    assert ours <= min(losses) * (1 + 1e-9)


def test_curve_fit_agrees_on_an_interior_optimum():
    cells = noisy(-0.5, 0.05, rng=3)
    fit = fit_power_law(cells)
    log_means = np.log(cells["best_validation_error"]).groupby(cells["train_examples"]).mean()

    def log_curve(m, a, b, g):
        return np.log(np.exp(a) * m**b + g)

    peer, _ = optimize.curve_fit(log_curve, SIZES, log_means, p0=[1.0, -0.4, 0.04], xtol=1e-14)
    assert fit.gamma > 0
    # curve_fit differentiates numerically, which leaves about 1e-7.
    np.testing.assert_allclose([np.log(fit.alpha), fit.beta, fit.gamma], peer, rtol=1e-5, atol=1e-7)


def test_jackknife_interval_of_a_line_is_students_over_per_seed_slopes():
    cells = noisy(gamma=0.0)
    fit = fit_power_law(cells, form="M1")
    slopes = [
        stats.linregress(np.log(of_seed["train_examples"]), np.log(of_seed[fit.y])).slope
        for _, of_seed in cells.groupby("seed")
    ]
    # In a balanced table the slope of the means is the mean of the seeds' slopes.
    expected = stats.t.interval(0.95, 4, loc=np.mean(slopes), scale=stats.sem(slopes))
    np.testing.assert_allclose(fit.conf_int().loc["beta"], expected, rtol=1e-9)


def test_profile_interval_of_a_line_is_that_of_least_squares():
    cells = noisy(gamma=0.0)
    fit = fit_power_law(cells, form="M1", ci="profile")
    design = sm.add_constant(np.log(cells["train_examples"].to_numpy()))
    line = sm.OLS(np.log(cells[fit.y].to_numpy()), design).fit()
    expected = line.conf_int(0.05)
    # Bisection stops at 1e-10 of the bracket.
    np.testing.assert_allclose(np.log(fit.conf_int().loc["alpha"]), expected[0], atol=1e-7)
    np.testing.assert_allclose(fit.conf_int().loc["beta"], expected[1], atol=1e-8)


@pytest.mark.parametrize("parameter", ["beta", "gamma"])
def test_profile_bounds_raise_the_sum_of_squares_by_the_f_quantile(parameter):
    cells = noisy(-0.5, 0.05, rng=3)
    fit = fit_power_law(cells, ci="profile")
    log_size = np.log(cells["train_examples"].to_numpy(dtype=float))
    log_error = np.log(cells[fit.y].to_numpy())

    def sum_of_squares(held=None):
        def residual(free):
            a, b, g = free[0], free[1], free[2]
            if held is not None:
                b, g = (held, g) if parameter == "beta" else (b, held)
            return np.log(np.exp(a + b * log_size) + max(g, 0)) - log_error

        start = [np.log(fit.alpha), fit.beta, fit.gamma]
        return 2 * optimize.least_squares(residual, start, xtol=1e-15, ftol=1e-15).cost

    least = sum_of_squares()
    quantile = stats.f.ppf(0.95, 1, 45 - 3)
    for bound in fit.conf_int().loc[parameter]:
        # The profile is quadratic here: a bound off by 1e-5 of the width shows as 1e-5.
        ratio = (sum_of_squares(bound) / least - 1) * (45 - 3)
        assert ratio == pytest.approx(quantile, rel=1e-4)


def test_bounds_of_the_jackknife_are_where_a_t_test_of_the_seeds_scores_has_p_05():
    cells = noisy(-0.5, 0.05, rng=3)
    lower, upper = fit_power_law(cells).conf_int().loc["beta"]
    log_size = np.log(SIZES)
    by_seed = np.log(cells["best_validation_error"]).to_numpy().reshape(9, 5)

    def curve(a, b, g):
        return np.log(np.exp(a + b * log_size) + g)

    def p_value(b):
        def residual(free):
            return curve(free[0], b, free[1]) - by_seed.mean(axis=1)

        start = [np.log(0.5) - b * log_size.mean(), 0.05]
        a, g = optimize.least_squares(residual, start, xtol=1e-15, ftol=1e-15).x
        assert g > 0
        by_a, by_b, by_g = optimize.approx_fprime([a, b, g], lambda theta: curve(*theta), 1e-7).T
        others = np.stack([by_a, by_g], axis=1)
        score = by_b - others @ np.linalg.lstsq(others, by_b)[0]
        return stats.ttest_1samp(score @ (by_seed - curve(a, b, g)[:, None]), 0).pvalue

    # Finite differences of step 1e-7 leave five digits or so.
    assert p_value(lower) == pytest.approx(0.05, rel=1e-3)
    assert p_value(upper) == pytest.approx(0.05, rel=1e-3)


def test_sizes_count_alike_whatever_their_number_of_seeds():
    cells = noisy(gamma=0.0)
    last = cells["train_examples"] == SIZES[-1]
    cells = cells[~(last & (cells["seed"] > 1))]
    fit = fit_power_law(cells, form="M1")
    means = np.log(cells[fit.y]).groupby(cells["train_examples"]).mean()
    assert fit.beta == pytest.approx(stats.linregress(np.log(SIZES), means).slope, abs=1e-10)
    assert fit.points["seeds"].tolist() == [5] * 8 + [2]


def test_order_of_rows_and_columns_does_not_matter():
    cells = noisy(model_size=4)
    shuffled = cells.sample(frac=1, random_state=1).iloc[:, ::-1]
    pd.testing.assert_series_equal(fit_power_law(cells).params, fit_power_law(shuffled).params)


def test_units_of_size_and_error_change_alpha_and_gamma_alone():
    cells = noisy(-0.5, 0.05, rng=3, y="loss")
    fit = fit_power_law(cells, y="loss")
    scaled = cells.assign(train_examples=cells["train_examples"] * 1e9, loss=cells["loss"] * 7)
    other = fit_power_law(scaled, y="loss")
    # Sizes of 1e11 cost digits of the level, not of the exponent.
    assert other.beta == pytest.approx(fit.beta, rel=1e-6)
    assert other.gamma == pytest.approx(7 * fit.gamma, rel=1e-5)
    np.testing.assert_allclose(other.conf_int().loc["beta"], fit.conf_int().loc["beta"], rtol=1e-5)


def test_plateau_is_left_out_by_rule_and_kept_in_points():
    sizes = np.array([4, 8, 16, 32, *SIZES])
    error = np.concatenate([[0.9, 0.9, 0.89, 0.85], truth(-0.3, 0.02)])
    cells = table(np.repeat(np.log(error)[:, None], 3, axis=1), sizes, chance_error=0.9)
    fit = fit_power_law(cells)
    assert fit.points["used"].tolist() == [False] * 4 + [True] * 9
    assert fit.points["region"].tolist() == ["small data"] * 4 + ["power law"] * 9
    assert fit.points["why"].tolist()[3] == "mean error above 0.9 of the chance error"
    assert fit.beta == pytest.approx(-0.3, abs=1e-6)
    assert fit.n_cells == 27
    assert "train_examples 32 not used" in str(fit.summary())
    by_argument = fit_power_law(cells.drop(columns="chance_error"), chance_error=0.9)
    assert by_argument.beta == fit.beta


def test_a_large_size_at_chance_is_called_a_cliff():
    cells = noisy(chance_error=0.9)
    cells.loc[cells["train_examples"] == SIZES[6], "best_validation_error"] = 0.9
    fit = fit_power_law(cells)
    assert fit.points["region"].tolist()[6] == "cliff"
    assert not fit.points["used"].tolist()[6]
    assert "though a smaller size is below" in fit.points["why"].tolist()[6]


def test_chance_error_does_not_speak_of_losses():
    cells = noisy(y="best_validation_loss", chance_error=0.5)
    fit = fit_power_law(cells, y="best_validation_loss")
    assert fit.points["used"].all()
    assert "No chance error is known" in str(fit.summary())


def test_a_diverged_seed_counts_with_its_error():
    cells = noisy(chance_error=0.9, status="completed")
    row = (cells["train_examples"] == SIZES[5]) & (cells["seed"] == 0)
    cells.loc[row, ["best_validation_error", "status"]] = [0.9, "diverged"]
    point = fit_power_law(cells).points.iloc[5]
    expected = np.log(cells.loc[cells["train_examples"] == SIZES[5], "best_validation_error"])
    assert point["seeds"] == 5
    assert point["mean_log_error"] == pytest.approx(expected.mean())


def test_a_zero_error_counts_as_half_an_example_of_one_more():
    cells = noisy()
    row = (cells["train_examples"] == SIZES[-1]) & (cells["seed"] == 2)
    cells.loc[row, "best_validation_error"] = 0.0
    by_hand = cells.assign(
        best_validation_error=cells["best_validation_error"].mask(row, 0.5 / 2001)
    )
    fit = fit_power_law(cells, validation_examples=2000)
    assert fit.beta == fit_power_law(by_hand, validation_examples=2000).beta
    from_column = fit_power_law(cells.assign(validation_examples=2000))
    assert from_column.beta == fit.beta


def test_binomial_variance_is_added_only_where_few_errors_are_expected():
    cells = noisy()
    plain = fit_power_law(cells)
    large = fit_power_law(cells, validation_examples=10**6)
    pd.testing.assert_frame_equal(large.conf_int(), plain.conf_int())
    small = fit_power_law(cells, validation_examples=400)
    rate = np.exp(small.points["mean_log_error"])
    expected = np.where(400 * rate < 100, (1 - rate) / (400 * rate), 0)
    np.testing.assert_allclose(small.points["binomial_variance"], expected)
    assert 0 < (expected > 0).sum() < len(SIZES)
    assert small.beta == plain.beta
    assert "sampling of the held-out set" in str(small.summary())


def test_binomial_term_of_a_line_is_the_larger_of_two_closed_forms():
    cells = noisy(gamma=0.0)
    plain = fit_power_law(cells, form="M1")
    wide = fit_power_law(cells, form="M1", validation_examples=300)
    centred = np.log(SIZES) - np.log(SIZES).mean()
    weights = centred / (centred @ centred)
    v = wide.points["binomial_variance"].to_numpy()
    added = max(weights**2 @ v, weights @ np.minimum.outer(v, v) @ weights)
    quantile = stats.t.ppf(0.975, 4)
    half = {
        name: (fit.conf_int().loc["beta", "upper"] - fit.beta) / quantile
        for name, fit in {"plain": plain, "wide": wide}.items()
    }
    assert half["wide"] ** 2 - half["plain"] ** 2 == pytest.approx(added, rel=1e-6)
    profile = fit_power_law(cells, form="M1", ci="profile", validation_examples=300)
    bare = fit_power_law(cells, form="M1", ci="profile")
    difference = (profile.conf_int().loc["beta", "upper"] - profile.beta) ** 2 - (
        bare.conf_int().loc["beta", "upper"] - bare.beta
    ) ** 2
    assert difference == pytest.approx(added * stats.f.ppf(0.95, 1, 43), rel=1e-6)


def several_models(rng, *, seeds=5, models=4, sd_first=0.08, sd_last=0.01):
    """Models of equal true error, with noise that falls with size: where choosing biases."""
    sd = np.geomspace(sd_first, sd_last, len(SIZES))[:, None]
    tables = [
        table(
            np.log(truth(-0.3, first=0.4))[:, None] + sd * rng.normal(size=(len(SIZES), seeds)),
            model_size=size,
        )
        for size in range(models)
    ]
    return pd.concat(tables, ignore_index=True)


def test_the_best_model_at_each_size_is_scored_on_seeds_that_did_not_choose_it():
    cells = several_models(np.random.default_rng(0), models=2)
    cells["cell_id"] = [f"c{i}" for i in range(len(cells))]
    better = cells["model_size"] == (cells["train_examples"] > 500).astype(int)
    cells.loc[~better, "best_validation_error"] *= 1.8
    fit = fit_power_law(cells, form="M1")
    alone = fit_power_law(cells[better], form="M1")
    pd.testing.assert_frame_equal(fit.conf_int(), alone.conf_int())
    assert fit.points["best_model_size"].tolist() == (SIZES > 500).astype(int).tolist()
    assert (fit.points["agreed"] == 1).all()
    assert (fit.n_cells, alone.n_cells, len(fit.cell_ids)) == (90, 45, 90)
    assert "scored on left-out seeds" in str(fit.summary())


def test_cross_fitting_removes_the_bias_of_choosing():
    rng = np.random.default_rng(7)
    cross_fitted, naive = [], []
    for _ in range(60):
        cells = several_models(rng)
        cross_fitted.append(fit_power_law(cells, form="M1").beta)
        means = np.log(cells["best_validation_error"]).groupby(
            [cells["train_examples"], cells["model_size"]]
        )
        best = means.mean().groupby("train_examples").min()
        naive.append(stats.linregress(np.log(SIZES), best).slope)
    # sd of one β is .005 (OLS of the means), so .0007 of 60: four of these.
    assert np.mean(cross_fitted) == pytest.approx(-0.3, abs=0.003)
    assert np.mean(naive) > -0.3 + 0.005


def test_several_hyperparameters_can_be_chosen_over():
    cells = several_models(np.random.default_rng(1), models=2)
    both = pd.concat([cells.assign(learning_rate=rate) for rate in (0.1, 0.2)], ignore_index=True)
    both.loc[both["learning_rate"] == 0.2, "best_validation_error"] *= 1.8
    with pytest.raises(
        FitError, match=r"2 rows have .*differ in learning_rate.*'model_size', 'lea"
    ):
        fit_power_law(both)
    fit = fit_power_law(both, choose=("model_size", "learning_rate"))
    assert (fit.points["best_learning_rate"] == 0.1).all()


def test_a_weight_decay_is_chosen_or_selected_and_never_pooled():
    cells = noisy(rng=1)
    decays = pd.concat([cells.assign(weight_decay=0.0), cells.assign(weight_decay=0.01)])
    decays.loc[decays["weight_decay"] == 0, "best_validation_error"] *= 1.2
    with pytest.raises(FitError, match=r"2 rows have .*differ in weight_decay.*choose="):
        fit_power_law(decays)
    fit = fit_power_law(decays, choose=("weight_decay",))
    assert (fit.points["best_weight_decay"] == 0.01).all()
    assert fit.beta == fit_power_law(cells).beta


def test_repeated_seeds_are_told_apart_and_never_offered_for_a_choice():
    cells = noisy()
    with pytest.raises(FitError, match=r"differ in seed: tell replicates apart with seed='seed'.$"):
        fit_power_law(cells, seed=None, ci=None)
    rates = pd.concat([cells.assign(learning_rate=0.1), cells.assign(learning_rate=0.2)])
    advice = r"with seed='seed'; select one value, or .* choose=\('learning_rate',\)"
    with pytest.raises(FitError, match=advice):
        fit_power_law(rates, seed=None, ci=None)
    assert fit_power_law(rates, seed="seed", choose=("learning_rate",)).n_cells == 90


def better_model_16(seeds=5):
    """Model 16 falls as m^-.4, model 64 as m^-.15: at the larger sizes 16 is far ahead."""
    noise = np.random.default_rng(3).normal(scale=0.03, size=(2, len(SIZES), 8))
    law = {16: 3.0 * SIZES**-0.4, 64: 1.5 * SIZES**-0.15}
    tables = [
        table(np.log(error)[:, None] + own, model_size=size)
        for (size, error), own in zip(law.items(), noise, strict=True)
    ]
    cells = pd.concat(tables, ignore_index=True)
    return cells[cells["seed"] < seeds], cells


def test_more_seeds_of_one_model_do_not_take_the_best_one_from_the_curve():
    balanced, more = better_model_16()
    more = more[(more["seed"] < 5) | (more["model_size"] == 64)]
    fit, expected = fit_power_law(more, form="M1"), fit_power_law(balanced, form="M1")
    pd.testing.assert_frame_equal(fit.conf_int(), expected.conf_int())
    assert fit.beta == pytest.approx(-0.4, abs=0.02)
    assert set(fit.points["why"]) == {"seeds 5, 6, 7 not used: not every model_size has them"}


def test_a_lost_cell_of_the_best_model_costs_its_seed_and_not_the_model():
    cells, _ = better_model_16()
    lost = (cells["train_examples"] == SIZES[-1]) & (cells["model_size"] == 16)
    fit = fit_power_law(cells[~(lost & (cells["seed"] == 4))], form="M1")
    last = fit.points.iloc[-1]
    assert (last["used"], last["seeds"], last["best_model_size"]) == (True, 4, 16)
    assert last["why"] == "seeds 4 not used: not every model_size has them"
    assert fit.beta == pytest.approx(-0.4, abs=0.02)


def test_a_size_whose_best_model_may_be_one_that_lacks_seeds_is_left_out():
    cells, _ = better_model_16()
    lost = (cells["train_examples"] == SIZES[-1]) & (cells["seed"] > 1)
    fit = fit_power_law(cells[~(lost & (cells["model_size"] == 16))], form="M1")
    assert fit.points["used"].tolist() == [True] * 8 + [False]
    reason = "model_size 16 may be the best, and lacks seeds that others have"
    assert fit.points["why"].iloc[-1] == reason
    assert fit.beta == pytest.approx(-0.4, abs=0.02)


def test_a_worse_model_with_few_seeds_is_not_compared_and_named():
    cells, _ = better_model_16()
    lost = (cells["train_examples"] == SIZES[-1]) & (cells["seed"] > 1)
    fit = fit_power_law(cells[~(lost & (cells["model_size"] == 64))], form="M1")
    last = fit.points.iloc[-1]
    assert (last["used"], last["seeds"], last["best_model_size"]) == (True, 5, 16)
    assert last["why"] == "model_size 64 not compared: seeds are missing"


def test_a_size_of_one_seed_is_left_out():
    cells = noisy()
    cells = cells[~((cells["train_examples"] == 50) & (cells["seed"] > 0))]
    fit = fit_power_law(cells)
    assert fit.points["used"].tolist() == [False] + [True] * 8
    assert fit.points["why"].tolist()[0] == "one seed only"


def test_a_flat_curve_has_no_exponent():
    flat = table(np.log(0.5) + 0.02 * np.random.default_rng(5).normal(size=(9, 5)))
    fit = fit_power_law(flat)
    assert fit.status is FitStatus.FLAT
    assert not fit.identified
    assert fit.conf_int().loc["beta"].tolist() == [-np.inf, np.inf]
    beyond = fit.predict_interval([SIZES[-1] * 10]).iloc[0]
    assert (beyond["lower"], beyond["upper"]) == (0, np.inf)
    within = fit.predict_interval(SIZES)
    assert np.isfinite(within.to_numpy()).all()
    assert "∞" in str(fit.summary())


def test_an_exactly_constant_curve_is_flat():
    assert fit_power_law(table(np.full((9, 3), np.log(0.3)))).status is FitStatus.FLAT


def test_a_flat_line_without_floor_has_the_exponent_zero():
    flat = table(np.log(0.5) + 0.02 * np.random.default_rng(5).normal(size=(9, 5)))
    fit = fit_power_law(flat, form="M1")
    lower, upper = fit.conf_int().loc["beta"]
    assert fit.status is FitStatus.FLAT
    assert -0.05 < lower < 0 < upper < 0.05


@pytest.mark.parametrize("ci", ["jackknife", "profile"])
def test_a_drop_followed_by_a_floor_leaves_the_exponent_unbounded(ci):
    log_error = np.log(np.array([0.5, 0.2, 0.2, 0.2, 0.2, 0.2]))[:, None]
    noise = 0.03 * np.random.default_rng(2).normal(size=(6, 5))
    fit = fit_power_law(table(log_error + noise, 50 * 4 ** np.arange(6)), ci=ci)
    assert fit.status is FitStatus.UNIDENTIFIED
    lower, upper = fit.conf_int().loc["beta"]
    # What is known: from 0.5 to within some % of the floor in two octaves is steeper than 1.
    assert lower == -np.inf
    assert -4 < upper < -1
    assert fit.predict_interval([1e9])["upper"].tolist() == [np.inf]
    assert fit_power_law(table(log_error + noise, 50 * 4 ** np.arange(6)), ci=None).status is (
        FitStatus.UNIDENTIFIED
    )


def test_less_than_a_decade_is_called_narrow():
    sizes = np.array([100, 200, 300, 400, 600])
    fit = fit_power_law(noisy(sizes=sizes, sd=0.001, gamma=0.3, beta=-1.0))
    assert fit.status is FitStatus.NARROW_RANGE


def test_a_steepening_curve_is_called_a_poor_fit():
    log_size = np.log(SIZES / SIZES[0])
    steepening = np.log(0.8) - 0.05 * log_size**2
    noise = 0.02 * np.random.default_rng(3).normal(size=(9, 5))
    assert fit_power_law(table(steepening[:, None] + noise)).status is FitStatus.POOR_FIT


def test_more_seeds_at_some_sizes_do_not_make_a_right_curve_a_poor_fit():
    few = np.arange(9)[:, None] >= 3
    runs = np.where(few & (np.arange(10) >= 2), np.nan, 1.0)  # 10 seeds at 3 sizes, 2 at 6
    tables = [noisy(gamma=0.0, rng=rng, seeds=10, sd=0.03 * runs).dropna() for rng in range(40)]
    statuses = [fit_power_law(cells, form="M1", ci=None).status for cells in tables]
    # Of 40 right tables .04 are called so by MISFIT_LEVEL; more than 1 has a chance of 1 in 1300.
    assert statuses.count(FitStatus.POOR_FIT) <= 1


@pytest.mark.parametrize("shared", [0, 1])
def test_a_right_curve_is_no_poor_fit_where_sizes_share_few_seeds(shared):
    seeds = 2 if shared else 5
    cells = noisy(gamma=0.0, seeds=seeds)
    place = cells["train_examples"].rank(method="dense").astype(int)
    cells["seed"] += (seeds - shared) * place  # {0, 1}, {1, 2}, …, or numbers of runs
    for form in ("M1", "M2"):
        fit = fit_power_law(cells, form=form, ci=None)
        assert fit.status in (FitStatus.CONVERGED, FitStatus.FLOOR_AT_ZERO)


def test_a_floor_at_its_bound_is_said():
    assert fit_power_law(noisy(gamma=0.0, rng=8)).status is FitStatus.FLOOR_AT_ZERO


def test_prediction_follows_the_formula_in_the_shape_asked_for():
    fit = fit_power_law(noisy())
    sizes = np.array([[100, 1000], [1e5, 1e7]])
    expected = fit.alpha * sizes**fit.beta + fit.gamma
    np.testing.assert_allclose(fit.predict(sizes), expected, rtol=1e-12)
    assert fit.predict(100).shape == ()
    with pytest.raises(FitError, match="finite and above 0"):
        fit.predict([0])


def test_prediction_interval_of_a_line_is_students_over_per_seed_lines():
    cells = noisy(gamma=0.0)
    fit = fit_power_law(cells, form="M1")
    lines = [
        stats.linregress(np.log(of_seed["train_examples"]), np.log(of_seed[fit.y]))
        for _, of_seed in cells.groupby("seed")
    ]
    at = [line.intercept + line.slope * np.log(1e6) for line in lines]
    expected = np.exp(stats.t.interval(0.9, 4, loc=np.mean(at), scale=stats.sem(at)))
    band = fit.predict_interval([1e6], level=0.9)
    np.testing.assert_allclose(band[["lower", "upper"]].to_numpy()[0], expected, rtol=1e-9)


def test_a_table_without_seeds_is_fitted_without_interval():
    cells = pd.DataFrame({"m": SIZES, "loss": truth(-0.2, 0.1)})
    fit = fit_power_law(cells, x="m", y="loss", seed=None, ci=None)
    assert fit.beta == pytest.approx(-0.2, abs=1e-6)
    assert fit.seeds == ()
    assert fit.to_dict()["conf_int"] is None
    for ask in (fit.conf_int, lambda: fit.predict_interval([100])):
        with pytest.raises(FitError, match="ci=None"):
            ask()
    with pytest.raises(FitError, match="at least 2 seeds"):
        fit_power_law(cells, x="m", y="loss", seed=None)


def test_summary_states_what_the_numbers_rest_on():
    text = str(fit_power_law(noisy()).summary())
    for part in ("M2 α m^β + γ", "9 of 9, 2.4 decades", "jackknife, 95%", "45", "Status: "):
        assert part in text
    assert max(map(len, text.splitlines())) <= 88


def test_html_escapes_names_of_columns():
    cells = noisy().rename(columns={"train_examples": "<b>&m"})
    html = fit_power_law(cells, x="<b>&m")._repr_html_()
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;m" in html


@pytest.mark.parametrize("flat", [False, True])
def test_a_fit_becomes_strict_json(flat):
    cells = noisy(cell_id=[f"c{i}" for i in range(45)], model_size="small")
    if flat:
        cells["best_validation_error"] = 0.5
    fit = fit_power_law(cells)
    document = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    assert document["params"]["beta"] == fit.beta
    assert document["n_cells"] == len(document["cell_ids"]) == 45
    assert document["seeds"] == [0, 1, 2, 3, 4]
    assert document["points"][0]["used"] is True
    assert (document["conf_int"]["beta"]["lower"] == "-inf") is flat
    assert document["notes"][0].startswith("Status: ")


def drop_sizes(cells):
    return cells[cells["train_examples"] > SIZES[5]]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (drop_sizes, {}, "3 distinct values of train_examples can be used, and 4 are needed"),
        (lambda c: c.assign(chance_error=0.1), {}, "Left out were 50: mean error above 0.9"),
        (lambda c: c[c["seed"] == 0], {}, "at least 2 seeds"),
        (lambda c: c.iloc[:0], {}, "0 distinct values"),
        (lambda c: c.assign(model_size=1).iloc[:0], {}, "0 distinct values"),
        (lambda c: pd.concat([c, c.iloc[:1]]), {}, "2 rows have train_examples=50, seed=0"),
        (lambda c: c, {"y": "loss"}, "No column 'loss'. Columns here: train_examples, seed"),
        (lambda c: c, {"form": "M9"}, "Unknown form 'M9'. Available: 'M1', 'M2'"),
        (lambda c: c, {"ci": "bootstrap"}, "Unknown ci 'bootstrap'. Available: 'jackknife', 'p"),
        (lambda c: c, {"choose": ("seed",)}, "must be different columns"),
        (lambda c: c, {"chance_error": -1.0}, "chance_error is -1.0"),
        (lambda c: c, {"validation_examples": 0}, "validation_examples is 0"),
        (lambda c: c.assign(train_examples=-c["train_examples"]), {}, "values of 0 or below"),
        (lambda c: c.assign(train_examples="many"), {}, "numbers are needed"),
        (lambda c: c.assign(best_validation_error=np.inf), {}, "holds inf"),
        (lambda c: c.assign(best_validation_error=-0.1), {}, "negative values"),
        (lambda c: c.assign(best_validation_error=1.5), {}, "at most 1"),
        (lambda c: c.assign(best_validation_error=0.0), {}, "pass validation_examples"),
        (lambda c: c.assign(status="failed"), {}, "45 of the 45 cells failed"),
        (lambda c: c.assign(workload=c["seed"].astype(str)), {}, "mixes workload '0', '1'"),
        (lambda c: c.assign(chance_error=c["seed"] / 10 + 0.5), {}, "chance_error has the values"),
        (lambda c: c.assign(seed=c["seed"].mask(c["seed"] == 1)), {}, "9 of 45 rows have no seed"),
        (lambda c: c.drop(index=0), {"ci": "profile"}, "every seed at every size"),
    ],
)
def test_tables_that_would_be_misread_are_refused(change, options, message):
    with pytest.raises(FitError, match=message):
        fit_power_law(change(noisy()), **options)


def test_losses_lost_to_divergence_are_not_passed_over():
    cells = noisy(y="best_validation_loss", status="completed")
    cells.loc[[3, 8], "status"] = "diverged"
    cells.loc[[3, 8], "best_validation_loss"] = np.nan
    with pytest.raises(FitError, match=r"2 of them diverged.*survivors alone"):
        fit_power_law(cells, y="best_validation_loss")


def test_one_model_a_size_is_no_choice():
    cells = noisy()
    cells["model_size"] = cells["train_examples"] // 10
    for ci in ("jackknife", "profile"):
        fit = fit_power_law(cells, ci=ci)
        same = fit_power_law(cells.drop(columns="model_size"), ci=ci)
        pd.testing.assert_frame_equal(fit.conf_int(), same.conf_int())
        assert "left-out seeds" not in str(fit.summary())


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        (2, {}, "needs 3 seeds, and there are 2"),
        (5, {"ci": "profile"}, "does not know of the choi"),
    ],
)
def test_choosing_needs_seeds_and_the_jackknife(seeds, options, message):
    cells = several_models(np.random.default_rng(0), seeds=seeds)
    with pytest.raises(FitError, match=message):
        fit_power_law(cells, **options)


def test_level_of_an_interval_is_a_probability():
    fit = fit_power_law(noisy())
    narrow, wide = fit.conf_int(0.5).loc["beta"], fit.conf_int(0.99).loc["beta"]
    assert wide["lower"] < narrow["lower"] < fit.beta < narrow["upper"] < wide["upper"]
    with pytest.raises(FitError, match="level is 95"):
        fit.conf_int(95)


@pytest.mark.parametrize("name", ["M3", "M4", "BNSL"])
def test_other_forms_are_fitted_to_the_same_points_with_a_jackknife_of_their_parameters(name):
    form = find_form(name)
    sizes = np.round(np.geomspace(100, 1e6, 14)).astype(int)
    log_truth = form.log_value(np.array(form.typical), sizes[:, None])
    noise = 0.01 * np.random.default_rng(1).normal(size=(14, 5))
    cells = table(log_truth[:, None] + noise, sizes, y="loss")
    fit = fit_power_law(cells, y="loss", form=name)
    assert fit.params.index.tolist() == list(form.parameters)
    assert fit.conf_int().index.tolist() == list(form.parameters)
    logs = np.log(cells["loss"])
    means = [logs.groupby(cells["train_examples"]).mean()]
    for seed in range(5):
        kept = cells["seed"] != seed
        means.append(logs[kept].groupby(cells["train_examples"]).mean())
    fits = [form.reported(fit_form(form, sizes, mean).theta[0]) for mean in means]
    spread = np.array(fits[1:]) - np.mean(fits[1:], axis=0)
    error = np.sqrt(4 / 5 * (spread**2).sum(axis=0))
    half = stats.t.ppf(0.975, 4) * error
    np.testing.assert_allclose(fit.params, fits[0], rtol=1e-6)
    positive = form.reported(np.array(form.lower)) >= 0
    lower = np.where(positive, np.maximum(fits[0] - half, 0), fits[0] - half)
    np.testing.assert_allclose(fit.conf_int()["lower"], lower, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit.conf_int()["upper"], fits[0] + half, rtol=1e-4)
    np.testing.assert_allclose(np.log(fit.predict(sizes)), log_truth, atol=0.03)
    inside = fit.predict_interval(sizes)
    assert ((inside["lower"] < inside["predicted"]) & (inside["predicted"] < inside["upper"])).all()
    assert form.equation in str(fit.summary())
    assert json.loads(json.dumps(fit.to_dict(), allow_nan=False))["form"] == name


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda c: c, {"form": "Chinchilla"}, "Forms of several variables are fitted by fit_sc"),
        (lambda c: c, {"form": "M4", "ci": "profile"}, "is made for M1 and M2; for M4"),
        (lambda c: c[c["train_examples"] < 1000], {"form": "BNSL"}, "and 7 are needed"),
    ],
)
def test_other_forms_are_refused_where_they_cannot_be_fitted(change, options, message):
    with pytest.raises(FitError, match=message):
        fit_power_law(change(noisy()), **options)


@pytest.mark.parametrize("name", ["M1", "M2"])
def test_bootstrap_draws_are_fits_to_seeds_drawn_with_replacement(name):
    cells = noisy(seeds=4)
    # One seed is missing at the smallest size.
    cells = cells.drop(index=0)
    fit = fit_power_law(cells, form=name)
    draws = fit.bootstrap(20, rng=5)
    assert draws.columns.tolist() == fit.params.index.tolist()
    counts = np.random.default_rng(5).multinomial(4, np.full(4, 0.25), 20)
    for count, draw in zip(counts, draws.to_numpy(), strict=True):
        drawn = [cells[cells["seed"] == seed] for seed in range(4) for _ in range(count[seed])]
        means = pd.concat(drawn).groupby("train_examples")["best_validation_error"]
        means = means.apply(lambda errors: np.log(errors).mean())
        theta, _ = fit_curves(
            np.log(means.index.to_numpy(float)), means.to_numpy()[None], floor=name == "M2"
        )
        expected = [np.exp(theta[0, 0]), theta[0, 1], theta[0, 2]][: len(draw)]
        np.testing.assert_allclose(draw, expected, rtol=1e-5, atol=1e-6)


def test_a_form_has_only_its_own_parameters():
    fit = fit_power_law(noisy(), form="BNSL", ci=None)
    with pytest.raises(AttributeError, match="BNSL has no parameter 'beta'; it has a, b, c0"):
        fit.beta  # noqa: B018


@pytest.mark.parametrize("name", ["M3", "M4", "BNSL"])
def test_other_forms_of_a_flat_curve_identify_nothing(name):
    noise = 0.04 * np.random.default_rng(0).normal(size=(9, 5))
    fit = fit_power_law(table(np.log(0.3) + noise), form=name)
    assert fit.status is FitStatus.FLAT
    assert not fit.identified
    assert (fit.conf_int()["upper"] == np.inf).all()


@pytest.mark.parametrize(
    ("form", "status"), [("M1", "POOR_FIT"), ("M2", "POOR_FIT"), ("BNSL", "UNIDENTIFIED")]
)
def test_a_curve_that_falls_and_rises_is_poorly_fitted_and_not_flat(form, status):
    bowl = 0.3 * ((np.log(SIZES) - np.log(SIZES).mean()) / 3) ** 2
    noise = 0.01 * np.random.default_rng(0).normal(size=(9, 5))
    assert fit_power_law(table(bowl[:, None] - 1 + noise), form=form).status.name == status


def test_a_form_whose_parameters_trade_off_has_no_bounds():
    line = table(np.log(truth(-0.2))[:, None] + 0.03 * np.random.default_rng(0).normal(size=(9, 5)))
    fit = fit_power_law(line, form="M4")  # a ceiling and its power, of a straight line
    assert fit.status is FitStatus.UNIDENTIFIED
    assert fit.conf_int().loc["beta"].tolist() == [-np.inf, np.inf]
    assert (fit.conf_int()["upper"] == np.inf).all()


@pytest.mark.parametrize("few", [slice(5, 9), slice(0, 2)])
def test_intervals_are_as_wide_as_sizes_with_few_seeds_ask_for(few):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        errors = np.log(truth(-0.3))[:, None] + 0.04 * rng.normal(size=(9, 10))
        errors[few, 2:] = np.nan
        cells = table(errors).dropna()
        low, high = fit_power_law(cells, form="M1").conf_int().loc["beta"]
        held.append(low < -0.3 < high)
    # Nominal .95, with a standard error of .013. With t of 9 degrees: .88 and .90.
    assert 0.925 < np.mean(held) < 0.99


def test_curves_fitted_together_are_fitted_as_alone():
    curves = np.log(truth(-0.3, 0.02)) + 0.04 * np.random.default_rng(0).normal(size=(6, 9))
    together, losses = fit_curves(np.log(SIZES), curves, floor=True)
    for curve, theta, loss in zip(curves, together, losses, strict=True):
        alone, alone_loss = fit_curves(np.log(SIZES), curve[None], floor=True)
        np.testing.assert_allclose(alone[0], theta, rtol=1e-8, atol=1e-10)
        assert alone_loss[0] == pytest.approx(loss, rel=1e-10)


def fit_lcdb(curve) -> PowerLawFit:
    return fit_power_law(curve, x="size_train", y="score_test", seed="outer_seed")


def test_the_published_letter_curve_of_nearest_neighbours_is_no_power_law():
    curve = steepening_curve()
    assert fit_lcdb(curve).status is FitStatus.POOR_FIT


def test_a_published_curve_that_is_a_power_law_predicts_its_largest_size():
    curve = lcdb_curve(1486, "sklearn.neighbors.KNeighborsClassifier")
    fit = fit_lcdb(curve)
    assert fit.status is FitStatus.CONVERGED
    small = fit_lcdb(curve[curve["size_train"] < curve["size_train"].max() / 4])
    largest = curve[curve["size_train"] == curve["size_train"].max()]
    # The mean of five seeds there has itself a standard error of 3 %.
    predicted = small.predict(largest["size_train"].iloc[0])
    assert predicted == pytest.approx(largest["score_test"].mean(), rel=0.1)


def independent(rng, seeds):
    return 0.04 * rng.normal(size=(9, seeds))


def seed_by_slope(rng, seeds):
    centred = np.log(SIZES) - np.log(SIZES).mean()
    tilt = centred[:, None] * 0.02 * rng.normal(size=seeds)
    return 0.03 * rng.normal(size=(9, seeds)) + tilt


def jackknife_bounds_of_beta(log_error):
    """Return (d, 2) bounds by `fit_power_law` of (d, sizes, seeds) tables, all fitted at once."""
    without = [np.delete(log_error, s, axis=2).mean(axis=2) for s in range(log_error.shape[2])]
    means = np.stack([log_error.mean(axis=2), *without], axis=1)
    none = np.zeros((len(SIZES), len(SIZES)))
    return score_bounds(np.log(SIZES), means, (none, none), floor=True, level=0.95)[:, 1]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [independent, seed_by_slope])
# With 10 seeds and a slight floor the jackknife of the estimate itself covers .88.
@pytest.mark.parametrize(("beta", "gamma", "seeds"), [(-0.3, 0.02, 5), (-0.1, 0.02, 10)])
def test_jackknife_intervals_cover_the_true_exponent(noise, beta, gamma, seeds):
    rng = np.random.default_rng(20)
    log_truth = np.log(truth(beta, gamma))[:, None]
    sets = 400
    log_error = log_truth + np.stack([noise(rng, seeds) for _ in range(sets)])
    bounds = jackknife_bounds_of_beta(log_error)
    for of_set, expected in zip(log_error[:5], bounds, strict=False):
        # The same steps on the same numbers; exp and log of the errors round.
        found = fit_power_law(table(of_set)).conf_int().loc["beta"]
        np.testing.assert_allclose(found, expected, rtol=1e-7)
    covered = ((bounds[:, 0] <= beta) & (beta <= bounds[:, 1])).sum()
    finite = np.isfinite(bounds).all(axis=1).sum()
    # A true coverage of .93 to .97 gives, in 400 sets, .93 - 2.6 sd to .97 + 2.6 sd (99.5 %).
    assert 0.897 <= covered / sets <= 0.992
    # Infinite intervals would cover too.
    assert finite / sets > 0.98


def test_a_line_is_as_steep_as_its_points_are():
    # Kaplan et al. 2020 have the critical batch size fall as the loss to the -4.76.
    cells = noisy(-5.0, 0.0, sizes=np.geomspace(2, 6, 8), seeds=5)
    fit = fit_power_law(cells, form="M1")
    lower, upper = fit.conf_int().loc["beta"]
    means = np.log(cells[fit.y]).groupby(cells["train_examples"]).mean()
    line = stats.linregress(np.log(means.index), means)
    assert fit.beta == pytest.approx(line.slope, abs=1e-9)
    assert -5.3 < lower < fit.beta < upper < -4.7

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm

from analysis import FitError, ScalingStatus, find_form, fit_scaling_law
from analysis.curves.bounds import profile_bounds
from analysis.fits.scaling_fit import DIAGNOSTIC

CHINCHILLA = find_form("Chinchilla")
TRUTH = np.array([0.5, 6.0, 6.5, 0.34, 0.28])


def runs(sd=0.005, rng=0, **columns):
    """A table of losses over parameters and data."""
    grid = np.array(list(itertools.product(np.geomspace(1e7, 1e10, 6), np.geomspace(1e8, 1e11, 6))))
    noise = sd * np.random.default_rng(rng).normal(size=len(grid))
    loss = np.exp(CHINCHILLA.log_value(TRUTH, grid) + noise)
    return pd.DataFrame({"N": grid[:, 0], "D": grid[:, 1], "loss": loss, **columns})


def line(sd=0.05, rng=0, n=30, slope=-0.3):
    sizes = np.geomspace(10, 1e4, n)
    noise = sd * np.random.default_rng(rng).normal(size=n)
    return pd.DataFrame({"m": sizes, "y": 5 * sizes**slope * np.exp(noise)})


def test_exact_losses_give_back_their_law():
    fit = fit_scaling_law(runs(sd=0), ["N", "D"], "loss", form="Chinchilla")
    np.testing.assert_allclose(fit.params, CHINCHILLA.reported(TRUTH), rtol=1e-6)
    assert fit.params.index.tolist() == ["E", "A", "B", "alpha", "beta"]
    assert fit.status is ScalingStatus.CONVERGED
    assert fit.flags == ()
    np.testing.assert_allclose(fit.predict(runs(sd=0)), runs(sd=0)["loss"], rtol=1e-9)
    np.testing.assert_allclose(fit.predict([1e8, 1e9]), fit.predict([[1e8, 1e9]]))


def test_a_line_has_the_covariance_and_condition_of_least_squares():
    table = line()
    fit = fit_scaling_law(table, "m", "y", form="M1")
    peer = sm.OLS(np.log(table["y"]), sm.add_constant(np.log(table["m"].to_numpy()))).fit()
    np.testing.assert_allclose(fit.covariance, peer.cov_params(), rtol=1e-8)
    correlation = peer.cov_params().iloc[0, 1] / np.prod(peer.bse)
    assert fit.condition == pytest.approx((1 + abs(correlation)) / (1 - abs(correlation)), rel=1e-6)


def test_profile_intervals_of_a_line_are_those_of_least_squares():
    table = line()
    fit = fit_scaling_law(table, "m", "y", form="M1", ci="profile")
    peer = sm.OLS(np.log(table["y"]), sm.add_constant(np.log(table["m"].to_numpy()))).fit()
    for level in (0.95, 0.5):
        expected = peer.conf_int(1 - level).to_numpy()
        np.testing.assert_allclose(np.log(fit.conf_int(level).loc["alpha"]), expected[0], atol=1e-6)
        np.testing.assert_allclose(fit.conf_int(level).loc["beta"], expected[1], atol=1e-7)


def test_profile_intervals_of_a_floor_are_those_of_the_learning_curve():
    sizes = np.geomspace(50, 5e4, 12)
    noise = 0.03 * np.random.default_rng(4).normal(size=12)
    log_y = np.log(5 * sizes**-0.4 + 0.1) + noise
    table = pd.DataFrame({"m": sizes, "y": np.exp(log_y)})
    fit = fit_scaling_law(table, "m", "y", form="M2", ci="profile")
    expected = profile_bounds(np.log(sizes), log_y[:, None], floor=True, level=0.95)
    np.testing.assert_allclose(np.log(fit.conf_int().loc["alpha"]), expected[0], rtol=1e-5)
    np.testing.assert_allclose(fit.conf_int().iloc[1:], expected[1:], rtol=1e-5)


def test_outliers_that_hubers_loss_passes_by_do_not_make_a_law_flat():
    m = np.geomspace(10, 1e4, 40)
    noise = 0.01 * np.random.default_rng(0).normal(size=40)
    noise[[3, 17, 30]] += [3, -3, 3]
    table = pd.DataFrame({"m": m, "y": 5 * m**-0.1 * np.exp(noise)})
    robust = fit_scaling_law(table, "m", "y", form="M1", loss="huber")
    assert robust.params["beta"] == pytest.approx(-0.1, abs=0.005)
    assert robust.status is ScalingStatus.CONVERGED
    assert fit_scaling_law(table, "m", "y", form="M1").status is ScalingStatus.FLAT
    level = table.assign(y=5 * np.exp(noise))
    assert fit_scaling_law(level, "m", "y", form="M1", loss="huber").status is ScalingStatus.FLAT


def test_profile_intervals_cover_the_truth_of_a_joint_law():
    # 40 tables × 5 parameters; at a coverage of .95 fewer than 180 of 200 has a chance below 1e-3.
    covered = 0
    for rng in range(40):
        table = runs(rng=rng)
        bounds = fit_scaling_law(
            table, ["N", "D"], "loss", form="Chinchilla", ci="profile"
        ).conf_int()
        truth = CHINCHILLA.reported(TRUTH)
        covered += ((bounds["lower"] <= truth) & (truth <= bounds["upper"])).sum()
    assert 180 <= covered < 200


def test_a_floor_at_zero_is_named_and_has_a_lower_bound():
    fit = fit_scaling_law(line(rng=2), "m", "y", form="M2", ci="profile")
    assert fit.status is ScalingStatus.AT_BOUND
    assert fit.flags == ("gamma ended at its lower bound, 0.",)
    assert fit.conf_int().loc["gamma", "lower"] == 0
    assert fit.conf_int().loc["gamma", "upper"] > 0


def with_seeds(seeds=5, tilt=0.0, sd=0.01, rng=0):
    """Runs of several seeds, of which each tilts its losses by so much an e-fold of N."""
    tilts = tilt * np.random.default_rng(1000 + rng).normal(size=seeds)
    tables = [runs(sd=sd, rng=100 * rng + seed, seed=seed) for seed in range(seeds)]
    for table, of_seed in zip(tables, tilts, strict=True):
        log_n = np.log(table["N"])
        table["loss"] *= np.exp(of_seed * (log_n - log_n.mean()))
    return pd.concat(tables, ignore_index=True)


def test_the_jackknife_of_a_line_is_that_of_refits_without_a_seed():
    tables = [line(rng=seed, n=12).assign(seed=seed) for seed in range(6)]
    fit = fit_scaling_law(pd.concat(tables), "m", "y", form="M1", ci="jackknife", seed="seed")
    slopes = []
    for left_out in range(6):
        kept = pd.concat([table for i, table in enumerate(tables) if i != left_out])
        slopes.append(np.polyfit(np.log(kept["m"]), np.log(kept["y"]), 1))
    slopes = np.array(slopes)
    error = np.sqrt(5 / 6 * ((slopes - slopes.mean(axis=0)) ** 2).sum(axis=0))
    half = scipy.stats.t(5).ppf(0.95) * error
    beta, log_alpha = fit.params["beta"], np.log(fit.params["alpha"])
    bounds = fit.conf_int(0.9)
    np.testing.assert_allclose(bounds.loc["beta"], [beta - half[0], beta + half[0]], rtol=1e-6)
    np.testing.assert_allclose(
        np.log(bounds.loc["alpha"]), [log_alpha - half[1], log_alpha + half[1]], rtol=1e-6
    )
    assert "jackknife, 95%" in str(fit.summary())


def test_the_jackknife_covers_a_joint_law_where_noise_is_shared_within_seeds():
    truth = CHINCHILLA.reported(TRUTH)
    covered, by_a_third = np.zeros(5), np.zeros(5)
    for number in range(60):
        table = with_seeds(tilt=0.02, rng=number)
        fit = fit_scaling_law(
            table, ["N", "D"], "loss", form="Chinchilla", ci="jackknife", seed="seed"
        )
        bounds, middle = fit.conf_int().to_numpy(), fit.params.to_numpy()
        covered += (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
        thirds = (bounds + 2 * middle[:, None]) / 3
        by_a_third += (thirds[:, 0] <= truth) & (truth <= thirds[:, 1])
    least = 51  # .95 less 2.81 standard errors of 60
    assert covered.min() >= least
    assert by_a_third.max() < least


def test_an_exponent_that_the_jackknife_does_not_bound_has_an_infinite_bound():
    table = with_seeds(seeds=2, sd=0.5)
    fit = fit_scaling_law(table, ["N", "D"], "loss", form="Chinchilla", ci="jackknife", seed="seed")
    bounds = fit.conf_int()
    assert np.isinf(bounds["upper"]).any()
    assert (bounds["lower"] >= 0).all()
    assert fit.status is ScalingStatus.UNIDENTIFIED


def test_bootstrap_draws_are_refits_to_rows_drawn_with_replacement():
    table = line()
    fit = fit_scaling_law(table, "m", "y", form="M1", ci="bootstrap", draws=50, rng=3)
    assert fit.draws.shape == (50, 2)
    counts = np.random.default_rng(3).multinomial(len(table), np.full(len(table), 1 / 30), 50)
    for count, draw in zip(counts, fit.draws.to_numpy(), strict=True):
        rows = table.loc[np.repeat(table.index, count)]
        design = sm.add_constant(np.log(rows["m"].to_numpy()))
        intercept, slope = sm.OLS(np.log(rows["y"]), design).fit().params
        np.testing.assert_allclose(draw, [np.exp(intercept), slope], rtol=1e-8)
    again = fit_scaling_law(table, "m", "y", form="M1", ci="bootstrap", draws=50, rng=3)
    pd.testing.assert_frame_equal(again.draws, fit.draws)
    expected = np.quantile(fit.draws["beta"], [0.025, 0.975])
    np.testing.assert_allclose(fit.conf_int().loc["beta"], expected)
    assert DIAGNOSTIC in fit.summary().notes


def test_rows_are_annotated_and_none_is_dropped():
    table = pd.concat([runs(), runs().iloc[:2]]).set_axis(range(100, 138))
    weights = (table.index != 110).astype(float)
    fit = fit_scaling_law(table, ["N", "D"], "loss", form="Chinchilla", weights=weights)
    notes = fit.points["note"]
    assert notes.index.tolist() == table.index.tolist()
    assert notes[notes != ""].to_dict() == {
        110: "weight 0: not fitted",
        136: "repeats an earlier row in x and y",
        137: "repeats an earlier row in x and y",
    }
    assert fit.flags == ("2 rows repeat an earlier one in x and y; each still counts.",)
    same = fit_scaling_law(table.drop(110), ["N", "D"], "loss", form="Chinchilla")
    np.testing.assert_allclose(fit.theta, same.theta, rtol=1e-7)


def test_weights_may_be_a_column():
    table = line().assign(w=np.linspace(0.1, 2, 30))
    fit = fit_scaling_law(table, "m", "y", form="M1", weights="w")
    design = sm.add_constant(np.log(table["m"].to_numpy()))
    peer = sm.WLS(np.log(table["y"]), design, weights=table["w"]).fit()
    assert fit.params["beta"] == pytest.approx(peer.params.iloc[1], rel=1e-9)


def steps(replicates=4):
    """Replicated values of a curve that no power law has."""
    sizes = np.repeat(np.geomspace(10, 1e4, 6), replicates)
    noise = 0.02 * np.random.default_rng(0).normal(size=len(sizes))
    bend = np.where(sizes > 300, 1.0, 0.0)
    return pd.DataFrame({"m": sizes, "y": np.exp(noise - bend)})


@pytest.mark.parametrize(
    ("table", "form", "status"),
    [
        (line(slope=0.0, sd=0.2), "M2", ScalingStatus.FLAT),
        (line(slope=0.0, sd=0.0), "M1", ScalingStatus.FLAT),
        (line(slope=-5.0), "M1", ScalingStatus.AT_BOUND),
        (line().query("m < 60"), "M1", ScalingStatus.NARROW_RANGE),
        (steps(), "M1", ScalingStatus.LACK_OF_FIT),
        (line(), "M1", ScalingStatus.CONVERGED),
    ],
)
def test_the_status_says_what_is_wrong(table, form, status):
    assert fit_scaling_law(table, "m", "y", form=form).status is status


def test_a_narrow_range_is_flagged_by_the_columns_name():
    narrow = fit_scaling_law(runs().query("D < 5e8"), ["N", "D"], "loss", form="Gadre")
    assert narrow.flags == ("D spans a factor of 3.98, less than a decade: do not extrapolate.",)
    assert narrow.status is ScalingStatus.NARROW_RANGE


@pytest.mark.parametrize("ci", [None, "profile"])
def test_what_varies_together_cannot_be_told_apart(ci):
    sizes = np.geomspace(1e7, 1e10, 12)
    noise = 0.01 * np.random.default_rng(0).normal(size=12)
    loss = np.exp(CHINCHILLA.log_value(TRUTH, np.stack([sizes, 20 * sizes], axis=1)) + noise)
    table = pd.DataFrame({"N": sizes, "D": 20 * sizes, "loss": loss})
    fit = fit_scaling_law(table, ["N", "D"], "loss", form="Gadre", ci=ci)
    assert fit.status is ScalingStatus.UNIDENTIFIED
    assert any("N and D vary together" in flag for flag in fit.flags)


def test_summary_and_json_state_what_the_numbers_rest_on():
    fit = fit_scaling_law(runs(), ["N", "D"], "loss", form="Chinchilla", ci="profile")
    text = str(fit.summary())
    for part in ("E + A/N^α + B/D^β", "N, D", "squared error", "36 of 36", "profile, 95%"):
        assert part in text
    document = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
    assert document["params"]["alpha"] == fit.params["alpha"]
    assert document["status"] == "converged"
    assert len(document["rows"]) == 36
    assert document["conf_int"]["E"]["lower"] < document["params"]["E"]
    assert "status=CONVERGED" in repr(fit)
    assert "<table>" in fit._repr_html_()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, {"form": "M9"}, "Unknown form 'M9'. Available: 'M1', 'M2', 'M3', 'M4'"),
        (lambda t: t, {"x": ["N"]}, "Chinchilla is a law of N, D, and x names 1 columns: N"),
        (lambda t: t, {"x": ["N", "T"]}, "No column 'T'. Columns here: N, D, loss"),
        (lambda t: t, {"x": ["N", "N"]}, "must be different columns"),
        (lambda t: t.iloc[:5], {}, "has 5 parameters and needs 6 points; there are 5"),
        (lambda t: pd.concat([t.iloc[:3]] * 4), {}, "12 rows lie at only 3 distinct values"),
        (lambda t: t.assign(D=1e9), {}, r"D is 1e\+09 in every row"),
        (lambda t: t.assign(loss=t["loss"].mask(t["N"] > 5e9)), {}, "6 of 36 rows have no finite"),
        (lambda t: t.assign(N=-t["N"]), {}, "36 of 36 rows have a N of 0 or below"),
        (lambda t: t.assign(N="many"), {}, "numbers are needed"),
        (lambda t: t, {"loss": "cubic"}, "Unknown loss 'cubic'. Available: 'squared', 'huber'"),
        (lambda t: t, {"loss": "huber", "delta": 0.0}, "delta is 0.0"),
        (lambda t: t, {"scale": "cubic"}, "Unknown scale 'cubic'"),
        (lambda t: t, {"ci": "wald"}, "Unknown ci 'wald'. Available: 'jackknife', 'bootstrap'"),
        (lambda t: t, {"ci": "jackknife"}, "ci is 'jackknife' and seed is None"),
        (lambda t: t, {"ci": "profile", "seed": "seed"}, "ci is 'profile' and seed is 'seed'"),
        (lambda t: t, {"ci": "jackknife", "seed": "seed"}, "No column 'seed'. Columns here: N, D"),
        (lambda t: t.assign(seed=1), {"ci": "jackknife", "seed": "seed"}, "needs at least 2 seeds"),
        (
            lambda t: t.assign(seed=np.arange(36) > 4),
            {"ci": "jackknife", "seed": "seed"},
            "Without one of its seeds the table has 5 rows, and Chinchilla needs 6",
        ),
        (
            lambda t: t.assign(seed=np.where(np.arange(36) < 3, np.nan, 1)),
            {"ci": "jackknife", "seed": "seed"},
            "3 rows have no seed",
        ),
        (lambda t: t, {"ci": "bootstrap"}, "pass a seed, such as rng=0"),
        (lambda t: t, {"ci": "bootstrap", "rng": 0, "draws": 1}, "draws is 1"),
        (lambda t: t, {"ci": "profile", "loss": "huber"}, "rests on squared error"),
        (lambda t: t, {"weights": "w"}, "No column 'w' for weights"),
        (lambda t: t.assign(w="heavy"), {"weights": "w"}, "weights must be numbers.*heavy"),
        (lambda t: t, {"weights": [1.0]}, "weights have the shape"),
        (lambda t: t, {"weights": -np.ones(36)}, "0 or above"),
    ],
)
def test_unusable_tables_and_unknown_words_are_refused(change, options, message):
    arguments = {"x": ["N", "D"], "form": "Chinchilla", **options}
    with pytest.raises(FitError, match=message):
        fit_scaling_law(change(runs()), arguments.pop("x"), "loss", **arguments)


def test_predictions_need_the_columns_of_the_fit():
    fit = fit_scaling_law(runs(), ["N", "D"], "loss", form="Chinchilla")
    with pytest.raises(FitError, match="columns N, D are needed"):
        fit.predict([1.0, 2.0, 3.0])
    with pytest.raises(FitError, match="above 0"):
        fit.predict([[1.0, -2.0]])
    with pytest.raises(FitError, match=r"No column 'N'\. Columns here: D, loss"):
        fit.predict(runs().drop(columns="N"))
    with pytest.raises(FitError, match="Column 'D' is of type"):
        fit.predict(runs().assign(D="many"))
    with pytest.raises(FitError, match="ci=None"):
        fit.conf_int()
    with pytest.raises(FitError, match="level is 95"):
        fit_scaling_law(line(), "m", "y", form="M1", ci="profile").conf_int(95)

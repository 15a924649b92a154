"""Forms judged by what they did not see: exact cases, coverage, and where extrapolation fails."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import optimize

from analysis import FitError, backtest, fit_power_law
from analysis.curves.backtesting import POST_SELECTION
from tests.analysis.published_data import published
from tests.analysis.reproduction import steepening_curve

Floats = NDArray[np.float64]
SIZES = 50 * 2.0 ** np.arange(11)
LOG_SIZE = np.log(SIZES / SIZES[0])


def cells(log_error: Floats, sizes: Floats = SIZES, **more: object) -> pd.DataFrame:
    """A table of (sizes, seeds) log errors."""
    n_sizes, seeds = log_error.shape
    return pd.DataFrame(
        {
            "train_examples": np.repeat(sizes, seeds),
            "seed": np.tile(np.arange(seeds), n_sizes),
            "error": np.exp(log_error).ravel(),
            **more,
        }
    )


def curve(beta: float, gamma: float) -> Floats:
    return np.log((0.7 - gamma) * np.exp(beta * LOG_SIZE) + gamma)


def noisy(
    beta: float, gamma: float, rng: np.random.Generator, sd: float = 0.04, seeds: int = 5
) -> pd.DataFrame:
    return cells(curve(beta, gamma)[:, None] + rng.normal(0, sd, (len(SIZES), seeds)))


def test_every_split_predicts_every_larger_size_once() -> None:
    told = backtest(noisy(-0.3, 0.02, np.random.default_rng(0)), y="error", forms=("M1", "M2"))
    for form, parameters in (("M1", 2), ("M2", 3)):
        mine = told.predictions[told.predictions["form"] == form]
        expected = {
            (fitted, SIZES[fitted + ahead - 1], ahead)
            for fitted in range(parameters + 1, 11)
            for ahead in range(1, 12 - fitted)
        }
        columns = ["sizes_fitted", "train_examples", "horizon"]
        assert set(mine[columns].itertuples(index=False, name=None)) == expected
        assert len(mine) == len(expected)
    # compared is what both have: splits of 4 sizes and more
    assert (told.predictions["compared"] == (told.predictions["sizes_fitted"] >= 4)).all()
    assert told.forms["n"].tolist() == [28, 28]


def test_predictions_are_those_of_a_line_through_the_smaller_sizes_alone() -> None:
    table = noisy(-0.3, 0.0, np.random.default_rng(1))
    told = backtest(table, y="error", forms=("M1",))
    means = np.log(table["error"]).groupby(table["train_examples"]).mean().to_numpy()
    for fitted in range(3, 11):
        line = np.polyfit(LOG_SIZE[:fitted], means[:fitted], 1)
        mine = told.predictions[told.predictions["sizes_fitted"] == fitted]
        expected = np.polyval(line, LOG_SIZE[fitted:])
        # the same linear problem solved twice
        np.testing.assert_allclose(np.log(mine["predicted"]), expected, atol=1e-9)
        np.testing.assert_allclose(mine["log_error"], expected - means[fitted:], atol=1e-9)


def test_what_is_held_out_does_not_touch_the_prediction() -> None:
    table = noisy(-0.3, 0.02, np.random.default_rng(2))
    spoiled = table.assign(
        error=table["error"].where(table["train_examples"] < SIZES[-2], 0.5 + table["error"] / 2)
    )
    first, second = (
        backtest(each, y="error", forms=("M2", "M3")).predictions for each in (table, spoiled)
    )
    seen = first["sizes_fitted"] <= 9
    columns = ["predicted", "lower", "upper"]
    pd.testing.assert_frame_equal(first.loc[seen, columns], second.loc[seen, columns], rtol=1e-6)
    assert not np.allclose(first.loc[~seen, "predicted"], second.loc[~seen, "predicted"])


def test_the_true_form_wins_and_a_floor_left_out_costs_more_the_further_ahead() -> None:
    rng = np.random.default_rng(3)
    told = backtest(noisy(-0.5, 0.1, rng, sd=0.01), y="error", forms=("M1", "M2", "M3"))
    assert told.chosen == "M2"
    m1 = told.by_horizon[told.by_horizon["form"] == "M1"].set_index("horizon")
    assert (m1["bias"] < 0).all()
    assert m1.loc[5, "rmse"] > 2 * m1.loc[1, "rmse"]
    assert told.forms.loc["M2", "rmse"] < told.forms.loc["M1", "rmse"] / 3
    assert any(POST_SELECTION in note for note in told.notes)


def test_criteria_are_those_of_the_fit_to_all_sizes() -> None:
    table = noisy(-0.3, 0.0, np.random.default_rng(4))
    told = backtest(table, y="error", forms=("M1", "M2"))
    means = np.log(table["error"]).groupby(table["train_examples"]).mean().to_numpy()
    residual = means - np.polyval(np.polyfit(LOG_SIZE, means, 1), LOG_SIZE)
    fit = 11 * np.log((residual**2).mean())
    # α, β and the variance
    assert told.forms.loc["M1", "aic"] == pytest.approx(fit + 6, rel=1e-9)
    assert told.forms.loc["M1", "bic"] == pytest.approx(fit + 3 * np.log(11), rel=1e-9)


@pytest.mark.parametrize(
    ("form", "gamma", "sets", "least"), [("M1", 0.0, 60, 0.8), ("M2", 0.02, 30, 0.75)]
)
def test_intervals_cover_the_largest_shards(
    form: str, gamma: float, sets: int, least: float
) -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(sets):
        table = noisy(-0.3, gamma, rng)
        told = backtest(table, y="error", forms=(form,), most_splits=4).predictions
        last = told[told["sizes_fitted"].isin([7, 10]) & (told["train_examples"] == SIZES[-1])]
        assert len(last) == 2
        covered.append(last["observed"].between(last["lower"], last["upper"]).to_numpy())
    # nominal .90; measured .92 to .96 one size ahead, .89 to .94 four; se .04 and .055
    assert (np.mean(covered, axis=0) >= least).all()


def test_an_interval_without_the_new_point_s_own_noise_would_be_too_narrow() -> None:
    rng = np.random.default_rng(6)
    many = cells(curve(-0.3, 0.0)[:, None] + rng.normal(0, 0.04, (11, 40)))
    told = backtest(many, y="error", forms=("M1",))
    row = told.predict(SIZES[-1], seeds=1).iloc[0]
    # with 40 seeds the curve is known; one new run scatters by .04, t_39 at 90 % being 1.685
    width = np.log(row["upper"] / row["lower"]) / 2
    assert width == pytest.approx(1.685 * 0.04, rel=0.12)
    # of 40 runs the mean, of which the curve itself is a part
    mean = told.predict(SIZES[-1]).iloc[0]
    assert np.log(mean["upper"] / mean["lower"]) < width


def test_a_floor_estimated_at_zero_is_not_taken_for_certain() -> None:
    # the first of these data sets in which no fold has a floor, though there is one
    tables = (noisy(-0.3, 0.02, np.random.default_rng(rng)) for rng in range(100))
    tables = (table[table["train_examples"] <= SIZES[6]] for table in tables)
    fits = ((table, fit_power_law(table, y="error")) for table in tables)
    table, fit = next((t, f) for t, f in fits if f.gamma == 0 and not f.folds[:, 2].any())
    highest = float(fit.conf_int(0.9).loc["gamma", "upper"])
    far = SIZES[-1] * 10

    def residual(theta: Floats) -> Floats:
        values = np.exp(theta[0] + theta[1] * LOG_SIZE[:7]) + highest
        return np.asarray(np.log(values) - fit.means[0])

    level, slope = optimize.least_squares(residual, [-0.5, -0.3], xtol=1e-14).x
    curve_at = np.exp(level + slope * np.log(far / SIZES[0])) + highest
    row = backtest(table, y="error", forms=("M2",)).predict(far, form="M2").iloc[0]
    # the new mean's own noise is added to the distance of that curve
    assert row["upper"] > curve_at > 1.1 * row["predicted"]


def test_a_forecast_is_the_form_fitted_to_all_sizes() -> None:
    table = noisy(-0.3, 0.0, np.random.default_rng(7))
    told = backtest(table, y="error", forms=("M1", "M2"))
    means = np.log(table["error"]).groupby(table["train_examples"]).mean().to_numpy()
    line = np.polyfit(np.log(SIZES), means, 1)
    row = told.predict(1e6, form="M1").loc[1e6]
    assert np.log(row["predicted"]) == pytest.approx(np.polyval(line, np.log(1e6)), abs=1e-8)
    assert row["lower"] < row["predicted"] < row["upper"]


def test_each_curve_is_fitted_on_its_own_and_counts_once() -> None:
    rng = np.random.default_rng(8)
    short = noisy(-0.4, 0.0, rng, seeds=3)[lambda t: t["train_examples"] < 2000]
    long = noisy(-0.2, 0.0, rng, seeds=3)
    both = pd.concat([short.assign(task="a"), long.assign(task="b")])
    told = backtest(both, y="error", forms=("M1",), curves=("task",))
    alone = [backtest(each, y="error", forms=("M1",)).forms.loc["M1"] for each in (short, long)]
    assert told.curves == (("a",), ("b",))
    assert told.forms.loc["M1", "rmse"] == pytest.approx(np.mean([a["rmse"] for a in alone]))
    assert told.forms.loc["M1", "aic"] == pytest.approx(sum(a["aic"] for a in alone))


def test_a_form_too_large_for_the_curve_is_named_and_not_compared() -> None:
    table = noisy(-0.3, 0.0, np.random.default_rng(9))
    told = backtest(table[table["train_examples"] < 3000], y="error")
    assert np.isnan(told.forms.loc["BNSL", "rmse"])
    assert told.forms.loc["BNSL", "n"] == 0
    assert told.chosen != "BNSL"
    assert any(note.startswith("BNSL is not compared") for note in told.notes)
    assert json.loads(json.dumps(told.to_dict(), allow_nan=False))["forms"]["BNSL"]["rmse"] is None


def test_many_sizes_are_rolled_over_in_few_splits_that_all_forms_share() -> None:
    sizes = np.geomspace(50, 5e4, 60)
    table = cells(np.log(0.7) - 0.3 * np.log(sizes / 50)[:, None] + np.zeros((60, 1)), sizes)
    told = backtest(table, y="error", forms=("M1", "M2"), seed=None, most_splits=10)
    fitted = told.predictions.groupby("form")["sizes_fitted"].unique()
    assert set(fitted["M2"]) <= set(fitted["M1"])
    assert 8 <= len(fitted["M1"]) <= 10
    assert fitted["M1"].max() == 59
    # one seed: no interval
    assert told.predictions["lower"].isna().all()


def test_two_variables_need_a_column_that_says_what_to_fit() -> None:
    rng = np.random.default_rng(10)
    n, d = 10 ** rng.uniform(6, 9, 50), 10 ** rng.uniform(8, 10, 50)
    table = pd.DataFrame({"n": n, "d": d, "fit": (n * d < 10**17).astype(int)})
    table["loss"] = 1.7 + 400 / n**0.34 + 2000 / d**0.36
    told = backtest(
        table, ("n", "d"), "loss", forms=("Chinchilla", "Kaplan"), seed=None, training="fit"
    )
    assert told.chosen == "Chinchilla"
    assert told.forms.loc["Chinchilla", "rmse"] < 1e-4
    assert set(told.predictions["n"]) == set(table.loc[table["fit"] == 0, "n"])
    with pytest.raises(FitError, match="training"):
        backtest(table, ("n", "d"), "loss", forms=("Chinchilla",), seed=None)


def test_the_published_split_gives_the_published_error() -> None:
    table = pd.read_csv(published("revisiting_nsl/benchmark.vision.csv"))
    told = backtest(
        table,
        "Seen Examples",
        "Loss",
        forms=("M1",),
        seed=None,
        curves=("Task", "Model"),
        training="Training",
    )
    assert len(told.curves) == 72
    # published to six digits: log-log least squares on Training = 1, error on Training = 0
    assert told.forms.loc["M1", "rmse"] == pytest.approx(0.104586, abs=5e-7)
    assert told.forms.loc["M1", "n"] == (table["Training"] == 0).sum()


def test_a_steepening_curve_shows_that_power_laws_fail_to_extrapolate() -> None:
    told = backtest(
        steepening_curve(), "size_train", "score_test", seed="outer_seed", chance_error=25 / 26
    )
    far = told.by_horizon[told.by_horizon["horizon"] == 4].set_index("form")
    # no floor helps against a curve that bends down: errors are foretold far too high, and the
    # intervals, true only if the form is, miss every single one
    for form in ("M1", "M2", "M3"):
        assert far.loc[form, "bias"] > 0.5
        assert told.forms.loc[form, "covered"] == 0
    assert told.chosen in ("M4", "BNSL")
    assert told.forms.loc[told.chosen, "rmse"] < told.forms.loc["M2", "rmse"] / 5
    # and yet M1 fits what it sees well enough to persuade
    assert told.forms.loc["M1", "rmse"] > 0.5


@pytest.mark.slow
def test_larger_forms_extrapolate_better_on_the_published_curves() -> None:
    table = pd.read_csv(published("revisiting_nsl/benchmark.vision.csv"))
    told = backtest(
        table,
        "Seen Examples",
        "Loss",
        seed=None,
        curves=("Task", "Model"),
        training="Training",
    )
    rmse = told.forms["rmse"]
    # Alabdulmohsin et al. 2022: M4 before M1 to M3
    assert rmse["M4"] < min(rmse["M1"], rmse["M2"], rmse["M3"])


def test_the_summary_tells_the_coverage_and_the_selection() -> None:
    told = backtest(noisy(-0.3, 0.02, np.random.default_rng(11)), y="error", forms=("M1", "M2"))
    text = " ".join(str(told.summary()).split())
    assert "post-selection" in text
    assert "lay in their 90% intervals" in text
    assert "<table" in told._repr_html_()
    alone = backtest(noisy(-0.3, 0.02, np.random.default_rng(11)), y="error", forms=("M2",))
    assert "post-selection" not in " ".join(str(alone.summary()).split())


def test_what_cannot_be_backtested_is_refused() -> None:
    table = noisy(-0.3, 0.02, np.random.default_rng(12))
    with pytest.raises(FitError, match="needs 3 to fit and one to predict"):
        backtest(table[table["train_examples"] < 200], y="error", forms=("M1",))
    with pytest.raises(FitError, match="Unknown form 'M9'"):
        backtest(table, y="error", forms=("M9",))
    with pytest.raises(FitError, match="variables N, D"):
        backtest(table, y="error", forms=("Chinchilla",))
    with pytest.raises(FitError, match="No column 'kind'"):
        backtest(table, y="error", curves=("kind",))
    tasks = table.assign(task=np.where(table["seed"] == 0, None, "digits"))
    with pytest.raises(FitError, match="rows have no task"):
        backtest(tasks, y="error", curves=("task",))
    with pytest.raises(FitError, match="most_splits is 0"):
        backtest(table, y="error", most_splits=0)
    with pytest.raises(FitError, match="must be 0 or 1"):
        backtest(table.assign(fit=table["seed"] % 2), y="error", training="fit")
    with pytest.raises(FitError, match="level is 2"):
        backtest(table, y="error", level=2)
    told = backtest(table, y="error", forms=("M1",))
    with pytest.raises(FitError, match="seeds is 0"):
        told.predict(1e5, seeds=0)

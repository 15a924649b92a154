"""Design before data: what no data could decide, and forecasts against what really comes out."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import FitError, batch_law_design, check_batch_size_law, power_law_design
from analysis.curves.power_law import fit_power_law
from analysis.design.assumed_curves import Bowl, assumed_curves, curves_of_pilot
from analysis.design.batch_law import forecast_batch_law
from analysis.design.limits import batch_law_limits, power_law_limits
from analysis.design.planned_runs import DesignGrid
from analysis.design.power_law import curve_of_pilot
from tests.analysis.synthetic_batches import SMALLEST_SHARD, asymmetric_bowl, law_cells

RATES = [0.05, 0.1, 0.2]
SHARDS = [2**14, 2**15, 2**16]
MOMENTA = [0.0, 0.5, 0.75]
BATCHES = [2**k for k in range(10)]
CROSS = (RATES, SHARDS, MOMENTA, BATCHES)


def excess(octaves_above):
    """The bowl of the synthetic tables, without its level."""
    return asymmetric_bowl(octaves_above) - 0.1


def reasons(*axes, seeds=5):
    return batch_law_limits(DesignGrid.crossed(*axes, seeds)).reasons


def test_a_crossed_grid_with_enough_levels_and_seeds_admits_every_verdict():
    assert set(reasons(*CROSS).values()) == {""}


@pytest.mark.parametrize(
    ("change", "factor", "said"),
    [
        ({0: [0.1, 0.2]}, "learning_rate", "2 levels; at least 3"),
        ({0: [0.1, 0.12, 0.14]}, "learning_rate", "0.49 octaves; at least 2"),
        ({2: [0.9]}, "momentum", "1 level;"),
        ({3: [1, 4, 16, 64, 256]}, "train_examples", "a parabola needs batch sizes an octave"),
        ({3: [8, 16]}, "train_examples", "more than half, may have their optimum beyond"),
    ],
)
def test_what_the_grid_itself_rules_out_is_said_with_the_rule(change, factor, said):
    axes = [change.get(place, values) for place, values in enumerate(CROSS)]
    assert said.lower() in reasons(*axes)[factor].lower()
    assert any(
        factor in sentence and "This study cannot decide" in sentence
        for sentence in batch_law_limits(DesignGrid.crossed(*axes, 5)).sentences()
    )


def test_four_seeds_decide_no_factor_and_nothing_is_simulated(monkeypatch):
    monkeypatch.setattr(
        "analysis.design.batch_law.judge_curves", None
    )  # would raise if it were called
    design = batch_law_design(*CROSS, 4, noise=0.005)
    assert design.sets == 0
    assert design.sentences() == (
        "This study cannot decide learning_rate, train_examples, momentum: There are 4 complete "
        "seeds; at least 5 are needed.",
    )
    assert design.exponents["standard_error"].isna().all()


def test_factors_that_move_together_are_told_from_a_cross():
    cells = pd.concat(
        pd.DataFrame(
            {"learning_rate": rate, "momentum": momentum, "train_examples": shard}
            | {"batch_size": BATCHES, "seed": seed}
        )
        for rate, momentum in zip(RATES, MOMENTA, strict=True)
        for shard in SHARDS
        for seed in range(5)
    )
    found = batch_law_limits(DesignGrid.of_cells(cells)).reasons
    assert "variance inflation" in found["learning_rate"]
    assert "variance inflation" in found["momentum"]
    assert found["train_examples"] == ""


def test_batch_sizes_at_or_above_the_shard_do_not_count():
    grid = DesignGrid.crossed([0.1], [16, 64], [0.0], BATCHES, 5)
    assert grid.sizes_of_group.tolist() == [4, 6]  # 1 to 8, and 1 to 32


def test_the_window_of_the_optimum_is_where_half_of_the_curves_have_it_inside():
    # One factor, three levels an octave apart, batch sizes 1 to 16: the optima of the levels are at
    # the middle's and an octave to both sides, inside from √2 to √128. All three levels are needed.
    limits = batch_law_limits(DesignGrid.crossed(RATES, [2**20], [0.0], BATCHES[:5], 5))
    assert limits.moves == pytest.approx(2)
    np.testing.assert_allclose(limits.window, [1.5, 2.5], atol=0.06)  # steps of .05 octave
    assert limits.most_inside == 3


def test_a_grid_of_too_few_batch_sizes_for_a_moving_optimum_cannot_support_the_law():
    limits = batch_law_limits(DesignGrid.crossed(RATES, SHARDS, MOMENTA, BATCHES[:3], 5))
    assert limits.window is None
    assert "would be censored" in limits.sentences()[-1]


def test_expected_standard_errors_are_those_of_real_analyses():
    rng = np.random.default_rng(5)
    grid = DesignGrid.crossed(RATES, SHARDS, MOMENTA, BATCHES, 5)
    design = forecast_batch_law(grid, noise=0.004, curve=excess, sets=15)
    tables = [
        law_cells((1, 1, 1), noise=0.004, rng=rng, levels=3, batch_sizes=10) for _ in range(10)
    ]
    assert min(table["train_examples"].min() for table in tables) == SMALLEST_SHARD
    laws = [check_batch_size_law(table) for table in tables]
    actual = np.median([law.exponents["standard_error"] for law in laws])
    # A jackknife of 4 degrees of freedom scatters by 35 %; the median of 30, three a table, by
    # 10 %, and that of the design by as much.
    assert design.exponents["standard_error"].median() == pytest.approx(actual, rel=0.3)
    assert design.exponents["half_width95"].to_numpy() == pytest.approx(
        2.776445 * design.exponents["standard_error"].to_numpy(),
        rel=1e-6,  # t of 4 degrees
    )
    interior = np.mean([(law.optima["label"] == "interior").sum() for law in laws])
    assert design.groups.loc["claim", "interior"] == pytest.approx(interior, abs=2.5)


@pytest.fixture(scope="module")
def line():
    """Forecasts along ε alone, which are quick: 6 levels, by (seeds, noise)."""
    rates = [0.1 * 2**k for k in range(6)]
    return {
        (seeds, noise): batch_law_design(
            rates, [2**24], [0.0], [2**k for k in range(14)], seeds, noise=noise, sets=80
        )
        for seeds, noise in [(5, 0.005), (12, 0.005), (5, 0.012), (5, 0.0005)]
    }


def test_power_rises_with_seeds_and_falls_with_noise(line):
    power = {key: design.power("learning_rate") for key, design in line.items()}
    assert power[12, 0.005] >= power[5, 0.005] > power[5, 0.012] + 0.2
    assert power[5, 0.0005] >= power[5, 0.005]
    errors = {key: each.exponents["standard_error"].iloc[0] for key, each in line.items()}
    assert errors[12, 0.005] < errors[5, 0.005] < errors[5, 0.012]


def test_six_levels_of_five_seeds_have_the_power_that_was_computed_before(line):
    # Expected of the design: about .85 with noise .005 on a peak .02 high. 80 sets: ±.05 (1 σ).
    assert 0.65 <= line[5, 0.005].power("learning_rate") <= 0.98


def test_nothing_flat_is_supported_and_shares_add_up(line):
    rates = [0.1 * 2**k for k in range(6)]
    flat = batch_law_design(
        rates, [2**24], [0.0], BATCHES, 5, noise=0.05, curve=lambda u: 0 * u, sets=10
    )
    assert flat.power("learning_rate") == 0
    assert flat.groups.loc["claim", "flat"] > 5
    for design in (flat, *line.values()):
        shares = design.verdicts.drop(columns="exponent")
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        np.testing.assert_allclose(design.groups.sum(axis=1), 6)


def test_an_optimum_beyond_the_batch_sizes_is_forecast_as_censored(line):
    rates = [0.1 * 2**k for k in range(6)]
    beyond = batch_law_design(
        rates, [2**24], [0.0], BATCHES, 5, noise=0.002, optimum=2.0**10, sets=10
    )
    assert beyond.verdicts.loc[("claim", "learning_rate"), "censored"] == 1
    assert line[5, 0.0005].verdicts.loc[("claim", "learning_rate"), "censored"] == 0


def test_sentences_name_power_noise_assumptions_and_what_stays_undecided(line):
    good, poor = line[5, 0.0005].sentences(), line[5, 0.012].sentences()
    text = " ".join(good)
    assert "This study cannot decide train_examples, momentum: The factor has 1 level" in text
    assert "This study can decide learning_rate: with noise σ = 0.0005" in text
    assert "A forecast under these assumptions, not a promise" in text
    assert "depth 0.02" in text
    assert "only a screening design for learning_rate" in " ".join(poor)


def test_a_design_is_reproducible_and_strict_json(line):
    design = line[5, 0.012]
    rates = [0.1 * 2**k for k in range(6)]
    axes = (rates, [2**24], [0.0], [2**k for k in range(14)])
    again = batch_law_design(*axes, 5, noise=0.012, sets=80)
    assert again.to_dict() == design.to_dict()
    json.dumps(design.to_dict(), allow_nan=False)
    json.dumps(batch_law_design(*axes, 4, noise=0.012).to_dict(), allow_nan=False)
    assert "Simulated studies" in str(design.summary())


def test_the_pilot_gives_its_own_noise_shape_and_optimum():
    rng = np.random.default_rng(7)
    pilot = law_cells((1, 1, 1), noise=0.004, rng=rng, levels=3, batch_sizes=10)
    grid = DesignGrid.crossed(*CROSS, 5)
    curves = curves_of_pilot(grid, pilot)
    assert curves.noise == pytest.approx(0.004, rel=0.1)
    u = np.linspace(-1.5, 2.5, 9)
    heights = curves.height.mean()
    # .005: a spline fitted to means of 5 seeds and 27 curves
    np.testing.assert_allclose(heights * curves.curve(u), excess(u), atol=0.005)
    truth = 4.5  # the middle of batch sizes 1 to 512, where `law_cells` puts it, ± half an octave
    assert abs(curves.optimum - truth) < 0.8
    np.testing.assert_allclose(curves.level, 0.1, atol=0.01)

    by_pilot = forecast_batch_law(grid, pilot=pilot, sets=8)
    assumed = forecast_batch_law(grid, noise=0.004, curve=excess, optimum=2**curves.optimum, sets=8)
    assert by_pilot.exponents["standard_error"].median() == pytest.approx(
        assumed.exponents["standard_error"].median(), rel=0.35
    )
    assert "the pilot's 27 curves share" in " ".join(by_pilot.sentences())


def test_what_a_pilot_cannot_show_is_refused_with_the_noise_that_it_did():
    rng = np.random.default_rng(8)
    pilot = law_cells((1, 1, 1), noise=0.004, rng=rng, levels=3, batch_sizes=10)
    one = pilot[(pilot.momentum == 0) & (pilot.train_examples == pilot.train_examples.min())]
    with pytest.raises(FitError, match=r"3 curves with a visible optimum.*noise=0\.00"):
        batch_law_design(*CROSS, 5, pilot=one)
    with pytest.raises(FitError, match="at least 2 seeds"):
        batch_law_design(*CROSS, 5, pilot=pilot[pilot.seed == 0])


def test_a_fitted_shape_never_turns_down_beyond_its_window():
    rng = np.random.default_rng(9)
    pilot = law_cells((1, 1, 1), noise=0.01, rng=rng, levels=3, batch_sizes=10)
    curves = curves_of_pilot(DesignGrid.crossed(*CROSS, 5), pilot)
    far = curves.curve(np.array([-30.0, -8.0, -4.0, 4.0, 8.0, 30.0]))
    assert (np.diff(far[:3]) <= 0).all()
    assert (np.diff(far[3:]) >= 0).all()


def test_drawn_errors_have_the_noise_and_place_assumed_and_stay_at_chance_over_the_cliff():
    grid = DesignGrid.crossed(RATES, [2**20], [0.0], BATCHES, 4000)
    curves = assumed_curves(grid, 0.01, Bowl(), 16.0)
    drawn = curves.draw(grid, (1, 1, 1), np.random.default_rng(0))
    middle = drawn.errors[:, 1]
    assert middle[:, 4:].std(axis=0) == pytest.approx(0.01, rel=0.05)  # 4,000 draws: 1 %
    assert middle.mean(axis=0).argmin() in (3, 4, 5)  # half a step about B = 16
    least = drawn.errors.mean(axis=0).argmin(axis=1)
    assert np.ptp(least) == 2  # two octaves of ε
    assert (middle[:, 0] == 0.9).all()  # B = 1, four octaves below: .02 · 15² is beyond half way


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either `noise` or a `pilot`"),
        ({"noise": 0.0}, "standard deviation above 0"),
        ({"noise": 0.005, "margin": 1.5}, "between 0 and 1"),
        ({"noise": 0.005, "sets": 0}, "whole number from 1"),
        ({"noise": 0.005, "alternative": (1, 1)}, "three exponents"),
        ({"noise": 0.005, "estimator": "mean"}, "'peaks', 'collapse'"),
        ({"noise": 0.005, "optimum": -1.0}, "a batch size above 0"),
    ],
)
def test_assumptions_that_are_not_allowed_are_refused(options, said):
    with pytest.raises(FitError, match=said):
        batch_law_design(*CROSS, 5, **options)


def test_grids_that_are_not_allowed_are_refused():
    with pytest.raises(FitError, match="There is no momentum"):
        batch_law_design(RATES, SHARDS, [], BATCHES, 5, noise=0.005)
    with pytest.raises(FitError, match="whole number from 1"):
        batch_law_design(*CROSS, 0, noise=0.005)
    with pytest.raises(FitError, match="above 0"):
        batch_law_design([0.0], SHARDS, MOMENTA, BATCHES, 5, noise=0.005)
    with pytest.raises(FitError, match="depth"):
        Bowl(depth=-1.0)


SIZES = np.geomspace(50, 50 * 10**2.4, 9)


def test_the_expected_width_is_that_of_real_fits():
    curve = {"alpha": 3.0, "beta": -0.35, "gamma": 0.01}
    design = power_law_design(SIZES, 5, **curve, noise=0.04, sets=200)
    rng = np.random.default_rng(3)
    widths = []
    for _ in range(25):
        truth = np.repeat(3.0 * SIZES**-0.35 + 0.01, 5)
        cells = pd.DataFrame(
            {"m": np.repeat(SIZES, 5), "seed": np.tile(range(5), 9)}
            | {"error": truth * np.exp(0.04 * rng.normal(size=45))}
        )
        bounds = fit_power_law(cells, x="m", y="error").conf_int().loc["beta"]
        widths.append(bounds["upper"] - bounds["lower"])
    # Widths scatter by 40 %; the median of 25 by 10 %.
    assert design.width == pytest.approx(np.median(widths), rel=0.3)
    assert design.covers == pytest.approx(0.95, abs=0.05)
    assert design.bounded > 0.95
    assert design.excludes_zero > 0.95
    json.dumps(design.to_dict(), allow_nan=False)
    assert "not a promise" in str(design.summary())


def test_noise_and_few_sizes_leave_the_exponent_unbounded():
    curve = {"alpha": 3.0, "beta": -0.35, "gamma": 0.0}
    widths = [
        power_law_design(SIZES, seeds, **curve, noise=noise, sets=60).width
        for seeds, noise in [(10, 0.02), (5, 0.02), (5, 0.08)]
    ]
    assert widths == sorted(widths)
    poor = power_law_design(SIZES[:4], 2, **curve, noise=0.3, sets=60)
    assert poor.bounded < 0.5
    assert poor.width == np.inf
    assert poor.to_dict()["width"] == "inf"


def test_a_small_held_out_set_widens_the_expected_interval():
    curve = {"alpha": 3.0, "beta": -0.35, "gamma": 0.01, "noise": 0.02}
    exact = power_law_design(SIZES, 5, **curve, sets=40)
    assert power_law_design(SIZES, 5, **curve, sets=40, validation_examples=300).width > (
        2 * exact.width
    )
    large = power_law_design(SIZES, 5, **curve, sets=40, validation_examples=10**6)
    assert large.width == exact.width


def test_sizes_at_chance_are_left_out_of_the_forecast():
    curve = {"alpha": 6.0, "beta": -0.35, "gamma": 0.0, "noise": 0.04}
    design = power_law_design(SIZES, 5, **curve, chance_error=0.9, sets=20)
    expected = [size for size in SIZES if 6 * size**-0.35 > 0.81]
    assert expected
    assert list(design.left_out) == pytest.approx(expected)
    assert len(design.limits.sizes) == 9 - len(expected)
    assert "would be left out" in " ".join(design.sentences())


def test_a_curve_of_which_no_size_is_below_chance_is_answered():
    flat = {"alpha": 5.0, "beta": -0.01, "gamma": 0.1, "noise": 0.02}
    design = power_law_design([100, 1e3, 1e4, 1e5], 5, **flat, chance_error=0.9)
    said = " ".join(design.sentences())
    assert "cannot bound β of ε(m) = α m^β + γ: there are 0 sizes; at least 4" in said
    assert "Sizes 100, 1000, 10000, 100000 would be left out: mean error above 0.9 of" in said
    assert "there are 0 sizes" in str(design.summary())
    json.dumps(design.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("sizes", "seeds", "choose", "said"),
    [
        ([1, 10, 100], 5, (), "cannot bound β of ε(m) = α m^β + γ: there are 3 sizes; at least 4"),
        ([1, 10, 100, 1000], 1, (), "there is 1 seed; at least 2"),
        ([1, 10, 100, 1000], 2, ("model_size",), "choosing the best model_size"),
        ([1, 2, 4, 8], 5, (), "0.9 decades, less than one"),
        ([1, 10, 100, 1000], 3, (), "5 or more are recommended"),
    ],
)
def test_what_a_learning_curve_cannot_tell_is_said_at_once(sizes, seeds, choose, said):
    assert said in " ".join(power_law_limits(sizes, seeds, choose=choose).sentences())


def test_a_curve_without_interval_is_not_simulated(monkeypatch):
    monkeypatch.setattr("analysis.design.power_law.score_bounds", None)
    design = power_law_design([1, 10, 100], 5, alpha=0.5, beta=-0.3, gamma=0.0, noise=0.1)
    assert design.sets == 0
    json.dumps(design.to_dict(), allow_nan=False)


def test_a_pilot_curve_gives_its_exponents_and_noise():
    rng = np.random.default_rng(4)
    shift = 0.2 * rng.normal(size=(1, 20))  # of a seed's whole curve: no noise of the exponent
    log_error = np.log(3 * SIZES**-0.35)[:, None] + shift + 0.05 * rng.normal(size=(9, 20))
    cells = pd.DataFrame(
        {
            "m": np.repeat(SIZES, 20),
            "seed": np.tile(range(20), 9),
            "error": np.exp(log_error).ravel(),
        }
    )
    fit = fit_power_law(cells, x="m", y="error", ci=None)
    found = curve_of_pilot(fit)
    assert (found.alpha, found.beta, found.gamma) == (fit.alpha, fit.beta, fit.gamma)
    assert found.noise == pytest.approx(0.05, rel=0.15)  # 152 degrees of freedom: ±6 %


def test_a_pilot_whose_runs_all_have_their_own_seed_shows_its_noise():
    log_error = np.log(3 * SIZES**-0.35)[:, None] + 0.05 * np.random.default_rng(4).normal(
        size=(9, 20)
    )
    cells = pd.DataFrame(
        {"m": np.repeat(SIZES, 20), "seed": range(180), "error": np.exp(log_error).ravel()}
    )
    found = curve_of_pilot(fit_power_law(cells, x="m", y="error", ci=None))
    assert found.noise == pytest.approx(0.05, rel=0.15)  # 171 degrees of freedom: ±5 %


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"noise": 0.0}, "`noise` is 0.0"),
        ({"alpha": -1.0}, "`alpha`"),
        ({"beta": np.nan}, "`beta`"),
        ({"gamma": -0.1}, "`gamma`"),
        ({"sets": 0}, "`sets`"),
        ({"chance_error": np.nan}, "`chance_error` is nan"),
    ],
)
def test_curves_that_are_not_allowed_are_refused(change, said):
    curve = {"alpha": 3.0, "beta": -0.35, "gamma": 0.0, "noise": 0.04}
    with pytest.raises(FitError, match=said):
        power_law_design(SIZES, 5, **(curve | change))
    with pytest.raises(FitError, match="`sizes`"):
        power_law_design([0.0, 1.0], 5, **curve)

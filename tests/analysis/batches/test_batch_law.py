"""The law's check on synthetic truth, on exact moments, on published runs and on hostile tables."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis import (
    FitError,
    OptimumLabel,
    Verdict,
    check_batch_size_law,
    optimal_batch_sizes,
    permutation_control,
)
from analysis.batches.factors import variance_inflation
from analysis.batches.negative_control import _shuffled
from analysis.batches.peak_regression import PeakObservations, regress_peaks, regress_relabelled
from tests.analysis.censored_optima import one_slice
from tests.analysis.synthetic_batches import CHANCE, frame, law_cells

Floats = NDArray[np.float64]
FACTORS = ["learning_rate", "train_examples", "momentum"]


def cells_of(exponents: tuple[float, float, float], **options: float) -> pd.DataFrame:
    settings = {"noise": 0.004, "rng": np.random.default_rng(0), **options}
    return law_cells(exponents, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("truth", "verdicts"),
    [
        ((1, 1, 1), ["supported", "supported", "supported", "supported"]),
        ((1, 0, 1), ["supported", "refuted", "supported", "refuted"]),
        ((0.5, 0.5, 0.5), ["refuted", "refuted", "refuted", "refuted"]),
    ],
)
def test_a_known_law_gets_its_verdicts_and_its_exponents(
    truth: tuple[float, float, float], verdicts: list[str]
) -> None:
    law = check_batch_size_law(cells_of(truth))
    assert list(law.verdicts) == [*FACTORS, "joint"]
    assert [str(verdict) for verdict in law.verdicts.values()] == verdicts
    # .03: what the uncorrected grid phase of 3-point parabolas may add to an exponent
    np.testing.assert_allclose(law.exponents.exponent, truth, atol=0.03)


def test_the_exponents_of_exact_optima_are_least_squares_on_the_estimates() -> None:
    law = check_batch_size_law(cells_of((1, 0.3, 0.7)))
    assert (law.optima.label == OptimumLabel.INTERIOR).all()
    x = np.column_stack([np.ones(len(law.optima)), law.observations.octaves])
    expected = np.linalg.lstsq(x, law.optima.log2_optimum, rcond=None)[0][1:]
    # Newton stops at 1e-10 of log-likelihood
    np.testing.assert_allclose(law.exponents.exponent, expected, atol=1e-6)


def test_standard_errors_are_those_of_whole_analyses_without_each_seed() -> None:
    cells = cells_of((1, 0, 1), noise=0.004, levels=3)
    law = check_batch_size_law(cells)
    left_out = np.array(
        [
            check_batch_size_law(cells[cells.seed != seed]).exponents.exponent.to_numpy()
            for seed in range(5)
        ]
    )
    expected = np.sqrt(4 / 5 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    assert set(law.optima.label) == {OptimumLabel.INTERIOR}  # labels are those of all seeds
    # 20 %: each analysis corrects the grid's phase by a shape and a noise of its own
    np.testing.assert_allclose(law.exponents.standard_error, expected, rtol=0.2)
    half = stats.t.ppf(0.975, 4) * law.exponents.standard_error
    np.testing.assert_allclose(law.conf_int().upper - law.exponents.exponent, half, rtol=1e-4)


def test_a_group_keeps_its_label_and_bounds_when_a_seed_is_left_out() -> None:
    law = check_batch_size_law(cells_of((1, 0, 1), noise=0.016, levels=3))
    observed = law.observations
    between = observed.lower[0] < observed.upper[0]
    assert between.sum() > 3
    assert (observed.lower[:, between] == observed.lower[0, between]).all()
    assert (observed.upper[:, between] == observed.upper[0, between]).all()
    moved = np.ptp(observed.lower[:, ~between], axis=0)
    assert (moved > 0).all()


def test_both_intervals_of_the_table_are_those_of_conf_int() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1)))
    for level, low, high in ((0.95, "lower95", "upper95"), (0.9, "lower90", "upper90")):
        interval = law.conf_int(level)
        assert list(interval.index) == FACTORS
        np.testing.assert_allclose(interval, law.exponents[[low, high]])
    with pytest.raises(FitError, match="`level` is 95"):
        law.conf_int(95)


def test_optima_beyond_the_grid_are_censored_and_leave_the_exponents_unbent() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1), batch_sizes=6))
    assert 16 <= law.regime["groups"]["censored"] <= 32
    np.testing.assert_allclose(law.exponents.exponent, 1, atol=0.04)
    best = np.log2(law.optima.best_batch_size)
    x = np.column_stack([np.ones(len(best)), law.observations.octaves])
    naive = np.linalg.lstsq(x, best, rcond=None)[0][1:]
    assert (naive < 0.93).all()  # the edge itself as the optimum bends them


def flat(e: Floats, n: Floats, q: Floats, b: Floats) -> Floats:
    return np.full(b.shape, 0.1)


def rising(e: Floats, n: Floats, q: Floats, b: Floats) -> Floats:
    return 0.1 + 0.01 * b


def cliff_then_flat(e: Floats, n: Floats, q: Floats, b: Floats) -> Floats:
    return np.where(b < 4.2 + e + q, CHANCE, 0.1)


def tables(
    curve: Callable[[Floats, Floats, Floats, Floats], Floats], seeds: int, count: int
) -> list[pd.DataFrame]:
    level = np.arange(4) - 1.5
    grid = np.meshgrid(level, level, level, np.arange(10.0), indexing="ij")
    rng = np.random.default_rng(seeds)
    expected = curve(*grid)

    def errors() -> Floats:
        noise = rng.normal(0, 0.004, expected.shape)
        return np.where(expected < CHANCE, expected + noise, CHANCE)

    return [
        pd.concat([frame(*grid, errors(), seed) for seed in range(seeds)]) for _ in range(count)
    ]


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        (flat, Verdict.UNIDENTIFIED),
        (rising, Verdict.CENSORED),
        (cliff_then_flat, Verdict.CENSORED),
    ],
)
def test_curves_without_an_optimum_are_never_supported_or_refuted(
    curve: Callable[[Floats, Floats, Floats, Floats], Floats], seeds: int, verdict: Verdict
) -> None:
    for cells in tables(curve, seeds, count=10):
        law = check_batch_size_law(cells)
        assert set(law.verdicts.values()) == {verdict}
        # 3-point optima of such data are made of noise; 2 % is three times what we measured
        assert law.regime["groups"]["interior"] <= 0.02 * 64


def test_a_factor_that_does_not_vary_is_unidentified_and_the_others_are_judged() -> None:
    cells = cells_of((1, 1, 1))
    law = check_batch_size_law(cells[cells.momentum == 0])
    assert law.verdicts["momentum"] is Verdict.UNIDENTIFIED
    assert law.reasons["momentum"] == "The factor has 1 level; at least 3 are needed."
    assert law.verdicts["joint"] is Verdict.UNIDENTIFIED
    assert law.verdicts["learning_rate"] is law.verdicts["train_examples"] is Verdict.SUPPORTED
    row = law.exponents.loc["momentum"]
    assert np.isnan(row.exponent)
    assert (row.lower95, row.upper95) == (-np.inf, np.inf)
    assert law.momentum_equivalence["verdict"] is Verdict.UNIDENTIFIED


def test_factors_that_move_together_are_unidentified_and_the_third_is_judged() -> None:
    cells = cells_of((1, 1, 1))
    ray = np.isclose(cells.learning_rate / cells.learning_rate.min() * (1 - cells.momentum), 1)
    law = check_batch_size_law(cells[ray])
    assert law.verdicts["learning_rate"] is law.verdicts["momentum"] is Verdict.UNIDENTIFIED
    assert "variance inflation is inf" in law.reasons["learning_rate"]
    assert law.verdicts["train_examples"] is Verdict.SUPPORTED


def test_variance_inflation_is_that_of_the_regression_on_the_others() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    x[:, 2] += 2 * x[:, 0]
    expected = np.diagonal(np.linalg.inv(np.corrcoef(x.T)))
    np.testing.assert_allclose(variance_inflation(x + 10), expected, rtol=1e-9)
    cross = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    np.testing.assert_allclose(variance_inflation(cross + 14), 1.0)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_few_seeds_are_unidentified(seeds: int) -> None:
    law = check_batch_size_law(cells_of((1, 1, 1), seeds=seeds))
    assert set(law.verdicts.values()) == {Verdict.UNIDENTIFIED}
    assert f"{seeds} complete seed" in law.reasons["learning_rate"]


def test_copies_of_one_seed_are_no_evidence() -> None:
    one = cells_of((1, 1, 1), seeds=1)
    copies = pd.concat([one.assign(seed=seed) for seed in range(5)])
    law = check_batch_size_law(copies)
    assert set(law.verdicts.values()) == {Verdict.UNIDENTIFIED}
    assert "nothing is known of their noise" in law.reasons["momentum"]


def one_factor(noise: float = 0.0, levels: int = 6) -> pd.DataFrame:
    """Rates of parabolas: without noise the vertices are on a line."""
    rng = np.random.default_rng(6)
    cells = law_cells(
        (1, 0, 0), noise=noise, rng=rng, levels=levels, curve=lambda o: 0.1 + 0.02 * o**2
    )
    return cells[(cells.train_examples == 2**14) & (cells.momentum == 0)]


def test_examples_or_tokens_as_the_unit_give_the_same_verdicts_and_scores() -> None:
    cells = one_factor(noise=0.0005)
    tokens = cells.assign(
        batch_size=1024 * cells.batch_size, train_examples=1024 * cells.train_examples
    )
    law, other = check_batch_size_law(cells), check_batch_size_law(tokens)
    assert law.verdicts["learning_rate"] is Verdict.SUPPORTED
    assert other.verdicts == law.verdicts
    # a hundredth of an octave of residual magnifies the rounding of log2 of the batch sizes
    pd.testing.assert_frame_equal(other.exponents, law.exponents, rtol=1e-8)
    pd.testing.assert_frame_equal(other.rivals, law.rivals, rtol=1e-8)


def test_a_fold_that_cannot_be_estimated_takes_the_intervals_and_is_named() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1)))
    lower, upper = law.observations.lower.copy(), law.observations.upper.copy()
    lower[3], upper[3] = -np.inf, np.inf  # without seed 2 nothing is known
    lost = type(law.observations)(
        law.observations.octaves, lower, upper, law.observations.label, law.observations.seeds
    )
    regression = regress_peaks(lost)
    assert "without seed 2" in regression.failure
    assert np.isfinite(regression.exponents).all()
    assert np.isinf(regression.covariance).all()


def test_batch_sizes_too_coarse_for_a_parabola_give_no_verdict() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1), octaves_per_step=2, batch_sizes=7, noise=0.002))
    assert set(law.verdicts.values()) == {Verdict.UNIDENTIFIED}
    assert "0 levels of the factor with an optimum that a parabola" in law.reasons["learning_rate"]


def test_equal_exponents_of_learning_rate_and_momentum_are_recognised() -> None:
    equal = check_batch_size_law(cells_of((0.7, 0, 0.7))).momentum_equivalence
    assert equal["verdict"] is Verdict.SUPPORTED
    unequal = check_batch_size_law(cells_of((1, 0, 0.5))).momentum_equivalence
    assert unequal["verdict"] is Verdict.REFUTED
    assert unequal["difference"] == pytest.approx(0.5, abs=0.03)


def test_the_difference_of_exponents_uses_their_covariance() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1), noise=0.01))
    covariance = regress_peaks(law.observations).covariance
    variance = covariance[0, 0] + covariance[2, 2] - 2 * covariance[0, 2]
    assert law.momentum_equivalence["standard_error"] == pytest.approx(np.sqrt(variance))


def test_a_supported_factor_passes_its_negative_control() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1)))
    for factor in FACTORS:
        control = permutation_control(law, factor, permutations=100, seed=1)
        assert control.passed
        assert control.supported_share <= 0.01
        # an exponent of 1 over levels of sd 1.12 octaves, now unexplained
        assert control.permuted_residual_octaves > 0.8 > 5 * control.observed_residual_octaves


def test_labels_that_mean_nothing_do_not_pass_the_control() -> None:
    cells = cells_of((1, 1, 1), noise=0.01, batch_sizes=14)
    rng = np.random.default_rng(5)
    key = ["learning_rate", "train_examples", "momentum"]
    groups = cells[key].drop_duplicates().reset_index(drop=True)
    groups["rate"] = rng.permutation(groups.learning_rate)
    groups["momentum_then"] = groups.momentum + 1e-9 * np.arange(len(groups))
    shuffled = cells.merge(groups, on=key)
    law = check_batch_size_law(shuffled, learning_rate="rate", momentum="momentum_then")
    assert law.verdicts["learning_rate"] is not Verdict.SUPPORTED
    assert permutation_control(law, "learning_rate", permutations=100).passed is False


def learning_rates(levels: int, **options: float) -> pd.DataFrame:
    """So many groups that differ in the learning rate alone, an octave apart."""
    cells = cells_of((1, 0, 0), levels=levels, batch_sizes=levels + 8, **options)
    return cells[(cells.train_examples == 2**14) & (cells.momentum == 0)]


@pytest.mark.parametrize(
    ("levels", "reason"),
    [(4, "4 groups with a known optimum can be labelled in 11 other ways"), (6, "so near to")],
)
def test_a_control_of_few_groups_cannot_be_run_and_does_not_fail(levels: int, reason: str) -> None:
    law = check_batch_size_law(learning_rates(levels, noise=0.001))
    assert law.verdicts["learning_rate"] is Verdict.SUPPORTED
    control = permutation_control(law, "learning_rate")
    assert control.passed is None
    assert reason in control.problem
    assert np.isnan([control.supported_share, control.permuted_residual_octaves]).all()
    assert f"learning_rate: cannot be run, as {control.problem}." in str(control)
    assert "FAILED" not in str(control)


def test_labels_are_not_shuffled_into_themselves_or_their_mirror_image() -> None:
    # of 6 groups at three levels, 1 shuffle in 90 gives the one, and 1 the other
    octaves = np.zeros((6, 3))
    octaves[:, 0] = np.repeat([-1, 0, 1], 2)
    label = np.full(6, OptimumLabel.INTERIOR, dtype=object)
    bounds = np.zeros((1, 6))
    observations = PeakObservations(octaves, bounds, bounds, label, (0,))
    rng = np.random.default_rng(0)
    drawn = np.array([_shuffled(observations, 0, rng).octaves[:, 0] for _ in range(900)])
    others = np.unique(drawn, axis=0)
    assert len(others) == 88
    assert (np.sort(others) == octaves[:, 0]).all()
    for same in (octaves[:, 0], -octaves[:, 0]):
        assert not (others == same).all(axis=1).any()


def test_a_true_law_of_eight_groups_passes_its_control_and_a_wrong_one_fails_it() -> None:
    cells = learning_rates(8, noise=0.001)
    law = check_batch_size_law(cells)
    assert law.verdicts["learning_rate"] is Verdict.SUPPORTED
    assert permutation_control(law, "learning_rate").passed is True
    rates = np.sort(cells.learning_rate.unique())
    wrong = dict(zip(rates, rates[[3, 6, 0, 5, 2, 7, 1, 4]], strict=True))
    shuffled = cells.assign(learning_rate=cells.learning_rate.map(wrong))
    assert permutation_control(check_batch_size_law(shuffled), "learning_rate").passed is False


def test_optima_regressed_together_on_other_labels_give_what_each_gives_alone() -> None:
    observations = check_batch_size_law(cells_of((1, 1, 1), levels=3)).observations
    octaves = observations.octaves
    relabelled = [
        replace(observations, octaves=labels)
        for labels in (octaves, octaves[::-1], octaves * [1, 0, 1], octaves[:, [0, 0, 2]])
    ]
    together = regress_relabelled(relabelled)
    for alone, among in zip(map(regress_peaks, relabelled), together, strict=True):
        assert among.failure == alone.failure
        for name in ("exponents", "covariance", "residual_octaves", "variance_inflation"):
            # Sums of other blocks round otherwise.
            np.testing.assert_allclose(getattr(among, name), getattr(alone, name), atol=1e-9)


def test_the_control_is_repeatable_and_refuses_what_it_cannot_do() -> None:
    law = check_batch_size_law(cells_of((1, 1, 1), levels=3))
    first, second = (permutation_control(law, "momentum", permutations=100) for _ in range(2))
    assert first == second
    with pytest.raises(FitError, match=r"Unknown factor 'batch_size'. Available: learning_rate"):
        permutation_control(law, "batch_size")
    with pytest.raises(FitError, match="`permutations` is 20"):
        permutation_control(law, "momentum", permutations=20)
    collapse = check_batch_size_law(cells_of((1, 1, 1), levels=3), estimator="collapse")
    with pytest.raises(FitError, match="judged by its collapse"):
        permutation_control(collapse, "momentum")
    unknown = check_batch_size_law(tables(flat, 5, count=1)[0])
    with pytest.raises(FitError, match="no verdict on momentum to control"):
        permutation_control(unknown, "momentum")


def test_the_noise_form_is_carried_through() -> None:
    cells = cells_of((1, 1, 1), batch_sizes=10).assign(
        train_examples=lambda table: table.train_examples / 32
    )
    plain = check_batch_size_law(cells)
    noise = check_batch_size_law(cells, form="B/(1-B/N)")
    assert plain.regime["optimum_over_train_examples"][1] > 0.1
    assert any("B_opt / N reaches" in flag for flag in plain.flags)
    by = ["learning_rate", "train_examples", "momentum"]
    expected = optimal_batch_sizes(cells, form="B/(1-B/N)").sort_values(by)
    np.testing.assert_allclose(noise.optima.log2_optimum, expected.log2_optimum)
    optimum = plain.optima.optimal_batch_size
    expected = -np.log2(1 - optimum / plain.optima.train_examples)
    shift = (noise.optima.log2_optimum - plain.optima.log2_optimum).dropna()
    assert len(shift) > 50
    # .1: the curve has another shape in this form, and the grid another phase on it
    np.testing.assert_allclose(shift, expected[shift.index], atol=0.1)


def test_what_training_held_fixed_is_read_from_the_steps() -> None:
    cells = cells_of((1, 1, 1))
    epochs = cells.assign(steps=(4 * cells.train_examples / cells.batch_size).round())
    steps = cells.assign(steps=50)
    rate = cells.assign(steps=(1e4 / cells.learning_rate).round())
    effective = cells.assign(
        steps=(1e4 * (1 - cells.momentum) / cells.learning_rate).round().clip(1)
    )
    laws = [check_batch_size_law(table) for table in (epochs, steps, rate, effective)]
    held = [law.regime["held_fixed"] for law in laws]
    assert held == [
        "epochs",
        "steps",
        "cumulative learning rate",
        "cumulative effective learning rate",
    ]
    assert any("fixed epochs" in flag for flag in laws[0].flags)
    # m = .875 gives 50 / 8 < 10, a quarter of the cells
    assert laws[1].regime["share_of_cells_in_momentum_start_up"] == 0.25
    assert any("25% of cells train fewer than 10/(1-m)" in flag for flag in laws[1].flags)


def test_a_diverged_run_stops_early_and_does_not_blur_what_was_held_fixed() -> None:
    cells = cells_of((1, 1, 1), levels=3).assign(status="completed")
    diverged = (cells.batch_size == 1) & (cells.seed == 0)
    steps = cells.assign(steps=1000)
    epochs = cells.assign(steps=(4 * cells.train_examples / cells.batch_size).round())
    for table, policy in ((steps, "steps"), (epochs, "epochs")):
        whole = check_batch_size_law(table, held_fixed=policy)
        broken = table.copy()
        broken.loc[diverged, ["status", "validation_error", "steps"]] = ["diverged", CHANCE, 3]
        law = check_batch_size_law(broken, held_fixed=policy)
        assert law.regime["held_fixed"] == policy
        assert law.regime["steps"] == whole.regime["steps"]
        assert law.flags == whole.flags
    assert any("fixed epochs" in flag for flag in law.flags)
    none = cells.assign(steps=40, status="diverged", validation_error=CHANCE)
    assert check_batch_size_law(none).regime["steps"] == [40, 40]


def test_what_lies_outside_of_the_claim_s_range_is_flagged() -> None:
    cells = cells_of((1, 1, 1), levels=3)
    beyond = cells.assign(
        train_examples=cells.train_examples / cells.train_examples.min() * 20_000,
        learning_rate=cells.learning_rate / cells.learning_rate.max() * 3,
    )
    one_size = beyond[beyond.train_examples == 20_000].assign(train_examples=1_000.0)
    fewer = beyond.assign(train_examples=beyond.train_examples - 1)
    larger = beyond.assign(learning_rate=beyond.learning_rate * 1.01)
    said = [
        [flag for flag in check_batch_size_law(table).flags if "Smith & Le" in flag]
        for table in (beyond, one_size, fewer, larger)
    ]
    assert said[:2] == [[], []]
    assert [flags[0].partition(";")[0] for flags in said[2:]] == [
        "N goes from 19,999 to 79,999",
        "ε reaches 3.03",
    ]


def test_what_is_held_fixed_can_be_named_and_another_table_is_refused() -> None:
    cells = cells_of((1, 1, 1)).assign(steps=1000)
    assert check_batch_size_law(cells, held_fixed="steps").regime["held_fixed"] == "steps"
    with pytest.raises(FitError, match="do not all train for the same epochs; alike are: steps"):
        check_batch_size_law(cells, held_fixed="epochs")
    with pytest.raises(FitError, match="`held_fixed` is 'time'; allowed: 'steps'"):
        check_batch_size_law(cells, held_fixed="time")
    with pytest.raises(FitError, match="no column 'steps'"):
        check_batch_size_law(cells.drop(columns="steps"), held_fixed="steps")


def test_the_best_error_along_training_is_flagged() -> None:
    cells = cells_of((1, 1, 1)).rename(columns={"validation_error": "best_validation_error"})
    law = check_batch_size_law(cells, y="best_validation_error")
    assert any("erases the effect" in flag for flag in law.flags)


def test_the_summary_says_what_the_verdicts_rest_on() -> None:
    law = check_batch_size_law(cells_of((1, 0, 1)))
    text = str(law.summary())
    for said in ("train_examples: refuted", "Collapse beside: learning_rate 1.0", "Rivals by log"):
        assert said in text
    beside = text[text.index("Collapse beside") :]
    assert not any(str(verdict) in beside for verdict in Verdict)
    assert (
        "<script"
        not in check_batch_size_law(
            cells_of((1, 0, 1)).rename(columns={"validation_error": "<script>"}), y="<script>"
        )._repr_html_()
    )


def test_the_summary_says_once_what_several_factors_share() -> None:
    summary = check_batch_size_law(cells_of((1, 1, 1)).query("seed < 3")).summary()
    text = " ".join(str(summary).split())
    assert "learning_rate, train_examples, momentum: unidentified. There are 3" in text
    assert text.count("There are 3 complete seeds") == 1


def test_a_law_without_a_regression_has_no_residual_in_its_summary() -> None:
    cells = cells_of((1, 1, 1))
    text = str(check_batch_size_law(cells.assign(validation_error=0.3)).summary())
    assert "no regression" in text
    assert "nan octaves" not in text


def test_a_law_through_every_vertex_has_no_residual_and_no_score() -> None:
    law = check_batch_size_law(one_factor())
    assert law.exponents.exponent["learning_rate"] == pytest.approx(1, abs=1e-6)
    assert np.isnan(law.residual_octaves)
    assert law.to_dict()["residual_octaves"] is None
    # what passes through the others foretells each, and has no scale to judge the miss by
    right = law.rivals.loc[["εN/(1-m)", "ε/(1-m)", "ε", "free"]]
    assert right.log_score.isna().all()
    np.testing.assert_allclose(right.error_octaves, 0, atol=1e-6)
    wrong = law.rivals.loc[["√(εN/(1-m))", "constant"]]
    assert np.isfinite(wrong.log_score).all()
    text = str(law.summary())
    assert "none, through 6 vertices" in text
    assert "nan" not in text
    unscored = " ".join(text[text.index("Rivals without a log score") :].split())
    assert "has no residual: εN/(1-m), ε/(1-m), ε, free." in unscored
    assert "Rivals by log" not in str(replace(law, rivals=right).summary())


def test_a_control_of_a_law_through_every_vertex_starts_from_no_residual() -> None:
    # seeds differ by millionths of an octave, and a thousandth is the smallest scale
    law = check_batch_size_law(one_factor(1e-6, levels=8))
    control = permutation_control(law, "learning_rate")
    assert control.observed_residual_octaves == 0
    assert control.permuted_residual_octaves > 0.1


def test_the_dictionary_is_strict_json_and_names_every_cell() -> None:
    cells = cells_of((1, 1, 1), batch_sizes=8)
    law = check_batch_size_law(cells[cells.momentum == 0])
    again = json.loads(json.dumps(law.to_dict(), allow_nan=False))
    assert again["exponents"]["momentum"]["upper95"] == "inf"
    assert again["verdicts"]["momentum"] == "unidentified"
    assert sorted(again["cell_ids"]) == sorted(cells[cells.momentum == 0].cell_id)
    assert again["n_cells"] == len(again["cell_ids"]) == 16 * 8 * 5


def test_the_chance_error_of_the_table_does_not_speak_of_losses() -> None:
    # a bowl of .02 at 3.2, far above any chance error
    cells = cells_of((1, 1, 1), noise=0.0008)
    losses = cells.assign(validation_loss=3.18 + 0.2 * cells.validation_error)
    law = check_batch_size_law(losses, y="validation_loss")
    pd.testing.assert_frame_equal(
        law.exponents,
        check_batch_size_law(losses.drop(columns="chance_error"), y="validation_loss").exponents,
    )
    assert law.verdicts["joint"] is Verdict.SUPPORTED
    np.testing.assert_allclose(law.exponents.exponent, 1, atol=0.03)
    named = losses.rename(columns={"validation_error": "own"})
    pd.testing.assert_frame_equal(
        check_batch_size_law(named, y="own", chance_error="chance_error").exponents,
        check_batch_size_law(cells).exponents,
    )


def test_a_weight_decay_that_moves_with_a_factor_is_not_taken_for_it() -> None:
    cells = cells_of((1, 1, 1))
    quiet = cells.assign(weight_decay=np.where(cells.learning_rate > 0.1, 0.01, 0.0))
    with pytest.raises(FitError, match=r"'weight_decay' has the values .*optimum may move with it"):
        check_batch_size_law(quiet)
    one = cells.assign(weight_decay=0.01)
    pd.testing.assert_frame_equal(
        check_batch_size_law(one).exponents, check_batch_size_law(cells).exponents
    )


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"momentum": 1.0}, {}, "'momentum' is 1 in the table; allowed: in .0, 1."),
        ({"momentum": -0.1}, {}, "'momentum' is -0.1"),
        ({"learning_rate": 0.0}, {}, "'learning_rate' is 0 in the table; allowed: above 0"),
        ({"learning_rate": "fast"}, {}, "'learning_rate' is 'fast'; allowed: numbers"),
        ({}, {"margin": 0}, "`margin` is 0"),
        ({}, {"margin": 15}, "`margin` is 15"),
        ({}, {"form": "noise"}, "`form` is 'noise'"),
        ({}, {"momentum": "mass"}, "no column 'mass'"),
    ],
)
def test_a_table_or_request_out_of_range_is_refused(
    change: dict[str, object], options: dict[str, object], message: str
) -> None:
    cells = cells_of((1, 1, 1), levels=2)
    some = cells.learning_rate == cells.learning_rate.max()
    spoilt = cells.assign(
        **{name: cells[name].astype(object).where(~some, value) for name, value in change.items()}
    )
    whole = {name: value for name, value in change.items() if isinstance(value, str)}
    spoilt = spoilt.assign(**whole).infer_objects()
    if "momentum" in change or "learning_rate" in change:
        spoilt = spoilt[some] if not whole else spoilt
        spoilt = spoilt.drop_duplicates(["train_examples", "momentum", "batch_size", "seed"])
    with pytest.raises(FitError, match=message):
        check_batch_size_law(spoilt, **options)  # type: ignore[arg-type]


def test_published_optima_at_the_edge_of_the_grid_are_censored_and_not_accepted() -> None:
    """HPOBench's MLP: Adam, batch sizes 4 … 256 by ten learning rates (Eggensperger 2021)."""
    law = check_batch_size_law(
        one_slice("car", depth=1, width=256, alpha=1e-8),
        learning_rate="learning_rate_init",
        train_examples="n_instances",
    )
    at_edge = law.optima.best_batch_size.isin([4, 256])
    assert at_edge.sum() >= 5
    assert set(law.optima.label[at_edge]) <= {OptimumLabel.CENSORED, OptimumLabel.FLAT}
    assert law.verdicts["learning_rate"] is Verdict.CENSORED
    assert set(law.verdicts.values()) <= {Verdict.CENSORED, Verdict.UNIDENTIFIED}
    # the argmin regression that ignores edges is sure of an exponent
    naive = stats.linregress(
        np.log2(law.optima.learning_rate_init), np.log2(law.optima.best_batch_size)
    )
    assert naive.pvalue < 0.05

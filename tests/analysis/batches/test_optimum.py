"""Labels in their order, bounds, the local parabola, and what is excluded."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import digamma, polygamma

from analysis import (
    FitError,
    OptimumLabel,
    check_batch_size_law,
    load_cells,
    optimal_batch_sizes,
)
from analysis.batches.batch_grid import arrange_batch_grid
from analysis.batches.optimum import find_peaks
from tests.analysis.stores import batch_law_cells, write_store
from tests.analysis.synthetic_batches import CHANCE, law_cells, one_group

Floats = NDArray[np.float64]
GRID = 2.0 ** np.arange(10)


def noisy(
    curve: Floats, noise: float | Floats = 0.002, seeds: int = 5, rng_seed: int = 0
) -> Floats:
    return curve + np.random.default_rng(rng_seed).normal(0, noise, (seeds, len(curve)))


def only(cells: pd.DataFrame, **options: object) -> "pd.Series[float]":
    optima = optimal_batch_sizes(cells, **options)  # type: ignore[arg-type]
    assert len(optima) == 1
    return optima.iloc[0]


def test_an_enclosed_optimum_is_interior_and_the_parabola_finds_it() -> None:
    octave = np.log2(GRID)
    row = only(one_group(noisy(0.1 + 0.01 * (octave - 4.3) ** 2), GRID))
    assert row.label is OptimumLabel.INTERIOR
    # a true parabola: only noise remains; sd of the vertex is about
    # .002 / sqrt(5) × sqrt(2) / (4 × .01) = .03 octaves
    assert row.log2_optimum == pytest.approx(4.3, abs=0.12)
    assert row.optimal_batch_size == pytest.approx(2**row.log2_optimum)
    assert row.best_batch_size == 16
    assert row.log2_lower < 4.3 < row.log2_upper
    assert (row.seeds, row.n_cells, row.batch_sizes) == (5, 50, 10)
    assert (row.grid_lower, row.grid_upper) == (1, 512)


def test_three_points_a_factor_two_apart_give_the_textbook_vertex() -> None:
    octave = np.log2(GRID)
    errors = 0.1 + 0.05 * (np.exp(-0.9 * (octave - 4.2)) + 0.9 * (octave - 4.2) - 1)
    row = only(one_group(noisy(np.minimum(errors, CHANCE), 1e-6), GRID))
    at = errors[3:6]
    expected = 4 + 0.5 * (at[0] - at[2]) / (at[0] - 2 * at[1] + at[2])
    # noise 1e-6 against a curvature of .04
    assert row.log2_optimum == pytest.approx(expected, abs=1e-4)


def test_a_curve_without_slope_is_flat_even_with_its_smallest_error_at_the_edge() -> None:
    errors = noisy(np.full(10, 0.1), rng_seed=3)
    errors[:, -1] += errors.mean(axis=0).min() - errors[:, -1].mean() - 1e-4
    row = only(one_group(errors, GRID))
    assert row.best_batch_size == 512
    assert row.label is OptimumLabel.FLAT
    assert (row.log2_lower, row.log2_upper) == (-np.inf, np.inf)


@pytest.mark.parametrize("falling", [True, False])
def test_a_curve_that_is_best_at_one_edge_is_censored_with_an_open_bound(falling: bool) -> None:
    curve = 0.1 + 0.01 * np.arange(10.0)
    row = only(one_group(noisy(curve[::-1] if falling else curve), GRID))
    assert row.label is OptimumLabel.CENSORED
    assert np.isnan(row.log2_optimum)
    # the nearest batch size known to be worse is the edge's neighbour
    expected = (8.0, np.inf) if falling else (-np.inf, 1.0)
    assert (row.log2_lower, row.log2_upper) == expected


def test_best_batch_sizes_over_three_octaves_are_a_plateau() -> None:
    curve = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.25, 0.3])
    row = only(one_group(noisy(curve), GRID))
    assert row.label is OptimumLabel.PLATEAU
    assert np.isnan(row.log2_optimum)
    assert (row.set_lower, row.set_upper) == (8, 64)
    assert (row.log2_lower, row.log2_upper) == (2.0, 7.0)


def test_two_octaves_are_not_yet_a_plateau() -> None:
    curve = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.1, 0.2, 0.25, 0.3, 0.3])
    assert only(one_group(noisy(curve), GRID)).label is OptimumLabel.INTERIOR


def test_noise_shared_by_a_seed_does_not_hide_the_optimum() -> None:
    errors = noisy(0.1 + 0.01 * (np.log2(GRID) - 4) ** 2)
    shifted = errors + np.random.default_rng(1).normal(0, 0.05, (5, 1))
    kept = ["label", "set_lower", "set_upper"]
    assert only(one_group(shifted, GRID))[kept].equals(only(one_group(errors, GRID))[kept])


def test_the_set_of_the_best_is_the_paired_bonferroni_test_written_out() -> None:
    octave = np.log2(GRID)
    groups = [noisy(0.1 + 0.0016 * (octave - c) ** 2, 0.006, rng_seed=int(c)) for c in (3, 5, 6)]
    cells = pd.concat(
        [one_group(e, GRID).assign(learning_rate=0.1 * 2**i) for i, e in enumerate(groups)]
    )
    # Smyth 2004, eq. 6 to 10: moments of log s² give the prior's degrees of freedom and scale.
    paired = [e - e[:, [e.mean(0).argmin()]] for e in groups]
    variances = [d.var(0, ddof=1) for d in paired]
    logs = np.log([v for each in variances for v in each if v > 0]) - digamma(2) + np.log(2)
    assert len(logs) == 3 * 9
    prior = 2 * optimize.brentq(
        lambda half: polygamma(1, half) - (logs.var(ddof=1) - polygamma(1, 2)), 0.1, 1e4
    )
    common = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    quantile = stats.t.ppf(1 - 0.05 / 9, 4 + prior)
    optima = optimal_batch_sizes(cells)
    for (_, row), differences, own in zip(optima.iterrows(), paired, variances, strict=True):
        moderated = (4 * own + prior * common) / (4 + prior)
        best = GRID[differences.mean(0) <= quantile * np.sqrt(moderated / 5)]
        assert (row.set_lower, row.set_upper) == (best[0], best[-1])
        assert 1 < len(best) < 10


def test_runs_that_scatter_wildly_near_the_cliff_do_not_hide_the_optimum() -> None:
    # As of a perceptron on MNIST: errors of 4 % to ± .1 %, and of 40 % to ± 9 %.
    mean = np.array([0.4, 0.1, 0.06, 0.043, 0.04, 0.042, 0.045, 0.047, 0.048, 0.049])
    scatter = 0.001 * (mean / 0.04) ** 1.9
    groups = [
        one_group(noisy(mean, scatter, rng_seed=i), GRID).assign(learning_rate=0.1 * 2**i)
        for i in range(8)
    ]
    optima = optimal_batch_sizes(pd.concat(groups))
    assert (optima.label == OptimumLabel.INTERIOR).all()
    assert (optima.set_lower >= 8).all()
    assert (optima.set_upper <= 64).all()


def test_spread_at_the_cliff_and_silence_at_chance_leave_the_pooled_noise_alone() -> None:
    octave = np.log2(GRID)
    errors = noisy(0.1 + 0.01 * (octave - 6) ** 2)
    cliff = errors.copy()
    cliff[:, :2] = CHANCE
    cliff[:, 2] = [CHANCE, 0.2, CHANCE, CHANCE, 0.3]
    kept = ["label", "log2_optimum", "set_lower", "set_upper"]
    assert only(one_group(cliff, GRID))[kept].equals(only(one_group(errors, GRID))[kept])


def test_no_parabola_rests_on_the_far_side_of_the_cliff() -> None:
    errors = noisy(0.1 + 0.02 * np.maximum(np.log2(GRID) - 5, 0))
    errors[:, :5] = CHANCE
    row = only(one_group(errors, GRID))
    assert row.label is OptimumLabel.INTERIOR
    assert row.best_batch_size == 32
    assert np.isnan(row.log2_optimum)
    assert (row.log2_lower, row.log2_upper) == (4.0, 6.0)


def test_batch_sizes_a_factor_four_apart_give_bounds_and_no_parabola() -> None:
    octave = np.log2(GRID[::2])
    row = only(one_group(noisy(0.1 + 0.01 * (octave - 4) ** 2), GRID[::2]))
    assert row.label is OptimumLabel.INTERIOR
    assert np.isnan(row.log2_optimum)
    assert (row.log2_lower, row.log2_upper) == (2.0, 6.0)


def test_a_parabola_that_bends_downwards_is_no_optimum() -> None:
    octave = np.arange(0, 8, 0.5)
    bumpy = 0.1 + 0.05 * (octave - 4) ** 2
    # best at 4, but over 3 ... 5 the least-squares parabola has its maximum there
    bumpy[6:11] = [0.104, 0.12, 0.1, 0.12, 0.104]
    row = only(one_group(noisy(bumpy, 1e-4), 2.0**octave))
    assert row.label is OptimumLabel.INTERIOR
    assert np.isnan(row.log2_optimum)
    # batch sizes are kept to 12 digits
    assert (row.log2_lower, row.log2_upper) == pytest.approx((3.5, 4.5), abs=1e-9)


def test_each_group_has_its_own_edges() -> None:
    octave = np.log2(GRID)
    wide = one_group(noisy(0.1 + 0.01 * (octave - 7) ** 2), GRID)
    narrow = wide[wide.batch_size <= 64].assign(train_examples=2000)
    labels = optimal_batch_sizes(pd.concat([wide, narrow])).set_index("train_examples").label
    assert labels[10**6] is OptimumLabel.INTERIOR
    assert labels[2000] is OptimumLabel.CENSORED


def test_full_batches_are_excluded_and_reported() -> None:
    cells = one_group(noisy(0.1 + 0.01 * (np.log2(GRID) - 4) ** 2), GRID, train_examples=256)
    optima = optimal_batch_sizes(cells)
    assert optima.grid_upper[0] == 128
    assert optima.attrs["notes"][0] == (
        "10 cells excluded: B >= N is the whole shard, without gradient noise."
    )


def test_the_noise_form_of_the_batch_size_is_used_throughout() -> None:
    train_examples = 300
    effective = np.log2(GRID[:8] / (1 - GRID[:8] / train_examples))
    errors = noisy(0.1 + 0.01 * (effective - 5.2) ** 2, 1e-4)
    row = only(one_group(errors, GRID[:8], train_examples), form="B/(1-B/N)")
    # a parabola in log2 B': noise of 1e-4 moves its vertex by about .002
    assert row.log2_optimum == pytest.approx(5.2, abs=0.01)
    assert row.optimal_batch_size == pytest.approx(1 / (2**-5.2 + 1 / 300), rel=0.01)
    assert row.log2_upper == pytest.approx(effective[6])


def test_a_missing_cell_costs_its_batch_size_and_a_missing_seed_costs_that_seed() -> None:
    rng = np.random.default_rng(0)
    cells = law_cells((1, 1, 1), noise=0.003, rng=rng, seeds=6, levels=2)
    first = cells.learning_rate == cells.learning_rate.min()
    hole = (cells.seed == 2) & first & (cells.batch_size == 1)
    begun = (cells.seed == 5) & ~(first & (cells.batch_size < 16))
    optima = optimal_batch_sizes(cells[~hole & ~begun])
    assert (optima.seeds == 5).all()
    assert sorted(optima.grid_lower.unique()) == [1, 2]
    assert optima.attrs["notes"][:2] == [
        "16 cells excluded: the batch size lacks seeds that others have.",
        "16 cells excluded: the seed lacks too many groups and batch sizes.",
    ]


def test_every_row_is_either_used_or_excluded_with_a_reason() -> None:
    rng = np.random.default_rng(1)
    cells = law_cells((1, 1, 1), noise=0.003, rng=rng, levels=2).sample(frac=0.97, random_state=1)
    cells = cells.assign(status="completed")
    cells.iloc[:3, cells.columns.get_loc("status")] = "failed"
    cells.iloc[:3, cells.columns.get_loc("validation_error")] = np.nan
    optima = optimal_batch_sizes(cells)
    used = [cell_id for ids in optima.cell_ids for cell_id in ids]
    counts = [note for note in optima.attrs["notes"] if "excluded" in note]
    excluded = sum(int(note.split()[0]) for note in counts)
    assert len(used) == len(set(used)) == optima.n_cells.sum()
    assert len(used) + excluded == len(cells)


def test_order_and_index_of_the_rows_do_not_matter() -> None:
    cells = law_cells((1, 1, 1), noise=0.003, rng=np.random.default_rng(2), levels=2)
    shuffled = cells.sample(frac=1, random_state=0).set_index("cell_id", drop=False)
    expected = optimal_batch_sizes(cells).drop(columns="cell_ids")
    pd.testing.assert_frame_equal(optimal_batch_sizes(shuffled).drop(columns="cell_ids"), expected)


def test_a_fold_is_the_vertex_without_that_seed_of_groups_that_are_interior_with_it() -> None:
    # seven groups: too few for a common shape, so that vertices stand as they are
    cells = law_cells((1, 0, 1), noise=0.004, rng=np.random.default_rng(3), levels=2)
    cells = cells[
        ~((cells.learning_rate > 0.1) & (cells.momentum > 0) & (cells.train_examples > 20000))
    ]
    columns = {
        "y": "validation_error",
        "by": ("learning_rate", "train_examples", "momentum"),
        "batch_size": "batch_size",
        "train_examples": "train_examples",
        "seed": "seed",
        "chance_error": "chance_error",
    }
    keep = np.concatenate([np.ones((1, 5), dtype=bool), ~np.eye(5, dtype=bool)])
    folds = find_peaks(arrange_batch_grid(cells, **columns), keep)  # type: ignore[arg-type]
    assert list(folds.label) == list(optimal_batch_sizes(cells).label)
    assert folds.corrected_by == 0
    for seed in range(5):
        alone = optimal_batch_sizes(cells[cells.seed != seed])
        both = np.isfinite(folds.estimate[0]) & alone.log2_optimum.notna()
        assert both.sum() >= 5
        np.testing.assert_allclose(
            folds.estimate[1 + seed][both], alone.log2_optimum[both], atol=1e-9
        )


def test_a_group_whose_best_reach_down_to_the_cliff_has_bounds_and_no_estimate() -> None:
    octave = np.log2(GRID)
    bowl = 0.1 + 0.01 * (octave - 5.2) ** 2
    far = only(one_group(noisy(np.where(octave < 3, CHANCE, bowl), 0.002), GRID))
    assert far.label is OptimumLabel.INTERIOR
    assert far.log2_optimum == pytest.approx(5.2, abs=0.2)
    near = only(one_group(noisy(np.where(octave < 5, CHANCE, bowl), 0.012), GRID))
    assert near.label is OptimumLabel.INTERIOR
    assert near.set_lower == 2**5  # right above the cliff, and not worse than the best
    assert np.isnan(near.log2_optimum)
    assert near.log2_lower == 4


@pytest.mark.parametrize("spacing", [1.0, 0.5])
def test_optima_of_asymmetric_curves_do_not_depend_on_how_the_grid_falls(spacing: float) -> None:
    errors = []
    for shift in np.arange(0, 1, 0.125):  # the grid's phase, in octaves
        octave = np.arange(0, 12, spacing)
        middles = 5 + shift + 0.85 * np.arange(-4, 5) / 2  # nine groups, all of one shape
        tables = []
        for number, middle in enumerate(middles):
            above = octave - middle
            curve = np.minimum(0.1 + 0.05 * (np.exp(-0.9 * above) + 0.9 * above - 1), CHANCE)
            table = one_group(noisy(curve, 0.001, rng_seed=number), 2.0**octave)
            tables.append(table.assign(learning_rate=0.1 * 2.0**number))
        optima = optimal_batch_sizes(pd.concat(tables))
        assert "by the shape that 9 of them share" in optima.attrs["notes"][-1]
        errors.append(optima.log2_optimum - middles)
    # exact vertices of three points a factor of 2 apart are .13 to .21 octave off on such curves
    # Here all share what a spline of few pieces is off, which moves no exponent, and that is all.
    assert abs(np.mean(errors)) < 0.08
    assert np.std(errors) < 0.05


def test_failed_attempts_are_set_aside_with_nothing_asked_of_their_rows(tmp_path: Path) -> None:
    cells = batch_law_cells(learning_rate=[0.1], momentum=[0.0], train_examples=[4096])
    lost = cells.cell_id[cells.batch_size == 64].iloc[0]
    store = write_store(tmp_path, {"s": {"g": cells}}, failures=[(lost, "out of memory")])
    loaded = load_cells(store, failed=True)
    assert loaded.loc[loaded.status == "failed", ["seed", "batch_size"]].isna().all(axis=None)
    optima = optimal_batch_sizes(loaded)
    assert "1 cells excluded: the attempt failed." in optima.attrs["notes"]
    expected = optimal_batch_sizes(cells[cells.cell_id != lost])
    assert (optima.batch_sizes == 9).all()
    pd.testing.assert_frame_equal(
        optima.drop(columns="cell_ids"), expected.drop(columns="cell_ids"), check_dtype=False
    )
    excluded = check_batch_size_law(loaded).excluded
    assert excluded.loc[excluded.reason == "the attempt failed", "cell_id"].tolist() == [lost]


def test_weight_decays_make_groups_where_asked_to() -> None:
    decays = [
        one_group(noisy(0.1 + 0.01 * (np.log2(GRID) - octave) ** 2), GRID).assign(
            weight_decay=decay
        )
        for octave, decay in ((3, 0.0), (6, 0.01))
    ]
    by = ("learning_rate", "train_examples", "momentum", "weight_decay")
    optima = optimal_batch_sizes(pd.concat(decays), by=by)
    assert optima["weight_decay"].tolist() == [0.0, 0.01]
    np.testing.assert_allclose(optima["log2_optimum"], [3, 6], atol=0.3)
    for decay, alone in enumerate(decays):
        assert only(alone).log2_optimum == pytest.approx(optima["log2_optimum"][decay], abs=0.1)


def test_one_seed_knows_no_noise_so_that_everything_is_flat() -> None:
    row = only(one_group(noisy(0.1 + 0.01 * (np.log2(GRID) - 4) ** 2, seeds=1), GRID))
    assert row.label is OptimumLabel.FLAT


def test_learning_rates_that_differ_in_the_last_bit_are_one_group() -> None:
    cells = one_group(noisy(0.1 + 0.01 * (np.log2(GRID) - 4) ** 2), GRID)
    rate = np.where(cells.seed < 2, 0.1 * 3, 0.3)
    assert only(cells.assign(learning_rate=rate)).seeds == 5


GOOD = one_group(noisy(0.1 + 0.01 * (np.log2(GRID) - 4) ** 2), GRID)


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        ([1, 2], {}, "is a list; pass a pandas DataFrame"),
        (GOOD.iloc[:0], {}, "no rows"),
        (GOOD.drop(columns="momentum"), {}, "no column 'momentum'.*assign"),
        (GOOD, {"y": "test_error"}, "no column 'test_error'"),
        (GOOD, {"by": "learning_rate"}, "pass the names"),
        (GOOD, {"by": ()}, "pass the names"),
        (GOOD.assign(batch_size="many"), {}, "'batch_size' is many in 50 rows"),
        (
            GOOD.assign(batch_size=GOOD.batch_size.astype(str)),
            {},
            "'batch_size' is .* in 50 rows; allowed: finite numbers, not as text",
        ),
        (GOOD.assign(train_examples="4096"), {}, "'train_examples' is 4096 in 50 rows"),
        (GOOD.assign(batch_size=0), {}, "'batch_size' is 0 .* at least 1"),
        (GOOD.assign(learning_rate=np.inf), {}, "'learning_rate' is inf"),
        (GOOD.assign(validation_error=np.nan), {}, "missing or infinite in 50 of 50"),
        (GOOD.assign(validation_error="low"), {}, "'validation_error' is low"),
        (GOOD.assign(seed=None), {}, "'seed' is missing in 50 rows"),
        (GOOD.assign(train_examples=1), {}, "All 50 rows are excluded"),
        (GOOD.assign(status="failed"), {}, "All 50 rows are excluded .the attempt failed"),
        (pd.concat([GOOD, GOOD]), {}, "2 rows have .* one is allowed. Drop repeats"),
        (
            pd.concat([GOOD.assign(model_size=16), GOOD.assign(model_size=64)]),
            {},
            "They differ in model_size: filter to one",
        ),
        (
            pd.concat([GOOD.assign(weight_decay=0.0), GOOD.assign(weight_decay=0.01)]),
            {},
            "'weight_decay' has the values 0.0, 0.01; .*Filter to one, .* or name it in `by`",
        ),
        (
            GOOD.assign(weight_decay=np.where(GOOD.batch_size < 32, 0.0, 0.01)),
            {},
            "'weight_decay' has the values 0.0, 0.01",
        ),
        (
            GOOD.assign(weight_decay=np.where(GOOD.batch_size < 32, np.nan, 0.01)),
            {},
            "'weight_decay' has the values nan, 0.01",
        ),
        (GOOD[GOOD.batch_size == 1 + GOOD.seed].query("seed < 2"), {}, "common set of seeds"),
        (GOOD, {"form": "B/N"}, "`form` is 'B/N'; allowed"),
        (GOOD, {"alpha": 0.0}, "`alpha` is 0.0"),
        (GOOD, {"chance_error": np.nan}, "`chance_error` is nan"),
        (
            GOOD.assign(train_examples=1000 + GOOD.seed),
            {"by": ("learning_rate", "momentum")},
            "varies within a group; add it to `by`",
        ),
    ],
)
def test_a_table_that_cannot_be_analyzed_is_refused_with_the_reason(
    cells: pd.DataFrame, options: dict[str, object], message: str
) -> None:
    with pytest.raises(FitError, match=message):
        optimal_batch_sizes(cells, **options)  # type: ignore[arg-type]

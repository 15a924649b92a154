"""The windowed collapse: exact on exact curves, blind to levels and heights, and to the cliff."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis import FitError, OptimumLabel, check_batch_size_law, optimal_batch_sizes
from analysis.batches.collapse import Curves as Windowed
from analysis.batches.collapse import collapse_curves, stretch_gain, stretched_collapse
from analysis.batches.curve_shape import CurveShape, spline_basis
from analysis.batches.law_judgement import Estimator, judge_curves
from tests.analysis.calibration import noisy_quadratic
from tests.analysis.synthetic_batches import CHANCE
from tests.analysis.synthetic_curves import Curves, symmetric_bowl, table

Floats = NDArray[np.float64]
FACTORS = ["learning_rate", "train_examples", "momentum"]


def cubic(u: Floats) -> Floats:
    """A shape that a spline of one piece holds exactly, with its minimum at 0."""
    return 0.02 * u**2 - 0.002 * u**3


def exact_curves(
    factors: Floats,
    exponents: Floats,
    levels: Floats,
    heights: Floats,
    stretches: tuple[float, float, float] = (0, 0, 0),
) -> tuple[Windowed, Floats]:
    octave = np.broadcast_to(np.arange(0.0, 12.0), (len(factors), 12)).copy()
    optimum = 5.3 + factors @ exponents
    width = np.exp2(factors @ np.array(stretches))[:, None]
    mean = levels[:, None] + heights[:, None] * cubic((octave - optimum[:, None]) / width)
    everywhere = np.ones(octave.shape, dtype=bool)
    return Windowed.windowed(octave, mean, everywhere, np.round(optimum)), optimum


def test_exact_curves_give_exact_exponents_whatever_their_levels_and_heights() -> None:
    rng = np.random.default_rng(0)
    factors = rng.uniform(-1.5, 1.5, (20, 3))
    curves, optimum = exact_curves(
        factors, np.array([0.9, 0.4, 1.1]), rng.uniform(0, 1, 20), rng.uniform(0.3, 3, 20)
    )
    found = collapse_curves(curves, factors, np.ones(3), np.round(optimum))
    np.testing.assert_allclose(found.exponents, [0.9, 0.4, 1.1], atol=1e-5)
    np.testing.assert_allclose(found.origin + found.shape.lowest, optimum, atol=1e-2)
    assert found.mean_square < 1e-12


def test_exact_curves_of_several_widths_give_exact_exponents_where_they_are_stretched() -> None:
    rng = np.random.default_rng(0)
    factors = rng.uniform(-1.5, 1.5, (20, 3))
    truth, stretches = np.array([0.9, 0.4, 1.1]), (0.0, 0.2, -0.1)
    curves, optimum = exact_curves(
        factors, truth, rng.uniform(0, 1, 20), rng.uniform(0.3, 3, 20), stretches
    )
    begun = collapse_curves(curves, factors, np.ones(3), np.round(optimum), 1)
    assert np.abs(begun.exponents - truth).max() > 0.01
    found = stretched_collapse(curves, factors, begun, np.round(optimum))
    np.testing.assert_allclose(found.exponents, truth, atol=2e-3)
    np.testing.assert_allclose(found.stretches, stretches, atol=1e-3)
    np.testing.assert_allclose(found.optimum, optimum, atol=1e-2)
    assert found.mean_square < 1e-10
    points = pd.DataFrame(found.points(curves))
    np.testing.assert_allclose(points.scaled_error, points["shape"], atol=1e-4)
    # The score test foretells most of what the widths explain.
    gain = stretch_gain(curves, factors, begun, np.round(optimum))
    assert 0.5 < gain / (begun.mean_square * begun.freedom) < 1.5


def test_the_points_of_a_collapse_lie_on_its_shape() -> None:
    rng = np.random.default_rng(1)
    factors = rng.uniform(-1.5, 1.5, (20, 3))
    heights = rng.uniform(0.5, 2, 20)
    curves, optimum = exact_curves(factors, np.array([1.0, 0.5, 1.0]), heights, heights)
    found = collapse_curves(curves, factors, np.ones(3), np.round(optimum))
    points = pd.DataFrame(found.points(curves))
    assert len(points) == curves.counts.sum()
    np.testing.assert_allclose(points.scaled_error, points["shape"], atol=1e-5)
    beside = points.octaves_from_optimum - (points.log2_batch - optimum[points.group])
    np.testing.assert_allclose(beside, 0, atol=1e-2)


def test_a_spline_goes_on_as_a_straight_line_and_knows_its_slope() -> None:
    shape = CurveShape(np.linspace(-2, 2, 4), np.array([3.0, 1.0, 0.5, 0.2, 0.8, 2.0]))
    u = np.linspace(-4, 4.05, 41)  # none at a knot, where the slope of the slope jumps
    step = 1e-6
    numeric = (shape.value(u + step) - shape.value(u - step)) / (2 * step)
    np.testing.assert_allclose(shape.slope(u), numeric, atol=1e-6)
    assert np.ptp(shape.slope(np.array([2.1, 3.0, 9.0]))) == pytest.approx(0)
    np.testing.assert_allclose(spline_basis(u, shape.knots).sum(axis=-1), 1.0)
    fine = np.linspace(-2, 2, 4001)
    assert shape.lowest == pytest.approx(fine[shape.value(fine).argmin()], abs=0.005)


@pytest.mark.parametrize("truth", [(1, 1, 1), (0.5, 0.5, 0.5)])
def test_a_cliff_that_moves_otherwise_is_not_taken_for_the_optimum(
    truth: tuple[float, float, float],
) -> None:
    """Whole curves would give the cliff's (1, 0, 1): the trap that windows are for."""
    gap = 2.0 if truth == (1, 1, 1) else 3.5
    made = Curves(truth=truth, noise=0.006, cliff=(1, 0, 1), gap=gap)
    law = check_batch_size_law(table(made.grid(np.random.default_rng(2))))
    # five standard errors at most are .06 here
    np.testing.assert_allclose(law.collapse.exponents.exponent, truth, atol=0.06)
    np.testing.assert_allclose(law.peaks.exponent, truth, atol=0.12)


def test_curves_that_flatten_with_n_move_no_exponent() -> None:
    made = Curves(truth=(0.85,) * 3, noise=0.004, heights=-0.5)
    law = check_batch_size_law(table(made.grid(np.random.default_rng(3))))
    # with curves of one height the exponent of N would be .65
    np.testing.assert_allclose(law.collapse.exponents.exponent, 0.85, atol=0.03)
    assert not any("not one shape" in flag for flag in law.flags)


def test_curves_of_several_widths_are_stretched() -> None:
    made = Curves(truth=(0.85,) * 3, noise=0.004, widths=0.15)
    law = check_batch_size_law(table(made.grid(np.random.default_rng(4))))
    # With one width the exponent of N would be .90.
    np.testing.assert_allclose(law.collapse.exponents.exponent, 0.85, atol=0.03)
    assert np.isfinite(law.collapse.exponents.upper95).all()
    assert law.collapse.stretched
    assert any("have not one width" in flag for flag in law.flags)
    assert law.to_dict()["collapse"]["stretched"]
    one = check_batch_size_law(
        table(Curves(truth=(0.85,) * 3, noise=0.004).grid(np.random.default_rng(4)))
    )
    assert not one.collapse.stretched
    assert not any("width" in flag for flag in one.flags)


def test_curves_of_several_shapes_are_flagged() -> None:
    cells = noisy_quadratic.risks().table(noisy_quadratic.noisy(np.random.default_rng(4)))
    law = check_batch_size_law(cells, y="y", chance_error=1.0)
    assert law.collapse.lack_of_fit < 0.001
    assert "not one shape" in law.collapse.failure
    assert np.isinf(law.collapse.exponents.upper95).all()
    assert law.collapse.exponents.exponent.notna().all()
    assert any("curves have not one shape" in flag for flag in law.flags)


def test_a_table_and_its_arrays_give_the_same_law() -> None:
    made = Curves(truth=(1, 0.5, 1), noise=0.01, levels=3)
    grid = made.grid(np.random.default_rng(5))
    judged = judge_curves(grid, made.octaves)
    law = check_batch_size_law(table(grid))
    np.testing.assert_allclose(law.peaks.exponent, judged.by_peaks.exponents, atol=1e-6)
    np.testing.assert_allclose(
        law.collapse.exponents.exponent, judged.by_collapse.exponents, atol=1e-6
    )
    by = {name: str(verdict) for name, verdict in law.verdicts.items()}
    assert by == {name: str(j.verdict) for name, j in judged.judged[Estimator.PEAKS].items()}


def test_the_estimator_is_named_in_the_call_and_judged_alone() -> None:
    cells = table(Curves(truth=(1, 1, 1), noise=0.02, levels=3).grid(np.random.default_rng(6)))
    by_collapse = check_batch_size_law(cells, estimator="collapse")
    by_peaks = check_batch_size_law(cells)
    pd.testing.assert_frame_equal(by_collapse.exponents, by_collapse.collapse.exponents)
    pd.testing.assert_frame_equal(by_peaks.exponents, by_peaks.peaks)
    pd.testing.assert_frame_equal(by_peaks.collapse.exponents, by_collapse.exponents)
    assert by_collapse.exponents.standard_error.max() < by_peaks.exponents.standard_error.min()
    with pytest.raises(FitError, match="`estimator` is 'spline'; allowed: 'peaks', 'collapse'"):
        check_batch_size_law(cells, estimator="spline")


def test_flat_curves_take_no_part_and_too_few_curves_give_no_collapse() -> None:
    made = Curves(truth=(1, 1, 1), noise=0.004, levels=2)
    cells = table(made.grid(np.random.default_rng(7)))
    labels = optimal_batch_sizes(cells).label
    assert (labels == OptimumLabel.INTERIOR).all()
    whole = check_batch_size_law(cells)
    assert whole.collapse.exponents.exponent.notna().all()
    smallest = cells.learning_rate == cells.learning_rate.min()
    flat = cells.assign(validation_error=cells.validation_error.where(~smallest, 0.3))
    law = check_batch_size_law(flat)
    assert "too few to find a common shape" in law.collapse.failure
    assert law.collapse.exponents.exponent.isna().all()
    assert len(law.collapse.curves) == 0


def test_the_stability_edge_is_fitted_apart_and_its_nearness_flagged() -> None:
    near = Curves(truth=(1, 1, 1), noise=0.004, cliff=(1, 1, 1), gap=1.2)
    law = check_batch_size_law(table(near.grid(np.random.default_rng(8))))
    # an edge is known between two neighbours an octave apart, in 64 groups: .25 is ample
    np.testing.assert_allclose(law.stability_edge.exponent, 1, atol=0.25)
    assert law.stability_edge.attrs["distance_octaves"] == pytest.approx(1.2, abs=0.5)
    assert any("stability edge" in flag for flag in law.flags)
    # symmetric curves do not reach half of chance themselves
    far = Curves(truth=(1, 1, 1), noise=0.004, cliff=(1, 0, 1), gap=4.0, shape=symmetric_bowl)
    other = check_batch_size_law(table(far.grid(np.random.default_rng(8))))
    np.testing.assert_allclose(other.stability_edge.exponent, [1, 0, 1], atol=0.25)
    assert not any("stability edge" in flag for flag in other.flags)


@pytest.mark.parametrize(
    ("truth", "best"),
    [((1, 1, 1), "εN/(1-m)"), ((1, 0, 1), "ε/(1-m)"), ((0.5, 0.5, 0.5), "√(εN/(1-m))")],
)
def test_the_rival_that_made_the_curves_foretells_left_out_groups_best(
    truth: tuple[float, float, float], best: str
) -> None:
    made = Curves(truth=truth, noise=0.008)
    law = check_batch_size_law(table(made.grid(np.random.default_rng(9))))
    named = law.rivals.drop(index="free")
    assert named.index[0] == best
    assert law.rivals.log_score["free"] == pytest.approx(named.log_score[best], abs=0.1)
    assert law.rivals.error_octaves["constant"] > 1.5 * named.error_octaves[best]


@pytest.mark.parametrize("scatter", [0.0, 0.01])
def test_a_group_that_never_trains_is_told_and_left_out_of_the_law_of_the_edge(
    scatter: float,
) -> None:
    # at the largest rate the cliff stands above all 6 batch sizes, as its law would have it
    made = Curves(truth=(1, 1, 1), noise=0.004, cliff=(3, 0, 1), levels=3, gap=1.0, batch_sizes=6)
    cells = table(made.grid(np.random.default_rng(10)))
    at_chance = cells.validation_error == CHANCE
    draws = np.random.default_rng(0).uniform(0, scatter, len(cells))
    cells["validation_error"] -= draws * at_chance
    never = at_chance.groupby([cells[name] for name in FACTORS]).all().to_numpy()
    assert 3 <= never.sum() <= 9
    law = check_batch_size_law(cells)
    assert (law.edges.log2_lower[never] == np.log2(cells.batch_size.max())).all()
    assert (law.edges.log2_upper[never] == np.inf).all()
    assert np.isfinite(law.edges.log2_upper[~never]).all()
    # known between neighbours an octave apart; as an edge below all batch sizes, it was .9
    assert law.stability_edge.exponent["learning_rate"] == pytest.approx(3, abs=0.6)
    assert law.stability_edge.attrs["untrained_groups"] == never.sum()
    said = f"{never.sum()} of 27 groups train at no batch size"
    assert sum(said in flag for flag in law.flags) == 1


def test_flat_groups_that_never_train_are_not_said_to_need_seeds_alone() -> None:
    cells = table(Curves(truth=(1, 1, 1), noise=0.004, levels=3).grid(np.random.default_rng(11)))
    small = cells.learning_rate < cells.learning_rate.max() / 1.5
    spoilt = cells.assign(validation_error=cells.validation_error.where(~small, CHANCE))
    law = check_batch_size_law(spoilt)
    assert law.regime["groups"]["flat"] == 18
    assert "18 of 27 groups train at no batch size" in law.reasons["learning_rate"]
    flat = cells.assign(validation_error=cells.validation_error.where(~small, 0.3))
    other = check_batch_size_law(flat)
    assert "hardly depends on the batch size" in other.reasons["learning_rate"]
    assert not any("at no batch size" in said for said in (*other.flags, *other.reasons.values()))


def test_without_a_known_chance_error_there_is_no_edge() -> None:
    # the steep side of smooth bowls: half the way to their largest error is no failure
    made = Curves(truth=(1, 1, 1), noise=0.002, levels=3, batch_sizes=9)
    cells = table(made.grid(np.random.default_rng(1)))
    bowls = cells[cells.validation_error < 0.2]
    nameless = bowls.drop(columns="chance_error")
    losses = bowls.rename(columns={"validation_error": "loss"})
    for law in (check_batch_size_law(nameless), check_batch_size_law(losses, y="loss")):
        assert law.stability_edge.exponent.isna().all()
        assert law.edges.isna().all(axis=None)
        assert np.isnan(law.stability_edge.attrs["distance_octaves"])
        assert not any("stability edge" in flag for flag in law.flags)
        assert "No stability edge is sought" in " ".join(law.summary().notes)
        groups = json.loads(json.dumps(law.to_dict(), allow_nan=False))["stability_edge"]["groups"]
        assert groups[0] == {"log2_lower": None, "log2_upper": None}
        assert (law.optima.label == OptimumLabel.INTERIOR).all()
    given = check_batch_size_law(losses, y="loss", chance_error=0.2)
    assert given.stability_edge.exponent.notna().all()
    assert "Stability edge" in " ".join(given.summary().notes)

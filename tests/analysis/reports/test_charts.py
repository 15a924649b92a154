import struct

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import curve_regions, fit_power_law
from analysis.reports.chart_style import interval_text, log_axis, shades
from analysis.reports.charts import chart_png, learning_curve_chart
from analysis.reports.curve_data import EXTRAPOLATED, curve_lines, curve_table, region_table
from tests.analysis.reports.chart_specs import misplaced, spec_of, tables, words
from tests.analysis.stores import cell_rows, learning_curve_cells

DIGITS = 1e-5
"""Relative tolerance of numbers in a chart, which are rounded to six significant digits."""

ERROR = "best_validation_error"


@pytest.fixture(scope="module")
def curve_cells():
    return learning_curve_cells()


@pytest.fixture(scope="module")
def curve_fit(curve_cells):
    return fit_power_law(curve_cells)


@pytest.fixture(scope="module")
def floored_cells():
    return learning_curve_cells(
        floor=0.06, exponent=-0.6, sizes=[64 * 2**k for k in range(13)], noise=0.02
    )


def curves():
    """Tables of learning curves of every kind that a chart must bear, by name."""
    flat = cell_rows(lambda *point: 0.3, train_examples=[64, 256, 1024, 4096])
    return {
        "plain": (learning_curve_cells(), {}),
        "few held-out examples": (learning_curve_cells(), {"validation_examples": 300}),
        "chosen": (learning_curve_cells(model_size=(64, 256)), {}),
        "flat": (flat, {}),
        "line": (learning_curve_cells(floor=0.0), {"form": "M1"}),
        "bent": (learning_curve_cells(), {"form": "M3"}),
        "profile": (learning_curve_cells(), {"ci": "profile", "choose": ()}),
        "one seed": (learning_curve_cells(seeds=1), {"ci": None}),
    }


def test_a_cell_without_an_error_is_drawn_inside_the_frame():
    cells = learning_curve_cells().assign(validation_examples=1000)
    largest = cells["train_examples"] == cells["train_examples"].max()
    lonely = cells[~largest | (cells["seed"] == cells["seed"].min())].copy()
    lonely.loc[lonely["train_examples"] == cells["train_examples"].max(), ERROR] = 0.0
    fit = fit_power_law(lonely)
    spec = spec_of(learning_curve_chart(fit, lonely))
    points = next(table for table in tables(spec) if "points" in table)
    assert points["error"].min() == pytest.approx(0.5 / 1001, rel=DIGITS)
    assert misplaced(spec) == []


@pytest.mark.parametrize("kind", curves())
def test_every_learning_curve_is_drawn_inside_its_frame_with_n_and_its_interval(kind):
    cells, options = curves()[kind]
    fit = fit_power_law(cells, **options)
    spec = spec_of(learning_curve_chart(fit, cells))
    assert misplaced(spec) == []
    said = words(spec)
    assert f"{fit.n_cells} cells, {len(fit.seeds)} seed" in said
    assert f"{fit.points['used'].sum()} of {len(fit.points)} sizes" in said
    assert spec["description"].startswith(spec["title"]["text"])
    method = {None: "without interval", "profile": "profile likelihood"}
    told = method.get(fit.ci and str(fit.ci), "jackknife over seeds")
    assert told in said
    assert ("95 % interval" in said) is (fit.ci is not None)
    # what fits the chart's width
    assert max(map(len, spec["title"]["subtitle"])) <= 152


def test_png_has_the_size_that_was_asked_for(curve_fit, curve_cells):
    chart = learning_curve_chart(curve_fit, curve_cells)
    sizes = []
    for scale in (1.0, 2.0):
        image = chart_png(chart, scale=scale)
        assert image[:8] == b"\x89PNG\r\n\x1a\n"
        sizes.append(struct.unpack(">II", image[16:24]))
    (width, height), (double_width, double_height) = sizes
    assert width > 600
    # One pixel of rounding at each scale.
    assert abs(double_width - 2 * width) <= 2
    assert abs(double_height - 2 * height) <= 2


def test_points_of_a_curve_carry_the_t_interval_of_their_seeds(curve_fit, curve_cells):
    table = curve_table(curve_fit, curve_cells).set_index("size")
    at_size = curve_cells[curve_cells["train_examples"] == 1024]
    log_error = np.log(at_size["best_validation_error"].to_numpy())
    expected = stats.t.interval(0.95, 4, log_error.mean(), stats.sem(log_error))
    row = table.loc[1024.0]
    assert row["error"] == pytest.approx(np.exp(log_error.mean()))
    assert (row["lower"], row["upper"]) == pytest.approx(tuple(np.exp(expected)))


def test_sizes_left_out_carry_the_range_of_their_cells_and_the_reason(curve_fit, curve_cells):
    table = curve_table(curve_fit, curve_cells)
    out = table[~table["used"]]
    assert out["size"].tolist() == [32.0, 64.0]
    for _, row in out.iterrows():
        errors = curve_cells.loc[
            curve_cells["train_examples"] == row["size"], "best_validation_error"
        ]
        assert (row["lower"], row["upper"]) == (errors.min(), errors.max())
        assert row["interval"] == "range of its 5 cells"
        assert "chance" in row["why"]


def test_learning_curve_draws_the_fit_its_band_and_both_kinds_of_points(curve_fit, curve_cells):
    data = list(tables(spec_of(learning_curve_chart(curve_fit, curve_cells))))
    band = next(table for table in data if len(table) == 60)
    expected = curve_fit.predict_interval(band["size"])
    for drawn, computed in {"error": "predicted", "lower": "lower", "upper": "upper"}.items():
        np.testing.assert_allclose(band[drawn], expected[computed], rtol=DIGITS)
    points = next(table for table in data if "points" in table)
    marked = points.set_index("size")["points"]
    assert marked[32.0] == "left out of the fit"
    assert marked[1024.0] == "used in the fit"


def test_a_curve_speaks_of_sizes_left_out_and_of_held_out_sampling_only_where_there_are(
    curve_fit, curve_cells
):
    assert "at sizes left out" in words(spec_of(learning_curve_chart(curve_fit, curve_cells)))
    cells = curve_cells[curve_cells["train_examples"] > 64]
    for n, sampled in ((10**7, False), (400, True)):
        fit = fit_power_law(cells, validation_examples=n)
        spec = spec_of(learning_curve_chart(fit, cells))
        assert "left out" not in words(spec)
        assert ("held-out set included" in words(spec)) is sampled


def test_the_whole_band_of_a_curve_is_inside_its_frame(curve_cells):
    """Few held-out examples make it far wider than the bars, and a cut band looks narrower."""
    cells = curve_cells[curve_cells["train_examples"] > 64]
    fit = fit_power_law(cells, validation_examples=400)
    band = fit.predict_interval(np.unique(cells["train_examples"]))
    bars = curve_table(fit, cells)
    assert band["lower"].min() < 0.9 * bars["lower"].min()
    layers = spec_of(learning_curve_chart(fit, cells))["vconcat"][0]["layer"]
    (low, high) = next(
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in layers
        if "scale" in layer["encoding"].get("y", {})
    )
    assert low <= band["lower"].min() < band["upper"].max() <= high


def test_a_curve_goes_on_dashed_beyond_its_sizes_with_the_band_of_the_fit(curve_fit, curve_cells):
    lines = curve_lines(curve_fit)
    beyond = lines[lines["beyond"]]
    assert beyond["size"].iloc[[0, -1]].tolist() == pytest.approx([8192, EXTRAPOLATED * 8192])
    expected = curve_fit.predict_interval(beyond["size"])
    np.testing.assert_allclose(beyond[["error", "lower", "upper"]], expected)
    main = spec_of(learning_curve_chart(curve_fit, curve_cells))["vconcat"][0]
    drawn = [layer for layer in main["layer"] if layer["mark"]["type"] == "line"]
    dashes = {pd.DataFrame(of["data"])["beyond"].all(): of["mark"]["strokeDash"] for of in drawn}
    assert dashes == {False: [1, 0], True: [5, 4]}


def test_nothing_bounds_an_unidentified_curve_beyond_its_sizes():
    cells, _ = curves()["flat"]
    fit = fit_power_law(cells)
    lines = curve_lines(fit).set_index("beyond")
    assert lines.loc[True, ["lower", "upper"]].isna().all(axis=None)
    assert lines.loc[False, ["lower", "upper"]].notna().all(axis=None)
    assert "its band has no bounds there" in words(spec_of(learning_curve_chart(fit, cells)))


def test_residuals_are_the_errors_over_the_fitted_ones(curve_fit, curve_cells):
    table = curve_table(curve_fit, curve_cells)
    used = table[table["used"]]
    expected = np.exp(curve_fit.means[0]) / curve_fit.predict(curve_fit.curve.size) - 1
    np.testing.assert_allclose(used["residual"], expected)
    assert table.loc[~table["used"], "residual"].isna().all()
    beneath = spec_of(learning_curve_chart(curve_fit, curve_cells))["vconcat"][1]
    drawn = next(table for table in tables(beneath) if "residual" in table)
    names = ["residual", "residual_lower", "residual_upper"]
    # six digits of numbers of a few percent
    np.testing.assert_allclose(drawn[names], used[names], rtol=DIGITS)


def test_regions_begin_where_the_analysis_of_regions_has_them(floored_cells, curve_fit):
    fit = fit_power_law(floored_cells)
    regions = curve_regions(fit)
    table = region_table(fit, regions).set_index("region")
    assert list(table.index) == ["power law", "floor"]
    assert table.loc["floor", "start"] == table.loc["power law", "end"] == regions.floor_begins
    said = words(spec_of(learning_curve_chart(fit, floored_cells)))
    assert f"Floor from {regions.floor_begins:.4g} on, 95 % interval" in said
    table = region_table(curve_fit, curve_regions(curve_fit)).set_index("region")
    assert list(table.index) == ["small data", "power law"]
    assert 64 < table.loc["small data", "end"] < 128


def test_an_unidentified_curve_is_drawn_with_its_status():
    cells = cell_rows(lambda *point: 0.3, train_examples=[64, 256, 1024, 4096])
    fit = fit_power_law(cells)
    assert not fit.identified
    spec = spec_of(learning_curve_chart(fit, cells))
    assert "(−∞, ∞)" in words(spec)
    assert str(fit.status) in words(spec)


def test_as_many_colours_as_levels_from_dark_to_light():
    def lightness(colour):
        return sum(int(colour[i : i + 2], 16) for i in (1, 3, 5))

    for count in range(1, 12):
        colours = shades(count)
        assert len(set(colours)) == count
        assert sorted(colours, key=lightness) == colours


def test_intervals_are_written_with_open_ends_where_unbounded():
    assert interval_text(0.5, 1.25) == "[0.500, 1.250]"
    assert interval_text(-np.inf, np.inf) == "(−∞, ∞)"
    assert interval_text(4.0, np.inf, 4, general=True) == "[4, ∞)"


@pytest.mark.parametrize(("low", "high"), [(0.071, 0.08), (0.1, 0.9), (0.02, 0.9), (32, 8192)])
def test_log_axes_have_a_readable_number_of_ticks_inside_their_domain(low, high):
    axis = log_axis([low, high])
    start, end = axis["scale"].domain
    ticks = axis["axis"].values
    assert start < low
    assert high < end
    assert 3 <= len(ticks) <= 12
    assert all(start <= tick <= end for tick in ticks)

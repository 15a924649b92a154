import json
import struct

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import check_batch_size_law, fit_power_law
from analysis.batch_charts import batch_curves_chart, optimum_chart
from analysis.chart_style import interval_text, log_axis
from analysis.charts import chart_png, curve_table, exponents_chart, learning_curve_chart
from tests.analysis.stores import batch_law_cells, cell_rows, learning_curve_cells

DIGITS = 1e-5
"""Relative tolerance of numbers in a chart, which are rounded to six significant digits."""


@pytest.fixture(scope="module")
def curve_cells():
    return learning_curve_cells()


@pytest.fixture(scope="module")
def curve_fit(curve_cells):
    return fit_power_law(curve_cells)


@pytest.fixture(scope="module")
def law_cells():
    return batch_law_cells(exponents=(1.0, 0.5, 1.0), scale=0.2)


@pytest.fixture(scope="module")
def law(law_cells):
    return check_batch_size_law(law_cells)


def verdict_rows(law, **changes):
    rows = law.exponents.drop(columns="standard_error").reset_index()
    rows = rows.assign(
        study="s", grid="g", part="", claimed=1.0, margin=law.margin, n_cells=law.n_cells, seeds=5
    )
    rows["verdict"] = [str(law.verdicts[factor]) for factor in rows["factor"]]
    return rows.assign(**changes)


def spec_of(chart):
    """The definition as strict JSON reads it back, its data where they are used."""
    spec = json.loads(json.dumps(chart.to_dict(), allow_nan=False))
    return inlined(spec, spec.pop("datasets"))


def inlined(node, datasets):
    if isinstance(node, list):
        return [inlined(value, datasets) for value in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("data"), dict):
        node = node | {"data": datasets[node["data"]["name"]]}
    return {
        name: value if name == "data" else inlined(value, datasets) for name, value in node.items()
    }


def tables(node):
    """Every table of data in a definition, in order."""
    if isinstance(node, dict):
        if "data" in node:
            yield pd.DataFrame(node["data"])
        for name, value in node.items():
            if name != "data":
                yield from tables(value)
    elif isinstance(node, list):
        for value in node:
            yield from tables(value)


def words(spec):
    return " ".join([spec["title"]["text"], *spec["title"]["subtitle"]])


def test_every_chart_says_how_many_cells_and_seeds_and_what_its_intervals_are(
    curve_fit, curve_cells, law, law_cells
):
    charts = {
        "curve": (learning_curve_chart(curve_fit, curve_cells), curve_fit.n_cells, "95 %"),
        "batch": (batch_curves_chart(law, law_cells), law.n_cells, "range of the seeds"),
        "optimum": (optimum_chart(law), law.n_cells, "95 %"),
        "exponents": (exponents_chart(verdict_rows(law)), law.n_cells, "95 %"),
    }
    for name, (chart, n_cells, interval) in charts.items():
        spec = spec_of(chart)
        said = words(spec)
        assert f"{n_cells} cells" in said, name
        assert "5 seeds" in said, name
        assert interval in said, name
        assert spec["description"].startswith(spec["title"]["text"]), name


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
    layers = spec_of(learning_curve_chart(fit, cells))["layer"]
    (low, high) = next(
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in layers
        if "scale" in layer["encoding"]["y"]
    )
    assert low <= band["lower"].min() < band["upper"].max() <= high


def test_an_unidentified_curve_is_drawn_with_its_status():
    cells = cell_rows(lambda *point: 0.3, train_examples=[64, 256, 1024, 4096])
    fit = fit_power_law(cells)
    assert not fit.identified
    spec = spec_of(learning_curve_chart(fit, cells))
    assert "(−∞, ∞)" in words(spec)
    assert str(fit.status) in words(spec)


def test_batch_curves_are_means_and_ranges_over_seeds_never_raw_rows(law, law_cells):
    (data,) = tables(spec_of(batch_curves_chart(law, law_cells)))
    curves = data[data["kind"] == "curve"]
    # Four learning rates are the colour, four momenta the row, three shards the column.
    drawn = curves.set_index(["colour", "column", "row", "batch"]).sort_index()
    used = law_cells[law_cells["cell_id"].isin(law.cell_ids)]
    by = ["learning_rate", "train_examples", "momentum", "batch_size"]
    expected = used.groupby(by)["validation_error"].agg(["mean", "min", "max"]).sort_index()
    assert len(drawn) == len(expected)
    np.testing.assert_allclose(drawn[["error", "lower", "upper"]], expected, rtol=DIGITS)
    assert (data["kind"] == "optimum").sum() == len(law.optima)


def test_a_censored_optimum_is_marked_with_the_side_on_which_it_lies(law_cells):
    high = check_batch_size_law(batch_law_cells(scale=1.0))
    low = check_batch_size_law(batch_law_cells(scale=1e-6))
    for law, side in ((high, "censored above"), (low, "censored below")):
        (data,) = tables(spec_of(batch_curves_chart(law, law_cells)))
        assert side in set(data["optimum"].dropna())
        assert not {"censored above", "censored below"} - {side} & set(data["optimum"].dropna())


def test_a_page_of_too_many_curves_shows_some_and_says_which():
    cells = batch_law_cells(
        train_examples=[512 * 2**k for k in range(8)],
        learning_rate=[0.05 * 2**k for k in range(8)],
        momentum=[0.0],
        batch_size=[1, 4, 16, 64, 256],
        seeds=2,
    )
    spec = spec_of(batch_curves_chart(check_batch_size_law(cells), cells))
    (data,) = tables(spec)
    assert data["colour"].nunique() == 6
    assert "6 of 8 values of learning_rate" in words(spec)
    assert {0.05, 6.4} <= set(data["colour"])


def test_optima_are_drawn_about_a_line_of_the_fitted_exponent_and_one_of_slope_1(law):
    spec = spec_of(optimum_chart(law))
    assert len(spec["hconcat"]) == 3
    for factor, panel in zip(law.exponents.index, spec["hconcat"], strict=True):
        line = next(table for table in tables(panel) if "one" in table)
        run = np.log2(line["value"].iloc[-1] / line["value"].iloc[0])
        rise = np.log2(line["optimum"].iloc[-1] / line["optimum"].iloc[0])
        # Six digits at both ends of a line of two octaves or more.
        assert rise / run == pytest.approx(law.exponents.loc[factor, "exponent"], abs=1e-4)
        assert np.log2(line["one"].iloc[-1] / line["one"].iloc[0]) / run == pytest.approx(1.0)
        assert str(law.verdicts[factor]) in panel["title"]["text"]


def test_interior_optima_scatter_about_the_line_once_the_other_factors_are_taken_out(law):
    """A wrong sign or centre of the adjustment would move points by octaves."""
    panel = spec_of(optimum_chart(law))["hconcat"][1]
    data = list(tables(panel))
    line = next(table for table in data if "one" in table)
    points = next(
        table for table in data if "mark" in table and (table["mark"] == "interior").any()
    )
    points = points[points["mark"] == "interior"]
    fitted = np.interp(np.log2(points["value"]), np.log2(line["value"]), np.log2(line["optimum"]))
    residual = np.log2(points["optimum"].astype(float)) - fitted
    assert residual.abs().max() < 6 * law.residual_octaves


def test_exponents_stand_in_the_band_of_the_margin_with_their_verdict_in_words(law):
    data, *_ = tables(spec_of(exponents_chart(verdict_rows(law))))
    np.testing.assert_allclose(data["band_low"], 1 - law.margin)
    np.testing.assert_allclose(data["band_high"], 1 + law.margin)
    refuted = data[data["place"].str.startswith("training examples")].iloc[0]
    assert "refuted" in refuted["text"]
    assert interval_text(*law.conf_int().loc["train_examples"], 2) in refuted["text"]


def test_there_is_no_chart_of_exponents_without_an_estimate(law):
    assert exponents_chart(verdict_rows(law, exponent=np.nan)) is None


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

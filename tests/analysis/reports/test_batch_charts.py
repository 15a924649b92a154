"""What the charts of the batch-size law show is what the law found."""

import numpy as np
import pandas as pd
import pytest

from analysis import check_batch_size_law
from analysis.law_analysis import Law, LawAnalysis, law_exponents
from analysis.reports.batch_charts import batch_curves_chart
from analysis.reports.chart_style import interval_text
from analysis.reports.collapse_chart import collapse_chart, collapse_table
from analysis.reports.exponent_chart import exponents_chart
from analysis.reports.optimum_chart import optimum_chart
from analysis.reports.report_tables import optimum_table
from tests.analysis.reports.chart_specs import misplaced, spec_of, tables, words
from tests.analysis.stores import batch_law_cells

DIGITS = 1e-5
"""Relative tolerance of numbers in a chart, which are rounded to six significant digits."""
FACTORS = ["learning_rate", "train_examples", "momentum"]


@pytest.fixture(scope="module")
def law_cells():
    return batch_law_cells(exponents=(1.0, 0.5, 1.0), scale=0.2)


@pytest.fixture(scope="module")
def law(law_cells):
    return check_batch_size_law(law_cells)


@pytest.fixture(scope="module")
def by_collapse(law_cells):
    return check_batch_size_law(law_cells, estimator="collapse")


@pytest.fixture(scope="module")
def one_sided():
    """Laws whose optima lie above and below their grids, by the word of the mark."""
    cells = {"above": batch_law_cells(scale=1.0), "below": batch_law_cells(scale=1e-6)}
    return {side: (check_batch_size_law(table), table) for side, table in cells.items()}


def exponent_rows(law, grid="g"):
    of = LawAnalysis(
        law=Law.BATCH_SIZE, y=law.y, part={}, result=law, cells=law.optima
    )  # the cells are not looked at
    return pd.DataFrame(law_exponents(of)).assign(study="s", grid=grid, part="")


def charts(law, cells):
    return {
        "curves": batch_curves_chart(law, cells),
        "collapse": collapse_chart(law),
        "optima": optimum_chart(law),
        "exponents": exponents_chart(exponent_rows(law)),
    }


def test_every_chart_says_how_many_cells_and_seeds_and_what_its_intervals_are(law, law_cells):
    intervals = {
        "curves": "range of the seeds",
        "collapse": "95 % intervals, jackknife over seeds",
        "optima": "95 % interval, jackknife over seeds",
        "exponents": "95 % interval (jackknife over seeds)",
    }
    for name, chart in charts(law, law_cells).items():
        spec = spec_of(chart)
        said = words(spec)
        assert f"{law.n_cells} cells" in said, name
        assert "5 seeds" in said, name
        assert intervals[name] in said, name
        assert spec["description"].startswith(spec["title"]["text"]), name


def test_every_mark_lies_inside_its_frame_and_is_a_number(law, by_collapse, law_cells, one_sided):
    laws = [(law, law_cells), (by_collapse, law_cells), *one_sided.values()]
    for result, cells in laws:
        for name, chart in charts(result, cells).items():
            if chart is not None:
                assert misplaced(spec_of(chart)) == [], name


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


def test_a_censored_optimum_is_marked_with_the_side_on_which_it_lies(one_sided):
    for side, (law, cells) in one_sided.items():
        (data,) = tables(spec_of(batch_curves_chart(law, cells)))
        drawn = data.loc[data["kind"] == "optimum"].set_index(["colour", "column", "row"])
        censored = drawn.loc[drawn["optimum"] == f"censored {side}"]
        assert len(censored) == (law.optima["label"] == "censored").sum() > 0
        assert not drawn["optimum"].str.startswith("censored").sum() - len(censored)
        # as a mark at the best batch size tried, not at an estimate
        assert set(censored["batch"]) <= set(cells["batch_size"])


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


def test_an_optimum_is_drawn_at_its_corrected_place_on_the_line_of_its_curve(law, law_cells):
    assert "corrected for how the grid falls" in " ".join(law.optima.attrs["notes"])
    (data,) = tables(spec_of(batch_curves_chart(law, law_cells)))
    key = ["colour", "column", "row"]
    drawn = data[data["optimum"] == "interior"].set_index(key).sort_index()
    interior = law.optima[law.optima["label"] == "interior"]
    expected = interior.set_index(FACTORS)["optimal_batch_size"].sort_index()
    np.testing.assert_allclose(drawn["batch"].to_numpy(), expected, rtol=DIGITS)
    curves = data[data["kind"] == "curve"].groupby(key)
    for place, mark in drawn.iterrows():
        curve = curves.get_group(place)
        around = curve.loc[(np.log2(curve["batch"] / mark["batch"])).abs() <= 1, "error"]
        assert around.min() * (1 - DIGITS) <= mark["error"] <= around.max() * (1 + DIGITS)


def test_a_tick_stands_between_the_last_batch_size_that_fails_and_the_next(law, law_cells):
    (data,) = tables(spec_of(batch_curves_chart(law, law_cells)))
    key = ["colour", "column", "row"]
    ticks = data[data["kind"] == "edge"].set_index(key)
    assert len(ticks) == np.isfinite(law.edges["log2_lower"]).sum() > 0
    # the store's cells diverge below an optimum by construction, all seeds alike
    failed = law_cells[law_cells["status"] == "diverged"]
    last = failed[failed["batch_size"] < 64].groupby(FACTORS)["batch_size"].max()
    for place, tick in ticks.iterrows():
        assert last[place] < tick["batch"] < 2 * last[place]


def test_without_a_failure_no_edge_is_drawn_and_the_chart_says_so():
    cells = batch_law_cells(steepness=0.002, scale=0.002, batch_size=[2**k for k in range(4, 9)])
    law = check_batch_size_law(cells[cells["status"] == "completed"])
    spec = spec_of(batch_curves_chart(law, cells))
    (data,) = tables(spec)
    assert "edge" not in set(data["kind"])
    assert "no stability edge is seen" in words(spec)


def test_the_collapse_shows_the_points_of_the_law_before_and_after(law):
    spec = spec_of(collapse_chart(law))
    before, after = (next(tables(panel)) for panel in spec["hconcat"])
    curves = law.collapse.curves
    np.testing.assert_allclose(np.log2(before["batch"]), curves["log2_batch"], atol=1e-5)
    np.testing.assert_allclose(before["mean_error"], curves["mean_error"], rtol=DIGITS)
    for name in ("octaves_from_optimum", "scaled_error"):
        np.testing.assert_allclose(after[name], curves[name], rtol=DIGITS)
    _, line = tables(spec["hconcat"][1])
    known = curves.set_index(curves["octaves_from_optimum"].round(9))["shape"].sort_index()
    ends = line.sort_values("octaves_from_optimum")["shape"].iloc[[0, -1]]
    np.testing.assert_allclose(ends, known.iloc[[0, -1]], rtol=DIGITS)


def test_before_the_collapse_stands_the_error_over_its_groups_level(law):
    """So that both panels show one quantity, but for the group's height."""
    table = collapse_table(law)
    for _, rows in table.groupby("group"):
        height = rows["above_level"] / rows["scaled_error"]
        # of a point at the level itself the ratio is rounding
        height = height[rows["scaled_error"].abs() > 1e-3]
        np.testing.assert_allclose(height, height.iloc[0], rtol=1e-6)
    level = table["mean_error"] - table["above_level"]
    # the store's curves all have the minimum .08
    assert level.groupby(table["group"]).mean().between(0.07, 0.09).all()


def test_the_collapse_tells_exponents_fit_and_n(law):
    said = words(spec_of(collapse_chart(law)))
    for letter, factor in (
        ("ε", "learning_rate"),
        ("N", "train_examples"),
        ("1/(1−m)", "momentum"),
    ):
        row = law.collapse.exponents.loc[factor]
        interval = interval_text(row["lower95"], row["upper95"], 2)
        assert f"{letter} {row['exponent']:.2f} {interval}" in said
    assert f"p\u00a0=\u00a0{law.collapse.lack_of_fit:.2g}" in said
    points = law.collapse.curves
    assert f"{points['group'].nunique()} of {len(law.optima)} groups" in said
    assert f"{5 * len(points)} of {law.n_cells} cells" in said


def test_there_is_no_chart_of_a_collapse_that_was_not_made(one_sided):
    law, _ = one_sided["below"]
    made = not law.collapse.curves.empty
    assert (collapse_chart(law) is not None) is made


def exponent_data(law):
    return next(table for table in tables(spec_of(exponents_chart(exponent_rows(law)))))


def test_exponents_stand_in_the_band_of_the_margin_by_every_estimator(law):
    data = exponent_data(law).astype({"exponent": float})
    frames = {
        "optima": law.peaks,
        "collapse": law.collapse.exponents,
        "stability edge": law.stability_edge,
    }
    for name, expected in frames.items():
        rows = data[data["estimator"] == name]
        known = expected[expected["exponent"].notna()]
        np.testing.assert_allclose(rows["exponent"], known["exponent"], rtol=DIGITS)
        for text, (low, high) in zip(
            rows["text"], known[["lower95", "upper95"]].to_numpy(), strict=True
        ):
            assert interval_text(low, high, 2) in text
    claimed = data[data["estimator"] != "stability edge"]
    np.testing.assert_allclose(claimed["band_low"].astype(float), 1 - law.margin)
    np.testing.assert_allclose(claimed["band_high"].astype(float), 1 + law.margin)
    assert data.loc[data["estimator"] == "stability edge", "band_low"].isna().all()


def test_only_the_estimator_that_was_asked_for_has_verdicts(law, by_collapse):
    for result, asked in ((law, "optima"), (by_collapse, "collapse")):
        rows = exponent_data(result)
        assert set(rows.loc[rows["judged"], "estimator"]) == {asked}
        verdicts = [str(result.verdicts[factor]) for factor in FACTORS]
        judged = rows.loc[rows["judged"], "text"]
        assert [text.rsplit(" ", 1)[1] for text in judged] == verdicts
        beside = " ".join(rows.loc[~rows["judged"], "text"])
        assert not any(word in beside for word in ("supported", "refuted", "inconclusive"))
        assert (rows.loc[~rows["judged"], "colour"] == "none").all()


def test_an_unbounded_interval_ends_at_the_frame_and_says_that_it_is_unbounded(law):
    rows = exponent_rows(law)
    rows.loc[0, ["lower95", "lower90"]] = -np.inf
    spec = spec_of(exponents_chart(rows))
    assert misplaced(spec) == []
    assert "(−∞, " in next(tables(spec))["text"].iloc[0]


def test_exponents_of_several_grids_are_told_apart(law):
    rows = pd.concat([exponent_rows(law, "one"), exponent_rows(law, "two")], ignore_index=True)
    data = next(tables(spec_of(exponents_chart(rows))))
    assert [name for name in data["where"] if name] == ["one"] * 3 + ["two"] * 3


def test_a_factor_with_one_row_names_its_grid_too(law):
    """Each row's estimator, by the names that stand at it or in the rows since the factor's."""
    known = [(0, "peaks"), (0, "stability edge"), (1, "collapse"), (2, "stability edge")]
    grids = []
    for grid in ("one", "two"):
        rows = exponent_rows(law, grid).set_index(["factor", "estimator"])
        kept = [(FACTORS[factor], estimator) for factor, estimator in known]
        grids.append(rows.loc[kept].reset_index())
    spec = spec_of(exponents_chart(pd.concat(grids, ignore_index=True)))
    data = next(tables(spec))
    assert misplaced(spec) == []
    assert data["where"].tolist() == ["", "one", "", "", "", "two", "", ""]
    assert data["alone_where"].tolist() == ["", "", "one", "one", "", "", "two", "two"]
    names = [name.split()[0] for name in data["factor"] + data["alone"] if name]
    assert names == ["learning", "training", "momentum"] * 2
    shown = {
        layer["encoding"]["text"]["field"]: layer["encoding"]["y"].get("bandPosition")
        for layer in spec["layer"]
        if "text" in layer["encoding"]
    }
    assert shown["alone"] < 0.5 < shown["alone_where"]
    alone = next(tables(spec_of(exponents_chart(grids[0]))))
    assert not alone["alone_where"].any()


def test_a_curve_that_never_trains_has_no_tick_and_is_counted(law_cells):
    first = law_cells["learning_rate"] == law_cells["learning_rate"].min()
    cells = law_cells.assign(validation_error=law_cells["validation_error"].where(~first, 0.9))
    for form in ("B", "B/(1-B/N)"):
        law = check_batch_size_law(cells, form=form)
        spec = spec_of(batch_curves_chart(law, cells))
        assert misplaced(spec) == []
        (data,) = tables(spec)
        ticks = data[data["kind"] == "edge"]
        assert len(ticks) > 0
        assert (ticks[["colour", "column", "row"]] != law_cells["learning_rate"].min()).all(
            axis=None
        )
        assert "12 curves train at no batch size" in words(spec)


def test_without_a_chance_error_no_edge_is_drawn_and_the_chart_and_the_table_say_so(law_cells):
    cells = law_cells.drop(columns="chance_error")
    law = check_batch_size_law(cells)
    spec = spec_of(batch_curves_chart(law, cells))
    (data,) = tables(spec)
    assert "edge" not in set(data["kind"])
    assert "No chance error is known" in words(spec)
    table = optimum_table(law)
    at = table["columns"].index("edge")
    assert {row[at] for row in table["rows"]} == {"no chance error"}


def test_there_is_no_chart_of_exponents_without_an_estimate(law):
    assert exponents_chart(exponent_rows(law).assign(exponent=np.nan)) is None

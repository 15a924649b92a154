import hashlib
import json
import subprocess
import sys
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import (
    FitError,
    Verdict,
    backtest,
    check_batch_size_law,
    curve_regions,
    data_for_error,
    fit_model_size_law,
    fit_power_law,
    load_cells,
)
from analysis.law_analysis import law_exponents
from analysis.reports.report import analyze_store, report_html, write_report
from analysis.store_analysis import MEASURED, exponent_table, verdict_table
from tests.analysis.stores import batch_law_cells, learning_curve_cells, write_store

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"' & <!-- {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def law_cells():
    return batch_law_cells()


@pytest.fixture(scope="module")
def store(tmp_path_factory, law_cells):
    curve = learning_curve_cells(model_size=(64, 256))
    return write_store(
        tmp_path_factory.mktemp("store"),
        {
            HOSTILE: {
                HOSTILE: curve,
                "batch_law": law_cells,
                "small": curve[curve["train_examples"] == 64],
                "one_seed": learning_curve_cells(seeds=1, seed=4),
            }
        },
        failures=[(law_cells["cell_id"][5], HOSTILE)],
        missing=law_cells["cell_id"][700:703].tolist(),
    )


@pytest.fixture(scope="module")
def analyzed(store):
    return analyze_store(store)


@pytest.fixture(scope="module")
def html(analyzed):
    return report_html(analyzed)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its scripts and its text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.scripts, self.text = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem:
            attributes, content = self.scripts[-1]
            self.scripts[-1] = (attributes, content + data)
        else:
            self.text.append(data)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def grid_of(analyzed, name):
    return next(grid for grid in analyzed.grids if grid.grid == name)


def one_grid(tmp_path, cells, **options):
    (grid,) = analyze_store(write_store(tmp_path, {"s": {"g": cells}}, **options)).grids
    return grid


def test_fits_are_those_of_the_public_functions_on_the_loaded_cells(store, analyzed):
    law = grid_of(analyzed, "batch_law").laws[0].result
    cells = load_cells(store, grid="batch_law")
    pd.testing.assert_frame_equal(law.exponents, check_batch_size_law(cells).exponents)
    fit = grid_of(analyzed, HOSTILE).laws[0].result
    cells = load_cells(store, grid=HOSTILE)
    assert fit.beta == fit_power_law(cells).beta
    assert fit.choose == ("model_size",)


def test_truth_is_found_in_a_synthetic_store(analyzed):
    """Truth is (1, 1, 1) and the noise small: a wrong axis or error column would miss it."""
    law = grid_of(analyzed, "batch_law").laws[0].result
    assert set(law.verdicts.values()) == {Verdict.SUPPORTED}


def test_every_cell_of_a_grid_is_counted_once(analyzed, law_cells):
    counts = grid_of(analyzed, "batch_law").counts
    assert (counts.failed, counts.missing) == (1, 3)
    assert counts.planned == len(law_cells)
    gone = {5, 700, 701, 702}
    diverged = law_cells.drop(index=list(gone))["status"] == "diverged"
    assert (counts.completed, counts.diverged) == ((~diverged).sum(), diverged.sum())


def test_a_grid_that_no_law_fits_stays_with_the_reason(analyzed, html):
    small = grid_of(analyzed, "small")
    assert not small.laws
    assert "needs 4 distinct train_examples" in small.remark
    assert small.remark in html
    assert small.remark in analyzed.summary()


def test_a_fit_that_fails_stays_with_the_sentence_of_its_error(analyzed, html):
    law = grid_of(analyzed, "one_seed").laws[0]
    assert law.result is None
    assert "at least 2 seeds" in law.problem
    assert law.problem in html
    assert law.problem in analyzed.summary()
    rows = verdict_table(analyzed).query("grid == 'one_seed'")
    assert set(rows["verdict"]) == {"not fitted"}


def test_a_grid_whose_cells_all_failed_is_reported_and_not_fitted(tmp_path):
    good, bad = learning_curve_cells(), learning_curve_cells(seed=1)
    store = write_store(
        tmp_path,
        {"s": {"bad": bad, "good": good}},
        failures=[(cell_id, "boom") for cell_id in bad["cell_id"]],
    )
    grid = grid_of(analyze_store(store), "bad")
    assert grid.counts.failed == len(bad) == grid.counts.planned
    assert "No cell of this grid has a result" in grid.remark
    assert set(grid.failures["attempts"]) == {2}


def test_axes_of_the_workload_and_model_sizes_part_a_batch_law(tmp_path):
    cells = batch_law_cells(model_size=(16, 64), label_noise=(0.0, 0.1), seeds=2, momentum=(0.0,))
    grid = one_grid(tmp_path, cells)
    names = [law.part_name for law in grid.laws]
    assert names == [
        f"label_noise = {noise}, model_size = {size}" for noise in ("0", "0.1") for size in (16, 64)
    ]
    parts = [set(law.cells["cell_id"]) for law in grid.laws]
    assert set.union(*parts) == set(cells["cell_id"])
    assert sum(map(len, parts)) == len(cells)


def test_weight_decays_part_a_batch_law_even_where_no_run_repeats(tmp_path):
    small = {"seeds": 2, "momentum": (0.0,)}
    crossed = pd.concat(
        [
            batch_law_cells(**small),
            batch_law_cells(**small, scale=0.016, seed=1).assign(weight_decay=0.01),
        ]
    )
    high = crossed["learning_rate"] > 0.1
    nested = crossed[high == (crossed["weight_decay"] == 0.01)]
    for folder, cells in (("crossed", crossed), ("nested", nested)):
        laws = one_grid(tmp_path / folder, cells).laws
        assert [law.part_name for law in laws] == ["weight_decay = 0", "weight_decay = 0.01"]
        assert all(law.cells["weight_decay"].nunique() == 1 for law in laws)
        assert sum(len(law.cells) for law in laws) == len(cells)
        assert not any(law.problem for law in laws)


def test_a_learning_curve_is_the_best_over_weight_decays(tmp_path):
    plain = learning_curve_cells()
    decayed = learning_curve_cells(seed=1).assign(weight_decay=0.01)
    decayed["best_validation_error"] *= 0.5
    law, _ = one_grid(tmp_path, pd.concat([plain, decayed])).laws
    assert law.part_name == ""
    assert law.result.choose == ("weight_decay",)
    assert (law.result.points["best_weight_decay"] == 0.01).all()
    assert "Best weight_decay at each size" in str(law.result.summary())


def test_a_learning_curve_is_never_the_best_over_an_axis_of_the_workload(tmp_path):
    """The least label noise would win at every size: another problem, not a better choice."""
    cells = learning_curve_cells(model_size=(64, 256), label_noise=(0.0, 0.1))
    grid = one_grid(tmp_path, cells)
    assert {law.part_name for law in grid.laws} == {"label_noise = 0", "label_noise = 0.1"}
    assert {law.result.choose for law in grid.laws} == {("model_size",)}


def test_a_learning_curve_is_asked_what_the_public_functions_answer(store, analyzed, page):
    law = grid_of(analyzed, HOSTILE).laws[0]
    cells = load_cells(store, grid=HOSTILE)
    fit = fit_power_law(cells)
    half = float(fit.predict(fit.curve.size.max())) / 2
    expected = [
        curve_regions(fit),
        data_for_error(fit, half),
        backtest(cells, forms=("M1", "M2", "M3")),
        fit_model_size_law(cells, model_size="model_size"),
    ]
    assert [str(answer.result.summary()) for answer in law.answers] == [
        str(result.summary()) for result in expected
    ]
    text = " ".join("".join(page.text).split())
    for answer in law.answers:
        assert answer.question in text
        assert answer.result.summary().title in text
    assert f"Target: {half:.4g}." in text


def test_a_question_that_has_no_answer_says_why(tmp_path):
    """The law of the best model size needs every seed in every shard."""
    cells = learning_curve_cells(model_size=(64, 256))
    largest, seed = cells["train_examples"].max(), cells["seed"].max()
    cells = cells[(cells["train_examples"] != largest) | (cells["seed"] != seed)]
    store = write_store(tmp_path, {"s": {"g": cells}})
    analyzed = analyze_store(store)
    *answered, asked = analyzed.grids[0].laws[0].answers
    assert all(answer.result is not None and not answer.problem for answer in answered)
    assert asked.result is None
    assert "is missing in a shard" in asked.problem
    assert f"Not answered: {asked.problem}" in report_html(analyzed)
    document = analyzed.to_dict()["grids"][0]["laws"][0]["answers"]
    assert document[-1] == {
        "question": asked.question,
        "problem": asked.problem,
        "result": None,
    }


def test_exponents_stand_with_every_estimator_and_verdicts_with_the_one_asked_for(analyzed, page):
    law = grid_of(analyzed, "batch_law").laws[0].result
    table = exponent_table(analyzed).set_index(["factor", "estimator"])
    for name, frame in {"peaks": law.peaks, "collapse": law.collapse.exponents}.items():
        found = table.xs(name, level="estimator")[frame.columns]
        pd.testing.assert_frame_equal(found, frame, check_names=False)
    assert table["judged"].sum() == 3
    assert set(table.loc[table["judged"], "verdict"]) == {"supported"}
    assert set(table.loc[~table["judged"], "verdict"]) == {""}
    assert not list(law_exponents(grid_of(analyzed, HOSTILE).laws[0]))
    rows = table_of(page, "Exponents by both estimators")
    assert [row[-1] for row in rows if row[1] == "collapse"] == ["not asked"] * 3


def test_rivals_stand_in_the_order_of_their_scores(analyzed, page):
    law = grid_of(analyzed, "batch_law").laws[0].result
    rows = table_of(page, "Rival laws")
    assert [row[0] for row in rows] == list(law.rivals.index)
    assert [row[4] for row in rows] == [f"{score:.4g}" for score in law.rivals["log_score"]]


def table_of(page, caption):
    """The rows of the table that stands under a caption."""
    text = [piece.strip() for piece in page.text]
    (start,) = [at for at, piece in enumerate(text) if piece.startswith(caption)]
    end = next(
        at
        for at in range(start, len(text))
        if text[at].startswith(("Optima of", "Rival")) and at > start
    )
    words = [piece for piece in text[start + 1 : end] if piece]
    width = {"Exponents": 7, "Rival": 6}[caption.split()[0]]
    return [words[at : at + width] for at in range(width, len(words), width)]


def test_each_supported_factor_has_its_negative_control(analyzed, html):
    controls = grid_of(analyzed, "batch_law").laws[0].controls
    assert [control.factor for control in controls] == [
        "learning_rate",
        "train_examples",
        "momentum",
    ]
    assert all(control.passed for control in controls)
    assert html.count("Negative control, ") == 3


def test_a_control_that_cannot_be_run_is_said_in_text_page_and_json(tmp_path):
    cells = batch_law_cells(train_examples=[4096], momentum=[0.0], scale=0.01)
    store = write_store(tmp_path, {"s": {"g": cells}})
    analyzed = analyze_store(store)
    (law,) = analyzed.grids[0].laws
    assert law.result.verdicts["learning_rate"] is Verdict.SUPPORTED
    told = law.to_dict()["controls"][0]
    assert told["passed"] is told["supported_share"] is None
    assert told["problem"].startswith("4 groups with a known optimum")
    sentence = "Negative control, learning_rate: cannot be run, as 4 groups"
    assert sentence in analyzed.summary()
    assert sentence in report_html(analyzed)


def test_a_refuted_factor_has_no_control_of_support(tmp_path):
    cells = batch_law_cells(exponents=(1.0, 0.5, 1.0), scale=0.2)
    (law,) = one_grid(tmp_path, cells).laws
    assert law.result.verdicts["train_examples"] is Verdict.REFUTED
    assert [control.factor for control in law.controls] == ["learning_rate", "momentum"]


def test_studies_with_distinct_grids_are_analyzed_together(tmp_path):
    first, second = learning_curve_cells(), learning_curve_cells(seed=1)
    store = write_store(tmp_path, {"one": {"a": first}, "two": {"b": second}})
    analyzed = analyze_store(store)
    assert analyzed.studies == ("one", "two")
    assert [grid.grid for grid in analyze_store(store, grids=["b"]).grids] == ["b"]


def test_grids_of_one_name_need_a_study(tmp_path):
    first, second = learning_curve_cells(), learning_curve_cells(seed=1)
    store = write_store(tmp_path, {"one": {"a": first}, "two": {"a": second}})
    with pytest.raises(FitError, match=r"studies one, two; name one: study='one'"):
        analyze_store(store)
    assert analyze_store(store, study="two").studies == ("two",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"study": "x"}, r"Unknown study 'x'\. Studies and their grids here: one: a"),
        ({"grids": ["x"]}, r"Unknown grid 'x'\. Studies and their grids here: one: a"),
    ],
)
def test_unknown_names_are_refused_with_those_known(tmp_path, options, message):
    store = write_store(tmp_path, {"one": {"a": learning_curve_cells()}})
    with pytest.raises(FitError, match=message):
        analyze_store(store, **options)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(FitError, match="no readable Parquet files under grids/"):
        analyze_store(tmp_path)


def test_credentials_of_a_store_reach_neither_page_nor_message(tmp_path):
    with pytest.raises(FitError, match="scheme 'nowhere'") as caught:
        analyze_store("nowhere://key:secret@bucket/prefix?token=secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    store = write_store(tmp_path, {"s": {"g": learning_curve_cells()}})
    assert analyze_store(f"file://{store}?secret=1").store == f"file://{store}"


def test_the_document_is_strict_json_that_names_cells_versions_and_date(analyzed):
    document = json.loads(json.dumps(analyzed.to_dict(), allow_nan=False))
    assert document["document_version"] == 1
    assert {"scaling-study", "numpy", "scipy", "pandas", "python"} == set(document["versions"])
    assert document["analyzed_at"].endswith("+00:00")
    for grid in document["grids"]:
        for law in grid["laws"]:
            if law["result"] is not None:
                assert len(law["result"]["cell_ids"]) == law["result"]["n_cells"] > 0


def test_an_unbounded_interval_is_marked_and_not_lost_in_the_document(tmp_path):
    cells = learning_curve_cells()
    flat = cells.assign(best_validation_error=0.3 + 0.01 * cells["seed"])
    grid = one_grid(tmp_path, flat)
    bounds = grid.to_dict()["laws"][0]["result"]["conf_int"]["beta"]
    assert bounds == {"lower": "-inf", "upper": "inf"}


def test_no_exponent_stands_without_interval_n_and_seeds(analyzed):
    table = verdict_table(analyzed)
    numbers = table[table["exponent"].notna()]
    assert len(numbers) == 5
    assert numbers[["lower95", "upper95", "n_cells", "seeds"]].notna().all(axis=None)
    assert (numbers["lower95"] < numbers["exponent"]).all()
    assert (numbers["exponent"] < numbers["upper95"]).all()


def test_hostile_names_and_errors_stay_text(page):
    assert {tag for tag, _ in page.elements}.isdisjoint({"img", "iframe", "link", "object", "base"})
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    text = "".join(page.text)
    # The title, the heading, the grid's heading, the verdicts and the failed cell's message.
    assert text.count(HOSTILE) >= 5


def test_the_page_has_its_own_script_and_no_other(page):
    kinds = [attributes.get("type") for attributes, _ in page.scripts]
    figures = [attributes for tag, attributes in page.elements if tag == "figure"]
    assert kinds == ["application/json"] * len(figures) + [None]
    assert len(figures) > 3


def test_every_chart_round_trips_from_the_page(page):
    specs = {attributes["id"]: json.loads(text) for attributes, text in page.scripts if attributes}
    figures = [attributes["data-spec"] for tag, attributes in page.elements if tag == "figure"]
    assert figures == list(specs)
    assert all("vega-lite" in spec["$schema"] for spec in specs.values())
    assert all(spec["title"]["subtitle"] for spec in specs.values())


def test_a_hostile_string_inside_a_chart_comes_back_whole(tmp_path):
    curve = batch_law_cells(momentum=(0.0,), scale=0.008)
    other = batch_law_cells(momentum=(0.0,), scale=0.008, seed=1)
    store = write_store(tmp_path, {"s": {HOSTILE: curve, "b": other}})
    html = report_html(analyze_store(store))
    specs = [json.loads(text) for attributes, text in Page(html).scripts if attributes]
    assert any(
        HOSTILE in json.dumps(spec, ensure_ascii=False).replace('\\"', '"') for spec in specs
    )
    assert html.count("<script") == len(specs) + 1


def test_the_policy_allows_this_script_alone_and_no_network(page):
    policy = next(
        attributes["content"]
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = b64encode(hashlib.sha256(page.scripts[-1][1].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert "unsafe-eval" not in policy
    assert not [
        (tag, attributes)
        for tag, attributes in page.elements
        if {"src", "href", "srcset", "action", "data"} & set(attributes)
    ]


def test_page_says_when_from_what_and_where_its_methods_were_measured(page, analyzed, store):
    text = " ".join("".join(page.text).split())
    assert "docs/validation.md" in text
    assert str(store) in text
    assert f"{analyzed.analyzed_at:%Y-%m-%d}" in text
    assert "arXiv:1710.06451" in text


def test_what_holds_of_all_laws_is_said_once(page, analyzed):
    text = " ".join("".join(page.text).split())
    assert text.count(MEASURED) == analyzed.summary().count(MEASURED) == 1
    assert (Path(__file__).parents[3] / "docs" / "validation.md").exists()


def test_page_lists_the_cells_behind_each_law(page, analyzed):
    text = "".join(page.text)
    for grid in analyzed.grids:
        for law in grid.laws:
            if law.result is not None:
                assert " ".join(law.result.cell_ids) in text


def test_report_and_document_are_written_and_replaced_whole(analyzed, tmp_path, monkeypatch):
    out = tmp_path / "new" / "out"
    written = write_report(analyzed, out)
    assert [path.name for path in written] == ["report.html", "fits.json"]
    before = {path: path.read_bytes() for path in written}
    assert json.loads(before[out / "fits.json"])["grids"]

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FitError, match=r"No space left.*--out DIR"):
        write_report(analyzed, out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_file_in_the_place_of_the_folder_is_refused(analyzed, tmp_path):
    place = tmp_path / "file"
    place.touch()
    with pytest.raises(FitError, match="Name a folder that can"):
        write_report(analyzed, place)


def test_importing_analysis_loads_no_charts():
    code = "import sys, analysis; print({'altair', 'vl_convert', 'jinja2'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert shown.stdout.strip() == "set()"


def test_a_page_of_6000_cells_holds_means_and_stays_small(tmp_path):
    cells = batch_law_cells(
        train_examples=[512 * 2**k for k in range(5)],
        learning_rate=[0.05 * 2**k for k in range(6)],
        batch_size=[2**k for k in range(10)],
    )
    assert len(cells) == 6000
    html = report_html(analyze_store(write_store(tmp_path, {"s": {"g": cells}})))
    specs = [text for attributes, text in Page(html).scripts if attributes]
    # 120 curves of ten points and one optimum, at some 120 bytes each; raw rows would be 6,000.
    assert max(map(len, specs)) < 400_000
    assert len(html) < 10_000_000
    assert np.sum([len(spec) for spec in specs]) < 1_000_000

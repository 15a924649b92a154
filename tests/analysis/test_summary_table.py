"""Every public result prints itself, and shows the same numbers in a notebook."""

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest

from analysis import (
    backtest,
    check_batch_size_law,
    compare_exponents,
    curve_regions,
    data_for_error,
    fit_critical_batch_size,
    fit_model_size_law,
    fit_power_law,
    fit_scaling_law,
    gradient_noise_scale,
    leave_one_group_out,
)
from analysis.summary_table import WIDTH, Summary, format_number
from tests.analysis.calibration.critical_batch import gradient_norms
from tests.analysis.stores import batch_law_cells, learning_curve_cells

HOSTILE = "<b>&\"'</b>"
"""A column's name that must not become markup."""


@pytest.fixture(scope="module")
def results():
    """One of each public result, by its class; columns that a result prints are hostile."""
    curve = learning_curve_cells(model_size=(16, 64, 256)).rename(
        columns={"train_examples": HOSTILE}
    )
    one_model = curve[curve["model_size"] == 64]
    fit = fit_power_law(one_model, x=HOSTILE)
    law = batch_law_cells(learning_rate=(0.1, 0.2, 0.4), momentum=(0.0,), noise=0.01)
    steps = pd.DataFrame({HOSTILE: 2.0 ** np.arange(3, 11)})
    steps["steps"] = 500 * (1 + 100 / steps[HOSTILE])
    groups = curve.assign(model_size=curve["model_size"].map(lambda size: f"<i>{size:g}</i>"))
    made = [
        fit,
        fit_scaling_law(one_model, HOSTILE, "best_validation_error", form="M2", ci="profile"),
        backtest(one_model, HOSTILE, forms=("M1", "M2")),
        fit_model_size_law(curve, HOSTILE, model_size="model_size"),
        compare_exponents(fit, fit),
        data_for_error(fit, 0.1),
        curve_regions(fit),
        fit_critical_batch_size(steps, steps="steps", batch_size=HOSTILE),
        gradient_noise_scale(gradient_norms(np.random.default_rng(0), 12)),
        check_batch_size_law(law.rename(columns={"validation_error": HOSTILE}), y=HOSTILE),
        leave_one_group_out(groups, "model_size", HOSTILE, forms=("M1",)),
    ]
    return {type(result).__name__: result for result in made}


CLASSES = [
    "PowerLawFit",
    "FitResult",
    "Backtest",
    "ModelSizeLaw",
    "ExponentComparison",
    "DataForError",
    "CurveRegions",
    "CriticalBatchSizes",
    "NoiseScale",
    "BatchSizeLaw",
    "GroupHoldout",
]


def shown(html):
    """The text of a page, as a browser would have it."""
    return unescape(re.sub(r"<[^>]*>", " ", html))


def words(text):
    return sorted(word for word in text.replace(":", " ").split() if not set(word) <= set("=-"))


@pytest.mark.parametrize("name", CLASSES)
def test_a_notebook_shows_the_words_and_numbers_of_the_summary_as_escaped_html(results, name):
    result = results[name]
    html = result._repr_html_()
    # the tags are those that the summary itself writes
    tags = set(re.findall(r"</?(\w+)", html))
    assert tags <= {"h4", "table", "thead", "tbody", "tr", "th", "td", "p"}
    assert words(shown(html)) == words(str(result.summary()))
    assert len(re.findall(r"\d", html)) > 5


@pytest.mark.parametrize("name", CLASSES)
def test_a_summary_is_as_wide_as_its_rules_and_its_columns_stand_in_line(results, name):
    lines = str(results[name].summary()).splitlines()
    rules = [place for place, line in enumerate(lines) if line == "=" * WIDTH]
    assert len(rules) == 3
    assert max(map(len, lines)) <= WIDTH
    heading, thin, *rows = lines[rules[1] + 1 : rules[2]]
    assert thin == "-" * WIDTH
    # numbers end where their heading ends
    assert {len(row) for row in rows} == {len(heading)}


def example(facts=(), notes=(), table=None):
    table = pd.DataFrame({"estimate": [1.5, np.inf], "n": [3, 4]}, index=["a", "b"])
    return Summary(title="Title", facts=tuple(facts), table=table, notes=tuple(notes))


def test_two_facts_share_a_line_and_a_long_one_has_its_own():
    facts = [("one", "1"), ("two", "2"), ("three", "x" * 50), ("four", "4"), ("five", "5")]
    _, _, first, second, third, *_ = str(example(facts)).splitlines()
    assert first.split() == ["one:", "1", "two:", "2"]
    assert second.split() == ["three:", "x" * 50]
    assert third.split() == ["four:", "4", "five:", "5"]
    assert {len(line) for line in (first, second, third)} == {WIDTH}


def test_long_notes_are_wrapped_and_stay_told_apart():
    notes = ["first " * 30, "second " * 30]
    told = str(example(notes=notes)).split("=" * WIDTH)[-1].strip("\n").splitlines()
    assert [line.split()[0] for line in told if not line.startswith("  ")] == ["first", "second"]
    assert max(map(len, told)) <= WIDTH


def test_what_is_missing_or_unbounded_has_a_sign_of_its_own():
    numbers = (1234567.0, 0.00012345, np.nan, np.inf, -np.inf)
    assert [format_number(value) for value in numbers] == ["1.235e+06", "0.0001234", "–", "∞", "-∞"]

"""Fits of others, refitted to their own data: the rows of `tests.analysis.reproduction`."""

import numpy as np
import pytest

from tests.analysis import censored_optima
from tests.analysis.published_data import published
from tests.analysis.reproduction import (
    HOT_OBJECTIVE,
    SOURCES,
    VISION_FORMS,
    gemstones,
    main,
    markdown,
    near,
    vision_errors,
)

SLOW = ("hpobench_mlp",)


@pytest.mark.parametrize(
    "source", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SOURCES]
)
def test_published_numbers_are_found_again(source):
    rows = SOURCES[source]()
    assert rows
    assert all(row.ok for row in rows), markdown(row for row in rows if not row.ok)


def test_gemstones_reach_the_published_sum():
    (row,) = [row for row in gemstones() if row.published == HOT_OBJECTIVE]
    # Equal or lower is the row's; this much lower would be another objective.
    assert row.ours == pytest.approx(float(HOT_OBJECTIVE), rel=1e-4)


def test_vision_curves_are_extrapolated_the_better_the_freer_the_form():
    # Alabdulmohsin et al. 2022, arXiv:2209.06640: M4 extrapolates best on these curves.
    errors = {name: vision_errors(name) for name in VISION_FORMS}
    assert {len(values) for values in errors.values()} == {72}
    means = [values.mean() for values in errors.values()]
    assert means == sorted(means, reverse=True)
    # Ours, as measured; only M1's figure is published.
    np.testing.assert_allclose(means[1:], [0.0725, 0.0592, 0.0421], atol=5e-4)


def test_a_number_that_misses_its_tolerance_fails_the_command(monkeypatch, capsys):
    published("gemstones")
    row = near("gemstones", "a", "1.00", 1.02, 0.01)
    assert not row.ok
    assert near("gemstones", "a", "1.00", 1.02, 0.03).ok
    monkeypatch.setitem(SOURCES, "gemstones", lambda: [row])
    assert main(["gemstones"]) == 1
    printed = capsys.readouterr().out
    assert "| gemstones | a | 1.00 | 1.02 | ± 0.01 | **no** |" in printed
    assert "1 numbers, 1 missed." in printed


def test_without_the_data_the_command_names_the_variable(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tests.analysis.published_data.FOLDER", tmp_path / "nowhere")
    assert main(["hestness_2019"]) == 0
    capsys.readouterr()
    assert main([]) == 2
    said = capsys.readouterr().err
    assert "SCALING_STUDY_PUBLISHED_DATA" in said
    assert "nowhere" in said


def test_a_table_that_is_missing_skips_a_test_and_fails_it_where_the_folder_is_named(
    monkeypatch, tmp_path
):
    monkeypatch.setattr("tests.analysis.published_data.FOLDER", tmp_path)
    monkeypatch.delenv("SCALING_STUDY_PUBLISHED_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="set SCALING_STUDY_PUBLISHED_DATA"):
        published("some.csv")
    monkeypatch.setenv("SCALING_STUDY_PUBLISHED_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="set SCALING_STUDY_PUBLISHED_DATA"):
        published("some.csv")


def test_the_intervals_of_censored_optima_are_told_beside_the_naive_slope():
    told = censored_optima.Told(
        dataset="car",
        depth=1,
        labels=censored_optima.Counter({"censored": 3, "flat": 1}),
        naive=np.array([[0.4, 0.01], [0.2, 0.2]]),
        verdicts=censored_optima.Counter({"censored": 2}),
        bounded=0,
        pooled_naive=(0.4, 0.3, 0.5),
        pooled=(0.2, 0.1, 0.3),
        residual_octaves=2.0,
    )
    (*_, line) = censored_optima.markdown([told]).splitlines()
    assert line == (
        "| car, 1 | 4 | 75.0% | 25.0% | 0.0% | 0.0% | 2 | 1 | 0.30 (0.25, 0.35) | "
        "0.400 (0.300, 0.500) | 2 censored | 0 | 0.200 (0.100, 0.300) | 2.00 |"
    )

"""The calibration of β at a reduced size, and that it can fail.

`python -m tests.analysis.calibration power_law` measures the same at full size.
"""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis import fit_power_law
from tests.analysis.calibration import __main__ as runner
from tests.analysis.calibration import power_law
from tests.analysis.calibration.registry import FULL, Row, markdown, section, share_row

SETS = 40
"""Tables of each of 20 kinds: 800 together."""


def as_cells(log_error):
    sizes, seeds = log_error.shape
    return pd.DataFrame(
        {
            "m": np.repeat(power_law.SIZES, seeds),
            "seed": np.tile(np.arange(seeds), sizes),
            "error": np.exp(log_error).ravel(),
        }
    )


@pytest.mark.parametrize("noise", [*power_law.NOISES, *power_law.REPORTED_NOISES])
def test_what_is_calibrated_are_the_intervals_of_fit_power_law(noise):
    task = power_law.Task(noise, power_law.FLOORS[1], 5, 4, (3,))
    tables = power_law.make_tables(task)
    found = power_law.measure(task).bounds
    for method in ("jackknife", "profile"):
        for log_error, bounds in zip(tables.log_error, found[method], strict=True):
            fit = fit_power_law(as_cells(log_error), x="m", y="error", ci=method)
            # The same steps on the same numbers; exp and log of the errors round.
            np.testing.assert_allclose(bounds, fit.conf_int().loc["beta"], rtol=1e-7)


def test_intervals_of_the_exponent_cover_over_five_noises():
    results = [power_law.measure(task) for task in power_law.tasks(SETS)]
    rows = power_law.rows(results)
    # Each figure may miss by 2.81 binomial standard errors of its number of tables (99.5 %).
    assert not [row for row in rows if not row.ok], markdown(rows)
    pooled = [row for row in rows if row.required == power_law.POOLED]
    assert [row.sets for row in pooled] == [20 * SETS]
    assert pooled[0].allowance < 0.026
    strata = [row for row in rows if row.required == power_law.STRATUM]
    assert len(strata) == 20 + 3
    assert sum(row.sets for row in strata) == 2 * 20 * SETS


def test_an_interval_that_is_too_short_misses_the_figures():
    task = power_law.Task("independent", power_law.FLOORS[1], 5, 300, (4,), bootstrap=True)
    result = power_law.measure(task)
    of_seeds = result.bounds["percentile bootstrap"]
    covered = (of_seeds[:, 0] <= result.beta) & (result.beta <= of_seeds[:, 1])
    assert not share_row("", "", int(covered.sum()), 300, power_law.STRATUM).ok
    # So does the jackknife as soon as its intervals are a third narrower, on the same tables.
    bounds = result.bounds["jackknife"]
    middle = bounds.mean(axis=1, keepdims=True)
    narrow = middle + (bounds - middle) * 2 / 3
    covered = (narrow[:, 0] <= result.beta) & (result.beta <= narrow[:, 1])
    assert not share_row("", "", int(covered.sum()), 300, power_law.STRATUM).ok


def test_the_noises_are_what_they_say():
    rng = np.random.default_rng(5)
    spread = {kind: power_law.noise(kind, 4000, 5, rng) for kind in power_law.NOISES}
    spread["AR(.7)"] = power_law.noise("AR(.7)", 4000, 5, rng)
    # 20,000 values each: a standard deviation to 1 % or so; that of t3 has no finite error.
    for kind in ("independent", "AR(.7)"):
        np.testing.assert_allclose(spread[kind].std(axis=(0, 2)), 0.04, rtol=0.03)
    assert spread["t3"].std() == pytest.approx(0.04, rel=0.1)
    np.testing.assert_allclose(spread["falling"].std(axis=(0, 2))[[0, -1]], [0.08, 0.02], rtol=0.03)
    lag = spread["AR(.7)"]
    neighbours = np.corrcoef(lag[:, 3].ravel(), lag[:, 4].ravel())[0, 1]
    assert neighbours == pytest.approx(0.7, abs=0.02)
    shift = spread["seed shift"]
    # Half of the variance is shared by all sizes of a seed.
    assert np.corrcoef(shift[:, 0].ravel(), shift[:, 8].ravel())[0, 1] == pytest.approx(
        0.5, abs=0.03
    )
    centred = power_law.LOG_SIZES - power_law.LOG_SIZES.mean()
    slopes = np.einsum("n,dns->ds", centred, spread["seed × slope"]) / (centred @ centred)
    expected = math.sqrt(0.02**2 + 0.04**2 / (centred @ centred))
    assert slopes.std() == pytest.approx(expected, rel=0.03)


def test_truths_lie_where_the_calibration_promises():
    task = power_law.Task("independent", power_law.FLOORS[1], 5, 500, (6,))
    tables = power_law.make_tables(task)
    assert -0.6 <= tables.beta.min() < -0.55
    assert -0.15 < tables.beta.max() <= -0.1
    first = np.exp(tables.log_error.mean(axis=2)[:, 0])
    # The mean of five seeds strays from the truth by 1.8 %.
    assert 0.27 < first.min() < 0.35
    assert 0.75 < first.max() < 0.87
    assert len(power_law.SIZES) >= 9
    assert np.log10(power_law.SIZES[-1] / power_law.SIZES[0]) >= 2.4 - 1e-12


def test_figures_hold_as_they_stand_at_full_size_alone():
    required = (0.91, 0.985)
    assert not share_row("", "", int(0.909 * FULL), FULL, required).ok
    assert share_row("", "", int(0.911 * FULL), FULL, required).ok
    few = share_row("", "", 88, 100, required)
    assert few.allowance == pytest.approx(2.81 * math.sqrt(0.91 * 0.09 / 100))
    assert few.ok
    assert not share_row("", "", 80, 100, required).ok
    assert share_row("", "", 1, 100).ok


def fake_section(value):
    row = Row(what="w", truth="t", sets=7, value=value, required=(0.5, 1.0))
    return SimpleNamespace(tasks=range, measure=int, rows=lambda results: [row][: len(results)])


@pytest.mark.parametrize(("value", "status", "ok"), [(0.75, 0, "yes"), (0.25, 1, "**no**")])
def test_the_command_fails_where_a_required_figure_is_missed(
    monkeypatch, capsys, value, status, ok
):
    monkeypatch.setattr(runner, "section", lambda name: fake_section(value))
    assert runner.main(["power_law", "--sets", "7"]) == status
    printed = capsys.readouterr().out
    assert f"| w | t | 7 | {value:.3f} | 0.5 to 1 | {ok} |" in printed
    assert f"1 figures required, {status} missed." in printed


@pytest.mark.slow
def test_worker_processes_find_the_same():
    alone = runner.measured(["power_law"], 2, 1)
    assert runner.measured(["power_law"], 2, 2) == alone


def test_an_unknown_section_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"Unknown section 'law'\. Available: power_law"):
        section("law")

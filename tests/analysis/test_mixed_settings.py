"""Settings that no law speaks of are held fixed or named, also where no run repeats."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import (
    FitError,
    backtest,
    check_batch_size_law,
    fit_critical_batch_size,
    fit_model_size_law,
    fit_power_law,
    fit_scaling_law,
    leave_one_group_out,
    optimal_batch_sizes,
)
from tests.analysis.synthetic_batches import law_cells

FACTORS = ("learning_rate", "train_examples", "momentum")
SETTINGS = {
    "optimizer": ("sgd", "adam"),
    "learning_rate_schedule": ("constant", "cosine"),
    "batch_size_schedule": ("constant", "double"),
    "weight_decay": (0.0, 0.01),
    "label_noise": (0.0, 0.1),
}
WORKLOADS = {"workload": ("digits", "images"), "workload_version": (1, 2)}


def switched(cells, where, name, values):
    """Return `cells` with the second of two values where `where` is true, else the first."""
    column = np.where(where, values[1], values[0])
    if name != "label_noise":
        return cells.assign(**{name: column})
    axes = [json.dumps({"depth": 2, name: value}) for value in column]
    return cells.assign(**{name: column, "workload_axes": axes})


def curve_cells(seeds=3, alpha=3.0):
    """An exact power law with a floor, of nine shards."""
    rows = [(50 * 2**k, seed) for k in range(9) for seed in range(seeds)]
    cells = pd.DataFrame(rows, columns=["train_examples", "seed"])
    cells["best_validation_error"] = alpha * cells.train_examples**-0.4 + 0.02
    return cells


def batch_cells():
    return law_cells((1, 1, 1), noise=0.002, rng=np.random.default_rng(0), levels=3)


@pytest.mark.parametrize(
    ("name", "values"), [*(SETTINGS | WORKLOADS).items(), ("model_size", (16, 64))]
)
def test_what_changes_with_the_shard_is_not_taken_for_an_effect_of_the_shard(name, values):
    cells = batch_cells()
    mixed = switched(cells, cells.train_examples > 2**15, name, values)
    told = rf"'{name}' has the values {values[0]!r}, {values[1]!r}; .*optimum may move with it.*"
    with pytest.raises(FitError, match=told + rf"cells\[cells.{name} == {values[0]!r}\], or .*by"):
        check_batch_size_law(mixed)
    both = optimal_batch_sizes(mixed, by=(*FACTORS, name))
    assert both[name].tolist() == [values[n > 2**15] for n in both.train_examples]
    one = check_batch_size_law(switched(cells, cells.seed < 0, name, values))
    pd.testing.assert_frame_equal(one.exponents, check_batch_size_law(cells).exponents)


def test_model_sizes_are_told_apart_by_their_parameters_too():
    cells = batch_cells()
    wide = np.where(cells.train_examples > 2**15, 64, 16)
    mixed = cells.assign(model_size=wide, parameter_count=100 * wide)
    assert len(optimal_batch_sizes(mixed, by=(*FACTORS, "parameter_count"))) == 27


def test_budgets_steps_and_looks_may_follow_from_the_shard():
    cells = batch_cells()
    steps = cells.train_examples // 2
    follows = {"steps": steps, "budget": steps.astype(str), "evaluation_schedule": steps.map(str)}
    pd.testing.assert_frame_equal(
        check_batch_size_law(cells.assign(**follows)).exponents,
        check_batch_size_law(cells).exponents,
    )
    curve = curve_cells()
    follows = {name: curve.train_examples.astype(str) for name in ("budget", "evaluation_schedule")}
    assert fit_power_law(curve.assign(**follows)).beta == fit_power_law(curve).beta


@pytest.mark.parametrize(("name", "values"), SETTINGS.items())
def test_a_learning_curve_is_of_one_setting_or_of_the_best_that_choose_names(name, values):
    cells = curve_cells()
    mixed = switched(cells, cells.train_examples >= 1000, name, values)
    told = rf"'{name}' has the values {values[0]!r}, {values[1]!r}; one curve needs one.*"
    with pytest.raises(FitError, match=told + rf"cells\[cells.{name} == {values[0]!r}\], or .*cho"):
        fit_power_law(mixed)
    fit = fit_power_law(mixed, choose=[name])
    assert fit.beta == fit_power_law(cells).beta
    best = fit.points[f"best_{name}"]
    assert best.tolist() == [values[m >= 1000] for m in fit.points.train_examples]


@pytest.mark.parametrize(("name", "values"), SETTINGS.items())
def test_settings_that_tell_curves_or_groups_apart_are_not_mixed(name, values):
    values = (*values, 2 * values[1])
    curves = [curve_cells(alpha=alpha) for alpha in (2, 3, 4)]
    cells = pd.concat(
        switched(curve, curve.seed < 0, name, (value,) * 2)
        for curve, value in zip(curves, values, strict=True)
    )
    held = backtest(cells, forms=["M1"], curves=[name])
    assert sorted(held.curves) == sorted((value,) for value in values)
    assert set(leave_one_group_out(cells, name).by_group[name]) == set(values)


@pytest.mark.parametrize(("name", "values"), (SETTINGS | WORKLOADS).items())
def test_a_joint_law_is_of_one_setting(name, values):
    cells = curve_cells()
    mixed = switched(cells, cells.train_examples >= 1000, name, values)
    variables = ("train_examples", "best_validation_error")
    told = rf"'{name}' has the values {values[0]!r}, {values[1]!r}; one law needs one.*apart"
    with pytest.raises(FitError, match=told):
        fit_scaling_law(mixed, *variables, form="M2")
    apart = fit_scaling_law(mixed, *variables, form="M2", weights=cells.train_examples < 1000)
    assert apart.params["beta"] == pytest.approx(-0.4, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "values"), [*(SETTINGS | WORKLOADS).items(), ("model_size", (16, 64))]
)
def test_steps_to_a_target_are_of_one_setting_in_each_group(name, values):
    sizes = 2.0 ** np.arange(3, 13)
    runs = pd.DataFrame({"batch_size": sizes, "steps_to_target": 100 + 20_000 / sizes})
    mixed = switched(runs, sizes > 100, name, values)
    with pytest.raises(FitError, match=rf"'{name}' has the values .*name it in `by`"):
        fit_critical_batch_size(mixed, steps="steps_to_target")
    both = pd.concat(switched(runs, sizes > limit, name, values) for limit in (0, np.inf))
    assert len(fit_critical_batch_size(both, steps="steps_to_target", by=name).status) == 2


def test_settings_that_are_sizes_themselves_are_not_mixed():
    rows = [(n, seed, depth) for n in (50, 100, 200) for seed in range(3) for depth in (1, 2, 4)]
    cells = pd.DataFrame(rows, columns=["train_examples", "seed", "depth"])
    cells["workload_axes"] = [json.dumps({"depth": depth}) for depth in cells.depth]
    cells["best_validation_error"] = cells.train_examples**-0.4 + 0.5 * cells.depth**-0.8
    cells["small"] = cells.train_examples * cells.depth < 800
    x = ("depth", "train_examples")
    assert len(backtest(cells, x, forms=["Chinchilla"], training="small").predictions) == 1
    assert len(fit_model_size_law(cells, model_size="depth").optima) == 3


def test_a_setting_that_only_some_rows_lack_varies_and_one_that_all_lack_does_not():
    cells = curve_cells()
    older = cells.train_examples < 1000
    mixed = cells.assign(batch_size_schedule=np.where(older, None, "constant"))
    with pytest.raises(FitError, match=r"values nan, 'constant' \(nan: fill in .* == 'constant'\]"):
        fit_power_law(mixed)
    lacking = cells.assign(optimizer=np.where(older, None, np.nan), workload_axes=None)
    assert fit_power_law(lacking).beta == fit_power_law(cells).beta


def test_axes_of_the_workload_are_compared_as_values_and_where_they_have_no_column_as_text():
    cells = curve_cells()
    large = cells.train_examples >= 1000
    spelt = cells.assign(workload_axes=np.where(large, '{"a": 1, "b": 2}', '{"b":2.0, "a":1}'))
    assert fit_power_law(spelt).beta == fit_power_law(cells).beta
    other = cells.assign(workload_axes=np.where(large, '{"a": 1}', '{"a": 2}'))
    with pytest.raises(FitError, match="'workload_axes' has the values"):
        fit_power_law(other)
    assert fit_power_law(other, choose=["workload_axes"]).beta == fit_power_law(cells).beta
    with pytest.raises(FitError, match="'workload_axes' has the values 'no JSON', 'none'"):
        fit_power_law(cells.assign(workload_axes=np.where(large, "none", "no JSON")))

"""A group left out is predicted by the others, and by them alone."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis import FitError, leave_one_group_out

Floats = NDArray[np.float64]
SIZES = 100 * 2.0 ** np.arange(7)


def cells(alphas: dict[str, float], beta: float = -0.3, sd: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (name, size, seed, alpha * size**beta * np.exp(rng.normal(0, sd)))
        for name, alpha in alphas.items()
        for size in SIZES
        for seed in range(3)
    ]
    return pd.DataFrame(rows, columns=["task", "train_examples", "seed", "best_validation_error"])


def test_groups_on_one_curve_are_predicted_exactly() -> None:
    told = leave_one_group_out(cells({"a": 2.0, "b": 2.0, "c": 2.0}), "task")
    # rounding alone
    assert told.forms.loc["M1", "rmse"] == pytest.approx(0, abs=1e-9)
    assert told.chosen in ("M1", "M2")
    assert told.n_cells == 63


def test_a_group_that_stands_apart_is_missed_by_its_distance() -> None:
    told = leave_one_group_out(cells({"a": 2.0, "b": 2.0, "c": 1.0}), "task", forms=("M1",))
    by_group = told.by_group.set_index("task")
    # the others' curve lies log 2 above c; without a it lies half of that below a
    assert by_group.loc["c", "bias"] == pytest.approx(np.log(2), abs=1e-9)
    assert by_group.loc["c", "rmse"] == pytest.approx(np.log(2), abs=1e-9)
    assert by_group.loc["a", "bias"] == pytest.approx(-np.log(2) / 2, abs=1e-9)
    assert told.forms.loc["M1", "worst_group"] == "c"


def test_each_prediction_is_that_of_a_line_through_the_other_groups() -> None:
    table = cells({"a": 2.0, "b": 2.3, "c": 1.8, "d": 2.1}, sd=0.1)
    told = leave_one_group_out(table, "task", forms=("M1",))
    logs = np.log(table["best_validation_error"]).groupby([table["task"], table["train_examples"]])
    means = logs.mean().unstack()
    for left_out in means.index:
        rest = means.drop(left_out)
        at = np.tile(np.log(SIZES), len(rest))
        line = np.polyfit(at, rest.to_numpy().ravel(), 1)
        mine = told.predictions[told.predictions["task"] == left_out]
        # the same linear problem solved twice
        np.testing.assert_allclose(
            np.log(mine["predicted"]), np.polyval(line, np.log(SIZES)), atol=1e-9
        )


def test_forms_of_two_variables_take_two_columns() -> None:
    rng = np.random.default_rng(1)
    size = 10 ** rng.uniform(6, 9, 60)
    data = 10 ** rng.uniform(8, 10, 60)
    table = pd.DataFrame(
        {
            "n": size,
            "d": data,
            "budget": np.arange(60) % 4,
            "loss": 1.7 + 400 / size**0.34 + 2000 / data**0.36,
        }
    )
    told = leave_one_group_out(
        table, "budget", ("n", "d"), "loss", forms=("Chinchilla",), seed=None
    )
    # without noise the form itself is found again
    assert told.forms.loc["Chinchilla", "rmse"] < 1e-5
    assert len(told.predictions) == 60


def test_a_group_without_a_point_to_fit_is_no_group() -> None:
    table = cells({"a": 2.0, "b": 2.0, "c": 2.0, "d": 2.0})
    table.loc[table["task"] == "d", "best_validation_error"] = 0.9
    told = leave_one_group_out(table, "task", chance_error=0.9)
    assert set(told.by_group["task"]) == {"a", "b", "c"}
    assert any("chance" in note for note in told.notes)
    with pytest.raises(FitError, match=r"2 groups with a point to fit \(none in d\); at least 3"):
        leave_one_group_out(table[table["task"] != "c"], "task", chance_error=0.9)


def test_the_result_is_printable_and_strict_json() -> None:
    told = leave_one_group_out(cells({"a": 2.0, "b": 2.3, "c": 1.8}), "task")
    assert json.loads(json.dumps(told.to_dict(), allow_nan=False))["group"] == "task"
    assert "No intervals" in str(told.summary())
    assert "<table" in told._repr_html_()


def test_what_cannot_be_left_out_is_refused() -> None:
    table = cells({"a": 2.0, "b": 2.3})
    with pytest.raises(FitError, match="2 groups"):
        leave_one_group_out(table, "task")
    with pytest.raises(FitError, match="No column 'kind'"):
        leave_one_group_out(table, "kind")
    missing = cells({"a": 2.0, "b": 2.3, "c": 1.8, "d": 2.0}).replace({"task": {"d": None}})
    with pytest.raises(FitError, match="21 of 84 rows have no task"):
        leave_one_group_out(missing, "task")
    with pytest.raises(FitError, match="variables N, D"):
        leave_one_group_out(table, "task", forms=("Chinchilla",))

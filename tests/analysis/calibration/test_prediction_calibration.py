"""The calibration of predicted curves at a reduced size, and that it can fail."""

import numpy as np

from analysis import fit_power_law
from tests.analysis.calibration import power_law, prediction
from tests.analysis.calibration.registry import markdown, share_row


def test_true_curves_are_what_the_tables_are_made_of():
    task = power_law.Task("independent", power_law.FLOORS[1], 400, 3, (7,))
    tables = power_law.make_tables(task)
    curves = prediction.true_curves(tables, power_law.SIZES)
    # Means of 400 seeds of 4 % noise: a standard error of .2 %.
    np.testing.assert_allclose(tables.log_error.mean(axis=2), curves, atol=0.008)


def test_intervals_cover_curves_beyond_the_sizes_fitted():
    rows = prediction.rows([prediction.measure(task) for task in prediction.tasks(15)])
    # Each figure may miss by 2.81 binomial standard errors of its 15 tables (99.5 %).
    assert not [row for row in rows if not row.ok], markdown(rows)
    required = [row for row in rows if row.required is not None]
    assert len(required) == 3 * 3 * 2 * 2
    # Together, by form and multiple, they may miss far less.
    for form, kinds in (("M1", 4), ("M2", 8)):
        for times in prediction.TIMES:
            alike = [row for row in required if row.what.startswith(f"{form}, curve at {times}×")]
            hits = round(sum(row.value * row.sets for row in alike))
            assert share_row("", "", hits, 15 * kinds, prediction.REQUIRED).ok


def test_the_jackknife_alone_covers_less_often_than_with_the_ends_of_the_floor():
    task = power_law.Task("independent", power_law.FLOORS[1], 5, 150, (8,))
    tables = power_law.make_tables(task)
    far = power_law.SIZES[-1:] * 16
    curves = prediction.true_curves(tables, far)[:, 0]
    hits = {"widened": 0, "jackknife": 0}
    for log_error, curve in zip(tables.log_error, curves, strict=True):
        fit = fit_power_law(prediction.as_cells(log_error), x="m", y="error")
        lower, upper = np.log(fit.predict_interval(far)[["lower", "upper"]].to_numpy()[0])
        hits["widened"] += lower <= curve <= upper
        logs = np.log(fit.folds[:, 2] + np.exp(fit.folds[:, 0]) * far ** fit.folds[:, 1])
        # 2.776: Student's t, 4 degrees of freedom, 97.5 %; √(S - 1) sd is the jackknife's error.
        half = 2.776 * np.sqrt(4) * logs.std()
        hits["jackknife"] += abs(curve - np.log(fit.predict(far)[0])) <= half
    assert hits["widened"] >= 0.91 * 150
    assert hits["jackknife"] < hits["widened"]

"""The calibration of learning curves of the best of several settings, at a reduced size."""

import numpy as np

from analysis import fit_power_law
from tests.analysis.calibration import best_setting
from tests.analysis.calibration.power_law import STRATUM
from tests.analysis.calibration.registry import markdown, share_row


def test_the_best_setting_of_a_table_lies_on_the_true_curve_and_no_other_below_it():
    kind = best_setting.Kind(12, 0.2, 0.2, 9)
    table, truth = best_setting.make_table(kind, floor=True, rng=np.random.default_rng(1))
    mean = table.groupby(["train_examples", "setting"])["error"].mean().unstack()
    best = mean.min(axis=1)
    curve = (best.iloc[0] - truth["gamma"]) * (best.index / 100) ** truth["beta"] + truth["gamma"]
    np.testing.assert_allclose(best, curve, rtol=0.1)  # 4 % of noise over five seeds
    assert (mean.apply(lambda row: row.nsmallest(2).iloc[1], axis=1) / best).min() > 1.08
    fit = fit_power_law(table, y="error", choose=["setting"])
    assert (fit.points["best_setting"].to_numpy() == mean.idxmin(axis=1).to_numpy()).all()


def test_intervals_of_one_setting_and_of_the_best_of_several_cover():
    tasks = best_setting.tasks(30)
    rows = best_setting.rows([best_setting.measure(task) for task in tasks])
    assert not [row for row in rows if not row.ok], markdown(rows)
    assert len({row.truth for row in rows}) == len(best_setting.KINDS)
    sets = sum(row.sets for row in rows)
    hits = round(sum(row.value * row.sets for row in rows))
    assert share_row("", "", hits, sets, (STRATUM[0], 1.0)).ok

"""The calibration of critical batch sizes and noise scales at a reduced size."""

import numpy as np
import pandas as pd

from analysis import fit_critical_batch_size
from tests.analysis.calibration import critical_batch
from tests.analysis.calibration.power_law import STRATUM
from tests.analysis.calibration.registry import markdown, share_row


def test_what_is_calibrated_are_the_intervals_of_fit_critical_batch_size():
    for what, seeds in critical_batch.KINDS:
        task = critical_batch.Task(what, seeds, 8, (3,))
        tables, truth = critical_batch.make_steps(task)
        covered = np.zeros(3)
        for steps, of_truth in zip(tables, truth, strict=True):
            table = pd.DataFrame(
                {
                    "batch_size": np.repeat(steps.batch_size, seeds),
                    "seed": np.tile(np.arange(seeds), len(steps.batch_size)),
                    "steps": np.exp(steps.log_steps).ravel(),
                }
            )
            fit = fit_critical_batch_size(table, steps="steps", seed="seed")
            bounds = fit.conf_int().to_numpy()[:3]
            covered += (bounds[:, 0] <= of_truth) & (of_truth <= bounds[:, 1])
        assert list(critical_batch.measure(task).covered.values()) == covered.tolist()


def test_intervals_of_critical_batch_sizes_and_noise_scales_cover():
    rows = critical_batch.rows([critical_batch.measure(task) for task in critical_batch.tasks(40)])
    # Each figure may miss by 2.81 binomial standard errors of its 40 tables (99.5 %).
    assert not [row for row in rows if not row.ok], markdown(rows)
    assert len(rows) == 3 * len(critical_batch.KINDS) + 2 * len(critical_batch.REPLICATES)
    # Tables of one quantity share the allowance of all of them.
    for quantity in ("steps_min", "examples_min", "critical_batch_size"):
        alike = [row for row in rows if row.what.startswith(quantity)]
        sets = sum(row.sets for row in alike)
        hits = round(sum(row.value * row.sets for row in alike))
        assert share_row("", "", hits, sets, STRATUM).ok

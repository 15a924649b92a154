"""The calibration of the law's verdicts at a reduced size, and that it can fail.

`python -m tests.analysis.calibration batch_law` measures the same at full size.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.calibration import batch_law
from tests.analysis.calibration.registry import markdown, share_row
from tests.analysis.synthetic_curves import Curves, Noise

SETS = 40


@pytest.mark.slow
def test_verdicts_keep_their_promises_over_five_noises_and_every_trap():
    rows = batch_law.rows([batch_law.measure(task) for task in batch_law.tasks(SETS)])
    # Each figure may miss by 2.81 standard errors of its number of tables (99.5 %).
    assert not [row for row in rows if not row.ok], markdown(rows)
    never = [row for row in rows if row.required == batch_law.NEVER]
    assert len(never) == 2 * (3 + len(batch_law.TRAPS))
    assert all(row.value == 0 for row in never)


def test_standard_errors_that_are_too_small_miss_the_figures():
    kind = next(i for i, k in enumerate(batch_law.KINDS) if k.name == "at 0.85")
    result = batch_law.measure(batch_law.Task(kind, 60, (5,)))
    inside = batch_law.covered(result, 0)
    assert share_row("", "", int(inside.sum()), inside.size, batch_law.POOLED).ok
    narrow = result._replace(errors=result.errors / 2)
    inside = batch_law.covered(narrow, 0)
    assert not share_row("", "", int(inside.sum()), inside.size, batch_law.POOLED).ok


def test_the_noises_are_what_they_say():
    made = Curves(
        truth=(1, 1, 1), noise=0.01, levels=4, seeds=2000, batch_sizes=4, shape=batch_law.flat
    )
    rng = np.random.default_rng(0)

    def errors(kind):
        return replace(made, kind=kind).grid(rng).errors - 0.1

    independent = errors(Noise.INDEPENDENT)
    assert independent.std() == pytest.approx(0.01, rel=0.01)
    assert errors(Noise.T3).std() == pytest.approx(0.01, rel=0.05)
    falling = errors(Noise.FALLING).std(axis=(0, 2))
    n = made.octaves[:, 1]
    assert falling[n == n.max()].mean() / falling[n == n.min()].mean() == pytest.approx(
        0.25, rel=0.05
    )
    shift = errors(Noise.SHIFT)
    # 2² of 1 + 2² is shared by all batch sizes of a seed's group, and by no other group.
    assert np.corrcoef(shift[:, 0, 0], shift[:, 0, 3])[0, 1] == pytest.approx(0.8, abs=0.03)
    assert np.corrcoef(shift[:, 0, 0], shift[:, 1, 0])[0, 1] == pytest.approx(0, abs=0.08)
    slope = errors(Noise.SLOPE)
    ends = slope[:, :, 3] - slope[:, :, 0]
    assert np.corrcoef(ends[:, 0], ends[:, 5])[0, 1] > 0.1


def test_half_of_the_tables_of_a_kind_are_symmetric():
    made = Curves(truth=(0, 0, 0), noise=1e-9, levels=2, batch_sizes=9)
    shapes = [made.shape, batch_law.symmetric_bowl]
    ratios = []
    for shape in shapes:
        mean = replace(made, shape=shape).grid(np.random.default_rng(1)).errors.mean(axis=(0, 1))
        best = mean.argmin()
        ratios.append((mean[best - 2] - mean[best]) / (mean[best + 2] - mean[best]))
    assert ratios[0] > 1.3 * ratios[1]

"""The arithmetic of the benchmarks of scale."""

import pytest

from benchmarks.placement import busy_share
from benchmarks.scale import Run
from benchmarks.simulation import Costs, RealRun, calibrated, foretold, simulate


def test_without_costs_slots_are_busy_until_their_last_pack():
    told = simulate([4.0, 3.0, 2.0, 1.0], [0.0, 0.0], Costs(driver=0.0, gap=0.0))
    assert told.seconds == 5.0
    assert told.utilisation == 1.0
    assert told.driver_busy == 0.0


def test_a_driver_serves_one_trial_at_a_time():
    told = simulate([1.0] * 8, [0.0] * 4, Costs(driver=2.0, gap=0.0))
    assert told.seconds == 8 * 2.0 + 1.0  # it is busy all the time, slots wait for it
    assert told.driver_busy == pytest.approx(16 / 17)


def test_a_gap_is_each_slots_own():
    told = simulate([1.0] * 8, [0.0] * 4, Costs(driver=0.0, gap=0.5))
    assert told.seconds == 3.0
    assert told.utilisation == pytest.approx(8 / 12)


def test_runs_made_by_known_costs_give_them_back():
    costs = Costs(driver=0.01, gap=0.2)
    runs = []
    for slots in (2, 8):
        # A driver that is never asked twice at once: slots are ready one after another.
        begins = [[0.1 * slot + 3.21 * trial for trial in range(4)] for slot in range(slots)]
        runs.append(RealRun(begins=begins, driver_cpu=5.0 + 0.01 * 4 * slots))
    found = calibrated(runs)
    assert found.driver == pytest.approx(costs.driver)
    assert found.gap == pytest.approx(costs.gap)
    for run in runs:
        assert foretold(run, found) == pytest.approx(run.seconds, rel=1e-3)


def test_slots_count_from_the_last_ones_first_pack_to_the_last_packs_beginning():
    begins, ends = [0.0, 2.0, 4.5, 6.0, 9.0], [4.0, 5.0, 8.5, 9.0, 13.0]
    # Of the 7 s from 2 to 9, one slot is idle for half a second, twice, and the other for one.
    assert busy_share(begins, ends, slots=2) == pytest.approx(1 - 2 / 14)


def test_memory_grows_by_what_it_gains_after_a_quarter_of_the_trials():
    memory = [(trial, 400.0 if trial <= 20 else 500.0 + trial) for trial in range(1, 101)]
    assert Run(memory=memory).growth == pytest.approx(1024.0)  # not the 120 MiB of the start

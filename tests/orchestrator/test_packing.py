"""Stacks that pay: how cells are cut into packs, whatever was measured, and what packs will take.

No time is measured here: rows are given the times that they would have on some machine.
"""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.planning import Plan, plan_study
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.orchestrator.store_rows import cell_row

ALONE_SECONDS = 2.7e-4
"""Of a step of a cell of width 16 and batches of 16 by itself, stacked or not: 266 µs in
benchmarks/README.md, one CPU thread."""

AMONG_MANY_SECONDS = 6.9e-6
"""Of a cell's step in a stack of 256: 5.0 µs there; the planner's 10¹¹ assumed FLOPs in 2.5 s."""


def study(seeds: int | Sequence[int], steps: int, **changes: Any) -> Study:
    grid = {
        "model_size": 16,
        "batch_size": 16,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "budget": {"steps": steps},
        **changes,
    }
    seeds = seeds if isinstance(seeds, int) else list(seeds)
    return Study.from_dict(
        {"name": "some", "workload": "digits", "seeds": seeds, "grids": {"all": grid}}
    )


def planned(some: Study, store: Store | None = None, slots: int = 2) -> Plan:
    return plan_study(some, store, slots=lambda resources: slots, mix_sources=True)


def sizes(plan: Plan) -> list[int]:
    return sorted(len(pack.cells) for pack in plan.packs)


def store_of(folder: Any, some: Study, seconds: float, first: int = 0, **changes: Any) -> Store:
    """Return a store in which one pack trained all cells of `some`, in so many seconds.

    `changes`: columns of its rows from the `first` on.
    """
    plan = planned(some)
    cells = list(plan.cells.values())
    steps = sum(cell.steps for cell in cells)
    rows = [
        cell_row(
            number,
            "0123456789abcdef",
            cell_id=cell.cell_id,
            workload_version=cell.workload_version,
            train_examples=cell.train_examples,
            validation_examples=386,
            test_examples=387,
            model_size=cell.model_size,
            batch_size=cell.batch_size,
            seed=cell.seed,
            steps=cell.steps,
            examples_seen=cell.examples_seen,
            training_flops=plan.training_flops * cell.steps / steps,
            validation_evaluations=int(cell.evaluation_schedule.partition(":")[2]),
            wall_seconds=seconds * cell.steps / steps,
            packed_cells=len(cells),
            arithmetic="stacked layers",
        )
        for number, cell in enumerate(cells)
    ]
    store = Store(folder)
    store.create()
    changed = [{**row, **changes} for row in rows[first:]]
    store.write_part("0123456789abcdef", [*rows[:first], *changed], [])
    return store


@pytest.mark.parametrize("steps", [15_000, 150_000, 300_000, 3_000_000])
@pytest.mark.parametrize("slowness", [1, 30])
def test_a_pilot_of_one_seed_leaves_packs_as_large_as_without_history(tmp_path, steps, slowness):
    before = planned(study(200, steps))
    store = store_of(tmp_path, study(1, steps), slowness * ALONE_SECONDS * steps)
    after = planned(study(200, steps), store)
    assert after.unmeasured_cells == 0
    assert after.cells_to_run == 199
    assert len(after.packs) == len(before.packs)
    assert sizes(after)[-1] == pytest.approx(sizes(before)[-1], abs=1)
    # 199 cells' own steps, and those that each pack shares; the model is within half of what was
    # measured in the largest stacks.
    expected = slowness * steps * (199 * AMONG_MANY_SECONDS + len(after.packs) * ALONE_SECONDS)
    assert after.predicted_seconds == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize("width", [4, 16, 64])
@pytest.mark.parametrize("steps", [10_000, 1_000_000, 3_000_000])
def test_stacks_of_long_cells_pay(width, steps):
    plan = planned(study(200, steps, model_size=width))
    # That is, what a stack shares is less than what its members have of their own.
    shared = ALONE_SECONDS * steps * len(plan.packs)
    assert shared < plan.predicted_seconds / 2


def test_a_stackable_cell_by_itself_takes_what_one_by_one_takes():
    alone = planned(study(1, 15_000)).predicted_seconds
    assert alone == pytest.approx(15_000 * ALONE_SECONDS, rel=0.1)
    together = planned(study(100, 15_000), slots=1)
    assert len(together.packs) == 1
    assert together.predicted_seconds < 5 * alone


def test_a_cell_is_not_forecast_at_the_pace_of_a_stack(tmp_path):
    measured = 15_000 * (ALONE_SECONDS + 100 * AMONG_MANY_SECONDS)
    store = store_of(tmp_path, study(100, 15_000), measured)
    plan = planned(study(101, 15_000), store)
    assert plan.cells_to_run == 1
    assert plan.unmeasured_cells == 0
    # A stack that takes a few per cent longer than is assumed, and so does a cell alone.
    assert plan.predicted_seconds == pytest.approx(15_000 * ALONE_SECONDS, rel=0.2)
    more = planned(study(range(100, 200), 15_000), store, slots=1)
    assert more.predicted_seconds == pytest.approx(measured, rel=1e-6)


def test_cells_of_several_lengths_are_forecast_from_such(tmp_path):
    fractions: dict[str, Any] = {
        "dataset_fraction": [0.0625, 0.125, 0.25, 0.5, 1.0],
        "budget": {"epochs": 40},
    }
    before = planned(study(8, 0, **fractions), slots=1)
    assert len(before.packs) == 1
    # A machine that takes seven times as long as is assumed.
    store = store_of(tmp_path, study(8, 0, **fractions), 7 * before.predicted_seconds)
    after = planned(study(range(8, 16), 0, **fractions), store, slots=1)
    assert after.unmeasured_cells == 0
    # Cells of all lengths look 12 times, but the rows here have equal shares of what that costs.
    ratio = after.predicted_seconds / before.predicted_seconds
    assert ratio == pytest.approx(7, rel=0.02)


def test_members_that_diverged_early_leave_the_rest_to_pay_for_the_stack(tmp_path):
    # 15 of 16 diverge; the last bears nearly all that the stack shares.
    one, many = study(1, 15_000), study(16, 15_000)
    alone = planned(one).predicted_seconds
    left = {"status": "diverged", "steps": 256, "examples_seen": 256 * 16}
    store = store_of(tmp_path, many, 16 * alone, first=1, **left)
    plan = planned(study(17, 15_000), store)
    assert plan.predicted_seconds == pytest.approx(alone, rel=1e-6)


def test_a_row_of_a_pack_whose_other_cells_went_on_elsewhere_is_one_of_a_stack(tmp_path):
    whole = planned(study(100, 15_000), slots=1).predicted_seconds
    store = store_of(tmp_path, study(1, 15_000), whole / 100, packed_cells=100)
    plan = planned(study(range(100, 200), 15_000), store, slots=1)
    assert plan.predicted_seconds == pytest.approx(whole, rel=1e-6)


def test_two_full_stacks_take_twice_as_long_as_one():
    one, two = (planned(study(seeds, 100), slots=1) for seeds in (256, 512))
    assert len(one.packs) == len(two.packs) == 1
    assert two.predicted_seconds == pytest.approx(2 * one.predicted_seconds, rel=1e-9)


@pytest.mark.parametrize("slots", [2, 7, 64])
@pytest.mark.parametrize("seeds", [3, 200])
@pytest.mark.parametrize("widths", [[16], [4, 16, 64]])
def test_every_slot_gets_a_pack_and_all_about_as_many(slots, seeds, widths):
    plan = planned(study(seeds, 300_000, model_size=widths), slots=slots)
    cells = seeds * len(widths)
    assert sum(sizes(plan)) == cells
    assert len(plan.packs) >= min(slots, cells)
    if len(widths) == 1:
        assert len(plan.packs) % min(slots, cells) == 0
        assert sizes(plan)[-1] - sizes(plan)[0] <= 1


def test_a_short_study_is_one_pack_whatever_the_slots():
    assert sizes(planned(study(40, 1000), slots=64)) == [40]


def test_few_cells_that_have_little_of_their_own_stay_together_though_slots_are_idle():
    # 4 s or so, and in packs of one each 3.9: nothing is won by three more trials.
    plan = planned(study(4, 15_000), slots=4)
    assert sizes(plan) == [4]
    assert plan.predicted_seconds == pytest.approx(4.4, rel=0.1)


def test_a_long_study_of_many_short_cells_is_cut_by_time():
    rates = [round(0.001 * 1.1**i, 6) for i in range(50)]
    plan = planned(study(200, 2000, learning_rate=rates))
    seconds = plan.predicted_seconds / len(plan.packs)
    assert len(plan.packs) % 2 == 0
    assert 0.7 * 25 < seconds < 1.4 * 25


def test_on_a_gpu_whole_stacks_are_kept_together():
    # A step of 12 MFLOPs, which takes a CPU thread longer than what it shares, and a GPU no time.
    large = {"model_size": 64, "batch_size": 128}
    text = study(1200, 100_000, **large).text
    some = Study.from_text(text + "resources: {cpus: 1, gpus: 1}\n")
    assert sizes(planned(some)) == [300] * 4
    assert sizes(planned(Study.from_text(text)))[-1] < 20


def test_equal_kinds_are_cut_alike_in_every_order_of_the_file():
    plans = [
        planned(study(20, 300_000, optimizer=optimizers), slots=3)
        for optimizers in (["sgd", "nesterov"], ["nesterov", "sgd"])
    ]
    assert sizes(plans[0]) == [10, 10, 20]
    first, second = ({pack.pack_id for pack in plan.packs} for plan in plans)
    assert first == second


def test_what_is_planned_is_the_sum_of_its_packs():
    plan = planned(study(200, 1_000_000, model_size=64))
    packs = [
        planned(study([c.seed for c in p.cells], 1_000_000, model_size=64), slots=1)
        for p in plan.packs
    ]
    assert len(packs) > 1
    assert all(len(each.packs) == 1 for each in packs)
    assert plan.predicted_seconds == pytest.approx(math.fsum(p.predicted_seconds for p in packs))

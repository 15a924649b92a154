"""Which packs go again after a round that did not end well for them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from orchestrator.planning import plan_study
from orchestrator.running.executor import PackEnd, PackFate
from orchestrator.running.retries import MOST_SUSPICIONS, WORKER_DIED, Retries
from orchestrator.running.run import _end_packs
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from tests.orchestrator.store_rows import failure_row

DIED, SUSPECTED = PackFate(PackEnd.DIED, "killed"), PackFate(PackEnd.SUSPECTED, "memory")

STUDY = """
name: retried
workload: digits
seeds: 4
grids:
  all: {model_size: 4, batch_size: 16, learning_rate: 0.1, budget: {steps: 10}}
"""


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.create()
    return store


@pytest.fixture
def pack():
    (pack,) = plan_study(Study.from_text(STUDY)).packs
    return pack


@pytest.fixture
def added():
    return []


@pytest.fixture
def retries(store, added):
    return Retries(
        store, lambda: {f.cell_id for each in added for f in each.failures}, added.append
    )


def test_the_reason_of_a_death_is_text_that_a_store_takes(store, pack, added):
    alone = pack.holding(pack.cells[:1], None)
    retries = Retries(store, set, added.append)
    assert retries.after(alone, PackFate(PackEnd.DIED, "OSError: caf\udce9.png")) == []
    ((failure,),) = (progress.failures for progress in added)
    assert failure.error_traceback == r"OSError: caf\udce9.png"


@pytest.mark.parametrize("own_checkpoint", [True, False])
def test_halves_of_a_pack_that_died_go_on_where_it_was(store, pack, retries, own_checkpoint):
    members = [cell.cell_id for cell in pack.cells]
    store.write_checkpoint("0123456789abcdef", members, b"of the pack that it went on from")
    pack = replace(pack, resumes="0123456789abcdef")
    if own_checkpoint:
        store.write_checkpoint(pack.pack_id, members, b"its own")
    halves = retries.after(pack, DIED)
    assert [cell.cell_id for half in halves for cell in half.cells] == members
    expected = pack.pack_id if own_checkpoint else "0123456789abcdef"
    assert [half.resumes for half in halves] == [expected, expected]


def test_a_lone_cell_fails_only_where_it_no_longer_gets_on(store, pack, retries, added):
    alone = replace(pack, cells=pack.cells[:1])
    cell_id = alone.cells[0].cell_id
    for state in (b"step 100", b"step 20000"):
        store.write_checkpoint(alone.pack_id, [cell_id], state)
        assert retries.after(alone, DIED) == [alone]
    assert added == []
    assert retries.after(alone, DIED) == []
    ((failure,),) = [progress.failures for progress in added]
    assert (failure.cell_id, failure.error_type) == (cell_id, WORKER_DIED)


def test_packs_under_way_where_memory_ran_out_are_tried_again_before_they_are_blamed(
    pack, retries, added
):
    alone = replace(pack, cells=pack.cells[:1])
    for _ in range(MOST_SUSPICIONS - 1):
        assert retries.after(alone, SUSPECTED) == [alone]
    assert retries.after(alone, PackFate(PackEnd.ROUND_ENDED, "")) == [alone]
    assert added == []
    assert retries.after(alone, SUSPECTED) == []
    assert len(added) == 1


def test_what_a_cell_has_trained_before_its_workers_died_is_kept(store):
    store.write_checkpoint("died", ["1", "2"], b"state")
    store.write_checkpoint("raised", ["3"], b"state")
    errors = {"1": WORKER_DIED, "2": "ValueError", "3": "ValueError"}
    rows = [{**failure_row(0), "cell_id": c, "error_type": e} for c, e in errors.items()]
    store.record_failures(rows)
    _end_packs(store, SimpleNamespace(failures=errors))
    assert list(store.open_packs()) == ["died"]

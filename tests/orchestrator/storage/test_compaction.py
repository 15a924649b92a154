import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.errors import StoreError
from orchestrator.storage.local_files import LocalFiles
from orchestrator.storage.store import Store
from tests.orchestrator.store_rows import EPOCH, cell_id, cell_row, curve_rows, write_cells

ROOT = Path(__file__).parents[3]


def parts(store: Store, table: str = "cells") -> list[str]:
    return sorted(path.name for path in Path(store.address(table)).iterdir())


def fill(store: Store, packs: int = 9) -> None:
    """Packs of two cells, one cell trained twice, and curves whose cells never came."""
    for n in range(packs):
        write_cells(store, f"pack{n}", [2 * n, 2 * n + 1])
    late = EPOCH + timedelta(days=1)
    store.write_part("twice", [cell_row(3, "twice", started_at=late)], curve_rows(3, "twice"))
    write_cells(store, "orphan", [99])
    next(Path(store.address("cells")).glob("part-orphan-*")).unlink()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    fill(store)
    return store


def test_compaction_changes_no_row_that_counts(store: Store) -> None:
    cells, curves = store.read_cells(), store.read_curves()
    report = store.compact()
    assert (report.parts_before, report.parts_after, report.rows) == (10 + 11, 1 + 1, 18)
    assert parts(store) == parts(store, "curves")
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    pd.testing.assert_frame_equal(store.read_curves(), curves)


def test_after_compaction_plain_pandas_sees_every_cell_once_and_only_their_curves(
    store: Store,
) -> None:
    store.compact()
    plain = pd.read_parquet(Path(store.address("cells")))
    assert sorted(plain["cell_id"]) == [cell_id(n) for n in range(18)]
    curves = pd.read_parquet(Path(store.address("curves")))
    assert len(curves) == 18 * 3
    assert not curves.duplicated(["cell_id", "step"]).any()


def test_merged_parts_hold_no_more_cells_than_asked_for(store: Store) -> None:
    store.compact(rows_per_part=5)
    sizes = [len(pd.read_parquet(Path(store.address("cells")) / name)) for name in parts(store)]
    assert max(sizes) <= 5
    # Pairs of two-cell parts: four cells each, and what is left over.
    assert len(sizes) == 5
    assert sum(sizes) == 18


def test_a_compaction_killed_while_it_wrote_what_it_would_do_is_forgotten(store: Store) -> None:
    cells = store.read_cells()
    LocalFiles(Path(store.location)).write("compaction.json", b'{"groups": [')
    with store.drive("the next"):
        pass
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    assert store.compact().rows == len(cells)


def test_compacting_again_does_nothing_and_later_parts_join_in(store: Store) -> None:
    store.compact()
    before = parts(store)
    report = store.compact()
    assert (report.parts_before, report.parts_after) == (2, 2)
    assert parts(store) == before
    write_cells(store, "later", [50])
    store.compact()
    assert len(parts(store)) == 1
    assert parts(store) != before
    assert set(store.cell_statuses()) == {cell_id(n) for n in [*range(18), 50]}


def test_a_merged_part_is_never_named_like_one_that_it_replaces(store: Store) -> None:
    store.compact()
    # Rows that do not count are all that this adds: the merged rows stay the same.
    late = EPOCH + timedelta(days=2)
    store.write_part("again", [cell_row(3, "again", started_at=late)], [])
    store.compact()
    assert len(parts(store)) == 1
    assert set(store.cell_statuses()) == {cell_id(n) for n in range(18)}


def test_parts_of_a_pack_under_way_are_left_alone(store: Store) -> None:
    store.write_checkpoint("pack3", [cell_id(6), cell_id(7), cell_id(20)], b"state")
    kept = [name for name in parts(store) if name.startswith("part-pack3-")]
    store.compact()
    assert [name for name in parts(store) if "compacted" not in name] == kept
    assert store.pack_cell_ids("pack3") == {cell_id(6), cell_id(7)}
    assert len(store.read_cells()) == 18
    assert len(store.read_curves()) == 18 * 3


def test_curves_of_a_pack_under_way_wait_for_their_cells(store: Store) -> None:
    store.write_checkpoint("orphan", [cell_id(99)], b"state")
    store.compact()
    assert any(name.startswith("part-orphan-") for name in parts(store, "curves"))


def test_a_pack_killed_in_its_first_checkpoint_is_not_under_way_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LocalFiles.write

    def die(files: LocalFiles, path: str, data: bytes) -> None:
        if path.endswith("members.json"):
            raise KeyboardInterrupt
        write(files, path, data)

    monkeypatch.setattr(LocalFiles, "write", die)
    with pytest.raises(KeyboardInterrupt):
        store.write_checkpoint("pack3", [cell_id(6), cell_id(7)], b"state")
    monkeypatch.undo()
    assert parts(store, "checkpoints") == ["pack3"]
    assert store.open_packs() == {}
    store.compact()
    assert parts(store, "checkpoints") == []
    assert len(parts(store)) == 1
    assert len(store.read_cells()) == 18


def test_a_part_damaged_under_the_compaction_stops_it_before_anything_is_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = store.read_cells()
    victim = next(Path(store.address("curves")).glob("part-pack1-*"))
    write = LocalFiles.write

    def damage(files: LocalFiles, path: str, data: bytes) -> None:
        if path == "compaction.json":
            victim.write_bytes(b"?")
        write(files, path, data)

    monkeypatch.setattr(LocalFiles, "write", damage)
    with pytest.raises(StoreError, match=r"Compaction stopped .*part-pack1-"):
        store.compact()
    monkeypatch.undo()
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    store.compact()
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    assert len(store.read_curves()) == 16 * 3


class DeadError(BaseException):
    """Raised in place of a kill: from then on the file system does nothing more."""


class DyingDisk:
    """A disk that takes `step` changes and none after them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        self.left = step
        unlink, replace = Path.unlink, Path.replace
        monkeypatch.setattr(Path, "unlink", lambda p, **k: self.change(unlink, p, **k))
        monkeypatch.setattr(Path, "replace", lambda p, t: self.change(replace, p, t))

    def change(self, act: Any, *arguments: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise DeadError
        return act(*arguments, **options)


def assert_nothing_was_lost_or_doubled(store: Store, cells: Any, curves: Any) -> None:
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    pd.testing.assert_frame_equal(store.read_curves(), curves)
    with store.drive("the next"):
        pass
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    pd.testing.assert_frame_equal(store.read_curves(), curves)
    assert not (Path(store.location) / "compaction.json").exists()
    # What is left of second rows is what was there before: the merge brings in none.
    plain = pd.read_parquet(Path(store.address("cells")))
    assert plain["cell_id"].value_counts().max() <= 2
    assert set(plain["cell_id"][plain["cell_id"].duplicated()]) <= {cell_id(3)}
    store.compact()
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    pd.testing.assert_frame_equal(store.read_curves(), curves)
    assert len(parts(store)) == len(parts(store, "curves")) == 1


def steps_until_done(limit: int) -> Iterator[int]:
    yield from range(limit)
    pytest.fail(f"the compaction did not end within {limit} changes to the disk")


def test_a_compaction_cut_off_at_any_change_to_the_disk_is_completed_by_the_next_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = 0
    for step in steps_until_done(100):
        store = Store(tmp_path / str(step))
        fill(store, packs=5)
        cells, curves = store.read_cells(), store.read_curves()
        with monkeypatch.context() as patch:
            DyingDisk(patch, step)
            try:
                store.compact(rows_per_part=5)
                break
            except DeadError:
                cut += 1
        assert_nothing_was_lost_or_doubled(store, cells, curves)
    # Merged parts of cells and curves, those deleted, the intent written and deleted.
    assert cut >= 3 + 3 + 6 + 7 + 2


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator.storage.store import Store

left = int(sys.argv[2])

def killed_after(act):
    def change(*arguments, **options):
        global left
        result = act(*arguments, **options)
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return change

Path.unlink, Path.replace = killed_after(Path.unlink), killed_after(Path.replace)
Store(sys.argv[1]).compact(rows_per_part=5)
"""


@pytest.mark.slow
def test_a_compaction_killed_by_sigkill_after_any_change_is_completed_by_the_next_driver(
    tmp_path: Path,
) -> None:
    for step in steps_until_done(100):
        store = Store(tmp_path / str(step))
        fill(store, packs=5)
        cells, curves = store.read_cells(), store.read_curves()
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, store.location, str(step)], cwd=ROOT, check=False
        )
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        assert_nothing_was_lost_or_doubled(store, cells, curves)


@pytest.mark.slow
def test_the_completion_of_a_killed_compaction_can_be_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (6, 9, 15):
        for second in steps_until_done(60):
            store = Store(tmp_path / f"{first}-{second}")
            fill(store, packs=5)
            cells, curves = store.read_cells(), store.read_curves()
            with monkeypatch.context() as patch:
                DyingDisk(patch, first)
                with pytest.raises(DeadError):
                    store.compact(rows_per_part=5)
            with monkeypatch.context() as patch:
                DyingDisk(patch, second)
                try:
                    with store.drive("the next"):
                        pass
                    break
                except DeadError:
                    pass
            assert_nothing_was_lost_or_doubled(store, cells, curves)

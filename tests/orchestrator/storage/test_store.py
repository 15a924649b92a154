import json
import pickle
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RequestError, StoreError
from orchestrator.storage import contents
from orchestrator.storage.filesystem import Entry
from orchestrator.storage.local_files import LocalFiles
from orchestrator.storage.parts import pack_of, part_name
from orchestrator.storage.schema import COUNT, NUMBER, SCHEMAS, TEXT, Table
from orchestrator.storage.store import Store
from tests.orchestrator.store_rows import (
    EPOCH,
    cell_id,
    cell_row,
    curve_rows,
    failure_row,
    write_cells,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def folder(store: Store, name: str) -> Path:
    return Path(store.address(name))


# Location


def test_a_relative_path_becomes_absolute_so_that_workers_elsewhere_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store("results/x").location == str(tmp_path / "results" / "x")


@pytest.mark.parametrize(
    "location",
    [
        "s3://key:pass/word@bucket/x",
        "s3://key:password@bucket/x",
        "s3://key:password@[bucket/x",
        "s3://[bucket/x?secret_key=password",
        "gs://someone@bucket/x",
    ],
)
def test_a_location_with_credentials_is_refused_without_repeating_them(location: str) -> None:
    with pytest.raises(RequestError, match="credentials") as refused:
        Store(location)
    assert "pass" not in str(refused.value)


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("ftp://host/x", "Allowed: a path, or s3://, gs://"),
        ("file:///x", "Allowed: a path"),
        ("s3://bucket", "lacks a bucket or a prefix"),
        ("s3://bucket/x?secret_key=abc", "options secret_key"),
        ("s3://[x/y", "'s3://\\[x/y' cannot be read as a URI. Allowed: s3://BUCKET/PREFIX"),
        ("~nosuchuser/x", "'~nosuchuser/x' begins with a home folder that is not known"),
    ],
)
def test_a_location_that_cannot_be_a_store_is_refused(location: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        Store(location)


def test_the_address_of_a_table_keeps_the_options_of_the_uri() -> None:
    store = Store("s3://bucket/a/b/?region=eu-central-1")
    assert store.address("cells") == "s3://bucket/a/b/cells?region=eu-central-1"


def test_a_store_travels_to_other_processes(store: Store) -> None:
    write_cells(store, "pack", [1])
    copy = pickle.loads(pickle.dumps(store))
    assert copy.location == store.location
    assert copy.lease_seconds == store.lease_seconds
    assert copy.cell_statuses() == {cell_id(1): "completed"}


def test_making_a_store_touches_nothing(store: Store) -> None:
    assert not store.exists()
    assert store.cell_statuses() == {}
    assert store.failed_cell_ids() == set()
    assert store.read_cells().columns.tolist() == SCHEMAS[Table.CELLS].names
    assert store.read_curves().empty
    assert store.read_failures().empty
    assert store.read_grids() == {}
    assert store.heartbeat() is None
    assert store.unreadable_parts() == []
    assert not Path(store.location).exists()
    store.create()
    assert store.exists()
    assert store.cell_statuses() == {}


def test_a_store_that_cannot_be_made_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Could not create .*file/store"):
        Store(tmp_path / "file" / "store").create()


# Round trips

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
values = {TEXT: texts, COUNT: st.integers(-(2**63), 2**63 - 1), NUMBER: numbers}
times = st.datetimes(
    min_value=datetime(1970, 1, 1),  # the zone is added by `timezones`
    max_value=datetime(2200, 1, 1),
    timezones=st.just(UTC),
)


@st.composite
def any_cell(draw: st.DrawFn) -> dict[str, Any]:
    row = {}
    for field in SCHEMAS[Table.CELLS]:
        strategy = values.get(field.type, times)
        row[field.name] = draw(st.none() | strategy if field.nullable else strategy)
    return {**row, "pack_id": "pack", "status": draw(st.sampled_from(["completed", "diverged"]))}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(any_cell(), min_size=1, max_size=4, unique_by=lambda row: row["cell_id"]))
def test_every_value_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    store.write_part("pack", rows, [])
    path = next(Path(store.address("cells")).iterdir())
    assert pq.read_table(path).to_pylist() == rows
    assert len(store.read_cells()) == len(rows)


def test_plain_pandas_reads_what_was_written_with_its_types(store: Store) -> None:
    write_cells(store, "pack", [1, 2])
    plain = pd.read_parquet(folder(store, "cells"))
    assert plain["cell_id"].tolist() == [cell_id(1), cell_id(2)]
    assert plain["batch_size"].dtype == np.int64
    assert plain["model_size"].tolist() == [64.0, 64.0]
    assert plain["started_at"].dt.tz is not None
    assert plain["started_at"].tolist() == [EPOCH + timedelta(seconds=n) for n in (1, 2)]
    assert len(pd.read_parquet(folder(store, "curves"))) == 6


def test_read_cells_gives_the_columns_asked_for_and_names_those_it_lacks(store: Store) -> None:
    write_cells(store, "pack", [1])
    cells = store.read_cells(["seed", "status"])
    assert cells.columns.tolist() == ["seed", "status"]
    assert cells["seed"].tolist() == [1]
    with pytest.raises(StoreError, match=r"no columns loss in cells\. Allowed: cell_id, workload"):
        store.read_cells(["loss"])


def test_failures_grids_and_studies_come_back(store: Store) -> None:
    store.create()
    write_cells(store, "pack", [2])
    store.record_failures([failure_row(1), failure_row(2)])
    store.record_failures([failure_row(1, attempt=2)])
    store.record_failures([failure_row(1, attempt=2)])  # a second try of the same call
    store.record_grids("study", {"a": [cell_id(1), cell_id(2)], "b": [cell_id(2)]})
    store.record_grids("study", {"a": [cell_id(1)], "b": [cell_id(2)]})
    store.record_grids("other", {"a": [cell_id(3)]})
    store.record_study("study", "name: study\n")
    store.record_study("study", "name: study\n")
    assert store.read_failures()["attempt"].tolist() == [1, 1, 2]
    assert store.failed_cell_ids() == {cell_id(1)}
    assert store.read_grids() == {
        ("other", "a"): [cell_id(3)],
        ("study", "a"): [cell_id(1)],
        ("study", "b"): [cell_id(2)],
    }
    kept = list(folder(store, "studies").iterdir())
    assert [path.read_text() for path in kept] == ["name: study\n"]
    assert store.size().parts == 2 + 2 + 2


# Which row counts


def test_the_earliest_row_of_a_cell_counts_and_brings_its_own_curves(store: Store) -> None:
    for pack, delay, loss in [("late", 9, 9.0), ("early", 1, 1.0), ("later", 10, 10.0)]:
        row = cell_row(1, pack, started_at=EPOCH + timedelta(seconds=delay), train_loss=loss)
        store.write_part(pack, [row, cell_row(ord(pack[0]) + delay, pack)], curve_rows(1, pack))
    cells = store.read_cells().set_index("cell_id")
    assert cells.index.is_unique
    assert cells.loc[cell_id(1), "train_loss"] == 1.0
    assert set(store.read_curves()["pack_id"]) == {"early"}


def test_of_rows_that_started_together_the_first_pack_by_name_counts(store: Store) -> None:
    for pack in ("b", "a", "c"):
        store.write_part(pack, [cell_row(1, pack)], [])
    assert store.read_cells()["pack_id"].tolist() == ["a"]


def test_cells_are_sorted_by_start_however_they_lie_in_files(store: Store) -> None:
    write_cells(store, "z", [3, 1])
    write_cells(store, "a", [2, 4])
    assert store.read_cells()["seed"].tolist() == [1, 2, 3, 4]


def test_curves_of_a_killed_worker_whose_cells_never_came_are_not_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(BaseException):
        pass

    write = LocalFiles.write

    def cut_before_cells(files: LocalFiles, path: str, data: bytes) -> None:
        if path.startswith("cells/"):
            raise PowerCutError
        write(files, path, data)

    monkeypatch.setattr(LocalFiles, "write", cut_before_cells)
    with pytest.raises(PowerCutError):
        write_cells(store, "pack", [1, 2])
    monkeypatch.undo()
    assert len(list(folder(store, "curves").iterdir())) == 1
    assert store.cell_statuses() == {}
    assert store.read_curves().empty

    # The next start of the pack flushes after another cell: the same rows in another part.
    write_cells(store, "pack", [1, 2, 3])
    curves = store.read_curves()
    assert len(curves) == 9
    assert not curves.duplicated(["cell_id", "step"]).any()


def test_a_pack_finds_its_own_cells_and_not_those_of_a_pack_with_a_longer_name(
    store: Store,
) -> None:
    write_cells(store, "a", [1])
    write_cells(store, "a", [2])
    write_cells(store, "a-b", [3])
    assert store.pack_cell_ids("a") == {cell_id(1), cell_id(2)}
    assert store.pack_cell_ids("a-b") == {cell_id(3)}
    assert store.pack_cell_ids("b") == set()


@given(pack=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True))
def test_a_part_s_name_gives_its_pack_back(pack: str) -> None:
    assert pack_of(part_name(pack, [cell_id(1)])) == pack


# Writing


def test_writing_a_part_again_changes_nothing(store: Store) -> None:
    write_cells(store, "pack", [1, 2])
    path = next(folder(store, "cells").iterdir())
    before = path.stat()
    write_cells(store, "pack", [2, 1], train_loss=123.0)
    assert [p.name for p in folder(store, "cells").iterdir()] == [path.name]
    assert path.stat().st_ino == before.st_ino
    assert store.read_cells()["train_loss"].tolist() == [0.01, 0.01]


def test_writing_a_part_again_replaces_one_that_was_damaged(store: Store) -> None:
    write_cells(store, "pack", [1])
    path = next(folder(store, "cells").iterdir())
    path.write_bytes(path.read_bytes()[:-20])
    write_cells(store, "pack", [1])
    assert store.cell_statuses() == {cell_id(1): "completed"}


@pytest.mark.parametrize(
    ("pack", "cells", "curves", "reason"),
    [
        ("p", [], [], "without cells"),
        ("p", [cell_row(1, "p"), cell_row(1, "p")], [], f"several rows of {cell_id(1)}"),
        ("p", [cell_row(1, "q")], [], "rows whose pack_id is q"),
        ("p", [cell_row(1, "p")], curve_rows(2, "p"), f"curves of {cell_id(2)}"),
        ("../p", [cell_row(1, "../p")], [], "pack name is '../p'"),
        (".p", [cell_row(1, ".p")], [], "pack name is '.p'"),
        ("compacted", [cell_row(1, "compacted")], [], "cannot be named 'compacted'"),
    ],
)
def test_rows_that_do_not_belong_in_one_part_are_refused_before_anything_is_written(
    store: Store, pack: str, cells: Any, curves: Any, reason: str
) -> None:
    with pytest.raises(StoreError, match=reason):
        store.write_part(pack, cells, curves)
    assert not Path(store.location).exists()


def test_a_wrong_curve_stops_the_cells_too(store: Store) -> None:
    curves = curve_rows(1)
    curves[1]["train_loss"] = float("nan")
    with pytest.raises(StoreError, match=r"Row 1 of curves .* train_loss = nan"):
        store.write_part("pack", [cell_row(1)], curves)
    assert not Path(store.location).exists()


def test_a_full_disk_leaves_no_file_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create()

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.storage.local_files.os.fsync", no_space)
    with pytest.raises(StoreError, match=r"Could not write .*No space left.*disk is not full"):
        write_cells(store, "pack", [1])
    assert list(folder(store, "curves").iterdir()) == []
    assert list(folder(store, "cells").iterdir()) == []


def test_bytes_that_do_not_read_back_are_not_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pq.write_table

    def flip(table: pa.Table, sink: Any, **options: Any) -> None:
        write(table.slice(1), sink, **options)

    monkeypatch.setattr("orchestrator.storage.parts.pq.write_table", flip)
    with pytest.raises(StoreError, match="did not read back"):
        write_cells(store, "pack", [1])
    assert not Path(store.location).exists()


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit_in_the_data(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(bytes(data))


def replace_by_foreign_parquet(path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(path)


@pytest.mark.parametrize(
    "damage", [truncate, empty, flip_a_bit_in_the_data, replace_by_foreign_parquet]
)
def test_a_damaged_part_is_named_skipped_and_then_set_aside(
    store: Store, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write_cells(store, "good", [1, 2])
    write_cells(store, "bad", [3])
    path = next(folder(store, "cells").glob("part-bad-*"))
    damage(path)

    # The schema alone tells of a foreign file; a flipped bit, only the column that holds it.
    assert {part.path for part in store.unreadable_parts()} == {str(path)}
    assert len(store.read_cells()) == 2
    assert path.name in caplog.text
    assert path.exists(), "reading must touch nothing"

    with store.drive("test") as driving:
        assert [(part.path, part.table) for part in driving.set_aside] == [(str(path), "cells")]
    assert [p.name.endswith(path.name) for p in folder(store, "set-aside").iterdir()] == [True]
    assert len(pd.read_parquet(folder(store, "cells"))) == 2
    assert store.unreadable_parts() == []
    write_cells(store, "bad", [3])
    assert len(store.read_cells()) == 3
    assert len(store.read_curves()) == 9


def test_strangers_in_the_folder_are_set_aside_so_that_pandas_reads_it(store: Store) -> None:
    write_cells(store, "pack", [1])
    cells = folder(store, "cells")
    (cells / "notes.txt").write_text("hello")
    copied = next(cells.glob("part-*"))
    (cells / "copy of part.parquet").write_bytes(copied.read_bytes())
    (cells / "more").mkdir()
    (cells / "more" / "x.parquet").write_bytes(b"?")
    assert store.cell_statuses() == {cell_id(1): "completed"}
    assert {part.name for part in store.unreadable_parts()} == {
        "notes.txt",
        "copy of part.parquet",
        "more",
    }
    with store.drive("test") as driving:
        assert len(driving.set_aside) == 3
    assert len(pd.read_parquet(cells)) == 1
    assert [path.name for path in cells.iterdir()] == [copied.name]


def test_files_that_parquet_readers_skip_are_left_alone_but_leftovers_of_writers_go(
    store: Store,
) -> None:
    write_cells(store, "pack", [1])
    cells = folder(store, "cells")
    (cells / ".DS_Store").write_bytes(b"?")
    (cells / "_metadata_of_someone").write_bytes(b"?")
    (cells / ".part-x.parquet.0123.tmp").write_bytes(b"PAR1 half a file")
    assert len(pd.read_parquet(cells)) == 1
    assert store.unreadable_parts() == []
    with store.drive("test"):
        pass
    assert {path.name for path in cells.iterdir() if path.name[0] in "._"} == {
        ".DS_Store",
        "_metadata_of_someone",
    }


def test_trouble_of_the_disk_is_an_error_and_never_taken_for_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cells(store, "pack", [1])

    def fails(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(StoreError, match=r"Could not read .*Input/output error"):
        store.cell_statuses()
    with pytest.raises(StoreError, match=r"Could not read"), store.drive("test"):
        pass
    monkeypatch.undo()
    assert store.cell_statuses() == {cell_id(1): "completed"}


# Reading beside a compaction


def test_a_listing_that_missed_both_a_deleted_part_and_its_merger_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = Entry(1, EPOCH, False)
    listings = iter([["a", "b"], ["a"], ["a", "merged"], ["a", "merged"]])
    monkeypatch.setattr(
        LocalFiles, "entries", lambda files, folder: dict.fromkeys(next(listings), then)
    )
    assert list(contents.listing(LocalFiles(Path()), Table.CELLS)) == ["a", "merged"]


def test_readers_see_every_cell_once_while_parts_are_merged(store: Store) -> None:
    everything = {cell_id(n) for n in range(40)}
    for n in range(40):
        write_cells(store, f"pack{n}", [n])
    done = threading.Event()

    def merge() -> None:
        try:
            for limit in (4, 8, 16, 40):
                store.compact(rows_per_part=limit)
        finally:
            done.set()

    merging = threading.Thread(target=merge)
    merging.start()
    reads = 0
    while not done.is_set() or reads == 0:
        cells, curves = store.read_cells(["cell_id"]), store.read_curves()
        reads += 1
        assert sorted(cells["cell_id"]) == sorted(everything)
        assert len(curves) == 3 * 40
        assert not curves.duplicated(["cell_id", "step"]).any()
    merging.join()
    assert len(list(folder(store, "cells").iterdir())) == 1


@pytest.mark.parametrize("data", [b'{"driver": "half', b"\xff", b"[]", b"{}"])
def test_a_damaged_heartbeat_is_nobodys_and_named(
    store: Store, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(store.location, "locks", "heartbeat.json")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert store.heartbeat() is None
    assert f"Took no notice of {path}" in caplog.text
    with store.drive("the next driver"):
        beat = store.heartbeat()
        assert beat is not None
        assert beat.alive


def test_the_heartbeat_of_a_store_is_plain_json(store: Store) -> None:
    with store.drive("a test") as driving:
        driving.beat({"completed": 3, "total": 7, "best_validation_error": None})
        beat = store.heartbeat()
        assert beat is not None
        values = json.loads(json.dumps(beat.to_dict()))
        assert type(beat).from_dict(values) == beat
        assert values["progress"] == {"completed": 3, "total": 7, "best_validation_error": None}

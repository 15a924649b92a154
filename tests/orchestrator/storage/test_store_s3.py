"""The store on a real S3 server (moto's, on loopback), through pyarrow's real client."""

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from orchestrator.errors import StoreError
from orchestrator.storage.heartbeat import Driving, LeaseLostError
from orchestrator.storage.object_files import ObjectFiles
from orchestrator.storage.store import Store
from tests.orchestrator.store_rows import (
    EPOCH,
    cell_id,
    cell_row,
    curve_rows,
    failure_row,
    write_cells,
)

ROOT = Path(__file__).parents[3]

LEASE_SECONDS = 4.0
"""Short, for tests that let one run out; S3 tells times to the second, so not shorter."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="studies")
        yield f"{host}:{port}"
        server.stop()


@pytest.fixture
def store(endpoint: str, request: pytest.FixtureRequest) -> Store:
    options = f"region=us-east-1&scheme=http&endpoint_override={endpoint}"
    location = f"s3://studies/{request.node.name[:60]}/store?{options}"
    return Store(location, lease_seconds=LEASE_SECONDS)


def names(store: Store, folder: str) -> list[str]:
    return sorted(ObjectFiles(store.location).entries(folder))


def test_everything_written_to_s3_comes_back(store: Store) -> None:
    assert not store.exists()
    assert store.cell_statuses() == {}
    store.create()
    assert store.exists()
    write_cells(store, "a", [1, 2])
    write_cells(store, "b", [2, 3], status="diverged")
    write_cells(store, "a", [1, 2], train_loss=9.0)
    store.record_failures([failure_row(4)])
    store.record_grids("study", {"grid": [cell_id(1)]})
    store.record_study("study", "name: study")
    assert store.cell_statuses() == {
        cell_id(1): "completed",
        cell_id(2): "completed",
        cell_id(3): "diverged",
    }
    assert store.pack_cell_ids("b") == {cell_id(2), cell_id(3)}
    assert store.read_cells()["train_loss"].tolist() == [0.01] * 3
    assert len(store.read_curves()) == 9
    assert store.failed_cell_ids() == {cell_id(4)}
    assert store.read_grids() == {("study", "grid"): [cell_id(1)]}
    assert len(names(store, "studies")) == 1
    assert pickle.loads(pickle.dumps(store)).cell_statuses() == store.cell_statuses()


def test_plain_pandas_reads_the_cells_on_s3(store: Store) -> None:
    store.create()
    write_cells(store, "a", [1, 2])
    assert pd.read_parquet(store.address("cells"))["cell_id"].tolist() == [cell_id(1), cell_id(2)]


def test_damaged_objects_are_set_aside_on_s3(store: Store) -> None:
    write_cells(store, "good", [1])
    write_cells(store, "bad", [2])
    files = ObjectFiles(store.location)
    bad = next(name for name in names(store, "cells") if "bad" in name)
    files.write(f"cells/{bad}", files.read(f"cells/{bad}")[:-30])
    files.write("cells/more/notes.txt", b"hello")
    assert {part.name for part in store.unreadable_parts()} == {bad, "more"}
    with store.drive("test") as driving:
        assert {part.name for part in driving.set_aside} == {bad, "more"}
    assert len(names(store, "set-aside")) == 2
    assert pd.read_parquet(store.address("cells"))["cell_id"].tolist() == [cell_id(1)]


def test_compaction_on_s3_changes_no_row_that_counts(store: Store) -> None:
    for n in range(6):
        write_cells(store, f"pack{n}", [n])
    store.write_part("twice", [cell_row(3, "twice", started_at=EPOCH.replace(year=2030))], [])
    cells, curves = store.read_cells(), store.read_curves()
    store.compact()
    assert len(names(store, "cells")) == len(names(store, "curves")) == 1
    pd.testing.assert_frame_equal(store.read_cells(), cells)
    pd.testing.assert_frame_equal(store.read_curves(), curves)


class DeadError(BaseException):
    """Raised in place of a kill."""


@pytest.mark.slow
def test_a_compaction_on_s3_cut_off_at_any_request_is_completed_by_the_next_driver(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, delete = ObjectFiles.write, ObjectFiles._delete

    for step in range(40):
        trial = Store(store.location.replace("/store?", f"/{step}?"), lease_seconds=LEASE_SECONDS)
        for n in range(3):
            write_cells(trial, f"pack{n}", [n])
        left = [step]

        def spend(path: str, left: list[int] = left) -> None:
            if not path.startswith("locks/"):
                left[0] -= 1
                if left[0] < 0:
                    raise DeadError

        def dying_write(files: ObjectFiles, path: str, data: bytes, spend: object = spend) -> None:
            spend(path)  # type: ignore[operator]
            write(files, path, data)

        def dying_delete(files: ObjectFiles, path: str, spend: object = spend) -> None:
            spend(path)  # type: ignore[operator]
            delete(files, path)

        with monkeypatch.context() as patch:
            patch.setattr(ObjectFiles, "write", dying_write)
            patch.setattr(ObjectFiles, "_delete", dying_delete)
            try:
                trial.compact()
            except DeadError:
                cut = True
            else:
                cut = False
        with trial.drive("the next"):
            pass
        assert trial.read_cells()["seed"].tolist() == [0, 1, 2]
        assert len(trial.read_curves()) == 9
        assert pd.read_parquet(trial.address("cells"))["cell_id"].is_unique
        if not cut:
            # The intent written and deleted, two parts written, six deleted.
            assert step == 2 + 2 + 6
            return
    pytest.fail("the compaction did not end within 40 requests")


def test_a_write_that_fails_on_its_way_to_s3_is_an_error_and_can_be_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create()
    nowhere = Store(store.location.replace("s3://studies/", "s3://no-such-bucket/"))
    with pytest.raises(StoreError, match=r"Could not create .*no-such-bucket"):
        nowhere.create()
    with pytest.raises(StoreError, match=r"Could not write .*no-such-bucket"):
        write_cells(nowhere, "pack", [1])
    # What a torn upload can leave behind: an object without its end.
    write_cells(store, "pack", [1])
    files = ObjectFiles(store.location)
    path = f"cells/{names(store, 'cells')[0]}"
    files.write(path, files.read(path)[:100])
    write_cells(store, "pack", [1])
    assert store.cell_statuses() == {cell_id(1): "completed"}


# Leases

HOLDER = """
import sys, time
from orchestrator.storage.store import Store

store = Store(sys.argv[1], lease_seconds=float(sys.argv[2]))
with getattr(store, sys.argv[3])("the first"):
    print("ready", flush=True)
    time.sleep(600)
"""


def holder(store: Store, how: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, store.location, str(LEASE_SECONDS), how]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


@pytest.mark.slow
def test_a_second_driver_is_refused_while_the_first_lives_and_takes_over_after_its_lease(
    store: Store,
) -> None:
    first = holder(store, "drive")
    try:
        # Longer than the lease: only the heartbeat keeps it.
        until = time.monotonic() + 1.5 * LEASE_SECONDS
        while time.monotonic() < until:
            with (
                pytest.raises(StoreError, match=rf"'the first' .*pid {first.pid}"),
                store.drive("the second"),
            ):
                pass
            time.sleep(0.5)
        beat = store.heartbeat()
        assert beat is not None
        assert beat.alive
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with pytest.raises(StoreError, match="lease runs out within 4 s"), store.drive("too early"):
        pass
    time.sleep(LEASE_SECONDS + 1.5)  # S3 tells times to the second
    beat = store.heartbeat()
    assert beat is not None
    assert not beat.alive
    with store.drive("the second") as driving:
        driving.beat({"completed": 1})
        beat = store.heartbeat()
        assert beat is not None
        assert (beat.driver, beat.alive, beat.progress) == ("the second", True, {"completed": 1})
    assert store.heartbeat() is None


def test_a_driver_whose_lease_was_taken_over_is_told_at_its_next_beat(store: Store) -> None:
    other = Store(store.location, lease_seconds=0.0)  # to which every lease has run out
    with store.drive("the first") as first, other.drive("the second") as second:
        with pytest.raises(LeaseLostError, match=r"taken over by 'the second'"):
            first.beat({})
        second.beat({})
        beat = store.heartbeat()
        assert beat is not None
        assert beat.driver == "the second"


def beat_for(driving: Driving, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        driving.beat({})
        time.sleep(0.05)


def test_a_driver_cut_off_from_its_store_for_longer_than_its_lease_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(files: ObjectFiles, path: str) -> bytes:
        raise StoreError("no network")

    brief = Store(store.location, lease_seconds=0.4)
    with brief.drive("cut off") as driving:
        monkeypatch.setattr(ObjectFiles, "read", unreachable)
        with pytest.raises(LeaseLostError, match=r"could not be renewed .*no network"):
            beat_for(driving, seconds=10.0)
        monkeypatch.undo()


@pytest.mark.slow
def test_a_worker_of_a_dead_driver_keeps_a_new_driver_out_until_its_lease_runs_out(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    worker = holder(store, "work")
    try:
        with (
            pytest.raises(StoreError, match=rf"'the first' .*pid {worker.pid}"),
            store.drive("impatient", wait_seconds=1.5 * LEASE_SECONDS),
        ):
            pass
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    with store.drive("patient", wait_seconds=60.0):
        assert names(store, "locks/workers") == []
    assert f"pid {worker.pid}" in caplog.text


def test_a_driver_that_slept_past_its_lease_leaves_the_next_ones_alone(store: Store) -> None:
    other = Store(store.location, lease_seconds=0.0)  # to which every lease has run out
    with store.drive("the first"):
        second = other.drive("the second")
        second.__enter__()
    beat = store.heartbeat()
    assert beat is not None
    assert beat.driver == "the second"
    second.__exit__(None, None, None)
    assert store.heartbeat() is None


def test_the_torso_of_a_heartbeat_is_nobodys(store: Store) -> None:
    store.create()
    ObjectFiles(store.location).write("locks/heartbeat.json", b'{"driver": "half')
    assert store.heartbeat() is None
    patient = Store(store.location, lease_seconds=0.0)
    with patient.drive("the next"):
        pass


def test_a_worker_that_ends_leaves_no_lease_behind(store: Store) -> None:
    with store.work("a worker with any name / at all"):
        assert len(names(store, "locks/workers")) == 1
    assert names(store, "locks/workers") == []


def test_a_foreign_parquet_file_on_s3_is_skipped_by_readers(store: Store) -> None:
    write_cells(store, "pack", [1])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    name = names(store, "cells")[0].replace("pack", "other")
    ObjectFiles(store.location).write(f"cells/{name}", sink.getvalue().to_pybytes())
    assert store.cell_statuses() == {cell_id(1): "completed"}
    assert store.read_curves()["cell_id"].tolist() == [row["cell_id"] for row in curve_rows(1)]

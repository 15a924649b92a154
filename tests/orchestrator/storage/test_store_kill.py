"""Real processes, ended by SIGKILL while they write to or hold a local store."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestrator.errors import StoreError
from orchestrator.storage.store import Store
from tests.orchestrator.store_rows import cell_id, write_cells

ROOT = Path(__file__).parents[3]

WRITER = """
import sys
from orchestrator.storage.store import Store
from tests.orchestrator.store_rows import write_cells

store, first = Store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
with store.work("writer"):
    for n in range(first, first + 10_000):
        write_cells(store, f"pack{n}", [2 * n, 2 * n + 1])
        print(n, flush=True)
"""

SAVER = """
import sys
from orchestrator.storage.store import Store

store, first = Store(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
with store.work("saver"):
    for n in range(first, first + 10_000):
        store.write_checkpoint(f"pack{n}", [str(n)], b"state" * 1000)
        print(n, flush=True)
        if n % 2:
            store.end_pack(f"pack{n}")
"""

DRIVER = """
import sys, time
from orchestrator.storage.store import Store

with Store(sys.argv[1]).drive("the first driver") as driving:
    driving.beat({"completed": 5})
    print("ready", flush=True)
    time.sleep(600)
"""

WORKER = """
import sys, time
from orchestrator.storage.store import Store

with Store(sys.argv[1]).work("a worker"):
    print("ready", flush=True)
    time.sleep(600)
"""


@contextmanager
def process(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run `script` until the block ends; it has said that it is ready."""
    started = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    try:
        assert started.stdout.readline() == "ready\n"
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


def test_a_writer_killed_at_any_moment_loses_no_committed_row_and_leaves_no_torso(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    store.create()
    moments = np.random.default_rng(0).uniform(0.02, 0.25, size=6)
    committed: set[str] = set()
    for attempt, moment in enumerate(moments):
        with process(WRITER, store.location, attempt * 10_000) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # the loop is running
            time.sleep(moment)
            writer.send_signal(signal.SIGKILL)
            told = writer.stdout.read()
        numbers = [attempt * 10_000, *map(int, told.split("\n")[:-1])]
        committed |= {cell_id(2 * n + i) for n in numbers for i in (0, 1)}

        # Every committed row is intact for plain pandas, before anything of ours looked.
        plain = pd.read_parquet(Path(store.address("cells")))
        assert committed <= set(plain["cell_id"])
        assert plain["cell_id"].is_unique
        # At most the part under way was durable without having been told.
        assert len(plain) <= len(committed) + 2
        committed |= set(plain["cell_id"])
        pd.read_parquet(Path(store.address("curves")))
        assert store.unreadable_parts() == []
        assert len(store.read_curves()) == 3 * len(plain)
    with store.drive("test") as driving:
        assert driving.set_aside == ()
    hidden = [path.name for path in tmp_path.rglob(".*")]
    assert hidden == []
    assert set(store.cell_statuses()) == committed


def test_of_a_worker_killed_as_it_saves_only_whole_checkpoints_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.create()
    checkpoints = tmp_path / "store" / "checkpoints"
    (checkpoints / "of no pack").write_text("a file of somebody's")
    saved: set[str] = set()
    for attempt, moment in enumerate(np.random.default_rng(1).uniform(0.02, 0.25, size=3)):
        with process(SAVER, store.location, attempt * 10_000) as saver:
            assert saver.stdout is not None
            saver.stdout.readline()  # the loop is running
            time.sleep(moment)
            saver.send_signal(signal.SIGKILL)
            told = [attempt * 10_000, *map(int, saver.stdout.read().split("\n")[:-1])]
        # The last may be under way, or about to end.
        saved |= {f"pack{n}" for n in told if n % 2 == 0}
        with store.drive("test"):
            pass
        packs = store.open_packs()
        assert saved <= packs.keys()
        assert len(packs.keys() - saved) <= 1
        saved |= packs.keys()
        folders = {folder for folder in checkpoints.iterdir() if folder.is_dir()}
        assert {folder.name for folder in folders} == packs.keys()
        assert all(store.read_checkpoint(pack_id) == b"state" * 1000 for pack_id in packs)
    assert (checkpoints / "of no pack").exists()


def test_a_second_driver_is_refused_naming_the_first_and_gets_in_once_that_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    with process(DRIVER, store.location) as first:
        with pytest.raises(StoreError) as refused, store.drive("the second driver"):
            pass
        assert "'the first driver'" in str(refused.value)
        assert f"pid {first.pid}" in str(refused.value)
        assert "since 20" in str(refused.value)
        with pytest.raises(StoreError, match="the first driver"):
            store.compact()
        beat = store.heartbeat()
        assert beat is not None
        assert (beat.alive, beat.pid, beat.progress) == (True, first.pid, {"completed": 5})

        first.send_signal(signal.SIGKILL)
        first.wait()
        beat = store.heartbeat()
        assert beat is not None
        assert (beat.alive, beat.pid) == (False, first.pid)
        with store.drive("the second driver") as driving:
            driving.beat({})
            beat = store.heartbeat()
            assert beat is not None
            assert (beat.alive, beat.driver) == (True, "the second driver")
    assert store.heartbeat() is None
    assert caplog.text == ""


def test_a_living_worker_of_a_dead_driver_keeps_a_new_driver_waiting_until_it_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    with process(WORKER, store.location) as worker:
        with (
            pytest.raises(StoreError, match="Workers of an earlier driver still train"),
            store.drive("impatient", wait_seconds=0.2),
        ):
            pass
        assert "Waiting up to 0 s for workers" in caplog.text
        assert store.heartbeat() is None, "a driver that gave up must not be seen as driving"

        killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {worker.pid}"])
        with store.drive("patient", wait_seconds=60.0):
            assert worker.wait() == -signal.SIGKILL
        killer.wait()


def test_several_workers_and_the_driver_hold_the_store_together(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.drive("driver"), store.work("one"), store.work("two"):
        write_cells(store, "pack", [1])
    assert store.heartbeat() is None


def test_a_status_probe_does_not_keep_a_driver_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with process(DRIVER, store.location) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
    prober = """
import sys
from orchestrator.storage.store import Store
print("ready", flush=True)
while True:
    Store(sys.argv[1]).heartbeat()
"""
    with process(prober, store.location):
        for _ in range(10):
            with store.drive("driver"):
                pass


def test_a_file_system_without_locks_is_named_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("orchestrator.storage.local_locks.fcntl.flock", unsupported)
    with (
        pytest.raises(StoreError, match=r"cannot be locked.*must support flock"),
        Store(tmp_path).drive("driver"),
    ):
        pass

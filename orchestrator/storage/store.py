"""The store: the one place that says what is done. Everything in it is plain Parquet.

`pandas.read_parquet(store / "cells")` works without this module. What this adds is the writing:
whole files or none, rows checked against the schema, one driver at a time, and a way back to order
after a kill.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import fs as pafs

from analysis.columns import ATTEMPT, CELL_ID, FAILED_AT, GRID, STATUS, STUDY
from orchestrator.storage.compaction import (
    ROWS_PER_PART,
    CompactionReport,
    compact,
    complete_compaction,
)
from orchestrator.storage.contents import (
    UnreadablePart,
    consistent,
    listing,
    sound_tables,
    unreadable_parts,
)
from orchestrator.storage.filesystem import Files, is_uri, resolve_location
from orchestrator.storage.heartbeat import Driving, Heartbeat
from orchestrator.storage.local_files import LocalFiles
from orchestrator.storage.local_locks import LocalLocks
from orchestrator.storage.object_files import ObjectFiles
from orchestrator.storage.object_leases import ObjectLeases
from orchestrator.storage.parts import (
    DamagedError,
    check_part,
    checked_name,
    decoded,
    digest,
    encoded,
    pack_of,
    part_name,
    table_from_rows,
)
from orchestrator.storage.patience import PatientFiles, patiently
from orchestrator.storage.reading import cells_frame, curves_frame, whole_table
from orchestrator.storage.recovery import recover
from orchestrator.storage.schema import Table
from orchestrator.storage.store_lock import Locks

__all__ = ["Store", "StoreSize"]

logger = logging.getLogger(__name__)

CHECKPOINTS, MEMBERS, STATE = "checkpoints", "members.json", "state.pt"
"""Folder of the packs under way; in each pack's own, its cells, and where they stand."""

LEASE_SECONDS = 60.0
"""How long a killed driver or worker holds an object store: a few missed beats."""

NOTES = "checks"
"""Folder of what checks of a cluster write, and delete again."""

WAIT_SECONDS = 180.0
"""How long a new driver waits for a dead one's workers: three leases."""


@dataclass(frozen=True, kw_only=True)
class StoreSize:
    """How much a store holds."""

    parts: int
    """Parquet files of all tables."""
    bytes: int
    """Their size."""


class Store:
    """The results of studies in a folder, or under a prefix of an object store.

    `location`: a path, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX with credentials from the
    environment. `lease_seconds`: on an object store, how long after its last sign of life a driver
    or worker counts as alive; all who open the store must agree. Making one reads and writes
    nothing. Methods raise `StoreError` when the store cannot be reached, or what is written does
    not fit. Unreadable files are skipped, by name in the log, until a driver sets them aside.
    """

    def __init__(
        self, location: str | os.PathLike[str], *, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.location = resolve_location(location)
        """Absolute path or URI."""
        self.lease_seconds = lease_seconds
        self._patient = False

    def __repr__(self) -> str:
        return f"Store({self.location!r})"

    def patient(self) -> "Store":
        """Return this store for a run: what its storage fails in is tried again for some 20 s."""
        patient = copy(self)
        patient._patient = True
        return patient

    def address(self, path: str) -> str:
        """Return the path or URI of something in the store, such as 'cells', for pandas."""
        return self._files.address(path)

    def ray_storage(self) -> tuple[pafs.FileSystem, str]:
        """Return the file system and the path there for Ray Tune's own files."""
        return self._files.arrow_filesystem("ray")

    # Reading: no lock, nothing touched.

    def exists(self) -> bool:
        """Return whether there is a store at the location."""
        return self._files.exists(Table.CELLS)

    def cell_statuses(self) -> dict[str, str]:
        """Return the status, 'completed' or 'diverged', of every cell with a row, by cell_id."""
        rows = self.read_cells([CELL_ID, STATUS])
        return dict(zip(rows[CELL_ID], rows[STATUS], strict=True))

    def pack_cell_ids(self, pack_id: str) -> set[str]:
        """Return the cells that a pack has made durable.

        For a trial that starts, maybe again: it reads only parts of that name. Those that a
        compaction merged are not among them; no compaction runs while packs do.
        """

        def read() -> set[str]:
            names = [n for n in listing(self._files, Table.CELLS) if pack_of(n) == pack_id]
            tables = sound_tables(self._files, Table.CELLS, names, [CELL_ID])
            return {cell_id for table in tables.values() for cell_id in table[CELL_ID].to_pylist()}

        return consistent(read)

    def read_cells(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return one row a cell: the earliest by started_at, then by pack_id.

        `columns`: those wanted, in that order; None for all. Rows are sorted by started_at,
        pack_id and cell_id, however they lie in files.
        """
        return consistent(lambda: cells_frame(self._files, columns))

    def read_curves(self) -> pd.DataFrame:
        """Return the evaluations of every cell with a row, sorted by cell_id and step.

        Only those that the attempt behind the cell's row made: they lie in the part of the same
        name. What a killed worker left without a row in `cells` is not among them.
        """
        return consistent(lambda: curves_frame(self._files))

    def read_failures(self) -> pd.DataFrame:
        """Return all failed attempts, oldest first, also of cells that succeeded later."""
        order = [(FAILED_AT, "ascending"), (ATTEMPT, "ascending")]
        frame: pd.DataFrame = self._whole(Table.FAILURES).sort_by(order).to_pandas()
        return frame

    def failed_attempts(self) -> set[str]:
        """Return the cells with a failed attempt, also those that have a row by now."""
        return set(self._whole(Table.FAILURES, [CELL_ID])[CELL_ID].to_pylist())

    def failed_cell_ids(self) -> set[str]:
        """Return the cells with a failed attempt and no row."""
        failed = self.failed_attempts()
        return failed - self.cell_statuses().keys() if failed else set()

    def read_grids(self) -> dict[tuple[str, str], list[str]]:
        """Return the cell_ids of every grid, by study and grid."""
        grids: dict[tuple[str, str], list[str]] = {}
        for row in self._whole(Table.GRIDS).to_pylist():
            key = row[STUDY], row[GRID]
            grids.setdefault(key, []).append(row[CELL_ID])
        return grids

    def unreadable_parts(self) -> list[UnreadablePart]:
        """Return the files that the next driver would set aside; touches nothing."""
        return consistent(lambda: unreadable_parts(self._files))

    def size(self) -> StoreSize:
        """Return how many Parquet files there are, and how large they are."""
        entries = [entry for table in Table for entry in listing(self._files, table).values()]
        return StoreSize(parts=len(entries), bytes=sum(entry.bytes for entry in entries))

    def heartbeat(self) -> Heartbeat | None:
        """Return the last sign of the driver that is there or was killed, or None."""
        look = self._locks.heartbeat
        return patiently(look) if self._patient else look()

    # Writing: a file appears whole or not at all.

    def create(self) -> None:
        """Make the store's folders where they are not there yet."""
        for folder in [*Table, CHECKPOINTS, "studies"]:
            self._files.make_folder(folder)

    def write_part(
        self,
        pack_id: str,
        cells: Sequence[Mapping[str, Any]],
        curves: Sequence[Mapping[str, Any]],
    ) -> None:
        """Make rows of `cells` durable, with their `curves`: all of them or none.

        Idempotent: the part is named by its pack and its cells, and once it is there, writing it
        again changes nothing. Raises `StoreError` for rows that do not fit the schema, two rows
        of one cell, and rows of another pack or curves of another cell.
        """
        tables = {
            Table.CURVES: table_from_rows(Table.CURVES, curves),
            Table.CELLS: table_from_rows(Table.CELLS, cells),
        }
        check_part(pack_id, cells, curves)
        cell_ids = [row[CELL_ID] for row in cells]
        name = part_name(pack_id, cell_ids)
        if self._holds(name, cell_ids):
            return
        for table, rows in tables.items():  # curves before cells: the row in cells is the commit
            self._files.write(f"{table}/{name}", encoded(table, rows))

    def record_failures(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add failed attempts, as a file of their own."""
        if rows:
            data = encoded(Table.FAILURES, table_from_rows(Table.FAILURES, rows))
            self._files.write(f"{Table.FAILURES}/part-failures-{digest(data)}.parquet", data)

    def record_grids(self, study: str, grids: Mapping[str, Sequence[str]]) -> None:
        """Say which cells belong to which grid of `study`, in place of what was said before."""
        rows = [
            {STUDY: study, GRID: grid, CELL_ID: cell_id}
            for grid, cell_ids in grids.items()
            for cell_id in cell_ids
        ]
        data = encoded(Table.GRIDS, table_from_rows(Table.GRIDS, rows))
        self._files.write(f"{Table.GRIDS}/{checked_name('study', study)}.parquet", data)

    def record_study(self, name: str, text: str) -> None:
        """Keep a study file as it was given; every wording is kept once."""
        data = text.encode()
        self._files.write(f"studies/{checked_name('study', name)}-{digest(data)}.yaml", data)

    # Packs under way: what another worker needs to go on with one.

    def write_checkpoint(self, pack_id: str, members: Sequence[str], state: bytes) -> None:
        """Keep the state of a pack under way, in place of an earlier one.

        `members`: cell_ids of all its cells, with those that ended. The pack counts as open until
        `end_pack`.
        """
        folder = f"{CHECKPOINTS}/{checked_name('pack', pack_id)}"
        # The members are the commit: a pack that counts as open has a state to go on from, and its
        # halves do not forget the pack that it went on from itself.
        self._files.write(f"{folder}/{STATE}", state)
        self._files.write(f"{folder}/{MEMBERS}", json.dumps(list(members)).encode())

    def read_checkpoint(self, pack_id: str) -> bytes | None:
        """Return the last state that a pack under way left, or None."""
        try:
            return self._files.read(f"{CHECKPOINTS}/{checked_name('pack', pack_id)}/{STATE}")
        except FileNotFoundError:
            return None

    def saved_at(self, pack_id: str) -> datetime | None:
        """Return when the last state of a pack under way was written, or None."""
        entry = self._files.entries(f"{CHECKPOINTS}/{checked_name('pack', pack_id)}").get(STATE)
        return None if entry is None else entry.modified

    def open_packs(self) -> dict[str, list[str]]:
        """Return the cell_ids of the members of every pack with a checkpoint, by pack_id."""
        packs = {}
        for pack_id in sorted(self._checkpoint_folders()):
            members = self._read_json(f"{CHECKPOINTS}/{pack_id}/{MEMBERS}")
            if members is not None:  # else a worker is ending it, or was killed while it did
                packs[pack_id] = [str(cell_id) for cell_id in members]
        return packs

    def end_pack(self, pack_id: str) -> None:
        """Forget the checkpoint of a pack whose cells have ended."""
        self._files.delete_folder(f"{CHECKPOINTS}/{checked_name('pack', pack_id)}")

    # Measurements that a run makes for itself.

    def read_probe(self, key: str) -> dict[str, Any] | None:
        """Return what was measured under `key`, or None."""
        probe: dict[str, Any] | None = self._read_json(f"probes/{key}.json")
        return probe

    def write_probe(self, key: str, probe: Mapping[str, Any]) -> None:
        """Keep a measurement for the next pack of the same shape, device model and versions."""
        self._files.write(f"probes/{key}.json", json.dumps(dict(probe), indent=1).encode())

    # Driving: one at a time.

    @contextmanager
    def drive(self, driver: str, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Driving]:
        """Hold the store as its one driver, with everything in it put right first.

        `driver`: what drives, in words. Waits up to `wait_seconds` for workers that outlived an
        earlier driver; completes a compaction that was killed, sets unreadable files aside,
        rewrites parts of an older schema and deletes torsos of checkpoints. Raises `StoreError`,
        naming it by host, process and start, when there is another driver.
        """
        self.create()
        with self._locks.driver(Heartbeat(driver=driver)) as renewer:
            with self._locks.no_workers(wait_seconds):
                complete_compaction(self._files)
                set_aside = recover(self._files)
                self._delete_torsos()
            yield Driving(renewer, set_aside)

    @contextmanager
    def work(self, worker: str) -> Iterator[None]:
        """Be seen as a worker that trains and writes; no new driver starts meanwhile."""
        with self._locks.worker(Heartbeat(driver=worker)):
            yield

    # Notes: how a check sees whether nodes share the store.

    def leave_note(self, name: str, text: str) -> None:
        """Write a note under `name`, FOLDER/NAME."""
        folder, _, _ = name.rpartition("/")
        self._files.make_folder(f"{NOTES}/{folder}")
        self._files.write(f"{NOTES}/{name}", text.encode())

    def read_note(self, name: str) -> str:
        """Return a note; raises `FileNotFoundError` where it is not seen."""
        return self._files.read(f"{NOTES}/{name}").decode()

    def remove_notes(self, folder: str) -> None:
        """Delete a folder of notes."""
        self._files.delete_folder(f"{NOTES}/{folder}")

    def compact(
        self, *, rows_per_part: int = ROWS_PER_PART, wait_seconds: float = WAIT_SECONDS
    ) -> CompactionReport:
        """Merge small parts of packs that have ended; takes the place of the driver meanwhile.

        `rows_per_part`: most cells in a merged part.

        Safe to kill: the next driver completes it.
        """
        with (
            self.drive("compaction", wait_seconds=wait_seconds),
            self._locks.no_workers(wait_seconds),
        ):
            return compact(self._files, rows_per_part)

    def _delete_torsos(self) -> None:
        """Delete checkpoints without members, which nobody goes on from or would ever end.

        Such is left of a worker that is killed in its pack's first checkpoint, or as it ends one.
        """
        for pack_id in self._checkpoint_folders() - self.open_packs().keys():
            self._files.delete_folder(f"{CHECKPOINTS}/{pack_id}")

    def _checkpoint_folders(self) -> set[str]:
        entries = self._files.entries(CHECKPOINTS)
        return {name for name, entry in entries.items() if entry.is_folder}

    def _read_json(self, path: str) -> Any:
        """Return what a JSON file holds; None where there is none, or a torso of one."""
        try:
            return json.loads(self._files.read(path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            logger.warning("Skipped %s: %s. It is written anew.", self._files.address(path), error)
            return None

    def _whole(self, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
        return consistent(lambda: whole_table(self._files, table, columns))

    def _holds(self, name: str, cell_ids: Sequence[str]) -> bool:
        """Return whether a part is there and sound; a damaged one is to be written again."""
        try:
            part = decoded(Table.CELLS, self._files.read(f"{Table.CELLS}/{name}"), [CELL_ID])
        except (FileNotFoundError, DamagedError):
            return False
        return set(part.data[CELL_ID].to_pylist()) == set(cell_ids)

    @property
    def _files(self) -> Files:
        return PatientFiles(self._bare_files) if self._patient else self._bare_files

    @property
    def _bare_files(self) -> LocalFiles | ObjectFiles:
        if is_uri(self.location):
            return ObjectFiles(self.location)
        return LocalFiles(Path(self.location))

    @property
    def _locks(self) -> Locks:
        files = self._bare_files
        if isinstance(files, ObjectFiles):
            return ObjectLeases(files, self.lease_seconds)
        return LocalLocks(files)

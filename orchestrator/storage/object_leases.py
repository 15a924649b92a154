"""Leases for a store on an object store, which has no locks.

A lease is an object that its holder rewrites and that runs out. Its age is taken by the object
store's own clock, so that machines may disagree about the time. Two drivers that both see a lease
run out write their own, wait, and look whose stayed. Writes of a driver that lost its lease do no
harm (parts are immutable, the earliest row counts); the lease keeps two from training the same
cells twice.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from typing_extensions import override

from orchestrator.errors import StorageError, StoreError
from orchestrator.storage.filesystem import Entry
from orchestrator.storage.heartbeat import Heartbeat, LeaseLostError, Renewer
from orchestrator.storage.object_files import ObjectFiles
from orchestrator.storage.patience import patiently
from orchestrator.storage.store_lock import (
    HEARTBEAT,
    LOCK_FOLDER,
    Locks,
    refusal,
    still_working,
    written_beat,
)

__all__ = ["ObjectLeases"]

logger = logging.getLogger(__name__)

WORKERS = f"{LOCK_FOLDER}/workers"


class ObjectLeases(Locks):
    """Leases: objects that are rewritten while their holder lives."""

    def __init__(self, files: ObjectFiles, seconds: float) -> None:
        self._files = files
        self._seconds = seconds
        # A third could be missed twice in a row by one slow request; a quarter leaves room.
        self._beat_seconds = seconds / 4
        # Longer than a write takes to be seen by a rival who looked just before it.
        self._settle_seconds = seconds / 30

    @override
    @contextmanager
    def driver(self, heartbeat: Heartbeat) -> Iterator[Renewer]:
        self._take(heartbeat)
        renewer = Renewer(heartbeat, self._renewal(), self._beat_seconds)
        try:
            with renewer:
                yield renewer
        finally:
            if renewer.lost is None:
                holder = self._read(HEARTBEAT)  # another driver, where this one slept long
                if holder is not None and holder.token == heartbeat.token:
                    self._files.delete(HEARTBEAT)

    @override
    @contextmanager
    def worker(self, heartbeat: Heartbeat) -> Iterator[None]:
        path = f"{WORKERS}/{heartbeat.token}.json"

        def publish(beat: Heartbeat) -> None:
            self._files.write(path, beat.to_json())

        patiently(lambda: publish(heartbeat))
        try:
            with Renewer(heartbeat, publish, self._beat_seconds):
                yield
        finally:
            try:
                patiently(lambda: self._files.delete(path))
            except StorageError as error:  # it runs out by itself
                logger.warning("A worker's lease stays until it runs out. %s", error)

    @override
    @contextmanager
    def no_workers(self, wait_seconds: float) -> Iterator[None]:
        deadline = time.monotonic() + wait_seconds
        told = False
        while living := self._living_workers():
            if not told:
                told = True
                logger.warning(
                    "Waiting up to %.0f s for workers of an earlier driver to end: %s.",
                    wait_seconds,
                    "; ".join(map(str, living)),
                )
            if time.monotonic() > deadline:
                raise still_working(wait_seconds, "; ".join(map(str, living)))
            time.sleep(min(1.0, self._beat_seconds))
        yield

    @override
    def heartbeat(self) -> Heartbeat | None:
        entry, last = self._files.entry(HEARTBEAT), self._read(HEARTBEAT)
        if entry is None or last is None:
            return None
        # By this machine's clock: asking the store's would mean writing to it.
        age = (datetime.now(UTC) - entry.modified).total_seconds()
        return replace(last, alive=age < self._seconds)

    def _take(self, heartbeat: Heartbeat) -> None:
        entry, holder = self._files.entry(HEARTBEAT), self._read(HEARTBEAT)
        if entry is not None and not self._has_run_out(entry, self._store_time()):
            raise self._refusal(holder)
        self._files.write(HEARTBEAT, heartbeat.to_json())
        time.sleep(self._settle_seconds)
        holder = self._read(HEARTBEAT)
        if holder is None or holder.token != heartbeat.token:
            raise self._refusal(holder)

    def _refusal(self, holder: Heartbeat | None) -> StoreError:
        hint = f" If it was killed, its lease runs out within {self._seconds:g} s."
        return refusal(self._files, holder, hint)

    def _renewal(self) -> Callable[[Heartbeat], None]:
        """Return what renews the driver's lease, which it alone may have rewritten meanwhile."""
        renewed_at = time.monotonic()

        def publish(beat: Heartbeat) -> None:
            nonlocal renewed_at
            try:
                holder = self._read(HEARTBEAT)
                if holder is not None and holder.token == beat.token:
                    self._files.write(HEARTBEAT, beat.to_json())
                    renewed_at = time.monotonic()
                    return
            except StoreError as error:
                if time.monotonic() - renewed_at < self._seconds:
                    raise
                raise LeaseLostError(
                    f"The lease on {self._files.address('')} could not be renewed for "
                    f"{self._seconds:g} s: {error} What is durable stays; run again."
                ) from error
            raise LeaseLostError(
                f"{self._files.address('')} was taken over by {holder or 'another driver'} while "
                "this one was out of reach. What is durable stays; run again when that has ended."
            )

        return publish

    def _living_workers(self) -> list[Heartbeat]:
        entries = self._files.entries(WORKERS)
        if not entries:
            return []
        now = self._store_time()
        gone = [name for name, entry in entries.items() if self._has_run_out(entry, now)]
        self._files.delete(*(f"{WORKERS}/{name}" for name in gone))
        beats = [self._read(f"{WORKERS}/{name}") for name in entries.keys() - set(gone)]
        return [beat for beat in beats if beat is not None]

    def _has_run_out(self, entry: Entry, now: datetime) -> bool:
        return (now - entry.modified).total_seconds() >= self._seconds

    def _store_time(self) -> datetime:
        """Return the object store's own time, as the age of an object is measured by."""
        path = f"{LOCK_FOLDER}/clock-{uuid.uuid4().hex}"
        self._files.write(path, b"What time is it?")
        entry = self._files.entry(path)
        self._files.delete(path)
        if entry is None:
            raise StoreError(
                f"{self._files.address(path)} could not be seen right after it was written: the "
                "object store must show its writes at once, as S3 and GCS do."
            )
        return entry.modified

    def _read(self, path: str) -> Heartbeat | None:
        return written_beat(self._files, path)

"""The kernel's locks (flock) for a local store: they end with their process, whatever kills it."""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from orchestrator.errors import StoreError
from orchestrator.storage.filesystem import explained
from orchestrator.storage.heartbeat import Heartbeat, Renewer
from orchestrator.storage.local_files import LocalFiles
from orchestrator.storage.store_lock import (
    HEARTBEAT,
    LOCK_FOLDER,
    Locks,
    refusal,
    still_working,
    written_beat,
)

__all__ = ["LocalLocks"]

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
BEAT_SECONDS = 5.0
REFUSAL_SECONDS = 1.0
"""A driver's lock is tried for this long: `heartbeat` holds it for an instant to probe it."""


class LocalLocks(Locks):
    """Locks of the kernel, on files that stay."""

    def __init__(self, files: LocalFiles) -> None:
        self._files = files
        self._driver_lock = files.root / LOCK_FOLDER / "driver.lock"
        self._workers_lock = files.root / LOCK_FOLDER / "workers.lock"

    @override
    @contextmanager
    def driver(self, heartbeat: Heartbeat) -> Iterator[Renewer]:
        with _open_lock(self._driver_lock) as lock:
            if not _acquired(lock, self._driver_lock, REFUSAL_SECONDS):
                raise refusal(self._files, self.heartbeat())
            self._publish(heartbeat)
            try:
                with Renewer(heartbeat, self._publish, BEAT_SECONDS) as renewer:
                    yield renewer
            finally:
                self._files.delete(HEARTBEAT)

    @override
    @contextmanager
    def worker(self, heartbeat: Heartbeat) -> Iterator[None]:
        with _open_lock(self._workers_lock) as lock:
            _flock(lock, fcntl.LOCK_SH, self._workers_lock)
            yield

    @override
    @contextmanager
    def no_workers(self, wait_seconds: float) -> Iterator[None]:
        with _open_lock(self._workers_lock) as lock:
            if not _acquired(lock, self._workers_lock, 0.0):
                logger.warning(
                    "Waiting up to %.0f s for workers of an earlier driver to end; "
                    "'fuser -v %s' lists those of this machine.",
                    wait_seconds,
                    self._workers_lock,
                )
                if not _acquired(lock, self._workers_lock, wait_seconds):
                    raise still_working(
                        wait_seconds,
                        f"'fuser -v {self._workers_lock}' lists those of this machine",
                    )
            yield

    @override
    def heartbeat(self) -> Heartbeat | None:
        last = written_beat(self._files, HEARTBEAT)
        return None if last is None else replace(last, alive=self._is_driven())

    def _is_driven(self) -> bool:
        try:
            lock = os.open(self._driver_lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB, self._driver_lock)
        finally:
            os.close(lock)

    def _publish(self, heartbeat: Heartbeat) -> None:
        self._files.write(HEARTBEAT, heartbeat.to_json())


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    with explained("open", str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield lock
    finally:
        os.close(lock)


def _acquired(lock: int, path: Path, wait_seconds: float) -> bool:
    """Return whether the lock could be had for this process alone within `wait_seconds`."""
    deadline = time.monotonic() + wait_seconds
    while not _flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, path):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _flock(lock: int, operation: int, path: Path) -> bool:
    try:
        fcntl.flock(lock, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"{path} cannot be locked: {error}. The store's file system must support flock; "
            "mount it with locks, or put the store elsewhere (an object store needs none)."
        ) from error
    return True

"""Who drives a store, since when, and how far: published for `status`, renewed while it lives."""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.storage.contents import UnreadablePart

__all__ = ["Driving", "Heartbeat", "LeaseLostError", "Renewer"]

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 1.0
"""Progress is published at most this often, however often cells end."""


class LeaseLostError(StoreError):
    """The store belongs to another driver now."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The last sign of life of a driver or worker."""

    driver: str
    """What it is, in words."""
    host: str = field(default_factory=socket.gethostname)
    """Machine that it runs on."""
    pid: int = field(default_factory=os.getpid)
    """Its process there."""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it took the store."""
    beat_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it last gave a sign, by its own clock."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What it last said of its work."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells it from every other holder, also one of the same name, host and process number."""
    alive: bool = True
    """Whether it still holds the store, as far as could be told when this was read."""

    def __str__(self) -> str:
        return f"{self.driver!r} (host {self.host}, pid {self.pid}, since {self.since:%F %T} UTC)"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; `from_dict` inverts it."""
        times = {"since": self.since.isoformat(), "beat_at": self.beat_at.isoformat()}
        return {**asdict(self), **times}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Heartbeat":
        """Return the heartbeat that `to_dict` described."""
        times = {name: datetime.fromisoformat(values[name]) for name in ("since", "beat_at")}
        return cls(**{**values, **times})

    def to_json(self) -> bytes:
        """Return the bytes of its file."""
        return json.dumps(self.to_dict(), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Heartbeat":
        """Return the heartbeat that `to_json` described."""
        return cls.from_dict(json.loads(data))


class Renewer:
    """Publishes a heartbeat now, and from a thread every `seconds` until it is stopped.

    `publish` raises `LeaseLostError` when there is nothing left to renew; any other `StoreError`
    is logged, and publishing is tried again at the next beat.
    """

    def __init__(
        self, heartbeat: Heartbeat, publish: Callable[[Heartbeat], None], seconds: float
    ) -> None:
        self.lost: LeaseLostError | None = None
        self._heartbeat = heartbeat
        self._publish = publish
        self._seconds = seconds
        self._published_at = -float("inf")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store-heartbeat", daemon=True)

    def __enter__(self) -> "Renewer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def report(self, progress: Mapping[str, Any]) -> None:
        """Take in `progress`, to be published at once or, if that was just done, soon."""
        self._heartbeat = replace(self._heartbeat, progress=dict(progress))
        if time.monotonic() - self._published_at >= PUBLISH_SECONDS:
            self._published_at = time.monotonic()
            self._renew()

    def _run(self) -> None:
        while self.lost is None and not self._stop.wait(self._seconds):
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            if self.lost is not None:
                return
            try:
                self._publish(replace(self._heartbeat, beat_at=datetime.now(UTC)))
            except LeaseLostError as error:
                self.lost = error
                logger.error("%s", error)
            except StoreError as error:
                logger.warning("No heartbeat could be published; trying again. %s", error)


class Driving:
    """The right to drive a store, held as long as `Store.drive` is entered."""

    def __init__(self, renewer: Renewer, set_aside: tuple[UnreadablePart, ...]) -> None:
        self.set_aside = set_aside
        """Files that could not be read and were moved out of the tables' folders."""
        self._renewer = renewer

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Publish `progress` (plain values by name) for `Store.heartbeat`.

        Raises `LeaseLostError`, a `StoreError`, once this driver was out of reach for longer than
        its lease runs, so that another may have taken the store over.
        """
        self._renewer.report(progress)
        if self._renewer.lost is not None:
            raise self._renewer.lost

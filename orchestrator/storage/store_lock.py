"""One driver a store, and no new driver while a dead one's workers still train: the contract."""

import logging
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from orchestrator.errors import StoreError
from orchestrator.storage.filesystem import Files
from orchestrator.storage.heartbeat import Heartbeat, Renewer

__all__ = ["HEARTBEAT", "LOCK_FOLDER", "Locks", "refusal", "still_working", "written_beat"]

logger = logging.getLogger(__name__)

LOCK_FOLDER = "locks"
HEARTBEAT = f"{LOCK_FOLDER}/heartbeat.json"


class Locks(ABC):
    """Who may write to a store."""

    @abstractmethod
    def driver(self, heartbeat: Heartbeat) -> AbstractContextManager[Renewer]:
        """Hold the store as its one driver; raises `StoreError`, naming the other, if it has one.

        The renewer publishes `heartbeat` and takes in progress.
        """

    @abstractmethod
    def worker(self, heartbeat: Heartbeat) -> AbstractContextManager[None]:
        """Be seen as a worker that may write."""

    @abstractmethod
    def no_workers(self, wait_seconds: float) -> AbstractContextManager[None]:
        """Wait until no worker is left, such as one that outlived its driver.

        Raises `StoreError` after `wait_seconds`.
        """

    @abstractmethod
    def heartbeat(self) -> Heartbeat | None:
        """Return the last sign of a driver that is there or was killed; None where there is none.

        Touches nothing.
        """


def written_beat(files: Files, path: str) -> Heartbeat | None:
    """Return the heartbeat at `path`; None where there is none, or a torso of one."""
    try:
        return Heartbeat.from_json(files.read(path))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        logger.warning("Took no notice of %s: %r.", files.address(path), error)
        return None


def refusal(files: Files, holder: Heartbeat | None, hint: str = "") -> StoreError:
    """Return the error of a second driver; `holder`: the first, if it could be read."""
    who = str(holder) if holder else "a driver that has just started"
    return StoreError(
        f"The store {files.address('')} is being driven by {who}. A store has one driver at a "
        f"time: wait until that one has ended, or stop it and run this again.{hint}"
    )


def still_working(waited: float, who: str) -> StoreError:
    """Return the error of a driver that waited for workers in vain; `who` they are."""
    return StoreError(
        f"Workers of an earlier driver still train after {waited:.0f} s: {who}. "
        "Stop them (end their Ray cluster or kill their processes), then run this again."
    )

"""What a node must have alike with the driver to train for it; also one that joined later."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.health import version_faults
from orchestrator.errors import LaunchError, StoreError
from orchestrator.storage.store import Store
from orchestrator.versions import installed_versions

__all__ = ["Expected", "require_fitness"]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the driver has."""

    token: str | None
    """Of its heartbeat, which every node must find in the store."""
    versions: Mapping[str, str]
    """Of python and of our packages."""

    @classmethod
    def of(cls, store: Store) -> "Expected":
        """Return what this process, the driver that holds `store`, has."""
        beat = store.heartbeat()
        return cls(token=None if beat is None else beat.token, versions=installed_versions())

    def faults(self, store: Store) -> list[str]:
        """Return why this process is unfit, a sentence each."""
        return [
            *self._faults_of(store),
            *version_faults(installed_versions(), self.versions),
        ]

    def _faults_of(self, store: Store) -> list[str]:
        try:
            beat = store.heartbeat()
        except StoreError as error:
            return [f"it cannot use the store: {error}"]
        if beat is not None and beat.token == self.token:
            return []
        return [
            f"it does not see in the store {store.location} what the driver wrote there. Use a "
            "path on storage that every node mounts, or s3:// or gs://."
        ]


_found_fit: set[str | None] = set()


def require_fitness(expected: Expected, store: Store) -> None:
    """Raise `LaunchError` unless this process is fit; it is looked at once for a driver."""
    if expected.token in _found_fit:
        return
    if faults := expected.faults(store):
        raise LaunchError(" ".join([f"Node {socket.gethostname()} is unfit:", *faults]))
    _found_fit.add(expected.token)

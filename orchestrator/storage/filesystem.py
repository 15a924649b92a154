"""Where a store's bytes lie: a local folder or an object-store prefix, behind one contract.

Paths are relative to the store, with '/' between names.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from orchestrator.errors import RequestError, StorageError

__all__ = ["Entry", "Files", "explained", "is_uri", "resolve_location"]

OBJECT_SCHEMES = ("s3", "gs", "gcs")
URI_OPTIONS = ("endpoint_override", "region", "scheme")


@dataclass(frozen=True)
class Entry:
    """One file or folder in a folder."""

    bytes: int
    """Size; 0 for a folder."""
    modified: datetime
    """Last change by the clock of the file system or object store; UTC."""
    is_folder: bool
    """Whether it is a folder."""


class Files(ABC):
    """The files of one store.

    Every method raises `StorageError`, naming the address, when the file system fails; reading and
    moving what does not exist raise `FileNotFoundError`.
    """

    @abstractmethod
    def address(self, path: str) -> str:
        """Return the path or URI of `path`, as pandas and people use it."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return all bytes of a file."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Publish `data` under `path`, whole or not at all, replacing what was there."""

    @abstractmethod
    def entries(self, folder: str) -> dict[str, Entry]:
        """Return by name what a folder holds, but for names that begin with '.' or '_'.

        Parquet readers skip those names. A folder that does not exist is empty.
        """

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Return whether there is a file or folder."""

    @abstractmethod
    def arrow_filesystem(self, path: str) -> tuple[pafs.FileSystem, str]:
        """Return pyarrow's file system, and `path` as it knows it: for Ray's own files."""

    @abstractmethod
    def delete(self, *paths: str) -> None:
        """Delete files for good; one that is gone already is no error."""

    @abstractmethod
    def delete_folder(self, path: str) -> None:
        """Delete a folder with all that it holds; one that is gone already is no error."""

    @abstractmethod
    def move(self, source: str, target: str) -> None:
        """Move a file or folder within the store."""

    @abstractmethod
    def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""

    @abstractmethod
    def delete_leftovers(self, folder: str) -> None:
        """Delete what writers killed in the middle of `write` left; no writer may be at work."""


def is_uri(location: str) -> bool:
    """Return whether a location is an object store's."""
    return "://" in location


def resolve_location(location: str | os.PathLike[str]) -> str:
    """Return an absolute path, or the URI as it is.

    Raises `RequestError` for a home folder that is not known, what is no URI, another scheme, an
    option that is not known, and credentials: those come from the environment, since a location is
    logged and passed on.
    """
    text = os.fspath(location)
    if not is_uri(text):
        try:
            return str(Path(text).expanduser().absolute())
        except RuntimeError:
            raise RequestError(
                f"The store's location {text!r} begins with a home folder that is not known. "
                "Allowed: ~, ~USER of a user of this machine, or a path without them."
            ) from None
    try:
        parts = urlsplit(text)
    except ValueError:
        shown = text.rpartition("@")[2].partition("?")[0]  # the rest may hold credentials
        raise RequestError(
            f"The store's location {shown!r} cannot be read as a URI. Allowed: "
            "s3://BUCKET/PREFIX or gs://BUCKET/PREFIX; credentials come from the environment."
        ) from None
    if parts.scheme not in OBJECT_SCHEMES:
        raise RequestError(
            f"The store's location has the scheme {parts.scheme!r}. "
            f"Allowed: a path, or {', '.join(f'{scheme}://' for scheme in OBJECT_SCHEMES)}."
        )
    if "@" in parts.netloc or ":" in parts.netloc:
        raise RequestError(
            f"The store's {parts.scheme}:// location holds credentials. Leave them out, as "
            f"locations are logged; {parts.scheme} takes them from the environment."
        )
    if not parts.netloc or not parts.path.strip("/"):
        raise RequestError(
            f"The store's location {text!r} lacks a bucket or a prefix inside it. "
            f"Give {parts.scheme}://BUCKET/PREFIX."
        )
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if unknown := sorted(options - set(URI_OPTIONS)):
        raise RequestError(
            f"The store's location has the options {', '.join(unknown)}. "
            f"Allowed: {', '.join(URI_OPTIONS)}; credentials come from the environment."
        )
    return text


@contextmanager
def explained(
    action: str, address: str, *, missing: type[Exception] | tuple[()] = ()
) -> Iterator[None]:
    """Turn what a file system raises into a `StorageError` that says what could not be done.

    `missing`: an error that the caller answers itself, and that therefore travels.
    """
    try:
        yield
    except missing:
        raise
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"Could not {action} {address}: {error}. Check that it exists, that you may write "
            "there, that the disk is not full and, for an object store, the credentials in the "
            "environment and the network."
        ) from error

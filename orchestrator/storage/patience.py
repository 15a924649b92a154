"""Files of a store whose storage may fail for a while: a network hiccups, a disk is cleared."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pyarrow import fs as pafs
from typing_extensions import override

from orchestrator.errors import StorageError
from orchestrator.storage.filesystem import Entry, Files

__all__ = ["PatientFiles", "patiently"]

logger = logging.getLogger(__name__)

WAITS_SECONDS = (1.0, 4.0, 15.0)
"""Between attempts; what has been trained is worth more than a minute."""

Result = TypeVar("Result")


class PatientFiles(Files):
    """The same files, of which every call that fails is made again, with waits.

    All but a move can be repeated: they replace, delete what may be gone, or look.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    @override
    def address(self, path: str) -> str:
        return self._files.address(path)

    @override
    def read(self, path: str) -> bytes:
        return patiently(lambda: self._files.read(path))

    @override
    def write(self, path: str, data: bytes) -> None:
        patiently(lambda: self._files.write(path, data))

    @override
    def entries(self, folder: str) -> dict[str, Entry]:
        return patiently(lambda: self._files.entries(folder))

    @override
    def exists(self, path: str) -> bool:
        return patiently(lambda: self._files.exists(path))

    @override
    def arrow_filesystem(self, path: str) -> tuple[pafs.FileSystem, str]:
        return self._files.arrow_filesystem(path)

    @override
    def delete(self, *paths: str) -> None:
        patiently(lambda: self._files.delete(*paths))

    @override
    def delete_folder(self, path: str) -> None:
        patiently(lambda: self._files.delete_folder(path))

    @override
    def move(self, source: str, target: str) -> None:
        self._files.move(source, target)  # half done, it is no longer the same call

    @override
    def make_folder(self, path: str) -> None:
        patiently(lambda: self._files.make_folder(path))

    @override
    def delete_leftovers(self, folder: str) -> None:
        patiently(lambda: self._files.delete_leftovers(folder))


def patiently(call: Callable[[], Result]) -> Result:
    """Return what `call` returns, made again after waits where it raises `StorageError`."""
    for wait in WAITS_SECONDS:
        try:
            return call()
        except StorageError as error:
            logger.warning("Trying again in %g s: %s", wait, error)
            time.sleep(wait)
    return call()

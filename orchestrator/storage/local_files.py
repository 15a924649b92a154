"""A store in a local or shared folder.

A write goes to a name that begins with '.', which every Parquet reader skips; then come fsync,
rename and fsync of the folder. A writer killed at any point leaves the old file or the new one.
"""

import os
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pyarrow import fs as pafs
from typing_extensions import override

from orchestrator.storage.filesystem import Entry, Files, explained

__all__ = ["LocalFiles"]

TEMPORARY_SUFFIX = ".tmp"


class LocalFiles(Files):
    """A store in a folder of a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @override
    def address(self, path: str) -> str:
        return str(self.root / path)

    @override
    def read(self, path: str) -> bytes:
        with explained("read", self.address(path), missing=FileNotFoundError):
            return (self.root / path).read_bytes()

    @override
    def write(self, path: str, data: bytes) -> None:
        target = self.root / path
        hidden = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
        with explained("write", str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with hidden.open("xb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                hidden.replace(target)
            except BaseException:
                hidden.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    @override
    def entries(self, folder: str) -> dict[str, Entry]:
        found = {}
        with explained("list", self.address(folder)):
            try:
                scan = os.scandir(self.root / folder)
            except FileNotFoundError:
                return {}
            with scan:
                for item in scan:
                    if item.name[0] not in "._":
                        try:
                            stat = item.stat()
                        except FileNotFoundError:  # deleted since the folder was listed
                            continue
                        modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                        size = 0 if item.is_dir() else stat.st_size
                        found[item.name] = Entry(size, modified, item.is_dir())
        return found

    @override
    def exists(self, path: str) -> bool:
        with explained("look for", self.address(path)):
            return (self.root / path).exists()

    @override
    def arrow_filesystem(self, path: str) -> tuple[pafs.FileSystem, str]:
        return pafs.LocalFileSystem(), self.address(path)

    @override
    def delete(self, *paths: str) -> None:
        for path in paths:
            with explained("delete", self.address(path)):
                (self.root / path).unlink(missing_ok=True)
        for folder in {(self.root / path).parent for path in paths}:
            with explained("delete", str(folder)):
                _sync_folder(folder)

    @override
    def delete_folder(self, path: str) -> None:
        with explained("delete", self.address(path)), suppress(FileNotFoundError):
            shutil.rmtree(self.root / path)
            _sync_folder((self.root / path).parent)

    @override
    def move(self, source: str, target: str) -> None:
        start, end = self.root / source, self.root / target
        with explained("move", str(start), missing=FileNotFoundError):
            end.parent.mkdir(parents=True, exist_ok=True)
            start.rename(end)
            _sync_folder(end.parent)
            _sync_folder(start.parent)

    @override
    def make_folder(self, path: str) -> None:
        with explained("create", self.address(path)):
            (self.root / path).mkdir(parents=True, exist_ok=True)

    @override
    def delete_leftovers(self, folder: str) -> None:
        with explained("clean", self.address(folder)):
            for hidden in (self.root / folder).glob(f".*{TEMPORARY_SUFFIX}"):
                hidden.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as `os.fsync` does the contents of a file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

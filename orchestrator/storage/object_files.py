"""A store under a prefix of an object store, by pyarrow's own clients for S3 and GCS.

An object appears when its upload is completed, so its bytes are complete before the upload begins.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from pyarrow import fs as pafs
from typing_extensions import override

from orchestrator.storage.filesystem import Entry, Files, explained

__all__ = ["ObjectFiles"]

REQUESTS_AT_ONCE = 16


class ObjectFiles(Files):
    """A store under a prefix of an object store, by pyarrow's own clients for S3 and GCS."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @override
    def address(self, path: str) -> str:
        base, mark, options = self.uri.partition("?")
        return f"{base.rstrip('/')}/{path}{mark}{options}"

    @override
    def read(self, path: str) -> bytes:
        filesystem, root = _object_filesystem(self.uri)
        with (
            explained("read", self.address(path), missing=FileNotFoundError),
            filesystem.open_input_stream(f"{root}/{path}", compression=None) as stream,
        ):
            return bytes(stream.read())

    @override
    def write(self, path: str, data: bytes) -> None:
        filesystem, root = _object_filesystem(self.uri)
        with explained("write", self.address(path)):
            # Closing the stream publishes the object, in `with` also after an exception: so it is
            # closed only once all bytes are in. Garbage collection may still close it after an
            # error; such a torso lacks its Parquet footer, reads as damaged, and is replaced by
            # the next write of the same name.
            stream = filesystem.open_output_stream(f"{root}/{path}", compression=None)
            stream.write(data)
            stream.close()

    @override
    def entries(self, folder: str) -> dict[str, Entry]:
        filesystem, root = _object_filesystem(self.uri)
        with explained("list", self.address(folder)):
            selector = pafs.FileSelector(f"{root}/{folder}", allow_not_found=True)
            return {
                info.base_name: _entry(info)
                for info in filesystem.get_file_info(selector)
                if info.base_name[0] not in "._"
            }

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one object without reading it; None where there is none."""
        filesystem, root = _object_filesystem(self.uri)
        with explained("look at", self.address(path)):
            info = filesystem.get_file_info(f"{root}/{path}")
        return None if info.type == pafs.FileType.NotFound else _entry(info)

    @override
    def exists(self, path: str) -> bool:
        return self.entry(path) is not None

    @override
    def arrow_filesystem(self, path: str) -> tuple[pafs.FileSystem, str]:
        filesystem, root = _object_filesystem(self.uri)
        return filesystem, f"{root}/{path}"

    @override
    def delete(self, *paths: str) -> None:
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            for _ in pool.map(self._delete, paths):
                pass

    @override
    def delete_folder(self, path: str) -> None:
        filesystem, root = _object_filesystem(self.uri)
        with explained("delete", self.address(path)), suppress(FileNotFoundError):
            filesystem.delete_dir(f"{root}/{path}")

    @override
    def move(self, source: str, target: str) -> None:
        filesystem, root = _object_filesystem(self.uri)
        with explained("move", self.address(source), missing=FileNotFoundError):
            if filesystem.get_file_info(f"{root}/{source}").type == pafs.FileType.Directory:
                inside = pafs.FileSelector(f"{root}/{source}", recursive=True)
                paths = [info.path for info in filesystem.get_file_info(inside) if info.is_file]
            else:
                paths = [f"{root}/{source}"]
            for path in paths:
                filesystem.move(path, f"{root}/{target}{path.removeprefix(f'{root}/{source}')}")

    @override
    def make_folder(self, path: str) -> None:
        filesystem, root = _object_filesystem(self.uri)
        with explained("create", self.address(path)):
            filesystem.create_dir(f"{root}/{path}", recursive=True)

    @override
    def delete_leftovers(self, folder: str) -> None:
        return  # an upload that was never completed is no object

    def _delete(self, path: str) -> None:
        filesystem, root = _object_filesystem(self.uri)
        with explained("delete", self.address(path)):
            try:
                filesystem.delete_file(f"{root}/{path}")
            except FileNotFoundError:
                return


@functools.cache
def _object_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the client of `uri` and its bucket/prefix: one client a process."""
    with explained("open", uri):
        filesystem, root = pafs.FileSystem.from_uri(uri)
    return filesystem, root.rstrip("/")


def _entry(info: pafs.FileInfo) -> Entry:
    folder = info.type == pafs.FileType.Directory
    modified = info.mtime or datetime.fromtimestamp(0, UTC)  # folders have none
    return Entry(0 if folder else info.size, modified, folder)

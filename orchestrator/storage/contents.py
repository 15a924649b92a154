"""What a store holds, read as it is: nothing here writes.

Readers hold no lock. They stay right beside writers, since parts are immutable, and beside a
compaction, which makes the merged part visible before it deletes the parts that it merged: a
listing is repeated until nothing seen before is missing, and a read is started again when a part
that was listed has vanished.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from orchestrator.errors import StoreError
from orchestrator.storage.filesystem import Entry, Files
from orchestrator.storage.parts import DamagedError, Part, decoded, is_part_name
from orchestrator.storage.schema import Table

__all__ = [
    "UnreadablePart",
    "consistent",
    "listing",
    "load_parts",
    "sound_tables",
    "unreadable_parts",
]

logger = logging.getLogger(__name__)

READS_AT_ONCE = 16
ATTEMPTS = 20
Result = TypeVar("Result")


@dataclass(frozen=True)
class UnreadablePart:
    """A file among a table's parts that cannot be read as one."""

    path: str
    """Where it lies: a path or URI."""
    reason: str
    """Why it cannot be read."""
    table: Table
    """The table whose folder holds it."""
    name: str
    """Its name in that folder."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def listing(files: Files, table: Table) -> dict[str, Entry]:
    """Return what the folder of `table` holds, sorted by name, strangers included."""
    before = files.entries(table)
    for _ in range(ATTEMPTS):
        now = files.entries(table)
        if before.keys() <= now.keys():
            return dict(sorted(now.items()))
        before = now
    raise StoreError(_restless(files.address(table)))


def load_parts(
    files: Files, table: Table, names: Collection[str], wanted: Sequence[str] | None = None
) -> Iterator[tuple[str, Part | UnreadablePart]]:
    """Yield each name with its rows (all columns, or those in `wanted`) or why it has none.

    Raises `FileNotFoundError` when a file has vanished; see `consistent`.
    """

    def load(name: str) -> Part | UnreadablePart:
        path = f"{table}/{name}"
        try:
            if not is_part_name(table, name):
                raise DamagedError("the store gives no file or folder such a name")
            return decoded(table, files.read(path), wanted)
        except DamagedError as error:
            return UnreadablePart(files.address(path), str(error), table, name)

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        yield from zip(names, pool.map(load, names), strict=True)


def sound_tables(
    files: Files, table: Table, names: Collection[str], wanted: Sequence[str] | None = None
) -> dict[str, pa.Table]:
    """Return the rows of every readable part by name; the others are named in the log."""
    tables = {}
    for name, part in load_parts(files, table, names, wanted):
        if isinstance(part, Part):
            tables[name] = part.data
        else:
            logger.warning("Skipped %s. The next run moves it to set-aside/.", part)
    return tables


def unreadable_parts(files: Files) -> list[UnreadablePart]:
    """Return every file in the way of reading, of all tables."""
    return [
        part
        for table in Table
        for _, part in load_parts(files, table, listing(files, table))
        if isinstance(part, UnreadablePart)
    ]


def consistent(read: Callable[[], Result]) -> Result:
    """Return what `read` returns, started again whenever a file vanishes under it."""
    for _ in range(ATTEMPTS):
        try:
            return read()
        except FileNotFoundError as error:
            vanished = error
    raise StoreError(_restless(str(vanished))) from vanished


def _restless(what: str) -> str:
    return (
        f"Files kept vanishing while they were read ({what}). A compaction is probably under way; "
        "try again when it has ended."
    )

"""One Parquet file of the store as bytes: its name, its rows checked, its contents verified.

Parts are immutable and named by what they hold, so that writing one twice changes nothing.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import columns
from orchestrator.errors import StoreError
from orchestrator.storage.schema import (
    COUNT,
    NUMBER,
    SCHEMA_VERSION,
    SCHEMAS,
    TEXT,
    TIME,
    Status,
    Table,
    schema_version,
    upgraded,
)

__all__ = [
    "COMPACTED",
    "DamagedError",
    "Part",
    "check_part",
    "checked_name",
    "decoded",
    "digest",
    "encoded",
    "is_part_name",
    "pack_of",
    "part_name",
    "table_from_rows",
]

COMPACTED = "compacted"
"""Stands for the pack in the name of a part that compaction made of several packs' parts."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,149}")
"""Packs and studies: names that are safe in every file system and in a URI."""

PART_NAME = re.compile(r"part-(?P<pack>.+)-[0-9a-f]{16}\.parquet")

WORDS = {
    TEXT: "text",
    COUNT: "an integer of 64 bits",
    NUMBER: "a finite number",
    TIME: "a datetime with a time zone",
}

PLAIN = {TEXT: str, COUNT: int, NUMBER: float}
"""The Python type of nearly all values of a column; numbers of numpy fit too."""

STATUSES = frozenset(map(str, Status))


class DamagedError(Exception):
    """A file that is no sound part of its table; the message says why."""


@dataclass(frozen=True)
class Part:
    """The contents of one file."""

    data: pa.Table
    """Its rows, with the current schema."""
    version: int
    """Version of the schema that it was written with."""


def part_name(pack_id: str, keys: Iterable[str]) -> str:
    """Return the name of the part of `pack_id` that is made of `keys`, in whatever order."""
    joined = "\n".join(sorted(keys))
    return f"part-{pack_id}-{digest(joined.encode())}.parquet"


def digest(data: bytes) -> str:
    """Return 16 hex digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def pack_of(name: str) -> str | None:
    """Return the pack in a part's name; None when `name` is not one."""
    match = PART_NAME.fullmatch(name)
    return match["pack"] if match else None


def is_part_name(table: Table, name: str) -> bool:
    """Return whether the store itself gives files of `table` such a name."""
    return name.endswith(".parquet") if table is Table.GRIDS else pack_of(name) is not None


def checked_name(kind: str, name: str) -> str:
    """Return `name`; raises `StoreError` when it cannot be part of a file's name."""
    if not NAME.fullmatch(name):
        raise StoreError(
            f"The {kind} name is {name!r}; allowed: letters, digits, '.', '_' and '-', beginning "
            "with a letter or digit, at most 150."
        )
    return name


def check_part(
    pack_id: str, cells: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]
) -> None:
    """Raise `StoreError` unless these rows, each fit for its table, belong in one part."""
    if checked_name("pack", pack_id) == COMPACTED:
        raise StoreError(f"A pack cannot be named {COMPACTED!r}: merged parts bear that name.")
    cell_ids = [row[columns.CELL_ID] for row in cells]
    if not cell_ids:
        raise StoreError(f"Pack {pack_id} writes a part without cells; leave it out.")
    if repeated := {cell_id for cell_id, count in Counter(cell_ids).items() if count > 1}:
        raise StoreError(
            f"Pack {pack_id} writes several rows of {', '.join(sorted(repeated))} in one part; "
            "a cell has one row."
        )
    if strangers := {row[columns.PACK_ID] for row in (*cells, *curves)} - {pack_id}:
        raise StoreError(
            f"Pack {pack_id} writes rows whose pack_id is {', '.join(sorted(strangers))}."
        )
    if strangers := {row[columns.CELL_ID] for row in curves} - set(cell_ids):
        raise StoreError(
            f"Pack {pack_id} writes curves of {', '.join(sorted(strangers))} without their rows "
            "in cells; write both together."
        )


def table_from_rows(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return `rows` as an Arrow table of the schema of `table`.

    Every row names every column; a nullable one may be None. Raises `StoreError`, naming row and
    column, on a missing or unknown column and on a value of another type. Numbers must be finite:
    a loss that is not is None, as the schema says.
    """
    schema = SCHEMAS[table]
    known = set(schema.names)
    if not all(row.keys() == known for row in rows):
        _raise_first_fault(table, rows)
    values = _columns(schema.names, rows)
    if not all(_column_fits(field, values[field.name]) for field in schema):
        _raise_first_fault(table, rows)
    arrays = [pa.array(values[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def encoded(table: Table, data: pa.Table) -> bytes:
    """Return `data` as the bytes of a Parquet file, after reading them back.

    Raises `StoreError` when they do not read back as the same rows: they must not be published.
    """
    sink = pa.BufferOutputStream()
    # Without statistics and with dictionaries for text alone, a part of 25 cells is a fifth smaller
    # and read a quarter faster; nothing here reads by ranges of values.
    pq.write_table(
        data,
        sink,
        compression="zstd",
        write_page_checksum=True,
        write_statistics=False,
        use_dictionary=[field.name for field in data.schema if field.type == TEXT],
    )
    result: bytes = sink.getvalue().to_pybytes()
    if not decoded(table, result).data.equals(data):
        raise StoreError(
            f"A part of {table} did not read back as it was written, in memory: "
            "check the machine's memory and the pyarrow installation."
        )
    return result


def decoded(table: Table, data: bytes, names: Sequence[str] | None = None) -> Part:
    """Return the rows in the bytes of a file of `table`: all columns, or those in `names`.

    Raises `DamagedError` for bytes that are no sound Parquet file of this table, `StoreError` when
    a newer scaling-study wrote them.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        version = schema_version(table, file.schema_arrow)
        wanted = names if version == SCHEMA_VERSION else None
        rows = file.read(columns=wanted, use_threads=False)
        if version < SCHEMA_VERSION:
            rows = upgraded(table, rows, version)
    # From memory, OSError too can only mean broken bytes: what Arrow raises on a bad checksum.
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DamagedError(str(error)) from error
    return Part(rows if names is None else rows.select(names), version)


def _columns(
    names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Sequence[object]]:
    """Return the values of every column; each row has all `names`."""
    if not rows:
        return dict.fromkeys(names, ())
    return dict(zip(names, zip(*map(itemgetter(*names), rows), strict=True), strict=True))


def _column_fits(field: pa.Field, values: Sequence[object]) -> bool:
    """Return whether `_check` would pass every value of a column.

    A column of one plain Python type, as nearly all are, is looked at by calls that loop in C:
    about 20 times as fast as value by value.
    """
    types = set(map(type, values))
    if type(None) in types:
        if not field.nullable:
            return False
        values = [value for value in values if value is not None]
        types.discard(type(None))
    plain = types == {PLAIN.get(field.type)} and _plainly_fits(field.type, values)
    if not plain and not all(_fits(field.type, value) for value in values):
        return False
    return field.name != columns.STATUS or STATUSES.issuperset(values)


def _plainly_fits(kind: pa.DataType, values: Sequence[Any]) -> bool:
    """Return True if the values, all of the plain type of `kind`, fit; False says nothing yet."""
    if kind == COUNT:
        return bool(min(values) >= -(2**63) and max(values) < 2**63)
    return kind == TEXT or (kind == NUMBER and all(map(math.isfinite, values)))


def _raise_first_fault(table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `StoreError` about the first value that does not fit, row by row."""
    schema = SCHEMAS[table]
    known = set(schema.names)
    for index, row in enumerate(rows):
        place = f"Row {index} of {table} (cell {row.get(columns.CELL_ID)!r})"
        if missing := sorted(known - row.keys()):
            raise StoreError(
                f"{place} lacks {', '.join(missing)}. Every row names every column; "
                "give None where a nullable one is unknown."
            )
        if unknown := sorted(row.keys() - known):
            raise StoreError(
                f"{place} has the unknown columns {', '.join(unknown)}. "
                f"Allowed: {', '.join(schema.names)}."
            )
        for field in schema:
            _check(place, field, row[field.name])


def _check(place: str, field: pa.Field, value: object) -> None:
    if value is None:
        if not field.nullable:
            raise StoreError(f"{place} has no {field.name}: it must be {WORDS[field.type]}.")
    elif not _fits(field.type, value):
        raise StoreError(
            f"{place} has {field.name} = {value!r} ({type(value).__name__}); "
            f"it must be {WORDS[field.type]}{' or None' if field.nullable else ''}."
        )
    elif field.name == columns.STATUS and value not in STATUSES:
        raise StoreError(f"{place} has status {value!r}; it must be one of {', '.join(Status)}.")


def _fits(kind: pa.DataType, value: object) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    if kind == TIME:
        return isinstance(value, datetime) and value.tzinfo is not None
    if isinstance(value, bool):
        return False
    if isinstance(value, int | np.integer):
        # A double holds every integer exactly up to 2**53 only.
        return -(2**63) <= int(value) < 2**63 if kind == COUNT else abs(int(value)) <= 2**53
    return kind == NUMBER and isinstance(value, float | np.floating) and math.isfinite(value)

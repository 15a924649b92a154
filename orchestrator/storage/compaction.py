"""Merging many small parts into few, losing nothing whatever is killed when.

One group of parts after another: merged curves are written, then merged cells, then the parts that
were merged are deleted. An intent, written first, names them all. Whoever opens the store next
completes it: where the merged cells are there, the old parts go; where not, nothing has been
deleted yet and the old parts stay. Between those two moments a cell has two equal rows, of which
readers take one.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from analysis.columns import CELL_ID
from orchestrator.errors import StoreError
from orchestrator.storage.contents import UnreadablePart, listing, load_parts, sound_tables
from orchestrator.storage.filesystem import Files
from orchestrator.storage.parts import COMPACTED, encoded, pack_of, part_name
from orchestrator.storage.reading import KEYS, first_rows, joined, of_cells
from orchestrator.storage.schema import Table

__all__ = ["ROWS_PER_PART", "CompactionReport", "compact", "complete_compaction"]

logger = logging.getLogger(__name__)

INTENT = "compaction.json"

ROWS_PER_PART = 20_000
"""Cells in a merged part: read at 3 µs a row, and with its curves small enough for memory."""


@dataclass(frozen=True, kw_only=True)
class CompactionReport:
    """What a compaction did."""

    parts_before: int
    """Files of `cells` and `curves` before."""
    parts_after: int
    """Files of `cells` and `curves` after."""
    rows: int
    """Cells with a row: the same before and after."""


@dataclass(frozen=True)
class _Group:
    merged: str
    """Name of the part to come."""
    sources: Sequence[str]
    """Names of the parts that go into it."""


def compact(files: Files, rows_per_part: int = ROWS_PER_PART) -> CompactionReport:
    """Merge the parts of packs that have ended into parts of at most `rows_per_part` cells.

    Nobody else may write meanwhile, and no compaction may be pending. A pack has ended when it
    has no folder in `checkpoints/`. Second rows of a cell go, with their curves, and so do curves
    whose cells never became durable.
    """
    before = _part_count(files)
    names = listing(files, Table.CELLS)
    keys = sound_tables(files, Table.CELLS, names, KEYS)
    firsts = first_rows(keys)
    kept = {str(part): set(ids) for part, ids in firsts.groupby("part")[CELL_ID]}
    live = files.entries("checkpoints").keys()
    mergeable = {name: len(table) for name, table in keys.items() if _has_ended(name, live)}
    groups = _groups(mergeable, kept, rows_per_part)
    intent = {"groups": [asdict(group) for group in groups]}
    files.write(INTENT, json.dumps(intent, indent=1).encode())
    for group in groups:
        _merge(files, group, kept)
        _delete(files, group.sources)
    orphans = listing(files, Table.CURVES).keys() - listing(files, Table.CELLS).keys()
    files.delete(*(f"{Table.CURVES}/{name}" for name in orphans if _has_ended(name, live)))
    files.delete(INTENT)
    return CompactionReport(parts_before=before, parts_after=_part_count(files), rows=len(firsts))


def complete_compaction(files: Files) -> None:
    """Bring a compaction that was killed to its end, if there is one."""
    if not files.exists(INTENT):
        return
    try:
        groups = json.loads(files.read(INTENT))["groups"]
    except ValueError as error:  # it was killed while it wrote this, and has deleted nothing yet
        logger.warning("Removed %s, a torso: %s.", files.address(INTENT), error)
        groups = []
    for group in groups:
        merged = [group["merged"]] if files.exists(f"{Table.CELLS}/{group['merged']}") else []
        if sound_tables(files, Table.CELLS, merged):
            _delete(files, group["sources"])
        else:
            files.delete(f"{Table.CURVES}/{group['merged']}")
    files.delete(INTENT)


def _has_ended(name: str, live: Collection[str]) -> bool:
    pack = pack_of(name)
    return pack is not None and pack not in live


def _groups(
    lengths: Mapping[str, int], kept: Mapping[str, set[str]], rows_per_part: int
) -> list[_Group]:
    """Return the merges worth making: parts less than half full, or with rows to drop."""
    bins: list[list[str]] = []
    room = 0
    for name, length in lengths.items():
        rows = len(kept.get(name, ()))
        if rows == length and 2 * rows >= rows_per_part:
            continue
        if not bins or rows > room:
            bins.append([])
            room = rows_per_part
        bins[-1].append(name)
        room -= rows
    return [
        # Named by its sources and not by its rows: it must never bear the name of one of them.
        _Group(merged=part_name(COMPACTED, sources), sources=sources)
        for sources in bins
        if len(sources) > 1 or len(kept.get(sources[0], ())) < lengths[sources[0]]
    ]


def _merge(files: Files, group: _Group, kept: Mapping[str, set[str]]) -> None:
    """Write the merged part of a group: curves first, then cells, which is the commit."""
    with_curves = listing(files, Table.CURVES)
    for table in (Table.CURVES, Table.CELLS):
        names = [n for n in group.sources if table is Table.CELLS or n in with_curves]
        rows = {}
        for name, part in load_parts(files, table, names):
            if isinstance(part, UnreadablePart):
                raise StoreError(
                    f"Compaction stopped before it deleted anything of this group: {part}. "
                    "Run it again: damaged files are then set aside first."
                )
            rows[name] = of_cells(part.data, kept.get(name, set()))
        merged = joined(table, rows)
        if len(merged):
            files.write(f"{table}/{group.merged}", encoded(table, merged))


def _delete(files: Files, names: Sequence[str]) -> None:
    """Delete parts, cells before curves: no row is ever seen whose curves are gone."""
    for table in (Table.CELLS, Table.CURVES):
        files.delete(*(f"{table}/{name}" for name in names))


def _part_count(files: Files) -> int:
    return sum(len(listing(files, table)) for table in (Table.CELLS, Table.CURVES))

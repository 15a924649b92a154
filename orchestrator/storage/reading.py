"""The rows that count, from parts that may hold a cell more than once or curves of no cell.

A cell trained twice has two rows; the earliest counts. Curves count when they lie in the part of
the same name as that row: what a killed worker left without a row in `cells` does not.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.columns import CELL_ID, PACK_ID, STARTED_AT, STEP
from orchestrator.errors import StoreError
from orchestrator.storage.contents import listing, sound_tables
from orchestrator.storage.filesystem import Files
from orchestrator.storage.schema import SCHEMAS, Table

__all__ = [
    "KEYS",
    "cells_frame",
    "curves_frame",
    "first_rows",
    "joined",
    "of_cells",
    "whole_table",
]

PRECEDENCE = [STARTED_AT, PACK_ID]
"""Of several rows of a cell, the earliest counts; the pack's name decides a draw."""

KEYS = [CELL_ID, *PRECEDENCE]
"""The columns that decide which row counts."""


def cells_frame(files: Files, wanted: Sequence[str] | None) -> pd.DataFrame:
    """Return one row a cell, with the columns `wanted` (None: all); see `Store.read_cells`."""
    schema = SCHEMAS[Table.CELLS]
    wanted = schema.names if wanted is None else list(wanted)
    if unknown := set(wanted) - set(schema.names):
        raise StoreError(
            f"There are no columns {', '.join(sorted(unknown))} in cells. "
            f"Allowed: {', '.join(schema.names)}."
        )
    needed = list(dict.fromkeys([*wanted, *KEYS]))
    tables = sound_tables(files, Table.CELLS, listing(files, Table.CELLS), needed)
    rows = joined(Table.CELLS, tables, needed)
    frame: pd.DataFrame = rows.take(pa.array(first_rows(tables)["row"])).select(wanted).to_pandas()
    return frame


def curves_frame(files: Files) -> pd.DataFrame:
    """Return the curves of every cell with a row; see `Store.read_curves`."""
    # Curves are listed before cells are read: a compaction deletes cells first, so whatever can
    # still be read as cells had its curves in the list.
    names = listing(files, Table.CELLS)
    with_curves = listing(files, Table.CURVES)
    firsts = first_rows(sound_tables(files, Table.CELLS, names, KEYS))
    cells = {str(part): ids for part, ids in firsts.groupby("part")[CELL_ID]}
    wanted = [name for name in cells if name in with_curves]
    parts = sound_tables(files, Table.CURVES, wanted)
    kept = {name: of_cells(part, cells[name]) for name, part in parts.items()}
    ordered = joined(Table.CURVES, kept).sort_by([(CELL_ID, "ascending"), (STEP, "ascending")])
    frame: pd.DataFrame = ordered.to_pandas()
    return frame


def whole_table(files: Files, table: Table, names: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of a table, whether they count or not; `names`: columns, None for all."""
    return joined(table, sound_tables(files, table, listing(files, table), names), names)


def joined(
    table: Table, tables: Mapping[str, pa.Table], names: Sequence[str] | None = None
) -> pa.Table:
    """Return the rows of all `tables`, one after another; `names`: their columns, None for all."""
    if tables:
        return pa.concat_tables(tables.values()).combine_chunks()
    return SCHEMAS[table].empty_table().select(names or SCHEMAS[table].names)


def first_rows(tables: Mapping[str, pa.Table]) -> pd.DataFrame:
    """Return where the row that counts of every cell lies.

    `tables`: by part, with at least the columns `KEYS`. The frame has `cell_id`, `part` and
    `row`, the position among the rows of all tables; it is sorted by started_at, pack_id and
    cell_id, so that its order does not depend on how rows lie in parts.
    """
    keys: pd.DataFrame = joined(Table.CELLS, tables).select(KEYS).to_pandas()
    lengths = [len(table) for table in tables.values()]
    keys["part"] = np.repeat(np.array(list(tables), dtype=object), lengths)
    keys["row"] = np.arange(len(keys))
    ordered = keys.sort_values([*PRECEDENCE, CELL_ID, "part"], kind="stable")
    return ordered.drop_duplicates(CELL_ID)[[CELL_ID, "part", "row"]]


def of_cells(table: pa.Table, cell_ids: Collection[str]) -> pa.Table:
    """Return the rows of `table` that belong to `cell_ids`."""
    wanted = pa.array(list(cell_ids), pa.string())
    return table.filter(pc.is_in(table[CELL_ID], value_set=wanted))

"""Results from a store into pandas, without the code that wrote them.

`pandas.read_parquet(store / "cells")` works too. What `load_cells` adds: one row a cell although a
killed run may have left two, the cells of one grid, a column for each axis that the workload
declares, and the failed cells on request.
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from analysis import columns
from analysis.errors import FitError, UnreadableStoreError

__all__ = ["FAILED", "load_cells", "load_curves", "load_grids", "select_grids"]

FAILED = "failed"
READERS = 16
"""Files read at a time: on an object store each costs a round trip, and a store has thousands."""


def load_cells(
    store: str | PathLike[str],
    *,
    study: str | None = None,
    grid: str | None = None,
    failed: bool = False,
) -> pd.DataFrame:
    """Return one row a cell: its axes and its results, in the order in which cells started.

    Of several rows of one `cell_id` the earliest counts (by `started_at`, then `pack_id`). Every
    axis that the workload declares (the JSON text in `workload_axes`) becomes a column, and so does
    every metric of its own (`workload_metrics`: `validation_<name>` and `test_<name>`). Rows that
    were written before there was a weight decay have one of 0, and so for the other columns that
    came later. A Parquet file that cannot be read is skipped with a warning that names it.

    Args:
        store: local folder, or a URI that `pyarrow.fs.FileSystem.from_uri` understands, such as
            `s3://bucket/prefix?endpoint_override=…`.
        study: name of a study: only the cells of its grids.
        grid: name of a grid: only its cells. Needs `study` where several studies have the name.
        failed: also return cells that failed and have no result, as rows with `status` "failed"
            and empty axes, and two more columns: `error_message` of the last failure, and
            `attempts`, the number of failed attempts.

    Raises:
        FitError: no cells, unknown study or grid, a grid's name in several studies, a workload axis
            named like a column of the store.
        UnreadableStoreError: the storage does not answer, or refuses.
    """
    folder = _Folder.open(store)
    members = None
    if study is not None or grid is not None:
        names = None if grid is None else [grid]
        chosen = select_grids(_known_grids(folder.read("grids"), folder), study, names)
        members = frozenset(chosen[columns.CELL_ID])
    cells = _first_rows(folder.read("cells"))
    if members is not None and len(cells):
        cells = cells[cells[columns.CELL_ID].isin(members)]
    cells = _with_json_columns(_with_later_columns(cells.reset_index(drop=True)))
    if failed:
        failures = folder.read("failures")
        if members is not None and len(failures):
            failures = failures[failures[columns.CELL_ID].isin(members)]
        cells = _with_failures(cells, failures)
    if cells.empty:
        of_grid = "" if members is None else f" of the {len(members)} that were asked for"
        raise FitError(
            f"No cell{of_grid} has a result in {folder.root!r} (Parquet files under cells/). "
            "Check the path, or run the study first: scaling-study run STUDY --store STORE."
        )
    return cells


def load_curves(store: str | PathLike[str], cells: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations during training of `cells`, by cell and step.

    `cells` is a frame from `load_cells`: only curves that were recorded by the pack whose row
    counts are returned, so that a cell trained twice has one curve. Looks of before learning rate,
    batch size and noise scale were recorded get those of their cells, which did not change then.
    Raises `FitError` where `cells` lacks the columns `cell_id` or `pack_id`.
    """
    keys = [columns.CELL_ID, columns.PACK_ID]
    if missing := [name for name in keys if name not in cells]:
        raise FitError(
            f"cells lacks {', '.join(missing)}; pass the frame that load_cells returned."
        )
    wanted = cells[keys].drop_duplicates()
    curves = _Folder.open(store).read("curves", cell_ids=wanted[columns.CELL_ID].tolist())
    if curves.empty:
        return curves
    steps = [*keys, columns.STEP]
    curves = curves.merge(wanted, on=keys).drop_duplicates(steps)
    return _with_constants(curves.sort_values(steps, ignore_index=True), cells)


def _with_constants(curves: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return `curves` with the cells' rate, batch and noise where looks have none of their own."""
    recorded = (columns.LEARNING_RATE, columns.BATCH_SIZE, columns.NOISE_SCALE)
    curves = curves.assign(**{name: math.nan for name in recorded if name not in curves})
    known = [columns.LEARNING_RATE, columns.BATCH_SIZE, columns.MOMENTUM, columns.TRAIN_EXAMPLES]
    older = curves[columns.BATCH_SIZE].isna()
    if not older.any() or any(name not in cells for name in known):
        return curves
    by_id = cells.drop_duplicates(columns.CELL_ID).set_index(columns.CELL_ID)[known]
    own = by_id.reindex(curves[columns.CELL_ID]).set_axis(curves.index)
    batch = own[[columns.BATCH_SIZE, columns.TRAIN_EXAMPLES]].min(axis=1)
    # Smith & Le 2018, arXiv:1710.06451: g = ε/(1 - m) · (N/B - 1); all older cells are SGD's.
    effective_rate = own[columns.LEARNING_RATE] / (1 - own[columns.MOMENTUM])
    noise = effective_rate * (own[columns.TRAIN_EXAMPLES] / batch - 1)
    filled = (own[columns.LEARNING_RATE], batch, noise)
    return curves.assign(
        **{
            name: curves[name].astype(float).where(~older, values)
            for name, values in zip(recorded, filled, strict=True)
        }
    )


def load_grids(store: str | PathLike[str]) -> pd.DataFrame:
    """Return which cell belongs to which grid: `study`, `grid`, `cell_id`, ordered by these.

    A cell that several grids share has a row in each; one that no run has trained yet is there
    too. Raises `FitError` where `store` records no grids.
    """
    folder = _Folder.open(store)
    return _known_grids(folder.read("grids"), folder)


def select_grids(
    grids: pd.DataFrame, study: str | None, names: Sequence[str] | None
) -> pd.DataFrame:
    """Return the rows of `grids` (see `load_grids`) of one study, and of the grids `names`.

    None stands for all of them. Raises `FitError` for an unknown name, and where two studies have
    a grid of one name and `study` does not say which is meant.
    """
    known = grids[[columns.STUDY, columns.GRID]].drop_duplicates()
    by_study = known.groupby(columns.STUDY)[columns.GRID]
    listing = "; ".join(f"{name}: {', '.join(of_study)}" for name, of_study in by_study)
    if study is not None:
        known = known[known[columns.STUDY] == study]
        if known.empty:
            raise FitError(f"Unknown study {study!r}. Studies and their grids here: {listing}.")
    if unknown := sorted(set(names or ()) - set(known[columns.GRID])):
        raise FitError(f"Unknown grid {unknown[0]!r}. Studies and their grids here: {listing}.")
    if names:
        known = known[known[columns.GRID].isin(names)]
    twice = known[columns.GRID].duplicated(keep=False)
    if twice.any():
        clash = known[columns.GRID][twice].iloc[0]
        holders = known[columns.STUDY][known[columns.GRID] == clash].tolist()
        raise FitError(
            f"Grid {clash!r} occurs in the studies {', '.join(holders)}; "
            f"name one: study={holders[0]!r} in Python, --study {holders[0]} on the command line. "
            f"Studies and their grids here: {listing}."
        )
    return grids.merge(known, on=[columns.STUDY, columns.GRID])


@dataclass(frozen=True)
class _Folder:
    filesystem: Any
    root: str
    """Path inside the file system: what messages show, since a URI may hold credentials."""

    @classmethod
    def open(cls, store: str | PathLike[str]) -> "_Folder":
        if isinstance(store, str) and "://" in store:
            try:
                with _explained("the store"):
                    filesystem, root = pafs.FileSystem.from_uri(store)
            except pa.ArrowInvalid:
                # without its cause, which quotes the URI with what credentials it holds
                scheme = store.partition("://")[0]
                raise FitError(
                    f"No file system opens a URI of scheme {scheme!r} like this. "
                    "Allowed: a local path, or a URI of file, s3 or gs, such as s3://bucket/prefix."
                ) from None
            return cls(filesystem, root.rstrip("/"))
        try:
            root = str(Path(store).expanduser().absolute())
        except RuntimeError:
            raise FitError(
                f"The store {str(store)!r} begins with a home folder that is not known. Allowed: "
                "~, ~USER of a user of this machine, or a path without them."
            ) from None
        return cls(pafs.LocalFileSystem(), root)

    def read(self, part: str, cell_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows of `<root>/<part>/*.parquet`, of `cell_ids` alone where given."""
        selector = pafs.FileSelector(f"{self.root}/{part}", allow_not_found=True)
        with _explained(selector.base_dir):
            entries = self.filesystem.get_file_info(selector)
        paths = sorted(
            entry.path
            for entry in entries
            if entry.type == pafs.FileType.File
            and entry.base_name.endswith(".parquet")
            and not entry.base_name.startswith(".")
        )
        with ThreadPoolExecutor(READERS) as readers:
            contents = list(readers.map(lambda path: self._table(path, cell_ids), paths))
        tables = []
        for path, content in zip(paths, contents, strict=True):
            if isinstance(content, Exception):
                warnings.warn(
                    f"Skipped {path}: not a readable Parquet file ({content}). "
                    "Run the study again: what the store lacks is then made anew.",
                    stacklevel=3,
                )
            else:
                tables.append(content)
        if not tables:
            return pd.DataFrame()
        frame: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
        return frame

    def _table(self, path: str, cell_ids: Sequence[str] | None) -> Any:
        """Return the file's table, or the exception that says why it is no Parquet file."""
        try:
            with _explained(path), self.filesystem.open_input_file(path) as file:
                content = file.read()
        except FileNotFoundError as error:
            raise FitError(f"{path} vanished while the store was read; load again.") from error
        try:
            table = pq.read_table(pa.BufferReader(content))
        except (pa.ArrowInvalid, OSError) as error:
            return error
        if columns.CELL_ID not in table.column_names:
            raise FitError(f"{path} has no column cell_id; it does not belong in this store.")
        if cell_ids is None:
            return table
        return table.filter(pc.is_in(table[columns.CELL_ID], pa.array(cell_ids, pa.string())))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say of what fails for another reason than that it is not there what could not be read."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableStoreError(
            f"Could not read {what}: {error}. Check that you may read it and, for an object store, "
            "the bucket's name, the credentials in the environment and the network."
        ) from error


def _first_rows(cells: pd.DataFrame) -> pd.DataFrame:
    if cells.empty:
        return cells
    order = [columns.STARTED_AT, columns.PACK_ID, columns.CELL_ID]
    return cells.sort_values(order).drop_duplicates(columns.CELL_ID)


def _known_grids(grids: pd.DataFrame, folder: _Folder) -> pd.DataFrame:
    if grids.empty:
        raise FitError(
            f"{folder.root!r} has no readable Parquet files under grids/, which say what belongs "
            "to which study. Pass the store that scaling-study run STUDY --store STORE wrote, or "
            "load all its cells, without study and grid."
        )
    names = [columns.STUDY, columns.GRID, columns.CELL_ID]
    return grids[names].drop_duplicates().sort_values(names, ignore_index=True)


LATER_COLUMNS: dict[str, float | str] = {
    columns.WEIGHT_DECAY: 0.0,
    columns.BATCH_SIZE_SCHEDULE: "constant",
    columns.WORKLOAD_METRICS: "{}",
}
"""Columns of `cells` that older parts lack, and what their cells had."""


def _with_later_columns(cells: pd.DataFrame) -> pd.DataFrame:
    """Return `cells` with what older parts lack: no run has opened the store since."""
    if cells.empty:
        return cells
    missing = {name: value for name, value in LATER_COLUMNS.items() if name not in cells}
    return cells.assign(**missing).fillna(LATER_COLUMNS)


def _with_json_columns(cells: pd.DataFrame) -> pd.DataFrame:
    """Return `cells` with a column for each of the workload's axes and metrics."""
    for holder, what in ((columns.WORKLOAD_AXES, "axes"), (columns.WORKLOAD_METRICS, "metrics")):
        if holder in cells:
            cells = _expanded(cells, holder, what)
    return cells


def _expanded(cells: pd.DataFrame, holder: str, what: str) -> pd.DataFrame:
    texts = cells[holder]
    parsed = {text: _json_object(text, holder) for text in texts.dropna().unique()}
    values = pd.DataFrame([parsed.get(text, {}) for text in texts], index=cells.index)
    reserved = {*cells.columns, *columns.ADDED_ON_LOADING}
    if clash := sorted(reserved.intersection(values.columns)):
        raise FitError(
            f"The workload's {what} {clash} are named like columns of the store. Rename them in "
            "the workload; to read these results meanwhile, use pandas.read_parquet(store / "
            "'cells')."
        )
    return pd.concat([cells, values], axis=1)


def _json_object(text: str, holder: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise FitError(f"{holder} holds {text!r}, which is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise FitError(f"{holder} holds {text!r}; a JSON object of names to values is needed.")
    return values


def _with_failures(cells: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    if failures.empty:
        return cells.assign(**{columns.ERROR_MESSAGE: None, columns.ATTEMPTS: 0})
    attempt = [columns.CELL_ID, columns.PACK_ID, columns.ATTEMPT]
    failures = failures.drop_duplicates(attempt).sort_values([columns.FAILED_AT, *attempt])
    by_cell = failures.groupby(columns.CELL_ID)
    attempts = by_cell.size()
    last = by_cell[[columns.CELL_ID, columns.PACK_ID, columns.ERROR_MESSAGE]].tail(1)
    if len(cells):
        last = last[~last[columns.CELL_ID].isin(cells[columns.CELL_ID])]
    joined = pd.concat([cells, last.assign(status=FAILED)], ignore_index=True)
    joined[columns.ATTEMPTS] = joined[columns.CELL_ID].map(attempts).fillna(0).astype(int)
    return joined

"""A table of runs as one array without holes: seeds × groups × batch sizes.

A group is one (ε, N, m), or whatever else `by` names. Optima are compared within seeds and found
again with each seed left out, so that every batch size kept has every seed kept. What that
costs is listed in `excluded`, row by row, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.errors import FitError
from analysis.mixed_settings import HELD, refuse_mixed

__all__ = ["BatchGrid", "arrange_batch_grid"]

Floats = NDArray[np.float64]

AXES = (columns.MODEL_SIZE, columns.DATASET_FRACTION, columns.BUDGET, columns.STEPS)
"""Columns that tell apart two runs of one group, batch size and seed."""
MOVES_OPTIMUM = "where it varies, the optimum may move with it"
NAME_IN_BY = "name it in `by` of optimal_batch_sizes"


@dataclass(frozen=True, eq=False)
class BatchGrid:
    """Errors of S seeds in G groups at up to K batch sizes each, in ascending order."""

    groups: pd.DataFrame
    """(G) rows, the columns of `by`."""
    train_examples: Floats
    """(G,) shard sizes N."""
    batch_sizes: Floats
    """(G, K) batch sizes, ascending; NaN beyond a group's own number of them."""
    errors: Floats
    """(S, G, K); NaN where `batch_sizes` is."""
    chance_error: Floats
    """(G,) error of a model that has learned nothing."""
    seeds: tuple[object, ...]
    """(S) labels."""
    cells: pd.DataFrame
    """The rows used, as given, with their `group` (0 … G - 1) as index."""
    excluded: pd.DataFrame
    """The rows not used: `by`, batch size, seed, cell_id where there is one, and `reason`."""
    chance_known: bool = True
    """Whether `chance_error` was given or in the table. Else it is the table's largest error, which
    cuts off cliffs and says nothing of where training fails."""

    @property
    def cell_ids(self) -> list[tuple[str, ...]]:
        """(G) tuples of the cells behind each group; empty where the table names none."""
        if columns.CELL_ID not in self.cells:
            return [()] * len(self.groups)
        ids: list[list[str]] = [[] for _ in range(len(self.groups))]
        for group, cell_id in zip(self.cells.index, self.cells[columns.CELL_ID], strict=True):
            ids[group].append(str(cell_id))
        return [tuple(group) for group in ids]

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each reason of exclusion, with the number of cells."""
        counts = self.excluded["reason"].value_counts(sort=False)
        return tuple(f"{count} cells excluded: {reason}." for reason, count in counts.items())


def arrange_batch_grid(
    cells: pd.DataFrame,
    *,
    y: str,
    by: Sequence[str],
    batch_size: str,
    train_examples: str,
    seed: str,
    chance_error: str | float | None,
) -> BatchGrid:
    """Arrange `cells` into a `BatchGrid`.

    Excluded, each with its reason: failed attempts, whatever else their rows lack (diverged runs
    stay: their error is at chance), runs with B ≥ N (no gradient noise), and what keeps the table
    from being complete. The latter by a fixed rule: while a (seed, group, batch size) is missing,
    drop the seed or the (group, batch size) with the largest share missing, the batch size on a
    tie.

    `chance_error`: a number, or a column; None is the column `chance_error` where y is an error
    rate, to which it refers. Where there is no such column, the largest error of the table, and
    `chance_known` is false.
    Raises `FitError` on missing columns, values out of range, repeated runs, empty tables, and
    where workload, model size or one of `SETTINGS` varies and is not in `by`.
    """
    table, failed = _checked(cells, y, by, batch_size, train_examples, seed)
    reason = pd.Series("", index=table.index)
    reason[failed] = "the attempt failed"
    full = table[batch_size] >= table[train_examples]
    reason[full & (reason == "")] = "B >= N is the whole shard, without gradient noise"
    kept = table[reason == ""]
    if kept.empty:
        raise FitError(
            f"All {len(table)} rows are excluded ({', '.join(reason.unique())}); "
            "the law needs completed runs with a batch size below the shard."
        )
    missing = kept[y].isna()
    if missing.any():
        raise FitError(
            f"{y!r} is missing or infinite in {int(missing.sum())} of {len(kept)} runs. A "
            "diverged run has no loss; use an error column, where it stands at chance."
        )
    refuse_mixed(kept, HELD, by, MOVES_OPTIMUM, NAME_IN_BY)
    group, groups = _factorize(kept, list(by))
    column, pairs = _factorize(kept.assign(_group=group), ["_group", batch_size])
    seed_code, seed_labels = pd.factorize(kept[seed], sort=True)
    _refuse_repeats(kept, seed_code, column, [*by, batch_size, seed])
    if columns.PARAMETER_COUNT not in by:
        refuse_mixed(kept, [columns.MODEL_SIZE], by, MOVES_OPTIMUM, NAME_IN_BY)
    have = np.zeros((len(seed_labels), len(pairs)), dtype=bool)
    have[seed_code, column] = True
    seeds_kept, columns_kept = _complete_block(have)
    if not (seeds_kept.any() and columns_kept.any()):
        raise FitError(
            "No batch size of any group has been run with a common set of seeds; "
            "complete the missing cells, or filter to seeds that are complete."
        )
    inside = seeds_kept[seed_code] & columns_kept[column]
    lost_seed = ~seeds_kept[seed_code]
    reason[kept.index[lost_seed]] = "the seed lacks too many groups and batch sizes"
    reason[kept.index[~inside & ~lost_seed]] = "the batch size lacks seeds that others have"

    group_of_pair = pairs["_group"].to_numpy()[columns_kept]
    present, place = np.unique(group_of_pair, return_inverse=True)
    rank = np.arange(len(place)) - np.searchsorted(place, place)
    shape = (len(present), int(rank.max()) + 1)
    batch_sizes = np.full(shape, np.nan)
    batch_sizes[place, rank] = pairs[batch_size].to_numpy()[columns_kept]
    values = np.full(have.shape, np.nan)
    values[seed_code, column] = kept[y]
    errors = np.full((int(seeds_kept.sum()), *shape), np.nan)
    errors[:, place, rank] = values[np.ix_(seeds_kept, columns_kept)]

    new_group = np.searchsorted(present, group[inside])
    used = cells.iloc[kept.index[inside]].set_axis(pd.Index(new_group, name="group"))
    per_group = kept[inside].groupby(new_group)[train_examples]
    if (per_group.nunique() > 1).any():
        raise FitError(f"{train_examples!r} varies within a group; add it to `by`.")
    named = [*by, batch_size, seed, *(c for c in (columns.CELL_ID,) if c in table)]
    out = reason != ""
    chance, chance_known = _chance(kept[inside], chance_error, y, new_group)
    return BatchGrid(
        groups=groups.iloc[present].reset_index(drop=True),
        train_examples=per_group.first().to_numpy(dtype=np.float64),
        batch_sizes=batch_sizes,
        errors=errors,
        chance_error=chance,
        seeds=tuple(seed_labels[seeds_kept]),
        cells=used,
        excluded=cells[list(dict.fromkeys(named))]
        .reset_index(drop=True)[out]
        .assign(reason=reason[out]),
        chance_known=chance_known,
    )


def _checked(
    cells: pd.DataFrame, y: str, by: Sequence[str], batch_size: str, train_examples: str, seed: str
) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """Return `cells` with a fresh index and clean numbers, and which rows are failed attempts.

    Says what is wrong with the table; the store knows only the ids of failed attempts, and so
    nothing is asked of their rows.
    """
    if not isinstance(cells, pd.DataFrame):
        raise FitError(f"`cells` is a {type(cells).__name__}; pass a pandas DataFrame.")
    if isinstance(by, str) or not by:
        raise FitError(f"`by` is {by!r}; pass the names of the columns that make a group.")
    needed = dict.fromkeys([y, *by, batch_size, train_examples, seed])
    lacking = [name for name in needed if name not in cells]
    if lacking:
        raise FitError(
            f"The table has no column {', '.join(map(repr, lacking))}. It has: "
            f"{', '.join(map(str, cells.columns))}. Name the right ones in the call, or add a "
            "constant column where the quantity does not vary, as cells.assign(momentum=0.0)."
        )
    if cells.empty:
        raise FitError("The table has no rows; check the study, grid or filter that made it.")
    table = cells.reset_index(drop=True)
    failed = pd.Series(False, index=table.index)
    if columns.STATUS in table:
        failed = table[columns.STATUS] == "failed"
    tried = table[~failed].infer_objects()
    if tried[seed].isna().any():
        raise FitError(f"{seed!r} is missing in {int(tried[seed].isna().sum())} rows.")
    for name in dict.fromkeys([*by, batch_size, train_examples]):
        if name in (batch_size, train_examples) or pd.api.types.is_numeric_dtype(tried[name]):
            table[name] = _numbers(tried[name]).reindex(table.index)
        elif tried[name].isna().any():
            raise FitError(f"{name!r} is missing in {int(tried[name].isna().sum())} rows.")
    table[y] = _numbers(tried[y], missing_allowed=True).reindex(table.index)
    for name in (batch_size, train_examples):
        if (table[name] < 1).any():
            raise FitError(f"{name!r} is {table[name].min():g} in the table; allowed: at least 1.")
    return table, failed


def _numbers(values: "pd.Series[float]", *, missing_allowed: bool = False) -> "pd.Series[float]":
    """Return `values` as floats of 12 significant digits, so that 0.1 * 3 and 0.3 agree."""
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    bad = numbers.isna() & values.notna() if missing_allowed else ~np.isfinite(numbers)
    if not pd.api.types.is_numeric_dtype(values):
        bad |= np.array([isinstance(value, str) for value in values], dtype=bool)
    if bad.any():
        raise FitError(
            f"{values.name!r} is {values[bad].iloc[0]} in {int(bad.sum())} rows; "
            "allowed: finite numbers, not as text."
        )
    if missing_allowed:
        return numbers.where(np.isfinite(numbers))
    distinct, codes = np.unique(numbers, return_inverse=True)
    rounded = np.array([float(f"{value:.12g}") for value in distinct])
    return pd.Series(rounded[codes], index=values.index, name=values.name)


def _factorize(table: pd.DataFrame, names: list[str]) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Return each row's code and the distinct rows in ascending order."""
    order = table.groupby(names, sort=True, observed=True).ngroup()
    codes: NDArray[np.intp] = np.asarray(order, dtype=np.intp)
    distinct = table[names].iloc[np.unique(codes, return_index=True)[1]]
    return codes, distinct.reset_index(drop=True)


def _refuse_repeats(
    table: pd.DataFrame, seeds: NDArray[np.intp], pairs: NDArray[np.intp], key: list[str]
) -> None:
    place = pd.Series(seeds * (int(pairs.max()) + 1) + pairs)
    repeated = place.duplicated(keep=False).to_numpy()
    if not repeated.any():
        return
    first = table[(place == place[repeated].iloc[0]).to_numpy()]
    where = ", ".join(f"{name} {first[name].iloc[0]}" for name in dict.fromkeys(key))
    differ = [name for name in AXES if name in table and first[name].nunique() > 1]
    remedy = f"They differ in {', '.join(differ)}: filter to one." if differ else "Drop repeats."
    raise FitError(f"{len(first)} rows have {where}; one is allowed. {remedy}")


def _complete_block(have: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows and columns of `have` are kept, so that all they share is present."""
    rows, cols = np.ones(have.shape[0], dtype=bool), np.ones(have.shape[1], dtype=bool)
    while rows.any() and cols.any():
        missing = ~have & rows[:, None] & cols
        by_row = missing.sum(axis=1) / cols.sum()
        by_column = missing.sum(axis=0) / rows.sum()
        if not missing.any():
            break
        if by_row.max() > by_column.max():
            rows[np.argmax(by_row)] = False
        else:
            cols &= by_column < by_column.max()
    return rows, cols


def _chance(
    table: pd.DataFrame, chance_error: str | float | None, y: str, group: NDArray[np.intp]
) -> tuple[Floats, bool]:
    """Return (G,) chance errors, and whether they are known."""
    if chance_error is None and y in columns.ERROR_RATES:
        chance_error = columns.CHANCE_ERROR
    known = True
    named = isinstance(chance_error, str) and chance_error in table
    if named and table[chance_error].notna().any():
        chance = _numbers(table[chance_error])
    elif chance_error is None or isinstance(chance_error, str):
        known = False
        chance = pd.Series(table[y].max(), index=table.index)
    elif np.isfinite(chance_error):
        chance = pd.Series(float(chance_error), index=table.index)
    else:
        raise FitError(f"`chance_error` is {chance_error!r}; pass a column or a finite number.")
    return np.asarray(chance.groupby(group).max(), dtype=np.float64), known

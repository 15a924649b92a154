"""What files say of a disturbed study: rows and since when, trainings, and the undisturbed rows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from benchmarks.chaos_study import Training
from orchestrator import Store
from orchestrator.storage.schema import HOW_IT_WENT

Row = tuple[str, int]
"""`cell_id`, and `started_at` in nanoseconds: another training of the cell has another."""


class Watch:
    """The rows of a store that are or were durable, read from its parts as plain Parquet."""

    def __init__(self, store: Path) -> None:
        self._folder = store / "cells"
        self._seen: set[str] = set()
        self._durable: dict[int, int] = {}
        self._rows: set[Row] = set()

    def look(self) -> int:
        """Take in the parts that are new, and return how many cells have had a durable row."""
        for path in self._folder.glob("part-*.parquet"):
            if path.name not in self._seen:
                self._seen.add(path.name)
                written_ns = path.stat().st_mtime_ns
                for cell_id, seed, started_at in _keys(path):
                    self._rows.add((cell_id, started_at))
                    earlier = self._durable.get(seed, written_ns)
                    self._durable[seed] = min(earlier, written_ns)
        return len(self._durable)

    def has(self, cells: float) -> bool:
        """Return whether at least so many cells have had a durable row."""
        return self.look() >= cells

    def lost(self) -> int:
        """Return how many rows that were seen are not there any more."""
        there = {
            (cell_id, started_at)
            for path in self._folder.glob("part-*.parquet")
            for cell_id, _, started_at in _keys(path)
        }
        return len(self._rows - there)

    def trained_again(self, log: Sequence[Training]) -> int:
        """Return how many trainings began when the cell already had a durable row."""
        return sum(
            each.began_ns > self._durable[each.seed] for each in log if each.seed in self._durable
        )


def _keys(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield `cell_id`, `seed` and `started_at` (in nanoseconds) of the rows of a part."""
    rows = pq.read_table(path, columns=["cell_id", "seed", "started_at"]).to_pandas()
    started_at = rows["started_at"].astype("datetime64[ns, UTC]").astype("int64")
    yield from zip(rows["cell_id"], rows["seed"], started_at, strict=True)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is not as it must be, counted."""

    missing: int
    """Planned cells without a row."""
    repeated: int
    """Rows of a cell beyond its first, in the files as they are."""
    lost: int
    """Rows that were durable and are gone."""
    trained_again: int
    """Trainings of a cell that began when it had a durable row."""
    differing: int
    """Cells whose results or curves are not, to the last bit, those of the undisturbed run."""
    left_over: int
    """Checkpoints, unreadable files and files set aside."""

    def faults(self) -> list[str]:
        """Return a line for each count that is not zero."""
        return [f"{name.replace('_', ' ')}: {count}" for name, count in vars(self).items() if count]


def findings(
    store: Path, undisturbed: Path, watch: Watch, log: Sequence[Training], cells: int
) -> Findings:
    """Return what is wrong with `store` after the study of `cells` has ended in it."""
    watch.look()
    in_files = Counter(pd.read_parquet(store / "cells", columns=["seed"])["seed"])
    ours, theirs = Store(store), Store(undisturbed)
    outcomes = [_without(each.read_cells(), HOW_IT_WENT) for each in (ours, theirs)]
    curves = [_without(each.read_curves(), {"pack_id"}) for each in (ours, theirs)]
    set_aside = store / "set-aside"
    return Findings(
        missing=len(set(range(cells)) - in_files.keys()),
        repeated=sum(count - 1 for count in in_files.values()),
        lost=watch.lost(),
        trained_again=watch.trained_again(log),
        differing=len(_differing(*outcomes) | _differing(*curves)),
        left_over=len(ours.open_packs())
        + len(ours.unreadable_parts())
        + (len(list(set_aside.iterdir())) if set_aside.exists() else 0),
    )


def _without(rows: pd.DataFrame, columns: set[str] | frozenset[str]) -> pd.DataFrame:
    return rows.drop(columns=list(columns), errors="ignore")


def _differing(ours: pd.DataFrame, theirs: pd.DataFrame) -> set[str]:
    """Return the cells one of whose rows is in one table alone."""
    both = ours.merge(theirs, how="outer", indicator="where")
    return set(both.loc[both["where"] != "both", "cell_id"])

"""Every law that the grids of a store can speak to, fitted, with what became of their cells."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from analysis import columns
from analysis.json_values import json_value
from analysis.law_analysis import (
    NOTHING_TO_ASK,
    LawAnalysis,
    ask_laws,
    law_exponents,
    law_verdicts,
)
from analysis.loading import FAILED, load_cells, load_grids, select_grids

__all__ = [
    "MEASURED",
    "CellCounts",
    "GridAnalysis",
    "StoreAnalysis",
    "analyze_store",
    "exponent_table",
    "verdict_table",
]

DOCUMENT_VERSION = 1
"""Raised when the meaning of a field of `StoreAnalysis.to_dict` changes."""

MEASURED = (
    "How often these methods are right was measured on tables of known truth: docs/validation.md "
    "has the figures, and what does not stand there was not measured."
)
"""Said once of all numbers, by every report."""

COUNTS = (
    columns.WORKLOAD_VERSION,
    columns.TRAIN_EXAMPLES,
    columns.BATCH_SIZE,
    columns.SEED,
    columns.STEPS,
)
"""Whole numbers, which become floats in a table that also holds failed cells."""


@dataclass(frozen=True, kw_only=True)
class CellCounts:
    """What became of the cells of a grid."""

    completed: int
    diverged: int
    """Kept, with the error of chance."""
    failed: int
    """Have a failed attempt and no result."""
    missing: int
    """Have neither."""

    @property
    def planned(self) -> int:
        """Cells of the grid, whatever became of them."""
        return self.completed + self.diverged + self.failed + self.missing

    def __str__(self) -> str:
        return (
            f"{self.completed + self.diverged} of {self.planned} cells have a result "
            f"({self.completed} completed, {self.diverged} diverged); "
            f"{self.failed} failed, {self.missing} missing"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class GridAnalysis:
    """One grid of one study."""

    study: str
    grid: str
    counts: CellCounts
    laws: tuple[LawAnalysis, ...]
    remark: str = ""
    """Why no law was asked; empty where one was."""
    failures: pd.DataFrame = field(repr=False)
    """Failed cells: `cell_id`, `attempts`, `error_message` of the last attempt."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "study": self.study,
            "grid": self.grid,
            "cells": {"planned": self.counts.planned, **asdict(self.counts)},
            "remark": self.remark or None,
            "laws": [law.to_dict() for law in self.laws],
            "failures": json_value(self.failures.to_dict("records")),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreAnalysis:
    """What a store's results say; `analyze_store` makes it."""

    store: str
    """The store as given, without credentials."""
    analyzed_at: datetime
    grids: tuple[GridAnalysis, ...]

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the studies analyzed."""
        return tuple(dict.fromkeys(grid.study for grid in self.grids))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what computed the numbers."""
        packages = ("scaling-study", "numpy", "scipy", "pandas")
        return {"python": platform.python_version()} | {name: version(name) for name in packages}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for strict JSON: NaN is null, unbounded is "inf" or "-inf"."""
        return {
            "document_version": DOCUMENT_VERSION,
            "store": self.store,
            "analyzed_at": self.analyzed_at.isoformat(timespec="seconds"),
            "versions": self.versions,
            "measured": MEASURED,
            "unbounded": ["inf", "-inf"],
            "grids": [grid.to_dict() for grid in self.grids],
        }

    def summary(self) -> str:
        """Return the fits as text, grid by grid."""
        blocks = []
        for grid in self.grids:
            blocks.append(f"Study {grid.study}, grid {grid.grid}: {grid.counts}.")
            if grid.remark:
                blocks.append(grid.remark)
            for law in grid.laws:
                blocks.extend(_law_texts(law))
        return "\n\n".join([*blocks, MEASURED])


def analyze_store(
    store: str | PathLike[str],
    *,
    study: str | None = None,
    grids: Sequence[str] | None = None,
) -> StoreAnalysis:
    """Fit every law that the grids of a store can speak to.

    A learning curve takes the best of the grid's other axes at each shard size, chosen and scored
    on different seeds. Axes of the workload (such as `label_noise`), and for the batch-size law the
    model's size and the weight decay, part a grid: each combination is analyzed for itself.

    Args:
        store: local folder, or a URI, as in `load_cells`.
        study: name of a study; may be left out where no two studies name a grid alike.
        grids: names of grids; by default all of them.

    Raises:
        FitError: no store, no cell with a result, unknown study or grid, or a grid's name in
            several studies.
    """
    members = select_grids(load_grids(store), study, grids)
    cells = load_cells(store, failed=True)
    return StoreAnalysis(
        store=_without_credentials(store),
        analyzed_at=datetime.now(UTC),
        grids=tuple(
            _analyze_grid(str(name), str(grid), cells, of_grid[columns.CELL_ID])
            for (name, grid), of_grid in members.groupby([columns.STUDY, columns.GRID], sort=False)
        ),
    )


def verdict_table(analyzed: StoreAnalysis) -> pd.DataFrame:
    """Return one row an exponent, and one for what all factors say jointly.

    Columns `study`, `grid`, `part`, `law`, `y`, `factor`, `exponent`, `lower95`, `upper95`,
    `lower90`, `upper90`, `claimed` (the exponent that the law claims; NaN where it claims none),
    `margin`, `verdict` (of a power law: the status of its fit), `reason`, `n_cells`, `seeds`.
    """
    rows = [
        {"study": grid.study, "grid": grid.grid, "part": law.part_name, "law": str(law.law)}
        | {"y": law.y, **row}
        for grid in analyzed.grids
        for law in grid.laws
        for row in law_verdicts(law)
    ]
    numbers = ["exponent", "lower95", "upper95", "lower90", "upper90", "claimed", "margin"]
    names = ["study", "grid", "part", "law", "y", "factor", *numbers, "verdict", "reason"]
    return pd.DataFrame(rows, columns=[*names, "n_cells", "seeds"])


def exponent_table(analyzed: StoreAnalysis) -> pd.DataFrame:
    """Return one row a factor and estimator of each batch-size law.

    Columns `study`, `grid`, `part`, `factor`, `estimator` (peaks, collapse, stability edge),
    `judged` (whether the verdict is by it), `exponent`, `standard_error`, `lower95`, `upper95`,
    `lower90`, `upper90`, `claimed` and `margin` (NaN for the edge, which no law claims),
    `verdict` (empty where not judged), `n_cells`, `seeds`.
    """
    rows = [
        {"study": grid.study, "grid": grid.grid, "part": law.part_name, **row}
        for grid in analyzed.grids
        for law in grid.laws
        for row in law_exponents(law)
    ]
    numbers = ["exponent", "standard_error", "lower95", "upper95", "lower90", "upper90"]
    names = ["study", "grid", "part", "factor", "estimator", "judged", *numbers]
    names += ["claimed", "margin", "verdict", "n_cells", "seeds"]
    return pd.DataFrame(rows, columns=names)


def _analyze_grid(study: str, grid: str, cells: pd.DataFrame, members: pd.Series) -> GridAnalysis:
    known = cells[cells[columns.CELL_ID].isin(members)]
    failed = known[columns.STATUS] == FAILED
    with_result = known[~failed].copy()
    diverged = int((with_result[columns.STATUS] == "diverged").sum())
    counts = CellCounts(
        completed=len(with_result) - diverged,
        diverged=diverged,
        failed=int(failed.sum()),
        missing=len(members) - len(known),
    )
    laws: tuple[LawAnalysis, ...] = ()
    remark = "No cell of this grid has a result; run the study first."
    if len(with_result):
        whole = [name for name in COUNTS if name in with_result]
        with_result[whole] = with_result[whole].astype("int64")
        laws = tuple(ask_laws(with_result))
        remark = "" if laws else NOTHING_TO_ASK
    return GridAnalysis(
        study=study,
        grid=grid,
        counts=counts,
        laws=laws,
        remark=remark,
        failures=known.loc[failed, [columns.CELL_ID, columns.ATTEMPTS, columns.ERROR_MESSAGE]],
    )


def _law_texts(law: LawAnalysis) -> Iterator[str]:
    where = f"{law.part_name}: " if law.part else ""
    if law.result is None:
        yield f"{where}no {law.law} of {law.y}. {law.problem}"
        return
    yield f"{where}{law.law}, {law.y}\n{law.result.summary()}"
    yield from (str(control) for control in law.controls)


def _without_credentials(store: str | PathLike[str]) -> str:
    text = str(store)
    if "://" not in text:
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

"""A pack's rows on their way into the store, and what its worker tells the driver of them."""

import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from analysis import columns
from orchestrator.cell import Cell, canonical_json
from orchestrator.packing import Pack
from orchestrator.storage.store import Store
from workloads.base import BaseWorkload
from workloads.outcome import TrainingResult

__all__ = ["Failure", "PackProgress", "PackRows", "ReportError", "common_columns"]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One attempt at a cell that ended in an exception or in the worker's death."""

    cell_id: str
    pack_id: str
    error_type: str
    error_message: str
    error_traceback: str
    host: str
    failed_at: datetime

    def __post_init__(self) -> None:
        """Write out what is not UTF-8 in the texts, as in a message about such a file's name.

        Python keeps its bytes as lone surrogates, which no Parquet file takes.
        """
        for name in ("error_type", "error_message", "error_traceback"):
            text: str = getattr(self, name)
            object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True, kw_only=True)
class PackProgress:
    """What became of a pack's cells since the last report."""

    pack_id: str
    completed: int = 0
    diverged: int = 0
    failures: tuple[Failure, ...] = ()
    best_validation_error: float | None = None
    """Lowest validation error among the cells reported here."""


def common_columns(
    pack: Pack, workload: BaseWorkload, workload_source: str, device: torch.device
) -> dict[str, Any]:
    """Return the columns that all rows of a pack share."""
    return {
        columns.CHANCE_ERROR: workload.chance_error,
        columns.PACK_ID: pack.pack_id,
        columns.PACKED_CELLS: len(pack.cells),
        columns.ARITHMETIC: pack.arithmetic.value,
        columns.DEVICE_NAME: torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        columns.HOST: socket.gethostname(),
        columns.CODE_VERSION: version("scaling-study"),
        columns.WORKLOAD_SOURCE: workload_source,
        columns.TORCH_VERSION: torch.__version__,
        columns.RAY_VERSION: version("ray"),
    }


class PackRows:
    """Collects rows, writes them as parts, and reports what became durable."""

    def __init__(
        self,
        pack: Pack,
        common: Mapping[str, Any],
        store: Store,
        report: Callable[[PackProgress], None],
    ) -> None:
        self._pack_id = pack.pack_id
        self._common = common
        self._store = store
        self._report = report
        self._began = self._flushed = time.monotonic()
        self._rows: list[dict[str, Any]] = []
        self._curves: list[dict[str, Any]] = []
        self._failures: list[Failure] = []
        self.ended: set[str] = set()
        """Cells with a result, durable or waiting."""

    def add_result(self, cell: Cell, result: TrainingResult, started_at: datetime) -> None:
        """Take in a cell that ended."""
        self._rows.append(
            {
                **_cell_columns(cell),
                **_result_columns(result),
                **self._common,
                columns.STARTED_AT: started_at,
            }
        )
        keys = {columns.CELL_ID: cell.cell_id, columns.PACK_ID: self._pack_id}
        self._curves.extend({**keys, **vars(look)} for look in result.curve)
        self.ended.add(cell.cell_id)

    def add_failure(self, cell: Cell, error: Exception) -> None:
        """Take in a cell that raised."""
        self._failures.append(
            Failure(
                cell_id=cell.cell_id,
                pack_id=self._pack_id,
                error_type=type(error).__name__,
                error_message=str(error),
                error_traceback="".join(traceback.format_exception(error)),
                host=socket.gethostname(),
                failed_at=datetime.now(UTC),
            )
        )

    def seconds_since_flush(self) -> float:
        """Return how long rows may have been waiting."""
        return time.monotonic() - self._flushed

    def flush(self) -> None:
        """Write what is waiting, then report it."""
        self._flushed = time.monotonic()
        rows, curves, failures = self._rows, self._curves, self._failures
        self._rows, self._curves, self._failures = [], [], []
        if rows:
            seconds = self._flushed - self._began
            rows = [{**row, columns.PACK_WALL_SECONDS: seconds} for row in rows]
            self._store.write_part(self._pack_id, rows, curves)
        if not rows and not failures:
            return
        statuses = [row[columns.STATUS] for row in rows]
        progress = PackProgress(
            pack_id=self._pack_id,
            completed=statuses.count("completed"),
            diverged=statuses.count("diverged"),
            failures=tuple(failures),
            best_validation_error=min(
                (row[columns.BEST_VALIDATION_ERROR] for row in rows), default=None
            ),
        )
        try:
            self._report(progress)
        except Exception as error:
            raise ReportError(error) from error


class ReportError(Exception):
    """What whoever is reported to raised: no cell's fault."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
        """The error itself."""


def _cell_columns(cell: Cell) -> dict[str, Any]:
    shared = (
        columns.WORKLOAD,
        columns.WORKLOAD_VERSION,
        columns.DATASET_FRACTION,
        columns.TRAIN_EXAMPLES,
        columns.MODEL_SIZE,
        columns.BATCH_SIZE,
        columns.LEARNING_RATE,
        columns.MOMENTUM,
        columns.WEIGHT_DECAY,
        columns.SEED,
        columns.BUDGET,
        columns.OPTIMIZER,
        columns.LEARNING_RATE_SCHEDULE,
        columns.BATCH_SIZE_SCHEDULE,
        columns.EVALUATION_SCHEDULE,
    )
    return {
        columns.CELL_ID: cell.cell_id,
        **{name: getattr(cell, name) for name in shared},
        columns.WORKLOAD_AXES: canonical_json(dict(cell.workload_axes)),
    }


def _result_columns(result: TrainingResult) -> dict[str, Any]:
    plain = {
        field.name: getattr(result, field.name) for field in fields(result) if field.name != "curve"
    }
    return {**plain, columns.WORKLOAD_METRICS: canonical_json(dict(result.workload_metrics))}

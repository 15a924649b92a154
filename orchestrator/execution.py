"""Training one pack and making its results durable, wherever it runs.

Both executors use this: a Ray Tune trial on a worker, and `--inline` in the driver's own process.
"""

import io
import logging
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from analysis import columns
from orchestrator.cell import Cell, canonical_json
from orchestrator.errors import StoreError
from orchestrator.packing import Pack
from orchestrator.stacking import stack_size
from orchestrator.store import Store
from orchestrator.torch_threads import one_torch_thread
from workloads.base import Workload
from workloads.outcome import TrainingResult
from workloads.training.arithmetic import Arithmetic
from workloads.training.lockstep import Lockstep

__all__ = [
    "CHECKPOINT_SECONDS",
    "FLUSH_SECONDS",
    "HANG_SECONDS",
    "Assignment",
    "DeviceLostError",
    "Failure",
    "PackProgress",
    "train_pack",
]

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 30.0
"""Rows wait at most this long for their part: what a killed worker can lose, besides the cells
under way."""

CHECKPOINT_SECONDS = 60.0
"""Cells under way are saved this often: what a killed worker repeats of them. Packs of the usual
length end before their first."""


HANG_SECONDS = 1800.0
"""A worker that makes no progress for so long is ended. The longest honest silences are loading
data, and a single step or evaluation of a very large model."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What all packs of a run have in common."""

    workload: Workload
    """What is trained, as an object: workers need not find it by name."""
    workload_source: str
    """Hash of its source, taken by the driver: a worker may not have the file."""
    store: Store
    """Where rows go."""
    flush_seconds: float = FLUSH_SECONDS
    """How long finished rows may wait for their part."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """How long cells may train without being saved."""
    hang_seconds: float = HANG_SECONDS
    """How long a worker may make no progress before it is taken to hang."""


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


@dataclass(frozen=True, kw_only=True)
class PackProgress:
    """What became of a pack's cells since the last report."""

    completed: int = 0
    diverged: int = 0
    failures: tuple[Failure, ...] = ()
    best_validation_error: float | None = None
    """Lowest validation error among the cells reported here."""


def train_pack(
    pack: Pack,
    assignment: Assignment,
    *,
    device: torch.device,
    report: Callable[[PackProgress], None],
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Train the members of `pack` that the store does not have, and write their rows.

    Rows are flushed at the end and once `flush_seconds` have passed; `report` is called after each
    flush, so that what it says is durable. A pack that trains long leaves checkpoints, from which
    it goes on where it is started again. `alive` is called whenever it got on.

    An exception in a stack halves it, until the cell that raises is alone and becomes a `Failure`;
    so does a lack of memory, after which all stacks are smaller. An error of the store travels.
    """
    with one_torch_thread():
        _Training(pack, assignment, device, report, alive).run()


class _Training:
    """One pack under way."""

    def __init__(
        self,
        pack: Pack,
        assignment: Assignment,
        device: torch.device,
        report: Callable[[PackProgress], None],
        alive: Callable[[], None],
    ) -> None:
        self._pack, self._assignment, self._device = pack, assignment, device
        self._store, self._alive = assignment.store, alive
        self._writer = _PackWriter(
            pack, _common_columns(pack, assignment, device), self._store, report
        )
        self._checkpointed = time.monotonic()
        self._saved: _Saved | None = None

    def run(self) -> None:
        durable = self._store.pack_cell_ids(self._pack.pack_id)
        left = {cell.cell_id: cell for cell in self._pack.cells if cell.cell_id not in durable}
        stacks = self._stacks(left)
        while stacks:
            stack = stacks.pop()
            self._saved = stack.saved
            self._alive()
            try:
                self._train(stack.cells)
            except Exception as error:  # the cells' boundary: it becomes a row in failures
                open_cells = [c for c in stack.cells if c.cell_id not in self._writer.ended]
                if isinstance(error, StoreError) or not open_cells:
                    raise
                if len(open_cells) == 1:
                    self._fail(open_cells[0], error)
                    continue
                logger.info("Halved a stack of %d: %s", len(open_cells), _sentence(error))
                middle = (len(open_cells) + 1) // 2
                if _is_out_of_memory(error):
                    stacks = [part for each in stacks for part in each.cut(middle)]
                stacks += _Stack(open_cells, self._saved).cut(middle)[::-1]
                self._forget(error)
        self._writer.flush()
        self._store.end_pack(self._pack.pack_id)

    def _stacks(self, left: dict[str, Cell]) -> list["_Stack"]:
        """Return the open cells as stacks, the one to train first at the end."""
        first: list[_Stack] = []
        for pack_id in filter(None, (self._pack.pack_id, self._pack.resumes)):
            saved = _saved(self._store, pack_id, self._pack.arithmetic)
            if saved is not None:
                under_way = [left.pop(c) for c in saved.under_way() if c in left]
                first = [_Stack(under_way, saved)] if under_way else []
                break
        rest = list(left.values())
        if not rest:
            return first
        size = stack_size(self._pack, rest, self._assignment.workload, self._store, self._device)
        return [*_Stack(rest, None).cut(size)[::-1], *first]

    def _train(self, cells: Sequence[Cell]) -> None:
        started_at = datetime.now(UTC)
        lockstep = Lockstep(
            self._assignment.workload,
            [cell.recipe() for cell in cells],
            self._pack.arithmetic,
            self._device,
        )
        if self._saved is not None:
            self._saved.load_into(lockstep, [cell.cell_id for cell in cells])
        for place, result in lockstep.run(lambda: self._pause(lockstep, cells)):
            self._writer.add_result(cells[place], result, started_at)
            self._alive()
        self._pause(lockstep, cells)

    def _pause(self, lockstep: Lockstep, cells: Sequence[Cell]) -> None:
        """Between stretches of steps: flush rows and leave a checkpoint where it is time."""
        self._alive()
        if self._writer.seconds_since_flush() >= self._assignment.flush_seconds:
            self._writer.flush()
        if time.monotonic() - self._checkpointed < self._assignment.checkpoint_seconds:
            return
        self._writer.flush()  # what ended before the checkpoint is not in it
        self._checkpointed = time.monotonic()
        if lockstep.members:
            self._saved = _Saved.of(lockstep, [cell.cell_id for cell in cells])
            members = [cell.cell_id for cell in self._pack.cells]
            data = self._saved.to_bytes(self._pack.arithmetic)
            self._store.write_checkpoint(self._pack.pack_id, members, data)

    def _fail(self, cell: Cell, error: Exception) -> None:
        logger.warning("Cell %s failed: %s", cell.cell_id, _sentence(error))
        self._writer.add_failure(cell, error)
        self._forget(error)

    def _forget(self, error: Exception) -> None:
        """Let go of what a stack that raised holds, and see whether the device still works."""
        error.__traceback__ = None
        if self._device.type == "cuda":
            try:
                torch.cuda.synchronize(self._device)
            except RuntimeError as fault:
                raise DeviceLostError(
                    f"The device does not work any more after {_sentence(error)}: {fault}"
                ) from fault
            torch.cuda.empty_cache()


class DeviceLostError(Exception):
    """A device that later cells of this process could not use: the process must end."""


@dataclass(frozen=True)
class _Saved:
    """Where a stack stood when it was last saved."""

    cell_ids: tuple[str, ...]
    """Members of the stack as it was begun; `state` knows which of them are under way."""
    state: Mapping[str, Any]
    """What `Lockstep.state` returned."""

    @classmethod
    def of(cls, lockstep: Lockstep, cell_ids: Sequence[str]) -> "_Saved":
        return cls(tuple(cell_ids), lockstep.state())

    def to_bytes(self, arithmetic: Arithmetic) -> bytes:
        buffer = io.BytesIO()
        content = {
            "arithmetic": arithmetic.value,
            "cell_ids": list(self.cell_ids),
            "state": dict(self.state),
        }
        torch.save(content, buffer)
        return buffer.getvalue()

    def under_way(self) -> list[str]:
        """Return the cells that had not ended."""
        return [self.cell_ids[member["place"]] for member in self.state["members"]]

    def load_into(self, lockstep: Lockstep, cell_ids: Sequence[str]) -> None:
        """Let `lockstep`, whose members are `cell_ids` (all under way here), go on from here."""
        place = {cell_id: i for i, cell_id in enumerate(cell_ids)}
        lockstep.load(self.state, [place.get(cell_id) for cell_id in self.cell_ids])


@dataclass(frozen=True)
class _Stack:
    """Cells to train at once."""

    cells: Sequence[Cell]
    saved: _Saved | None
    """Where they go on; None: at their beginning."""

    def cut(self, size: int) -> list["_Stack"]:
        """Return the same cells as stacks of at most `size`."""
        starts = range(0, len(self.cells), size)
        return [_Stack(self.cells[first : first + size], self.saved) for first in starts]


def _saved(store: Store, pack_id: str, arithmetic: Arithmetic) -> _Saved | None:
    """Return where a pack stands by its checkpoint; None where it has none of this arithmetic."""
    data = store.read_checkpoint(pack_id)
    if data is None:
        return None
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if content["arithmetic"] != arithmetic.value:
        logger.warning("Pack %s begins again: its checkpoint is of another arithmetic.", pack_id)
        return None
    return _Saved(tuple(content["cell_ids"]), content["state"])


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU, torch raises a plain RuntimeError that names its allocator.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _common_columns(pack: Pack, assignment: Assignment, device: torch.device) -> dict[str, Any]:
    """Return the columns that all rows of a pack share."""
    return {
        columns.CHANCE_ERROR: assignment.workload.chance_error,
        columns.PACK_ID: pack.pack_id,
        columns.PACKED_CELLS: len(pack.cells),
        columns.ARITHMETIC: pack.arithmetic.value,
        columns.DEVICE_NAME: torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        columns.HOST: socket.gethostname(),
        columns.CODE_VERSION: version("scaling-study"),
        columns.WORKLOAD_SOURCE: assignment.workload_source,
        columns.TORCH_VERSION: torch.__version__,
        columns.RAY_VERSION: version("ray"),
    }


class _PackWriter:
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
        return time.monotonic() - self._flushed

    def flush(self) -> None:
        """Write what is waiting, then report it."""
        self._flushed = time.monotonic()
        if self._rows:
            seconds = self._flushed - self._began
            rows = [{**row, columns.PACK_WALL_SECONDS: seconds} for row in self._rows]
            self._store.write_part(self._pack_id, rows, self._curves)
        if self._rows or self._failures:
            statuses = [row[columns.STATUS] for row in self._rows]
            self._report(
                PackProgress(
                    completed=statuses.count("completed"),
                    diverged=statuses.count("diverged"),
                    failures=tuple(self._failures),
                    best_validation_error=min(
                        (row[columns.BEST_VALIDATION_ERROR] for row in self._rows), default=None
                    ),
                )
            )
        self._rows, self._curves, self._failures = [], [], []


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
        columns.EVALUATION_SCHEDULE,
    )
    return {
        columns.CELL_ID: cell.cell_id,
        **{name: getattr(cell, name) for name in shared},
        columns.WORKLOAD_AXES: canonical_json(dict(cell.workload_axes)),
    }


def _result_columns(result: TrainingResult) -> dict[str, Any]:
    return {
        field.name: getattr(result, field.name) for field in fields(result) if field.name != "curve"
    }

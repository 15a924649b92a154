"""Training one pack and making its results durable, wherever it runs.

Both executors use this: a Ray Tune trial on a worker, and `--inline` in the driver's own process.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from torch import distributed
from typing_extensions import override

from orchestrator.cell import Cell
from orchestrator.errors import LaunchError, StorageError, StoreError
from orchestrator.fitness import Expected
from orchestrator.packing import Pack
from orchestrator.running.checkpoint import (
    SavedStack,
    UnusableCheckpointError,
    from_bytes,
    to_bytes,
)
from orchestrator.running.pack_rows import PackProgress, PackRows, ReportError, common_columns
from orchestrator.stacking import device_model, stack_size
from orchestrator.storage.store import Store
from orchestrator.torch_threads import one_torch_thread
from workloads.base import BaseWorkload, Workload
from workloads.self_trained import SelfTrained
from workloads.training.lockstep import Lockstep
from workloads.training.own_loop import run_own_loop

__all__ = [
    "CHECKPOINT_SECONDS",
    "FLUSH_SECONDS",
    "HANG_SECONDS",
    "Assignment",
    "DeviceLostError",
    "train_pack",
    "train_part",
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

    workload: BaseWorkload
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
    expected: Expected | None = None
    """What a node must have alike with the driver's; None where all is on one machine."""


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
    so does a lack of memory, after which all stacks are smaller. An error of the store travels, and
    so does what `report` raises.
    """
    try:
        with one_torch_thread():
            _Training(pack, assignment, device, report, alive).run()
    except ReportError as error:
        raise error.cause from None


def train_part(
    pack: Pack,
    assignment: Assignment,
    *,
    rank: int,
    device: torch.device,
    report: Callable[[PackProgress], None],
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Train the one cell of `pack` together with the other workers of a torch.distributed group.

    All go through the same steps; the worker of `rank` 0 alone writes and reports. What the cell
    raises travels: the others wait for this worker, and only its end ends them.
    """
    kind = _FirstPart if rank == 0 else _OtherPart
    with one_torch_thread():
        kind(pack, assignment, device, report, alive).run()


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
        self._rows = PackRows(
            pack,
            common_columns(pack, assignment.workload, assignment.workload_source, device),
            self._store,
            report,
        )
        self._checkpointed = time.monotonic()
        self._waiting: list[_Stack] = []
        self._saved: SavedStack | None = None
        self._origin = (
            f"{pack.arithmetic} of workload source {assignment.workload_source} on "
            f"{device_model(device)} by scaling-study {version('scaling-study')}, "
            f"torch {torch.__version__}"
        )

    def run(self) -> None:
        self._alive()
        durable, saved = self._found()
        left = {cell.cell_id: cell for cell in self._pack.cells if cell.cell_id not in durable}
        self._waiting = self._stacks(left, saved)
        while self._waiting:
            stack = self._waiting.pop()
            self._saved = stack.saved
            self._alive()
            try:
                self._train(stack.cells)
            except Exception as error:  # the cells' boundary: it becomes a row in failures
                open_cells = [c for c in stack.cells if c.cell_id not in self._rows.ended]
                if self._travels(error) or not open_cells:
                    raise
                if len(open_cells) == 1:
                    self._fail(open_cells[0], error)
                    continue
                logger.info("Halved a stack of %d: %s", len(open_cells), _sentence(error))
                middle = (len(open_cells) + 1) // 2
                if _is_out_of_memory(error):
                    self._waiting = [part for each in self._waiting for part in each.cut(middle)]
                self._waiting += _Stack(open_cells, self._saved).cut(middle)[::-1]
                self._forget(error)
        self._flush()
        self._end()

    def _travels(self, error: Exception) -> bool:
        """Return whether an exception ends the pack, rather than the cells that it came from."""
        return isinstance(error, StoreError | ReportError)

    def _flush(self) -> None:
        self._rows.flush()

    def _end(self) -> None:
        self._store.end_pack(self._pack.pack_id)

    def _found(self) -> tuple[set[str], list[SavedStack]]:
        """Return the cells that are durable, and where stacks stand that were under way."""
        packs = filter(None, (self._pack.pack_id, self._pack.resumes))
        saved = [stack for pack_id in packs for stack in self._read_checkpoint(pack_id)]
        return self._store.pack_cell_ids(self._pack.pack_id), saved

    def _stacks(self, left: dict[str, Cell], found: Sequence[SavedStack]) -> list["_Stack"]:
        """Return the open cells as stacks, the one to train first at the end."""
        going_on: list[_Stack] = []
        for saved in found:
            under_way = [left.pop(c) for c in saved.under_way() if c in left]
            going_on += [_Stack(under_way, saved)] if under_way else []
        rest = list(left.values())
        if not rest:
            return going_on[::-1]
        workload, size = self._assignment.workload, 1
        if isinstance(workload, Workload):
            size = stack_size(self._pack, rest, workload, self._store, self._device)
        return [*_Stack(rest, None).cut(size)[::-1], *going_on[::-1]]

    def _read_checkpoint(self, pack_id: str) -> list[SavedStack]:
        """Return where a pack's stacks stand; none where it has nothing to go on from."""
        data = self._store.read_checkpoint(pack_id)
        if data is None:
            return []
        try:
            return from_bytes(data, self._origin)
        except UnusableCheckpointError as error:
            logger.warning("Pack %s begins again: of its checkpoint, %s.", pack_id, error)
            return []

    def _train(self, cells: Sequence[Cell]) -> None:
        started_at, workload = datetime.now(UTC), self._assignment.workload
        if isinstance(workload, SelfTrained):
            (cell,) = cells
            result = run_own_loop(workload, cell.recipe(), self._device, self._pause_own_loop)
            self._rows.add_result(cell, result, started_at)
            return
        assert isinstance(workload, Workload)
        lockstep = Lockstep(
            workload,
            [cell.recipe() for cell in cells],
            self._pack.arithmetic,
            self._device,
        )
        if self._saved is not None:
            self._saved.load_into(lockstep, [cell.cell_id for cell in cells])
        for place, result in lockstep.run(lambda: self._pause(lockstep, cells)):
            self._rows.add_result(cells[place], result, started_at)
            self._alive()
        self._pause(lockstep, cells)

    def _pause_own_loop(self) -> None:
        """Between yields of a workload's own loop, which cannot be saved."""
        self._alive()
        if self._rows.seconds_since_flush() >= self._assignment.flush_seconds:
            self._flush()

    def _pause(self, lockstep: Lockstep, cells: Sequence[Cell]) -> None:
        """Between stretches of steps: flush rows and leave a checkpoint where it is time."""
        self._pause_own_loop()
        if time.monotonic() - self._checkpointed < self._assignment.checkpoint_seconds:
            return
        self._save(lockstep, cells)
        self._checkpointed = time.monotonic()

    def _save(self, lockstep: Lockstep, cells: Sequence[Cell]) -> None:
        self._flush()  # what ended before the checkpoint is not in it
        if lockstep.members:
            self._saved = SavedStack.of(lockstep, [cell.cell_id for cell in cells])
            # Halves that wait share what they go on from: it is saved with them, once.
            waiting = {id(stack.saved): stack.saved for stack in self._waiting}
            saved = [self._saved, *(each for each in waiting.values() if each is not None)]
            members = [cell.cell_id for cell in self._pack.cells]
            data = to_bytes(saved, self._origin)
            try:
                self._store.write_checkpoint(self._pack.pack_id, members, data)
            except StorageError as error:  # the next one may succeed; the cells train on
                logger.warning("Pack %s has no new checkpoint. %s", self._pack.pack_id, error)

    def _fail(self, cell: Cell, error: Exception) -> None:
        self._rows.add_failure(cell, error)
        self._forget(error)

    def _forget(self, error: Exception) -> None:
        """Let go of what a stack that raised holds, and see whether the device still works."""
        error.__traceback__ = None
        if self._device.type == "cuda":
            try:
                torch.cuda.synchronize(self._device)
            except RuntimeError as fault:
                self._rows.flush()
                raise DeviceLostError(
                    f"The device does not work any more after {_sentence(error)}: {fault}"
                ) from fault
            torch.cuda.empty_cache()


class _FirstPart(_Training):
    """The worker that writes the row of a cell that several train, and says where they begin."""

    @override
    def _found(self) -> tuple[set[str], list[SavedStack]]:
        return self._agreed(super()._found())

    def _agreed(
        self, found: tuple[set[str], list[SavedStack]] | None
    ) -> tuple[set[str], list[SavedStack]]:
        """Return what the first worker has found: others may see another store, or device."""
        shared = [found]
        distributed.broadcast_object_list(shared, src=0, device=self._device)
        (agreed,) = shared
        assert agreed is not None
        return agreed

    @override
    def _travels(self, error: Exception) -> bool:
        return True


class _OtherPart(_FirstPart):
    """A worker that leaves the store to the first one."""

    @override
    def _found(self) -> tuple[set[str], list[SavedStack]]:
        return self._agreed(None)

    @override
    def _flush(self) -> None:
        return

    @override
    def _end(self) -> None:
        return

    @override
    def _save(self, lockstep: Lockstep, cells: Sequence[Cell]) -> None:
        return


class DeviceLostError(LaunchError):
    """A device that later cells of this process could not use: the process must end."""


@dataclass(frozen=True)
class _Stack:
    """Cells to train at once."""

    cells: Sequence[Cell]
    saved: SavedStack | None
    """Where they go on; None: at their beginning."""

    def cut(self, size: int) -> list["_Stack"]:
        """Return the same cells as stacks of at most `size`."""
        starts = range(0, len(self.cells), size)
        return [_Stack(self.cells[first : first + size], self.saved) for first in starts]


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU, torch raises a plain RuntimeError that names its allocator.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

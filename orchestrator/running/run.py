"""Running a study: plan it, train what the store lacks, and say what became of every cell."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from cluster.capacity import Requirement, shortfalls
from orchestrator.errors import LaunchError, PlanError, StoreError
from orchestrator.fitness import Expected
from orchestrator.packing import Pack
from orchestrator.planning import Plan, local_slots, plan_study, refreshed
from orchestrator.running.execution import (
    CHECKPOINT_SECONDS,
    FLUSH_SECONDS,
    HANG_SECONDS,
    Assignment,
)
from orchestrator.running.executor import Executor, InlineExecutor, PackEnd
from orchestrator.running.interrupts import Interrupts, kept_interrupts
from orchestrator.running.pack_rows import Failure, PackProgress
from orchestrator.running.retries import WORKER_DIED, Retries
from orchestrator.storage.store import Store
from orchestrator.study_file.study import Study
from workloads.source import source_hash

__all__ = ["RunReport", "Tally", "run_study"]

logger = logging.getLogger(__name__)

MOST_WARNINGS = 10
"""Failed cells that are told where only warnings are; the summary counts all."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Where a run stands."""

    total: int
    """Cells that this run set out to train."""
    completed: int = 0
    diverged: int = 0
    failed: int = 0
    best_validation_error: float | None = None
    """Lowest validation error among the cells of this run."""

    @property
    def finished(self) -> int:
        """Cells that need no more work in this run."""
        return self.completed + self.diverged + self.failed


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run did."""

    plan: Plan
    """What it set out to do."""
    tally: Tally
    """How the cells that it trained ended."""
    failures: Mapping[str, str]
    """Error by cell_id, for the cells of the study that have failed, now or before."""
    set_aside: tuple[str, ...]
    """Files of the store that could not be read and were moved out of the way."""
    seconds: float
    """Wall-clock seconds of the whole run."""

    @property
    def all_done(self) -> bool:
        """Whether every cell of the study has its row."""
        return not self.failures


def run_study(
    study: Study,
    store: Store | str | os.PathLike[str],
    *,
    address: str | None = None,
    inline: bool = False,
    autoscaling: bool = False,
    retry_failed: bool = False,
    confirmed: bool = False,
    mix_sources: bool = False,
    flush_seconds: float = FLUSH_SECONDS,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    hang_seconds: float = HANG_SECONDS,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> RunReport:
    """Train the cells of `study` that `store` lacks, and return what became of them.

    `address`: a running Ray cluster ('auto' or HOST:PORT); None starts Ray on this machine.
    `inline`: train in this process without Ray, for debugging. `autoscaling`: nodes may join the
    cluster, so that cells which none of today's holds wait, with a warning. `retry_failed`,
    `confirmed` and `mix_sources`: see `plan_study`. `flush_seconds`: how long a worker may keep
    finished rows to itself, and so how much of them its death can cost. `checkpoint_seconds`: how
    long cells may train without being saved, and so how much of their training it can cost.
    `hang_seconds`: how long a worker may make no progress before it is ended and its pack tried
    again. `progress` is called whenever cells became durable.

    A cell that fails does not end the run; look at `RunReport.failures`. Raises `StudyFileError`,
    `PlanError` or `RequestError` before anything starts, `StoreError` where the store cannot be
    written or belongs to another driver, `LaunchError` where Ray cannot be reached or its nodes
    do not share the store or the driver's versions.
    """
    began = time.monotonic()
    opened = store if isinstance(store, Store) else Store(store)
    asked: dict[str, Any] = {"retry_failed": retry_failed, "mix_sources": mix_sources}
    with ExitStack() as stack:
        interrupts = stack.enter_context(kept_interrupts())
        plan = plan_study(study, opened, confirmed=confirmed, **asked)
        executor: Executor
        if inline:
            executor = InlineExecutor()
        else:
            from orchestrator.running.tune import RayExecutor  # ray takes seconds to import

            executor = RayExecutor(address, may_grow=autoscaling)
        if inline and any(pack.resources.workers > 1 for pack in plan.packs):
            raise PlanError(
                "Cells that several workers train together need Ray: run without --inline, or give "
                "them one worker under 'resources'."
            )
        if plan.packs:
            stack.enter_context(executor)
            _look_for_shortfalls(plan, executor, may_grow=autoscaling, alone=address is None)
        driving = stack.enter_context(opened.drive(f"scaling-study run {study.name}"))
        if plan.packs:
            _refuse_unfit(opened, executor)
        # Now that nobody else writes, and it is known how many packs train at once.
        slots = executor.slots if plan.packs else local_slots
        plan = refreshed(plan, opened, **asked, slots=slots)
        opened = opened.patient()
        opened.record_study(study.name, study.text)
        opened.record_grids(study.name, {grid.name: grid.cell_ids for grid in plan.grids})
        ledger = _Ledger(
            plan, opened, lambda tally: _tell(tally, interrupts, driving.beat, progress)
        )
        assignment = Assignment(
            workload=study.workload,
            workload_source=source_hash(study.workload),
            store=opened,
            flush_seconds=flush_seconds,
            checkpoint_seconds=checkpoint_seconds,
            hang_seconds=hang_seconds,
            expected=None if address is None else Expected.of(opened),
        )
        logger.info(
            "Study %s: %d cells in %d packs are to be trained, for %s.",
            study.name,
            ledger.tally.total,
            len(plan.packs),
            opened.location,
            extra={"study": study.name, "cells": ledger.tally.total},
        )
        _train(plan.packs, assignment, executor, ledger)
        ledger.settle(opened.cell_statuses())
        _end_packs(opened, ledger)
    return RunReport(
        plan=plan,
        tally=ledger.tally,
        failures=ledger.failures,
        set_aside=tuple(map(str, driving.set_aside)),
        seconds=time.monotonic() - began,
    )


def _tell(
    tally: Tally,
    interrupts: Interrupts,
    beat: Callable[[Mapping[str, object]], None],
    progress: Callable[[Tally], None],
) -> None:
    beat(asdict(tally))
    progress(tally)
    interrupts.raise_lost()


def _look_for_shortfalls(plan: Plan, executor: Executor, *, may_grow: bool, alone: bool) -> None:
    """Raise `PlanError` for cells that no node can hold; only warn if the cluster may yet grow.

    `alone`: on this machine, whose hardware alone counts.
    """
    requirements = [
        Requirement(
            purpose=f"model_size {need.model_size} ({need.parameters:,} parameters)",
            resources=replace(need.trial, named=()) if alone else need.trial,
        )
        for need in plan.resources
    ]
    missing = shortfalls(requirements, executor.nodes())
    if missing and not may_grow:
        hint = "" if alone else " Where an autoscaler adds such nodes, pass --autoscaling."
        raise PlanError("\n".join(missing) + hint)
    for sentence in missing:
        logger.warning("%s Until such a node joins, these cells wait.", sentence)


def _refuse_unfit(store: Store, executor: Executor) -> None:
    faults = executor.faults(store)
    if faults:
        raise LaunchError("\n".join(faults))


def _train(
    packs: Sequence[Pack], assignment: Assignment, executor: Executor, ledger: "_Ledger"
) -> None:
    """Train in rounds: packs whose process died twice come back as halves."""
    faults: list[str] = []
    retries = Retries(assignment.store, lambda: ledger.failures.keys(), ledger.add)
    pending = list(packs)
    while pending:
        fates = executor.train(pending, assignment, ledger.add)
        again: list[Pack] = []
        for pack in pending:
            fate = fates.get(pack.pack_id)
            if fate is not None and fate.end is PackEnd.FAULT:
                faults.append(f"Pack {pack.pack_id}: {fate.reason}")
            elif fate is not None:
                again += retries.after(pack, fate)
        pending = again
    if faults:
        raise StoreError(
            f"{len(faults)} of {len(packs)} packs could not be finished; what was durable is kept. "
            f"The first: {faults[0]}\nMend the cause and run the study again."
        )


def _end_packs(store: Store, ledger: "_Ledger") -> None:
    """Forget the checkpoints of packs all whose cells have ended, under whatever pack's name.

    A cell whose workers died keeps its own: tried again, it goes on from there.
    """
    open_packs = store.open_packs()
    if open_packs:
        attempts = store.read_failures()
        died = attempts.loc[attempts["error_type"] == WORKER_DIED, "cell_id"]
        ended = store.cell_statuses().keys() | ledger.failures.keys() - set(died)
        for pack_id, members in open_packs.items():
            if ended.issuperset(members):
                store.end_pack(pack_id)


class _Ledger:
    """Counts what became durable and writes failures down."""

    def __init__(self, plan: Plan, store: Store, tell: Callable[[Tally], None]) -> None:
        self._store = store
        self._tell = tell
        before = store.read_failures()
        self._attempts = Counter(before["cell_id"])
        latest = dict(zip(before["cell_id"], before["error_message"], strict=True))
        planned = {cell.cell_id for pack in plan.packs for cell in pack.cells}
        self.failures: dict[str, str] = {
            cell_id: latest[cell_id]
            for cell_id, status in plan.statuses.items()
            if status == "failed" and cell_id not in planned
        }
        self._planned = planned
        self.tally = Tally(total=len(planned))
        tell(self.tally)

    def add(self, progress: PackProgress) -> None:
        """Take in what a worker reported."""
        if progress.failures:
            self._record(progress.failures)
        self.failures |= {failure.cell_id: failure.error_message for failure in progress.failures}
        bests = [self.tally.best_validation_error, progress.best_validation_error]
        self.tally = Tally(
            total=self.tally.total,
            completed=self.tally.completed + progress.completed,
            diverged=self.tally.diverged + progress.diverged,
            failed=len(self._planned & self.failures.keys()),
            best_validation_error=min((best for best in bests if best is not None), default=None),
        )
        self._log(progress)
        self._tell(self.tally)

    def settle(self, statuses: Mapping[str, str]) -> None:
        """Count again from the store, whose rows outlive reports that a dying worker lost.

        Raises `StoreError` if a planned cell has neither a row nor a failure.
        """
        for cell_id in statuses.keys() & self.failures.keys():
            del self.failures[cell_id]  # it failed, its worker died, and the retry trained it
        open_cells = self._planned - statuses.keys() - self.failures.keys()
        if open_cells:
            raise StoreError(
                f"{len(open_cells)} cells have neither a row nor a failure, such as "
                f"{min(open_cells)}. Run the study again; if this repeats, report it."
            )
        counts = Counter(statuses.get(cell_id) for cell_id in self._planned)
        self.tally = replace(
            self.tally,
            completed=counts["completed"],
            diverged=counts["diverged"],
            failed=len(self._planned & self.failures.keys()),
        )

    def _log(self, progress: PackProgress) -> None:
        for failure in progress.failures:
            few = len(self.failures) <= MOST_WARNINGS
            logger.log(
                logging.WARNING if few else logging.INFO,
                "Cell %s of pack %s failed: %s: %s",
                failure.cell_id,
                failure.pack_id,
                failure.error_type,
                failure.error_message.partition("\n")[0],
                extra={"cell_id": failure.cell_id, "pack_id": failure.pack_id},
            )
        trained = progress.completed + progress.diverged
        logger.info(
            "Pack %s: %d cells more are durable, %d of them diverged. Ended: %d of %d, %d failed.",
            progress.pack_id,
            trained,
            progress.diverged,
            self.tally.finished,
            self.tally.total,
            self.tally.failed,
            extra={"pack_id": progress.pack_id, "cells": trained},
        )

    def _record(self, failures: Sequence[Failure]) -> None:
        self._attempts.update(failure.cell_id for failure in failures)
        self._store.record_failures(
            [
                {**asdict(failure), "attempt": self._attempts[failure.cell_id]}
                for failure in failures
            ]
        )

"""What the command line shows: documents for `--json`, and tables and lines for people."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cluster.health import ClusterReport
from orchestrator.forecast import GridForecast
from orchestrator.planning import Plan, ShapePath
from orchestrator.running.run import RunReport
from orchestrator.storage.store import Store
from workloads.axis import Axis
from workloads.registry import WorkloadError, find_workload, workload_names

if TYPE_CHECKING:
    from orchestrator.job import JobEnd, StudyJob

__all__ = [
    "health_document",
    "health_lines",
    "job_document",
    "job_end_lines",
    "job_start_lines",
    "plan_document",
    "plan_tables",
    "run_document",
    "run_lines",
    "status_document",
    "status_tables",
    "workload_document",
    "workload_tables",
]

STATUSES = ("new", "completed", "diverged", "failed")
MOST_FAILURES_SHOWN = 10


def plan_document(plan: Plan, forecast: Sequence[GridForecast] = ()) -> dict[str, Any]:
    """Return the plan, and what its grids can decide, as plain values."""
    return {
        "study": plan.study.name,
        "workload": plan.study.workload.name,
        "cells": len(plan.cells),
        **{status: plan.count(status) for status in STATUSES},
        "grids": {
            grid.name: {
                "cells": len(grid.cell_ids),
                **{status: grid.statuses[status] for status in STATUSES},
            }
            for grid in plan.grids
        },
        "cells_to_run": plan.cells_to_run,
        "packs": len(plan.packs),
        "steps": plan.steps,
        "training_flops": plan.training_flops,
        "evaluation_flops": plan.evaluation_flops,
        "paths": [
            {
                "model_size": path.model_size,
                "batch_size": path.batch_size,
                "cells": path.cells,
                "arithmetic": path.choice.arithmetic.value,
                "reason": path.choice.reason,
            }
            for path in plan.paths
        ],
        "predicted_worker_seconds": plan.predicted_seconds,
        "unmeasured_cells": plan.unmeasured_cells,
        "forecast": [each.to_dict() for each in forecast],
    }


def plan_tables(
    plan: Plan, forecast: Sequence[GridForecast] = (), *, simulated: bool = False
) -> Iterator[str | Table]:
    """Yield the plan, and what its grids can decide, as a person reads it."""
    study = plan.study
    yield f"Study {study.name}: {len(plan.cells):,} cells of workload {study.workload.name}"
    table = Table("grid", "cells", *STATUSES)
    for grid in plan.grids:
        counts = (f"{grid.statuses[status]:,}" for status in STATUSES)
        table.add_row(grid.name, f"{len(grid.cell_ids):,}", *counts)
    yield table
    yield (
        f"To train: {_count(plan.cells_to_run, 'cell')} in {_count(len(plan.packs), 'pack')}, "
        f"{plan.steps:,} steps, {plan.training_flops:.3g} training FLOPs and "
        f"{plan.evaluation_flops:.3g} of evaluation"
    )
    yield from _arithmetic_lines(plan)
    if plan.cells_to_run:
        yield f"Predicted time: {_predicted_time(plan)}"
    if failed := plan.count("failed"):
        yield f"{_count(failed, 'cell')} failed before; --retry-failed trains them again."
    yield from _forecast_lines(forecast, simulated)


def _forecast_lines(forecast: Sequence[GridForecast], simulated: bool) -> Iterator[str]:
    for each in forecast:
        law = "" if each.law is None else f", {each.law}"
        part = f", {each.part}" if each.part else ""
        yield f"What grid {each.grid}{part} can decide{law}:"
        yield from (f"  {sentence}" for sentence in each.sentences())
    if any(each.law is not None for each in forecast) and not simulated:
        yield "Whether noise leaves it decidable: add --power (and --noise or --pilot) to simulate."


def _predicted_time(plan: Plan) -> str:
    text = f"{_duration(plan.predicted_seconds)} of one worker"
    if plan.unmeasured_cells == plan.cells_to_run:
        return f"{text}, assumed: no earlier run in this store has cells of these shapes"
    if plan.unmeasured_cells:
        measured = plan.cells_to_run - plan.unmeasured_cells
        text += f", measured for {measured:,} cells and assumed for {plan.unmeasured_cells:,}"
    return text


def _arithmetic_lines(plan: Plan) -> Iterator[str]:
    """Say how many cells are stacked, and which are not and why."""
    stacked = sum(p.cells for p in plan.paths if p.choice.arithmetic.stacks)
    if stacked:
        yield f"Stacked: {_count(stacked, 'cell')}, many trained at once"
    reasons: dict[str, list[ShapePath]] = {}
    for path in plan.paths:
        if not path.choice.arithmetic.stacks:
            reasons.setdefault(path.choice.reason, []).append(path)
    for reason, paths in reasons.items():
        sizes = ", ".join(f"{size:g}" for size in sorted({p.model_size for p in paths}))
        cells = _count(sum(path.cells for path in paths), "cell")
        yield f"One by one: {cells} of model_size {sizes}: {reason}"


def run_document(report: RunReport) -> dict[str, Any]:
    """Return what a run did as plain values."""
    return {
        "study": report.plan.study.name,
        "cells": len(report.plan.cells),
        "trained": report.tally.completed + report.tally.diverged,
        "completed": report.tally.completed,
        "diverged": report.tally.diverged,
        "failed": dict(report.failures),
        "set_aside": list(report.set_aside),
        "seconds": report.seconds,
    }


def run_lines(report: RunReport, location: str) -> Iterator[str]:
    """Yield what a run did, one line each."""
    tally, plan = report.tally, report.plan
    trained = tally.completed + tally.diverged
    before = plan.count("completed") + plan.count("diverged")
    yield (
        f"Trained {_count(trained, 'cell')} in {_duration(report.seconds)} "
        f"({tally.diverged:,} diverged); {before:,} of {len(plan.cells):,} were done before."
    )
    for path in report.set_aside:
        yield f"Set aside, because it could not be read: {path}"
    if report.failures:
        yield f"{_count(len(report.failures), 'cell')} failed:"
        shown = list(report.failures.items())[:MOST_FAILURES_SHOWN]
        for cell_id, message in shown:
            yield f"  {cell_id}  {message.splitlines()[0] if message else '(no message)'}"
        if len(report.failures) > len(shown):
            yield f"  … and {len(report.failures) - len(shown):,} more, in the store's failures/"
        yield "Run again with --retry-failed to train them again."
    out = " --out DIR" if "://" in location else ""
    yield f"Results: {location}   Next: scaling-study analyze {shlex.quote(location)}{out}"


def job_document(job: "StudyJob", end: "JobEnd | None") -> dict[str, Any]:
    """Return a job, and how it ended where that is known, as plain values."""
    return {
        "submission_id": job.submission_id,
        "found_there": not job.is_new,
        "status": None if end is None else str(end.status),
        "exit_code": None if end is None else end.exit_code,
        "message": None if end is None else end.message,
    }


def job_start_lines(job: "StudyJob", address: str) -> Iterator[str]:
    """Yield what a person may do about a job that runs."""
    yield (
        f"Sent as the job {job.submission_id}."
        if job.is_new
        else f"The job {job.submission_id} is at it already; nothing was sent."
    )
    yield "It goes on whatever becomes of this command; the same command follows it again."
    yield f"To stop it: ray job stop {job.submission_id} --address {shlex.quote(address)}"


def job_end_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield how a job ended, from its document."""
    name, status = document["submission_id"], document["status"]
    if status is None:
        yield f"The job {name} is on its way."
    elif document["exit_code"] in (None, 0):
        yield f"The job {name}: {status}. {document['message']}".rstrip()
    else:
        yield f"The job {name}: {status}, exit code {document['exit_code']}."


def status_document(store: Store) -> dict[str, Any]:
    """Return the state of a store as plain values; touches nothing."""
    statuses = store.cell_statuses()
    failed = store.failed_cell_ids()
    beat = store.heartbeat()
    return {
        "store": store.location,
        "cells": len(statuses),
        "completed": sum(status == "completed" for status in statuses.values()),
        "diverged": sum(status == "diverged" for status in statuses.values()),
        "failed": len(failed),
        "grids": [
            {"study": study, "grid": grid, "cells": len(ids), **_grid_counts(ids, statuses, failed)}
            for (study, grid), ids in store.read_grids().items()
        ],
        "open_packs": len(store.open_packs()),
        "unreadable": [f"{part.path}: {part.reason}" for part in store.unreadable_parts()],
        "driver": None if beat is None else beat.to_dict(),
    }


def _grid_counts(
    cell_ids: list[str], statuses: Mapping[str, str], failed: set[str]
) -> dict[str, int]:
    counts = Counter(
        statuses.get(cell_id, "failed" if cell_id in failed else "new") for cell_id in cell_ids
    )
    return {status: counts[status] for status in STATUSES}


def status_tables(document: Mapping[str, Any]) -> Iterator[str | Table]:
    """Yield the state of a store as a person reads it."""
    yield (
        f"{document['store']}: {document['cells']:,} cells done, {document['diverged']:,} of them "
        f"diverged; {document['failed']:,} failed"
    )
    if document["grids"]:
        table = Table("study", "grid", "cells", *STATUSES)
        for grid in document["grids"]:
            counts = (f"{grid[status]:,}" for status in STATUSES)
            table.add_row(grid["study"], grid["grid"], f"{grid['cells']:,}", *counts)
        yield table
    for sentence in document["unreadable"]:
        yield f"Cannot be read, the next run sets it aside: {sentence}"
    if document["open_packs"]:
        packs = _count(document["open_packs"], "pack")
        yield f"{packs} under way, with a checkpoint to go on from."
    yield _driver_line(document["driver"])


def _driver_line(driver: Mapping[str, Any] | None) -> str:
    if driver is None or not driver["alive"]:
        return "No driver is running."
    progress = driver["progress"]
    line = f"Running: {driver['driver']} (host {driver['host']}, pid {driver['pid']})"
    if progress:
        finished = progress["completed"] + progress["diverged"] + progress["failed"]
        line += f", {finished:,} of {progress['total']:,} cells of this run"
    return line


def workload_document() -> list[dict[str, Any]]:
    """Return every known workload with its axes as plain values, or with its `fault`."""
    return [_workload(name) for name in workload_names()]


def _workload(name: str) -> dict[str, Any]:
    try:
        workload = find_workload(name)
    except WorkloadError as error:
        return {"name": name, "fault": str(error)}
    return {
        "name": workload.name,
        "version": workload.version,
        "summary": (type(workload).__doc__ or "").strip().split("\n")[0],
        "chance_error": workload.chance_error,
        "axes": [_axis(workload.model_size), *map(_axis, workload.axes)],
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "name": axis.name,
        "allowed": axis.allowed(),
        "default": axis.default,
        "meaning": axis.meaning,
    }


def workload_tables(document: list[dict[str, Any]]) -> Iterator[str | Table]:
    """Yield every known workload as a person reads it."""
    for workload in document:
        if "fault" in workload:
            yield f"{workload['name']} cannot be trained: {workload['fault']}"
            continue
        yield f"{workload['name']} (version {workload['version']}): {workload['summary']}"
        table = Table("axis", "allowed", "default", "meaning")
        for axis in workload["axes"]:
            default = "-" if axis["default"] is None else str(axis["default"])
            table.add_row(axis["name"], axis["allowed"], default, axis["meaning"])
        yield table


def health_document(cluster: ClusterReport, faults: Sequence[str]) -> dict[str, Any]:
    """Return what the nodes of a cluster say of themselves as plain values."""
    return {
        "driver": dict(cluster.versions),
        "nodes": [asdict(node) for node in cluster.nodes],
        "faults": list(faults),
    }


def health_lines(cluster: ClusterReport, faults: Sequence[str]) -> Iterator[str | Table]:
    """Yield the nodes of a cluster, and what is wrong with them, as a person reads it."""
    versions = ", ".join(f"{name} {number}" for name, number in cluster.versions.items())
    yield f"The driver has {versions}"
    table = Table("node", "versions", "GPUs", "clock", "reads store", "writes store", "token")
    for node in cluster.nodes:
        if node.silent:
            table.add_row(node.name, "no answer", f"{node.gpus:g}", "", "", "", "")
            continue
        models = ", ".join(dict.fromkeys(node.gpu_names))
        table.add_row(
            node.name,
            "the same" if node.versions == cluster.versions else "others",
            f"{node.gpus:g} {models}".strip(),
            f"{node.clock_ahead:+.1f} s",
            "no" if node.reads else "yes",
            "no" if node.writes else "yes",
            node.token_mode,
        )
    yield table
    yield from faults
    verdict = _count(len(faults), "fault") if faults else "Nothing is wrong"
    yield f"{verdict} on {_count(len(cluster.nodes), 'node')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

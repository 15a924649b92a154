"""What a person sees at a terminal while a study runs."""

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from orchestrator.running.run import Tally

__all__ = ["ProgressDisplay"]


class ProgressDisplay:
    """A line on standard error: cells done, failed and diverged, time left, best error so far."""

    def __init__(self, console: Console, *, shown: bool) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not shown,
        )
        self._task = self._progress.add_task("cells", total=None, detail="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, tally: Tally) -> None:
        """Show where the run stands."""
        details = []
        if tally.diverged:
            details.append(f"{tally.diverged} diverged")
        if tally.failed:
            details.append(f"[red]{tally.failed} failed[/red]")
        if tally.best_validation_error is not None:
            details.append(f"best validation error {tally.best_validation_error:.4f}")
        self._progress.update(
            self._task,
            total=tally.total,
            completed=tally.finished,
            detail=", ".join(details),
        )

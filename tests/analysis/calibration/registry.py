"""Which sections the calibration has, and the rows that they return.

A section is a module with three functions, so that worker processes can share its work:

- `tasks(sets)`: a list of picklable tasks that together make `sets` tables of each kind; every task
  holds the seed of its random numbers.
- `measure(task)`: what one task found, picklable.
- `rows(results)`: `Row`s from all the results, in the order of the tasks.

To add one: write the module, and its name below.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

SECTIONS = (
    "power_law",
    "best_setting",
    "prediction",
    "critical_batch",
    "batch_law",
    "noisy_quadratic",
)
"""Modules of this package, in the order of the table."""

FULL = 2000
"""Tables of each kind at which required figures hold as they stand."""

TOLERANCE = 2.81
"""Standard errors by which fewer tables may miss a figure: two-sided 99.5 % of a normal."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of the calibration."""

    what: str
    """What was measured, of which procedure."""
    truth: str
    """What the tables were made of."""
    sets: int
    """How many tables."""
    value: float
    """The figure measured."""
    required: tuple[float, float] | None = None
    """Lowest and highest figure allowed; None where it is only reported."""
    allowance: float = 0.0
    """By how much less than `FULL` tables may miss `required`; 0 at full size."""

    @property
    def ok(self) -> bool:
        """Whether the figure is as required, or none is."""
        if self.required is None:
            return True
        lower, upper = self.required
        return lower - self.allowance <= self.value <= upper + self.allowance


def share_row(
    what: str, truth: str, hits: int, sets: int, required: tuple[float, float] | None = None
) -> Row:
    """Return the row of a share of tables, with the binomial allowance of a reduced run."""
    allowance = 0.0
    if required is not None and sets < FULL:
        nearest = min(max(hits / sets, required[0]), required[1])
        allowance = TOLERANCE * math.sqrt(nearest * (1 - nearest) / sets)
    return Row(
        what=what,
        truth=truth,
        sets=sets,
        value=hits / sets,
        required=required,
        allowance=allowance,
    )


def section(name: str) -> ModuleType:
    """Return the module of a section."""
    if name not in SECTIONS:
        raise ValueError(f"Unknown section {name!r}. Available: {', '.join(SECTIONS)}.")
    return import_module(f"tests.analysis.calibration.{name}")


def markdown(rows: Iterable[Row]) -> str:
    """Return the rows as one table."""
    head = ["what", "truth", "sets", "value", "required", "ok"]
    lines = [_line(head), _line(["---", "---", "---:", "---:", "---:", "---"])]
    for row in rows:
        required = "" if row.required is None else _range(row.required)
        if row.required is not None and row.allowance:
            required += f" ± {row.allowance:.3f}"
        ok = "" if row.required is None else ("yes" if row.ok else "**no**")
        lines.append(_line([row.what, row.truth, str(row.sets), f"{row.value:.3f}", required, ok]))
    return "\n".join(lines)


def _range(bounds: tuple[float, float]) -> str:
    lower, upper = bounds
    if math.isinf(lower):
        return f"≤ {upper:g}"
    return f"≥ {lower:g}" if math.isinf(upper) else f"{lower:g} to {upper:g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""Numbers and tables as the page of results has them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any


def number(value: float) -> str:
    """Return three decimals, with a minus sign proper."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    return f"{value:.3f}".replace("-", "−")


def interval(value: float, low: float, high: float) -> str:
    """Return a number with its interval, or that it has none."""
    if math.isnan(value):
        return "none"
    if not (math.isfinite(low) or math.isfinite(high)):
        return f"{number(value)}, no interval"
    return f"{number(value)} ({number(low)} to {number(high)})"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield a Markdown table; rows that are short are filled up."""
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' for _ in heads)} |"
    for row in rows:
        filled = [*map(str, row), *[""] * (len(heads) - len(row))]
        yield f"| {' | '.join(filled)} |"

"""Summaries of fits as text and HTML: facts, a table of numbers, and notes beneath."""

import math
from dataclasses import dataclass
from html import escape

import pandas as pd

__all__ = ["Summary", "format_number"]

WIDTH = 78


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `summary()` returns: printable, and rendered as HTML in notebooks."""

    title: str
    """One line above all."""
    facts: tuple[tuple[str, str], ...]
    """What was fitted to what: names and values, printed in two columns."""
    table: pd.DataFrame
    """One row a parameter; its index holds the names."""
    notes: tuple[str, ...] = ()
    """Sentences beneath, such as the status."""

    def __str__(self) -> str:
        half = WIDTH // 2 - 1
        cells = [_spread(f"{name}:", value, half) for name, value in self.facts]
        pairs = [cells[i : i + 2] for i in range(0, len(cells), 2)]
        lines = ["  ".join(pair) for pair in pairs]
        body = self.table.to_string(float_format=format_number, justify="right").splitlines()
        rule, thin = "=" * WIDTH, "-" * WIDTH
        return "\n".join(
            [self.title.center(WIDTH).rstrip(), rule, *lines, thin, *body, rule, *self.notes]
        )

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self.facts
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        table = self.table.to_html(float_format=format_number, escape=True)
        return f"<h4>{escape(self.title)}</h4><table>{facts}</table>{table}{notes}"


def format_number(value: float) -> str:
    """Return `value` to four digits, infinities as ∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def _spread(name: str, value: str, width: int) -> str:
    gap = max(1, width - len(name) - len(value))
    return f"{name}{' ' * gap}{value}"

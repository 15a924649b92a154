"""Summaries of fits as text and HTML: facts, a table of numbers, and notes beneath."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

import pandas as pd

__all__ = ["Summary", "format_number", "table_texts"]

WIDTH = 78
HALF = WIDTH // 2 - 1
"""Of a line that holds two facts."""


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
        rule, thin = "=" * WIDTH, "-" * WIDTH
        head = [self.title.center(WIDTH).rstrip(), rule, *_fact_lines(self.facts), rule]
        heading, *body = _table_lines(self.table)
        notes = [line for note in self.notes for line in wrap(note, WIDTH, subsequent_indent="  ")]
        return "\n".join([*head, heading, thin, *body, rule, *notes])

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self.facts
        )
        names, rows = table_texts(self.table)
        heading = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return (
            f"<h4>{escape(self.title)}</h4><table>{facts}</table><table><thead><tr>{heading}</tr>"
            f"</thead><tbody>{body}</tbody></table>{notes}"
        )


def format_number(value: float) -> str:
    """Return `value` to four digits, infinities as ∞, and what is missing as a dash."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def table_texts(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of a table as texts, its index first."""
    names = [str(name) if name is not None else "" for name in table.index.names]
    keys = [key if isinstance(key, tuple) else (key,) for key in table.index]
    values = table.itertuples(index=False, name=None)
    rows = [[_text(cell) for cell in (*key, *row)] for key, row in zip(keys, values, strict=True)]
    return [*names, *map(str, table.columns)], rows


def _text(value: Any) -> str:
    return format_number(value) if isinstance(value, float) else str(value)


def _fact_lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return two facts a line; one alone that is too long for half of it."""
    lines: list[str] = []
    waiting = ""
    for name, value in facts:
        fact = _spread(f"{name}:", value, HALF)
        if waiting and len(fact) <= HALF:
            lines.append(f"{waiting}  {fact}")
            waiting = ""
            continue
        lines += [waiting] if waiting else []
        waiting = fact if len(fact) <= HALF else ""
        if not waiting:
            lines.append(_spread(f"{name}:", value, WIDTH))
    return [*lines, waiting] if waiting else lines


def _table_lines(table: pd.DataFrame) -> list[str]:
    """Return heading and rows, names at the left, numbers at the right of even columns."""
    names, rows = table_texts(table)
    columns = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    left = table.index.nlevels
    room = WIDTH - sum(columns[:left]) - 2 * (left - 1)
    even = max(columns[left:], default=0) + 2
    if even * (len(columns) - left) <= room:
        columns[left:] = [room // (len(columns) - left)] * (len(columns) - left)
    else:
        columns[left:] = [width + 2 for width in columns[left:]]
    lines = []
    for row in [names, *rows]:
        placed = [
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, columns, strict=True))
        ]
        lines.append(("  ".join(placed[:left]) + "".join(placed[left:])).rstrip())
    return lines


def _spread(name: str, value: str, width: int) -> str:
    gap = max(1, width - len(name) - len(value))
    return f"{name}{' ' * gap}{value}"

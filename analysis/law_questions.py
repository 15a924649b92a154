"""Which laws a table of cells can speak to, before any of them is asked.

A power law of generalization error is asked of a table with 4 or more shard sizes; the batch-size
law of one with 4 or more batch sizes that also varies the learning rate, the shard or the
momentum. A plan asks this of cells that are not trained yet.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd

from analysis import columns

__all__ = [
    "LAW_FACTORS",
    "LEVELS_NEEDED",
    "NOTHING_TO_ASK",
    "Law",
    "LawQuestion",
    "law_questions",
    "part_name",
]

LEVELS_NEEDED = 4
"""Shard sizes for a power law (three parameters and one to spare), and batch sizes for a law of
their optimum (an optimum that is not at an edge, and a neighbour known to be worse)."""

LAW_FACTORS = (columns.LEARNING_RATE, columns.TRAIN_EXAMPLES, columns.MOMENTUM)
CHOICES = (
    columns.MODEL_SIZE,
    columns.BATCH_SIZE,
    columns.LEARNING_RATE,
    columns.MOMENTUM,
    columns.WEIGHT_DECAY,
)
"""Axes whose best value is chosen at each shard size of a learning curve."""
HELD_FIXED = (columns.MODEL_SIZE, columns.WEIGHT_DECAY)
"""Axes that the batch-size law does not speak of: they part a grid, as the optimum may depend on
them."""
SETTINGS = (columns.OPTIMIZER, columns.LEARNING_RATE_SCHEDULE, columns.BATCH_SIZE_SCHEDULE)
"""Axes of every workload that, like its own, part a grid: their values are never pooled."""
NOTHING_TO_ASK = (
    f"No law was asked: a power law needs {LEVELS_NEEDED} distinct train_examples, and the "
    f"batch-size law {LEVELS_NEEDED} values of batch_size and 2 of learning_rate, train_examples "
    "or momentum."
)


class Law(StrEnum):
    """What is asked of a grid."""

    POWER_LAW = "power law of error"
    BATCH_SIZE = "batch-size law"


@dataclass(frozen=True, kw_only=True, eq=False)
class LawQuestion:
    """One law, to be asked of a grid or of a part of it."""

    law: Law
    part: Mapping[str, Any]
    """Values of the axes that are held fixed here and vary in the grid; empty for a whole grid."""
    choose: tuple[str, ...]
    """Columns whose best value is chosen at each size of a learning curve."""
    cells: pd.DataFrame = field(repr=False)
    """The cells that the law is asked of."""

    @property
    def part_name(self) -> str:
        """Such as `label_noise = 0.1, model_size = 64`; empty for a whole grid."""
        return part_name(self.part)


def law_questions(cells: pd.DataFrame) -> Iterator[LawQuestion]:
    """Yield every law that `cells` can speak to, one for each part of the grid.

    `cells`: one row a cell, with the columns of the axes; results are not looked at.
    """
    apart = [name for name in (*_workload_axes(cells), *SETTINGS) if _varies(cells, name)]
    for part, rows in _parts(cells, apart):
        if rows[columns.TRAIN_EXAMPLES].nunique() >= LEVELS_NEEDED:
            choose = tuple(name for name in CHOICES if _varies(rows, name))
            yield LawQuestion(law=Law.POWER_LAW, part=part, choose=choose, cells=rows)
    apart += [name for name in HELD_FIXED if _varies(cells, name)]
    for part, rows in _parts(cells, apart):
        if rows[columns.BATCH_SIZE].nunique() >= LEVELS_NEEDED and any(
            _varies(rows, name) for name in LAW_FACTORS
        ):
            yield LawQuestion(law=Law.BATCH_SIZE, part=part, choose=(), cells=rows)


def part_name(part: Mapping[str, Any]) -> str:
    """Return the values of a part's axes, such as `label_noise = 0.1, model_size = 64`."""
    return ", ".join(f"{name} = {_text(value)}" for name, value in part.items())


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parts(
    cells: pd.DataFrame, names: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    if not names:
        yield {}, cells
        return
    for values, rows in cells.groupby(list(names), dropna=False):
        yield dict(zip(names, values, strict=True)), rows


def _workload_axes(cells: pd.DataFrame) -> list[str]:
    texts = cells[columns.WORKLOAD_AXES].dropna().unique()
    return list(dict.fromkeys(name for text in texts for name in json.loads(text)))


def _varies(cells: pd.DataFrame, name: str) -> bool:
    return name in cells and bool(cells[name].nunique(dropna=False) > 1)

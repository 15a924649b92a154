"""The best batch size (smith_le.yaml): laws, grid by grid, and the curves that they rest on.

The verdicts are those of the regression of optima, as in every report.
"""

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis import BatchSizeLaw, OptimumLabel, check_batch_size_law, optimal_batch_sizes
from studies.tables.markdown import interval, number, table
from studies.tables.stores import Stores, with_result

FACTORS = ["learning_rate", "train_examples", "momentum"]
HELD_FIXED = {
    "cross": "cumulative learning rate",
    "flow": "cumulative effective learning rate",
    "steps_500": "steps",
    "steps_2000": "steps",
    "steps_8000": "steps",
}
"""What the cells of each grid have alike."""
PARTS = {
    "of 12,500 examples and more": "train_examples >= 12_500",
    "of batch sizes up to 512": "batch_size <= 512",
}
"""Parts of the grid of 8,000 steps, looked at after its verdict: the flat step, the grid's end."""
FEW = 4
"""Curves of a grid whose best batch sizes are printed one by one."""
LATER = 2**-2, 2**-3
"""Shares of the best batch size at which the error is looked at."""


def laws(stores: Stores) -> Iterator[str]:
    """Yield the exponents by both estimators, grid by grid, then where each optimum lies."""
    checked = {
        grid: check_batch_size_law(of_grid(stores, grid), held_fixed=held)
        for grid, held in HELD_FIXED.items()
    }
    last = of_grid(stores, "steps_8000")
    checked |= {
        f"steps_8000, {part}": check_batch_size_law(last.query(condition), held_fixed="steps")
        for part, condition in PARTS.items()
    }
    heads = ("grid", "factor", "by optima (95 %)", "by collapse", "verdict", "why")
    yield from table(heads, (row for grid, law in checked.items() for row in verdicts(grid, law)))
    yield ""
    for grid, law in checked.items():
        groups = ", ".join(f"{n} {label}" for label, n in law.regime["groups"].items() if n)
        yield f"- {grid}: optima of {len(law.optima)} curves: {groups}. {' '.join(law.flags)}"
        if len(law.optima) <= FEW:
            yield f"  {'; '.join(map(optimum, law.optima.to_dict('records')))}."


def verdicts(grid: str, law: BatchSizeLaw) -> Iterator[tuple[str, ...]]:
    """Yield a row for each factor that the grid varies."""
    for factor in FACTORS:
        if law.optima[factor].nunique() > 1:
            both = (
                interval(*estimated.loc[factor, ["exponent", "lower95", "upper95"]])
                for estimated in (law.peaks, law.collapse.exponents)
            )
            yield grid, factor, *both, str(law.verdicts[factor]), law.reasons[factor]


def optimum(row: Mapping[Hashable, Any]) -> str:
    """Return where the best batch size of one curve lies: a number, or what it is known to be."""
    where = f"N {row['train_examples']:,.0f}, m {row['momentum']:g}"
    if row["label"] == OptimumLabel.INTERIOR:
        return f"{where}: {row['optimal_batch_size']:.0f}"
    low, high = 2 ** row["log2_lower"], 2 ** row["log2_upper"]
    known = f"{low:.0f} to {high:.0f}" if math.isfinite(high) else f"{low:.0f} or more"
    return f"{where}: {known} ({row['label']})"


def censored(stores: Stores) -> Iterator[str]:
    """Yield how many curves of the cross are censored at each level of each factor."""
    optima = optimal_batch_sizes(of_grid(stores, "cross"))
    rows = [
        (factor, f"{level:,g}", f"{(own['label'] == OptimumLabel.CENSORED).sum()} of {len(own)}")
        for factor in FACTORS
        for level, own in optima.groupby(factor)
    ]
    yield from table(("factor", "level", "censored"), rows)


def steepness(stores: Stores) -> Iterator[str]:
    """Yield the median error at and below the best batch size, of the cross's interior curves."""
    cells = of_grid(stores, "cross")
    optima = optimal_batch_sizes(cells)
    errors = cells.groupby([*FACTORS, "batch_size"])["validation_error"].mean()
    interior = optima[optima["label"] == OptimumLabel.INTERIOR]
    medians = []
    for share in (1, *LATER):
        sought = interior.assign(batch_size=share * interior["best_batch_size"])
        medians.append(
            errors.reindex(pd.MultiIndex.from_frame(sought[errors.index.names])).median()
        )
    heads = ("curves", "at the best batch size", "two octaves below", "three octaves below")
    yield from table(heads, [(len(interior), *map(number, medians))])


def errors(stores: Stores) -> Iterator[str]:
    """Yield the mean validation error of each batch size, of the grids that vary N alone."""
    for grid in ("steps_500", "steps_2000", "steps_8000"):
        yield f"{grid}:"
        yield ""
        cells = of_grid(stores, grid)
        means = cells.pivot_table("validation_error", "batch_size", "train_examples")
        heads = ("batch", *(f"N {n:,}" for n in means.columns))
        yield from table(
            heads, [(batch, *map(number, own)) for batch, *own in means.itertuples(name=None)]
        )
        yield ""


def of_grid(stores: Stores, grid: str) -> pd.DataFrame:
    """Return the cells of one grid that have a result."""
    return with_result(stores.cells("smith_le", grid))

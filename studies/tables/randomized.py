"""Labels and inputs made random (memorize.yaml): what is fitted, and after how many steps."""

import math
from collections.abc import Iterator

from analysis import load_curves
from studies.tables.markdown import number, table
from studies.tables.stores import Stores

FITTED = 0.1
"""Training loss below which a cell is said to have fitted its labels."""


def memorize(stores: Stores) -> Iterator[str]:
    """Yield errors and time to fit of every condition."""
    cells = stores.cells("memorize")
    curves = load_curves(stores.folder / "memorize", cells)
    fitted = curves[curves["train_loss"] < FITTED].groupby("cell_id")["step"].min()
    cells = cells.assign(fitted=cells["cell_id"].map(fitted).fillna(math.inf))  # or never
    conditions = cells.groupby(["inputs", "label_noise"], sort=False).agg(
        training=("train_error", "mean"),
        test=("test_error", "mean"),
        error=("test_error", "sem"),
        steps=("fitted", "median"),
    )
    rows = [
        (
            inputs,
            f"{noise:g}",
            number(training),
            f"{number(test)} ± {number(error)}",
            f"{steps:,.0f}",
        )
        for inputs, noise, training, test, error, steps in conditions.reset_index().itertuples(
            index=False, name=None
        )
    ]
    heads = ("inputs", "random labels", "training error", "test error", "steps to fit")
    yield from table(heads, rows)

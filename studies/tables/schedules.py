"""Decaying the rate, or increasing the batch (dont_decay.yaml): three arms, paired by seed."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from analysis import load_curves
from analysis.verdict import t_interval
from studies.tables.markdown import table
from studies.tables.stores import Stores

FIRST_MILESTONE = 9.0
"""Epoch at which the arms of dont_decay.yaml part."""


def dont_decay(stores: Stores) -> Iterator[str]:
    """Yield updates and final training loss of the three arms, paired by seed."""
    arms = {
        grid: stores.cells("dont_decay", grid).set_index("seed").sort_index()
        for grid in ("decay", "hybrid", "increase")
    }
    first = arms["decay"]["train_loss"]
    rows = []
    for grid, cells in arms.items():
        less = cells["train_loss"] - first
        said = "" if grid == "decay" else paired(less)
        rows.append(
            (grid, f"{cells['steps'].iloc[0]:,}", f"{cells['train_loss'].mean():.4f}", said)
        )
    yield from table(("arm", "updates", "final training loss", "less that of decay"), rows)
    looks = looks_by_seed(stores, arms["increase"]) - looks_by_seed(stores, arms["decay"])
    looks = looks.dropna(axis=1)  # at the end, a dropped partial batch sets the arms' looks apart
    yield ""
    yield "Training loss of a look, increase less decay:"
    yield ""
    for epoch, less in looks.items():
        if float(str(epoch)) > FIRST_MILESTONE:
            yield f"- epoch {epoch}: {paired(less)}"


def paired(less: pd.Series) -> str:
    """Return the mean of differences, its standard error, and the interval at 95 %."""
    mean, error = float(np.mean(less)), float(stats.sem(less))
    low, high = t_interval(mean, error, len(less) - 1, 0.95)
    return f"{mean:+.4f} ± {error:.4f} ({low:+.4f} to {high:+.4f})"


def looks_by_seed(stores: Stores, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the training losses of looks: a row a seed, a column an epoch (alike to a batch)."""
    curves = load_curves(stores.folder / "dont_decay", cells)
    seeds = cells.reset_index().set_index("cell_id")["seed"]
    curves = curves.assign(seed=curves["cell_id"].map(seeds), epoch=curves["epoch"].round(1))
    return curves.pivot(index="seed", columns="epoch", values="train_loss")

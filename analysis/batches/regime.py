"""Where a study of batch sizes stands: what was claimed there, and what bends exponents."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import columns
from analysis.batches.batch_grid import BatchGrid
from analysis.batches.optimum import OptimumLabel
from analysis.errors import FitError

__all__ = ["regime_diagnostics", "regime_flags"]

POLICIES = (
    "steps",
    "cumulative learning rate",
    "cumulative effective learning rate",
    "examples",
    "epochs",
)
"""What a study may hold fixed while it varies the batch size."""
START_UP = 10.0
"""Steps times (1 - m) below which momentum has hardly built up when training ends."""
LARGE_BATCH_SHARE = 0.1
"""B_opt / N from which B and B / (1 - B/N) give different exponents."""
CLAIMED_EXAMPLES = 20_000
"""N from which Smith & Le 2018 find B_opt ∝ N (arXiv:1710.06451, caption of Fig. 6)."""
CLAIMED_LEARNING_RATE = 3.0
"""ε above which they find that the best accuracy drops (Fig. 5)."""


def regime_diagnostics(
    grid: BatchGrid,
    optima: pd.DataFrame,
    *,
    learning_rate: str,
    train_examples: str,
    momentum: str,
    batch_size: str,
    held_fixed: str | None = None,
) -> dict[str, Any]:
    """Return labels by number of groups, ranges of ε, N, B/N and B_opt/N, and how long was trained.

    The latter only where the table has `steps`: their range, the smallest T(1 - m), the share
    of cells below 10, and what was held fixed (the first of `POLICIES` that is,
    or "mixed"). It is read from the cells whose `status` is not diverged (from all where that
    leaves none): a diverged one has the steps at which it stopped. Raises `FitError` where
    `held_fixed` names another.
    """
    used = grid.cells
    share = used[batch_size] / used[train_examples]
    optimal_share = optima["optimal_batch_size"] / grid.train_examples
    regime: dict[str, Any] = {
        "groups": {str(label): int((optima["label"] == label).sum()) for label in OptimumLabel},
        "learning_rate": [float(used[learning_rate].min()), float(used[learning_rate].max())],
        "train_examples": [float(used[train_examples].min()), float(used[train_examples].max())],
        "batch_over_train_examples": [float(share.min()), float(share.max())],
        "optimum_over_train_examples": [float(optimal_share.min()), float(optimal_share.max())],
    }
    held: list[str] = []
    if columns.STEPS in used:
        whole = _trained_to_the_end(used)
        steps = whole[columns.STEPS].astype(np.float64)
        held = _held_fixed(
            steps, whole[learning_rate], whole[momentum], whole[batch_size], whole[train_examples]
        )
        built_up = steps * (1 - whole[momentum])
        regime |= {
            "steps": [float(steps.min()), float(steps.max())],
            "smallest_steps_times_one_minus_momentum": float(built_up.min()),
            "share_of_cells_in_momentum_start_up": float((built_up < START_UP).mean()),
            "held_fixed": held[0] if held else "mixed",
        }
    if held_fixed is not None:
        _require_held(held_fixed, held, columns.STEPS in used)
    return regime


def _trained_to_the_end(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that did not diverge; all where there is no `status`, or no such cell."""
    if columns.STATUS not in cells or (cells[columns.STATUS] == "diverged").all():
        return cells
    return cells[cells[columns.STATUS] != "diverged"]


def _require_held(named: str, held: list[str], has_steps: bool) -> None:
    if named not in POLICIES:
        allowed = ", ".join(map(repr, POLICIES))
        raise FitError(f"`held_fixed` is {named!r}; allowed: {allowed}, or None for any.")
    if not has_steps:
        raise FitError(
            f"`held_fixed` is {named!r}, but the table has no column 'steps' to see it by. Add one."
        )
    if named not in held:
        raise FitError(
            f"The cells do not all train for the same {named}; alike are: "
            f"{', '.join(held) or 'none of ' + ', '.join(POLICIES)}. Select cells of one policy, "
            "or name the one that was meant: exponents of different policies do not compare."
        )


def regime_flags(regime: Mapping[str, Any]) -> list[str]:
    """Return what in `regime_diagnostics` bends exponents or was not claimed, a sentence each."""
    flags = []
    fewest, most = regime["train_examples"]
    if fewest < min(most, CLAIMED_EXAMPLES):
        flags.append(
            f"N goes from {fewest:,.0f} to {most:,.0f}; Smith & Le 2018 claim B_opt ∝ N from some "
            f"{CLAIMED_EXAMPLES:,} examples on (Fig. 6). Below that, a verdict on N is not a "
            "verdict on their claim."
        )
    if regime["learning_rate"][1] > CLAIMED_LEARNING_RATE:
        flags.append(
            f"ε reaches {regime['learning_rate'][1]:g}; above some {CLAIMED_LEARNING_RATE:g} "
            "Smith & Le 2018 find that the best accuracy drops (Fig. 5)."
        )
    if regime["optimum_over_train_examples"][1] > LARGE_BATCH_SHARE:
        flags.append(
            f"B_opt / N reaches {regime['optimum_over_train_examples'][1]:.2f}: there "
            "the forms B and B/(1-B/N) give different exponents; choose one before looking."
        )
    start_up = regime.get("share_of_cells_in_momentum_start_up", 0.0)
    if start_up > 0:
        flags.append(
            f"{start_up:.0%} of cells train fewer than {START_UP:g}/(1-m) steps: momentum has "
            "hardly built up, and its exponent is biased."
        )
    if regime.get("held_fixed") in ("epochs", "examples"):
        flags.append(
            f"Cells train for fixed {regime['held_fixed']}: steps shrink as B grows, and the "
            "exponents mix the batch size's noise with under-training."
        )
    return flags


def _held_fixed(
    steps: "pd.Series[float]",
    learning_rate: "pd.Series[float]",
    momentum: "pd.Series[float]",
    batch_size: "pd.Series[float]",
    train_examples: "pd.Series[float]",
) -> list[str]:
    """Return what every cell has alike, the most usual first; none where training is mixed."""
    examples = steps * batch_size
    rates = steps * learning_rate
    values = (steps, rates, rates / (1 - momentum), examples, examples / train_examples)
    candidates = dict(zip(POLICIES, values, strict=True))
    # 5 %: steps are whole numbers, and a partial last batch is dropped
    return [name for name, value in candidates.items() if value.max() <= 1.05 * value.min()]

"""The best model per shard, scored on seeds that did not choose it.

The error of the best of several models, chosen and scored on the same seeds, is too low, and lower
where noise is larger: with noise that falls with size this alone moves an exponent by +.01 to
+.016. Here each seed is scored on the model that the *other* seeds choose.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Envelope", "candidates", "cross_fit"]


@dataclass(frozen=True)
class Envelope:
    """Scores of the best choice at each size, and what was chosen."""

    log_error: NDArray[np.float64]
    """(sizes, seeds) log error on each seed of the choice made on the other seeds; NaN where the
    size lacks the seed, or has no choice that could be made."""
    choice: NDArray[np.intp]
    """(sizes, seeds) index of the choice made on the other seeds; -1 where there is none."""
    best: NDArray[np.intp]
    """(sizes,) index of the choice made on all seeds: the model to report, never to score."""


def candidates(log_error: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (sizes, choices) whether a choice has every seed that its size has under any choice.

    Means over different seeds do not compare, so that only these take part in the choice.
    `log_error`: (sizes, choices, seeds), NaN where there is no cell.
    """
    present: NDArray[np.bool_] = np.isfinite(log_error)
    asked = np.any(present, axis=1, keepdims=True)
    complete = np.all(present | ~asked, axis=2)
    return np.asarray(complete & np.any(present, axis=2))


def cross_fit(log_error: NDArray[np.float64]) -> Envelope:
    """Choose at each size by the mean log error over the other seeds, score on the one left out.

    `log_error`: (sizes, choices, seeds), NaN where there is no cell. Equal means go to the first
    choice. A size with one candidate needs no other seeds; with several it needs two seeds.
    """
    allowed = candidates(log_error)
    present = np.any(np.isfinite(log_error) & allowed[:, :, None], axis=1)
    values = np.where(allowed[:, :, None] & present[:, None, :], log_error, 0.0)
    total = values.sum(axis=2)
    # The sum over the others orders the choices as the mean does: all candidates share the seeds.
    others = np.where(allowed[:, :, None], total[:, :, None] - values, np.inf)
    choice = others.argmin(axis=1)
    alone = (present.sum(axis=1) < 2) & (allowed.sum(axis=1) > 1)
    usable = present & ~alone[:, None]
    scores = np.take_along_axis(values, choice[:, None, :], axis=1)[:, 0, :]
    return Envelope(
        log_error=np.where(usable, scores, np.nan),
        choice=np.where(usable, choice, -1),
        best=np.where(allowed, total, np.inf).argmin(axis=1),
    )

"""The best model per shard, scored on seeds that did not choose it.

The error of the best of several models, chosen and scored on the same seeds, is too low, and lower
where noise is larger: with noise that falls with size this alone moves an exponent by +.01 to
+.016. Here each seed is scored on the model that the *other* seeds choose.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparable", "Envelope", "candidates", "comparable", "cross_fit"]


@dataclass(frozen=True)
class Comparable:
    """What of each size can be compared: choices over the seeds that they share."""

    choices: NDArray[np.bool_]
    """(sizes, choices) whether a choice takes part."""
    seeds: NDArray[np.bool_]
    """(sizes, seeds) seeds that all choices that take part have."""
    doubtful: NDArray[np.bool_]
    """(sizes,) whether a choice that lacks seeds is ahead of all that take part, where it can be
    compared: without it the best of the size would be another, and its error too high."""


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


def comparable(log_error: NDArray[np.float64], needed: int) -> Comparable:
    """Return the choices of each size, and the seeds, that can be compared.

    All choices take part where they share `needed` seeds, which alone count then: a cell that is
    lost costs a seed of its size, and more seeds of one choice cost nothing. Elsewhere choices
    with the fewest seeds, of equal ones the last, are left out until the others share so many or
    one is left. `log_error`: (sizes, choices, seeds), NaN where there is no cell.
    """
    present: NDArray[np.bool_] = np.isfinite(log_error)
    choices = np.asarray(np.any(present, axis=2))
    shared = np.all(present | ~choices[:, :, None], axis=1)
    seeds = np.asarray(shared & np.any(choices, axis=1)[:, None])
    doubtful = np.zeros(len(present), dtype=bool)
    for i in np.flatnonzero((choices.sum(axis=1) > 1) & (seeds.sum(axis=1) < needed)).tolist():
        here = choices[i]
        while here.sum() > 1 and seeds[i].sum() < needed:
            number = np.where(here, present[i].sum(axis=1), present.shape[2] + 1)
            here[np.flatnonzero(number == number.min())[-1]] = False
            seeds[i] = np.all(present[i, here], axis=0)
        left_out = np.flatnonzero(np.any(present[i], axis=1) & ~here).tolist()
        doubtful[i] = any(_ahead(log_error[i], choice, here, seeds[i]) for choice in left_out)
    return Comparable(choices, seeds, doubtful)


def _ahead(
    log_error: NDArray[np.float64],
    choice: int,
    others: NDArray[np.bool_],
    seeds: NDArray[np.bool_],
) -> bool:
    """Return whether a choice has a lower mean than all `others`, over the seeds that it shares.

    Over its own seeds where it shares none of them.
    """
    own = np.isfinite(log_error[choice])
    shared = own & seeds
    mine, theirs = (shared, shared) if shared.any() else (own, seeds)
    best = log_error[np.ix_(others, theirs)].mean(axis=1).min()
    return bool(log_error[choice, mine].mean() < best)


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

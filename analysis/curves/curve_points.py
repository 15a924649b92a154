"""From a table of cells to the points of a learning curve: checked, excluded by rule, annotated.

What is refused here is a table that would be misread; what is excluded stays in `points`, with the
reason beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import columns
from analysis.curves.envelope import Comparable, Envelope, candidates, comparable, cross_fit
from analysis.errors import FitError
from analysis.mixed_settings import SETTINGS, refuse_mixed

__all__ = ["CurvePoints", "Region", "curve_points"]

PLATEAU = 0.9
"""Share of the chance error above which a size counts as best-guess: the small-data region of
Hestness et al. 2017, §2 (arXiv:1712.00409). The share itself is a convention of this project."""

BINOMIAL_ERRORS = 100
"""Expected wrong examples in the held-out set below which its own sampling is added."""

HELD_OUT_EXAMPLES = {
    columns.VALIDATION_ERROR: columns.VALIDATION_EXAMPLES,
    columns.BEST_VALIDATION_ERROR: columns.VALIDATION_EXAMPLES,
    columns.TEST_ERROR: columns.TEST_EXAMPLES,
}
"""Which column counts the examples that an error was measured on."""

OR_NAMED = "name it in `choose` (the best at each size), `curves` or `group` (each by itself)"

SEEDS_TO_CHOOSE = 3
"""Each fold of the jackknife drops one seed, scores another, and needs one more to choose by."""


class Region(StrEnum):
    """Where on the learning curve a size lies."""

    SMALL_DATA = "small data"
    """No better than the best guess, like every smaller size."""
    POWER_LAW = "power law"
    """What is fitted; a floor, where there is one, is part of the form."""
    FLOOR = "floor"
    """Fitted too, but more of the error is floor than power law; told by `curve_regions` alone."""
    CLIFF = "cliff"
    """No better than the best guess although a smaller size is: a failure of training."""
    UNKNOWN = "unknown"
    """No score, for want of seeds."""


@dataclass(frozen=True)
class CurvePoints:
    """The log errors that a curve is fitted to."""

    table: pd.DataFrame
    """One row a size, used or not, with the reason."""
    size: NDArray[np.float64]
    """(n,) sizes used."""
    log_error: NDArray[np.float64]
    """(n, choices, seeds) log errors at the sizes used; NaN where there is no cell."""
    choices: tuple[tuple[object, ...], ...]
    """Values of the columns of `choose`, for each choice."""
    envelope: Envelope
    """The best choice at the sizes used."""
    seeds: tuple[object, ...]
    """Seeds, in the order of the last axis."""
    binomial_variance: NDArray[np.float64]
    """(n,) variance of log error from the finite held-out set, where it is to be added; else 0."""
    cell_ids: tuple[str, ...]
    """Cells at the sizes used, of all choices; empty where the table has no `cell_id`."""
    n_cells: int
    """Number of those cells."""
    chance_known: bool
    """Whether sizes at the error of chance could be told."""

    @property
    def chosen(self) -> bool:
        """Whether at some size there was a choice to make."""
        return bool((candidates(self.log_error).sum(axis=1) > 1).any())

    @property
    def degrees_of_freedom(self) -> float:
        """Those of Student's t about a parameter: S - 1, fewer where sizes lack seeds.

        The variance then rests on few seeds. After Satterthwaite, of the slope: seed s enters with
        V_s = Σ (log m - mean)²/n² over the sizes that have it, n the number of seeds there, and
        ν = (1 - 1/S) (Σ V_s)²/Σ V_s². Of nine sizes with 5 to 20 seeds, but 2 to 4 at some, it
        covered .95 to .97 at a nominal .95 (a line, 6,000 sets), where S - 1 covered .85 to .95.
        """
        has = ~np.isnan(self.envelope.log_error)
        if has.all():
            return float(len(self.seeds) - 1)
        centred = np.log(self.size) - np.log(self.size).mean()
        own = (centred / has.sum(axis=1)) ** 2 @ has
        seeds = len(self.seeds)
        return float((1 - 1 / seeds) * own.sum() ** 2 / (own**2).sum())

    def mean_log_error(self, without: int | None = None) -> NDArray[np.float64]:
        """Return (n,) means over seeds, the choice made anew `without` the seed of that index."""
        if without is None:
            return np.asarray(np.nanmean(self.envelope.log_error, axis=1))
        rest = cross_fit(np.delete(self.log_error, without, axis=2))
        return np.asarray(np.nanmean(rest.log_error, axis=1))


def curve_points(
    cells: pd.DataFrame,
    *,
    x: str,
    y: str,
    seed: str | None,
    choose: Sequence[str],
    chance_error: float | None,
    validation_examples: int | None,
    named: Sequence[str] = (),
) -> CurvePoints:
    """Return the points of the learning curve of `y` against `x`; see `fit_power_law`.

    `named`: settings that may vary beside those of `choose`, as `x` stands for them.
    """
    _check(cells, [x, y, *choose, *([] if seed is None else [seed])])
    error = _numbers(cells, y)
    size = _numbers(cells, x)
    if (size <= 0).any():
        raise FitError(f"{x} has values of 0 or below (lowest {size.min():g}); log {x} is needed.")
    examples = _held_out_examples(cells, y, validation_examples)
    log_error = _log_error(error, examples, y)
    chance = _chance(cells, y, chance_error)

    size_index, sizes = pd.factorize(size, sort=True)
    seed_index, seeds = _codes(cells, [] if seed is None else [seed])
    choice_index, choices = _codes(cells, choose)
    place = (size_index, choice_index, seed_index)
    _refuse_duplicates(cells, pd.DataFrame(dict(enumerate(place))), [x, *choose], seed)
    refuse_mixed(cells, SETTINGS, [x, *choose, *named], "one curve needs one", OR_NAMED)
    shape = (len(sizes), len(choices), len(seeds))
    logs, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    logs[place], errors[place] = log_error, error

    compared = _compared(logs, choose)
    kept = compared.choices[:, :, None] & compared.seeds[:, None, :]
    comparable_logs = np.where(kept & ~compared.doubtful[:, None, None], logs, np.nan)
    envelope = cross_fit(comparable_logs)
    n_seeds = (~np.isnan(envelope.log_error)).sum(axis=1)
    reached = n_seeds > 0
    mean_log = np.full(len(sizes), np.nan)
    mean_log[reached] = np.nanmean(envelope.log_error[reached], axis=1)
    chosen = np.take_along_axis(errors, envelope.choice[:, None, :].clip(0), axis=1)[:, 0, :]
    chosen = np.where(np.isnan(envelope.log_error), np.nan, chosen)
    mean_error = np.full(len(sizes), np.nan)
    mean_error[reached] = np.nanmean(chosen[reached], axis=1)

    region = _regions(mean_error, chance)
    why = _reasons(logs, compared, n_seeds, region, choose, choices, seeds)
    used = reached & (region == Region.POWER_LAW)
    if len(seeds) > 1:
        used &= n_seeds > 1
    rate = np.exp(mean_log)
    count = pd.Series(examples).groupby(size_index).min().to_numpy()
    binomial = np.where(used & (count * rate < BINOMIAL_ERRORS), (1 - rate) / (count * rate), 0.0)
    table = pd.DataFrame(
        {
            x: sizes,
            "seeds": n_seeds,
            "mean_error": mean_error,
            "mean_log_error": mean_log,
            "region": [str(name) for name in region],
            "used": used,
            "why": why,
            "binomial_variance": binomial,
        }
    )
    if len(choices) > 1:
        best = pd.DataFrame([choices[i] for i in envelope.best], columns=list(choose))
        agreed = (envelope.choice == envelope.best[:, None]).sum(axis=1) / n_seeds.clip(1)
        table = pd.concat(
            [table, best.add_prefix("best_"), pd.Series(agreed, name="agreed")], axis=1
        )
    in_use = used[size_index]
    ids = cells.loc[in_use, columns.CELL_ID] if columns.CELL_ID in cells else ()
    scored = (~np.isnan(envelope.log_error[used])).any(axis=0)
    return CurvePoints(
        table=table,
        size=np.asarray(sizes[used], dtype=float),
        log_error=comparable_logs[used][:, :, scored],
        choices=tuple(choices),
        envelope=Envelope(
            envelope.log_error[used][:, scored],
            envelope.choice[used][:, scored],
            envelope.best[used],
        ),
        seeds=tuple(row[0] for row, has in zip(seeds, scored, strict=True) if row and has),
        binomial_variance=binomial[used],
        cell_ids=tuple(ids),
        n_cells=int(in_use.sum()),
        chance_known=chance is not None,
    )


def _check(cells: pd.DataFrame, keys: Sequence[str]) -> None:
    if missing := [name for name in keys if name not in cells]:
        raise FitError(f"No column {missing[0]!r}. Columns here: {', '.join(map(str, cells))}.")
    if len(set(keys)) < len(keys):
        raise FitError(f"x, y, seed and choose must be different columns; got {', '.join(keys)}.")
    if columns.STATUS in cells and (failed := int((cells[columns.STATUS] == "failed").sum())):
        raise FitError(
            f"{failed} of the {len(cells)} cells failed and have no result. Train them again with "
            "scaling-study run --retry-failed, or leave them out: cells[cells.status != 'failed']."
        )
    for name in (columns.WORKLOAD, columns.WORKLOAD_VERSION):
        if name in cells and len(values := cells[name].unique().tolist()) > 1:
            raise FitError(
                f"The table mixes {name} {', '.join(map(repr, values))}; one curve needs one. "
                f"Select it first: cells[cells.{name} == {values[0]!r}]."
            )
    for name in keys:
        if nulls := int(cells[name].isna().sum()):
            raise FitError(
                f"{nulls} of {len(cells)} rows have no {name}. {_about_nulls(cells, name)}"
            )


def _about_nulls(cells: pd.DataFrame, name: str) -> str:
    if columns.STATUS in cells:
        lost = cells.loc[cells[name].isna(), columns.STATUS] == "diverged"
        if lost.any():
            return (
                f"{int(lost.sum())} of them diverged, and a diverged run has no loss: a fit to the "
                "rest would describe the survivors alone. Fit an error column instead, where a "
                "diverged run counts with its chance error."
            )
    return "Drop or complete them first."


def _numbers(cells: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(cells[name]) or pd.api.types.is_bool_dtype(cells[name]):
        raise FitError(f"Column {name!r} is of type {cells[name].dtype}; numbers are needed.")
    values = cells[name].to_numpy(dtype=float)
    if not np.isfinite(values).all():
        bad = values[~np.isfinite(values)][0]
        raise FitError(f"Column {name!r} holds {bad}; only finite numbers can be fitted.")
    return values


def _held_out_examples(
    cells: pd.DataFrame, y: str, validation_examples: int | None
) -> NDArray[np.float64]:
    """Return (rows,) numbers of examples behind each error, NaN where unknown."""
    column = HELD_OUT_EXAMPLES.get(y)
    if validation_examples is None and column is not None and column in cells:
        return cells[column].to_numpy(dtype=float, na_value=np.nan)
    if validation_examples is not None and validation_examples < 1:
        raise FitError(f"validation_examples is {validation_examples}; it must be at least 1.")
    return np.full(len(cells), np.nan if validation_examples is None else validation_examples)


def _log_error(
    error: NDArray[np.float64], examples: NDArray[np.float64], y: str
) -> NDArray[np.float64]:
    """Return log error; of a zero, log((k + ½)/(n + 1)) with k = 0 wrong of n examples."""
    if (error < 0).any():
        raise FitError(f"{y} has negative values (lowest {error.min():g}); errors are 0 or above.")
    counted = y in columns.ERROR_RATES or not np.isnan(examples).all()
    if counted and (error > 1).any():
        raise FitError(f"{y} reaches {error.max():g}, but a share of wrong examples is at most 1.")
    zero = error == 0
    if np.isnan(examples[zero]).any():
        raise FitError(
            f"{int(zero.sum())} values of {y} are 0 and have no logarithm. For a share of wrong "
            "examples, pass validation_examples, the size of the set it was measured on."
        )
    return np.log(np.where(zero, 0.5 / (examples + 1), error))


def _chance(cells: pd.DataFrame, y: str, chance_error: float | None) -> float | None:
    if chance_error is not None:
        if not 0 < chance_error < np.inf:
            raise FitError(f"chance_error is {chance_error}; it must be positive and finite.")
        return chance_error
    if y not in columns.ERROR_RATES or columns.CHANCE_ERROR not in cells:
        return None
    values = cells[columns.CHANCE_ERROR].dropna().unique()
    if len(values) > 1:
        raise FitError(f"chance_error has the values {sorted(values)}; one curve has one.")
    return float(values[0]) if len(values) else None


def _codes(
    cells: pd.DataFrame, names: Sequence[str]
) -> tuple[NDArray[np.intp], list[tuple[object, ...]]]:
    """Return (rows,) codes of the combinations of `names`, and the combinations in order.

    Without names, and without rows, there is one combination, of nothing.
    """
    if not names or cells.empty:
        return np.zeros(len(cells), dtype=np.intp), [()]
    coded = [pd.factorize(cells[name], sort=True) for name in names]
    rows = np.stack([codes for codes, _ in coded], axis=1)
    combinations, inverse = np.unique(rows, axis=0, return_inverse=True)
    values = [
        tuple(levels[i] for i, (_, levels) in zip(row, coded, strict=True)) for row in combinations
    ]
    return inverse.reshape(-1), values


def _refuse_duplicates(
    cells: pd.DataFrame, place: pd.DataFrame, keys: Sequence[str], seed: str | None
) -> None:
    doubled = place.duplicated(keep=False).to_numpy()
    if not doubled.any():
        return
    first = place[doubled].iloc[0]
    rows = cells[(place == first).all(axis=1).to_numpy()]
    keys = [*keys, *([] if seed is None else [seed])]
    where = ", ".join(f"{name}={rows[name].iloc[0]}" for name in keys)
    varied = [name for name in _AXES if name in rows and rows[name].nunique(dropna=False) > 1]
    varied = [name for name in varied if name not in keys]
    offered = [name for name in varied if name != columns.SEED]
    hints = []
    if columns.SEED in varied:
        hints.append(f"tell replicates apart with seed={columns.SEED!r}")
    if offered:
        choices = (*keys[1 : len(keys) - (seed is not None)], *offered)
        hints.append(f"select one value, or let the best be chosen with choose={choices}")
    hint = (
        f"They differ in {', '.join(varied)}: {'; '.join(hints)}."
        if varied
        else "Name the seed's column with seed=…, or drop the repeats."
    )
    raise FitError(f"{len(rows)} rows have {where}. {hint}")


_AXES = (
    columns.DATASET_FRACTION,
    columns.TRAIN_EXAMPLES,
    columns.MODEL_SIZE,
    columns.PARAMETER_COUNT,
    columns.BATCH_SIZE,
    columns.LEARNING_RATE,
    columns.MOMENTUM,
    columns.WEIGHT_DECAY,
    columns.BUDGET,
    columns.OPTIMIZER,
    columns.LEARNING_RATE_SCHEDULE,
    columns.BATCH_SIZE_SCHEDULE,
    columns.EVALUATION_SCHEDULE,
    columns.WORKLOAD_AXES,
    columns.SEED,
)


def _compared(logs: NDArray[np.float64], choose: Sequence[str]) -> Comparable:
    """Return what of each size can be compared; refuses a choice by fewer than 3 seeds."""
    compared = comparable(logs, SEEDS_TO_CHOOSE)
    seeds = logs.shape[2]
    if seeds < SEEDS_TO_CHOOSE and (np.isfinite(logs).any(axis=2).sum(axis=1) > 1).any():
        raise FitError(
            f"Choosing the best of several {', '.join(choose)} needs {SEEDS_TO_CHOOSE} seeds, and "
            f"there are {seeds}. Add seeds, or select one value first."
        )
    return compared


def _regions(mean_error: NDArray[np.float64], chance: float | None) -> NDArray[np.object_]:
    region = np.full(len(mean_error), Region.POWER_LAW, dtype=object)
    if chance is not None:
        above = mean_error > PLATEAU * chance
        first = np.logical_and.accumulate(above | np.isnan(mean_error))
        region[above] = Region.CLIFF
        region[above & first] = Region.SMALL_DATA
    region[np.isnan(mean_error)] = Region.UNKNOWN
    return region


def _reasons(
    logs: NDArray[np.float64],
    compared: Comparable,
    n_seeds: NDArray[np.intp],
    region: NDArray[np.object_],
    choose: Sequence[str],
    choices: Sequence[tuple[object, ...]],
    seeds: Sequence[tuple[object, ...]],
) -> list[str]:
    """Return why a size is out, or what was left out of it; empty where all of it counts."""
    present = np.isfinite(logs)
    reasons = []
    for i, name in enumerate(region):
        out = [
            v for c, v in enumerate(choices) if present[i, c].any() and not compared.choices[i, c]
        ]
        lacking = f"{', '.join(choose)} {', '.join('/'.join(map(str, values)) for values in out)}"
        if name == Region.SMALL_DATA:
            reasons.append(f"mean error above {PLATEAU:g} of the chance error")
        elif name == Region.CLIFF:
            reasons.append(
                f"mean error above {PLATEAU:g} of the chance error, though a smaller size is below"
            )
        elif name == Region.UNKNOWN and compared.doubtful[i]:
            reasons.append(f"{lacking} may be the best, and lacks seeds that others have")
        elif name == Region.UNKNOWN:
            reasons.append(f"fewer than {SEEDS_TO_CHOOSE} seeds to choose by")
        elif n_seeds[i] == 1 and logs.shape[2] > 1:
            reasons.append("one seed only")
        else:
            unshared = present[i].any(axis=0) & ~compared.seeds[i]
            said = [f"{lacking} not compared: seeds are missing"] if out else []
            if unshared.any():
                names = ", ".join(str(seeds[s][0]) for s in np.flatnonzero(unshared).tolist())
                said.append(f"seeds {names} not used: not every {', '.join(choose)} has them")
            reasons.append("; ".join(said))
    return reasons

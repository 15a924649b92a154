"""Which laws a table of cells can speak to, and what became of each when it was asked.

A power law of generalization error is asked of a table with 4 or more shard sizes; the batch-size
law of one with 4 or more batch sizes that also varies the learning rate, the shard or the
momentum. What cannot be fitted stays, with the sentence that says why.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from analysis import columns
from analysis.batch_law import BatchSizeLaw, Estimator, check_batch_size_law
from analysis.curve_answers import Answer, ask_curve, tried
from analysis.json_values import json_value
from analysis.negative_control import PermutationControl, permutation_control
from analysis.power_law import PowerLawFit, fit_power_law
from analysis.verdict import Verdict

__all__ = [
    "NOTHING_TO_ASK",
    "STABILITY_EDGE",
    "Law",
    "LawAnalysis",
    "ask_laws",
    "control_sentence",
    "law_exponents",
    "law_verdicts",
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
STABILITY_EDGE = "stability edge"
"""Beside the estimators: what the cliff below the optimum follows, of which no law speaks."""
HELD_FIXED = (columns.MODEL_SIZE, columns.WEIGHT_DECAY)
"""Axes that the batch-size law does not speak of: they part a grid, as the optimum may depend on
them."""
SETTINGS = (columns.OPTIMIZER, columns.LEARNING_RATE_SCHEDULE)
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
class LawAnalysis:
    """One law, asked of a grid or of a part of it."""

    law: Law
    y: str
    """Column of the error."""
    part: Mapping[str, Any]
    """Values of the axes that are held fixed here and vary in the grid; empty for a whole grid."""
    result: PowerLawFit | BatchSizeLaw | None
    """The fit; None where there is a `problem`."""
    problem: str = ""
    """Why there is no fit; empty where there is one."""
    controls: tuple[PermutationControl, ...] = ()
    """Negative controls of the factors of a batch-size law that came out as supported."""
    answers: tuple[Answer, ...] = ()
    """What a learning curve was asked beside its fit."""
    cells: pd.DataFrame = field(repr=False)
    """The cells that the law was asked of."""

    @property
    def part_name(self) -> str:
        """Such as `label_noise = 0.1, model_size = 64`; empty for a whole grid."""
        return ", ".join(f"{name} = {_text(value)}" for name, value in self.part.items())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "law": str(self.law),
            "y": self.y,
            "part": json_value(self.part),
            "problem": self.problem or None,
            "result": None if self.result is None else self.result.to_dict(),
            "controls": [json_value(asdict(control)) for control in self.controls],
            "answers": [answer.to_dict() for answer in self.answers],
        }


def ask_laws(cells: pd.DataFrame) -> Iterator[LawAnalysis]:
    """Yield every law that `cells` can speak to, one for each part of the grid."""
    apart = [name for name in (*_workload_axes(cells), *SETTINGS) if _varies(cells, name)]
    for part, rows in _parts(cells, apart):
        if rows[columns.TRAIN_EXAMPLES].nunique() >= LEVELS_NEEDED:
            for y in (columns.BEST_VALIDATION_ERROR, columns.TEST_ERROR):
                yield _power_law(part, rows, y)
    apart += [name for name in HELD_FIXED if _varies(cells, name)]
    for part, rows in _parts(cells, apart):
        if rows[columns.BATCH_SIZE].nunique() >= LEVELS_NEEDED and any(
            _varies(rows, name) for name in LAW_FACTORS
        ):
            yield _batch_size_law(part, rows)


def _power_law(part: Mapping[str, Any], rows: pd.DataFrame, y: str) -> LawAnalysis:
    choose = [name for name in CHOICES if _varies(rows, name)]
    fit, problem = tried(lambda: fit_power_law(rows, y=y, choose=choose))
    return LawAnalysis(
        law=Law.POWER_LAW,
        y=y,
        part=part,
        result=fit,
        problem=problem,
        answers=() if fit is None else tuple(ask_curve(fit, rows)),
        cells=rows,
    )


def _batch_size_law(part: Mapping[str, Any], rows: pd.DataFrame) -> LawAnalysis:
    y = columns.VALIDATION_ERROR
    law, problem = tried(lambda: check_batch_size_law(rows, y=y))
    supported = [
        factor
        for factor in LAW_FACTORS
        if law is not None and law.verdicts[factor] is Verdict.SUPPORTED
    ]
    return LawAnalysis(
        law=Law.BATCH_SIZE,
        y=y,
        part=part,
        result=law,
        problem=problem,
        controls=tuple(permutation_control(law, factor) for factor in supported if law is not None),
        cells=rows,
    )


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


def law_verdicts(law: LawAnalysis) -> Iterator[dict[str, Any]]:
    """Yield one row an exponent and one for the joint verdict, as in `verdict_table`."""
    result = law.result
    if result is None:
        yield {"factor": "", "verdict": "not fitted", "reason": law.problem}
    elif isinstance(result, PowerLawFit):
        bounds = [*result.conf_int().loc["beta"], *result.conf_int(0.9).loc["beta"]]
        yield {
            "factor": result.x,
            "exponent": result.beta,
            **dict(zip(["lower95", "upper95", "lower90", "upper90"], bounds, strict=True)),
            "verdict": result.status.name.lower().replace("_", " "),
            "reason": f"{str(result.status).capitalize()}.",
            "n_cells": result.n_cells,
            "seeds": len(result.seeds),
        }
    else:
        exponents = result.exponents.drop(columns="standard_error").to_dict("index")
        for factor, verdict in result.verdicts.items():
            yield {
                "factor": factor,
                "claimed": 1.0,
                "margin": result.margin,
                **{str(name): value for name, value in exponents.get(factor, {}).items()},
                "verdict": str(verdict),
                "reason": result.reasons[factor],
                "n_cells": result.n_cells,
                "seeds": result.degrees_of_freedom + 1,
            }


def law_exponents(law: LawAnalysis) -> Iterator[dict[str, Any]]:
    """Yield one row a factor and estimator, as in `exponent_table`; none without a batch-size law.

    The verdict stands beside the estimator that was judged, and nowhere else.
    """
    result = law.result
    if not isinstance(result, BatchSizeLaw):
        return
    by = {
        Estimator.PEAKS: result.peaks,
        Estimator.COLLAPSE: result.collapse.exponents,
        STABILITY_EDGE: result.stability_edge,
    }
    for factor in LAW_FACTORS:
        for estimator, exponents in by.items():
            judged = estimator == result.estimator
            yield {
                "factor": factor,
                "estimator": str(estimator),
                "judged": judged,
                "claimed": np.nan if estimator == STABILITY_EDGE else 1.0,
                "margin": np.nan if estimator == STABILITY_EDGE else result.margin,
                **{str(name): value for name, value in exponents.loc[factor].items()},
                "verdict": str(result.verdicts[factor]) if judged else "",
                "n_cells": result.n_cells,
                "seeds": result.degrees_of_freedom + 1,
            }


def control_sentence(control: PermutationControl) -> str:
    """Return what a negative control found, as a sentence."""
    return (
        f"Negative control, {control.factor}: {'passed' if control.passed else 'FAILED'}. Of "
        f"{control.permutations} shuffles of its labels {control.supported_share:.1%} were "
        f"supported (at most 1 % may be); the residual is "
        f"{control.observed_residual_octaves:.2g} octaves with the true labels, and "
        f"{control.permuted_residual_octaves:.2g} at the 1st percentile of shuffled ones."
    )


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

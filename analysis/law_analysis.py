"""What became of each law that a table of cells can speak to when it was asked.

What cannot be fitted stays, with the sentence that says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis import columns
from analysis.batches.batch_law import BatchSizeLaw, Estimator, check_batch_size_law
from analysis.batches.negative_control import PermutationControl, permutation_control
from analysis.curves.curve_answers import Answer, ask_curve, tried
from analysis.curves.power_law import PowerLawFit, fit_power_law
from analysis.json_values import json_value
from analysis.law_questions import (
    LAW_FACTORS,
    NOTHING_TO_ASK,
    Law,
    LawQuestion,
    law_questions,
    part_name,
)
from analysis.verdict import Verdict

__all__ = [
    "NOTHING_TO_ASK",
    "STABILITY_EDGE",
    "Law",
    "LawAnalysis",
    "ask_laws",
    "law_exponents",
    "law_verdicts",
]

STABILITY_EDGE = "stability edge"
"""Beside the estimators: what the cliff below the optimum follows, of which no law speaks."""


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
        return part_name(self.part)

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
    for question in law_questions(cells):
        if question.law is Law.POWER_LAW:
            for y in (columns.BEST_VALIDATION_ERROR, columns.TEST_ERROR):
                yield _power_law(question, y)
        else:
            yield _batch_size_law(question)


def _power_law(asked: LawQuestion, y: str) -> LawAnalysis:
    fit, problem = tried(lambda: fit_power_law(asked.cells, y=y, choose=asked.choose))
    return LawAnalysis(
        law=asked.law,
        y=y,
        part=asked.part,
        result=fit,
        problem=problem,
        answers=() if fit is None else tuple(ask_curve(fit, asked.cells)),
        cells=asked.cells,
    )


def _batch_size_law(asked: LawQuestion) -> LawAnalysis:
    y = columns.VALIDATION_ERROR
    law, problem = tried(lambda: check_batch_size_law(asked.cells, y=y))
    supported = [
        factor
        for factor in LAW_FACTORS
        if law is not None and law.verdicts[factor] is Verdict.SUPPORTED
    ]
    return LawAnalysis(
        law=asked.law,
        y=y,
        part=asked.part,
        result=law,
        problem=problem,
        controls=tuple(permutation_control(law, factor) for factor in supported if law is not None),
        cells=asked.cells,
    )


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

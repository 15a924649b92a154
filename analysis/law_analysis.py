"""What became of each law that a table of cells can speak to when it was asked.

What cannot be fitted stays, with the sentence that says why.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import pandas as pd

from analysis import columns
from analysis.batch_law import BatchSizeLaw, check_batch_size_law
from analysis.errors import FitError
from analysis.json_values import json_value
from analysis.law_questions import (
    LAW_FACTORS,
    NOTHING_TO_ASK,
    Law,
    LawQuestion,
    law_questions,
    part_name,
)
from analysis.negative_control import PermutationControl, permutation_control
from analysis.power_law import PowerLawFit, fit_power_law
from analysis.summary_table import Summary
from analysis.verdict import PROVISIONAL, Verdict

__all__ = [
    "NOTHING_TO_ASK",
    "RESERVES",
    "Law",
    "LawAnalysis",
    "ask_laws",
    "brief_summary",
    "control_sentence",
    "law_verdicts",
]

RESERVES = (PROVISIONAL,)
"""Notes of every summary that a report of several laws says once."""


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
        }


def ask_laws(cells: pd.DataFrame) -> Iterator[LawAnalysis]:
    """Yield every law that `cells` can speak to, one for each part of the grid."""
    for question in law_questions(cells):
        if question.law is Law.POWER_LAW:
            for y in (columns.BEST_VALIDATION_ERROR, columns.TEST_ERROR):
                yield _power_law(question, y)
        else:
            yield _batch_size_law(question)


Fit = TypeVar("Fit")


def _power_law(asked: LawQuestion, y: str) -> LawAnalysis:
    fit, problem = _tried(lambda: fit_power_law(asked.cells, y=y, choose=asked.choose))
    return LawAnalysis(
        law=asked.law, y=y, part=asked.part, result=fit, problem=problem, cells=asked.cells
    )


def _batch_size_law(asked: LawQuestion) -> LawAnalysis:
    y = columns.VALIDATION_ERROR
    law, problem = _tried(lambda: check_batch_size_law(asked.cells, y=y))
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


def _tried(fit: Callable[[], Fit]) -> tuple[Fit | None, str]:
    """Return the fit and no problem, or no fit and the problem: what a report must show."""
    try:
        return fit(), ""
    except FitError as error:
        return None, str(error)


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


def brief_summary(fit: PowerLawFit | BatchSizeLaw) -> Summary:
    """Return the summary of a fit without the `RESERVES`."""
    whole = fit.summary()
    return replace(whole, notes=tuple(note for note in whole.notes if note not in RESERVES))


def control_sentence(control: PermutationControl) -> str:
    """Return what a negative control found, as a sentence."""
    return (
        f"Negative control, {control.factor}: {'passed' if control.passed else 'FAILED'}. Of "
        f"{control.permutations} shuffles of its labels {control.supported_share:.1%} were "
        f"supported (at most 1 % may be); the residual is "
        f"{control.observed_residual_octaves:.2g} octaves with the true labels, and "
        f"{control.permuted_residual_octaves:.2g} at the 1st percentile of shuffled ones."
    )

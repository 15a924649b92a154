"""What a learning curve is asked beside its fit: where it bends, what it promises, and how it does.

Each question is answered, or has the sentence that says why not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from analysis import columns
from analysis.curves.backtesting import Backtest, backtest
from analysis.curves.model_size_law import ModelSizeLaw, fit_model_size_law
from analysis.curves.power_law import PowerLawFit
from analysis.curves.regions import CurveRegions, curve_regions
from analysis.curves.required_data import DataForError, data_for_error
from analysis.errors import FitError

__all__ = ["Answer", "Question", "ask_curve", "tried"]

BACKTESTED = ("M1", "M2", "M3")
"""Forms that a few sizes suffice for: with larger ones fewer predictions can be compared, and the
fits take ten times as long."""

Question = CurveRegions | DataForError | Backtest | ModelSizeLaw


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A question and what came of it."""

    question: str
    """Such as `How much data for half the error?`."""
    result: Question | None
    """The answer; None where there is a `problem`."""
    problem: str = ""
    """Why there is no answer; empty where there is one."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "question": self.question,
            "problem": self.problem or None,
            "result": None if self.result is None else self.result.to_dict(),
        }


Result = TypeVar("Result")


def tried(fit: Callable[[], Result]) -> tuple[Result | None, str]:
    """Return the fit and no problem, or no fit and the problem: what a report must show."""
    try:
        return fit(), ""
    except FitError as error:
        return None, str(error)


def ask_curve(fit: PowerLawFit, cells: pd.DataFrame) -> Iterator[Answer]:
    """Yield the answers that a fit to `cells` has; its best model size where sizes vary."""
    half = float(fit.predict(fit.curve.size.max())) / 2
    asked: dict[str, Callable[[], Question]] = {
        "Where does the curve leave chance, and where does it meet its floor?": (
            lambda: curve_regions(fit)
        ),
        "How much data for half the error at the largest size?": lambda: data_for_error(fit, half),
        "How well do forms foretell sizes that they have not seen?": lambda: backtest(
            cells, fit.x, fit.y, forms=BACKTESTED, choose=fit.choose
        ),
    }
    if columns.MODEL_SIZE in fit.choose:
        asked["How does the best model size grow with the data?"] = lambda: _model_sizes(fit, cells)
    for question, answer in asked.items():
        result, problem = tried(answer)
        yield Answer(question=question, result=result, problem=problem)


def _model_sizes(fit: PowerLawFit, cells: pd.DataFrame) -> ModelSizeLaw:
    """Return the law of the best number of parameters, or of model_size in a table without it."""
    counted = columns.PARAMETER_COUNT in cells
    size = columns.PARAMETER_COUNT if counted else columns.MODEL_SIZE
    others = [name for name in fit.choose if name != columns.MODEL_SIZE]
    return fit_model_size_law(cells, fit.x, fit.y, model_size=size, choose=others)

"""Functional forms of scaling laws: one file each, and its name in the table below.

What to use when: M2 for one model over sizes, M1 for the best model at each size (no floor); M3,
M4 and BNSL for curves that bend otherwise, judged by a backtest and not by how well they fit;
Chinchilla for losses over parameters N and data D, Gadre where the runs are too few for two
exponents, Kaplan where there is no floor, Rosenfeld where some runs are no better than a guess.
"""

from analysis.errors import FitError
from analysis.forms.base import Form
from analysis.forms.bnsl import BNSL
from analysis.forms.chinchilla import Chinchilla
from analysis.forms.gadre import Gadre
from analysis.forms.kaplan import Kaplan
from analysis.forms.m1 import M1
from analysis.forms.m2 import M2
from analysis.forms.m3 import M3
from analysis.forms.m4 import M4
from analysis.forms.rosenfeld import Rosenfeld

__all__ = ["FORMS", "Form", "find_form"]

FORMS: dict[str, Form] = {
    form.name: form
    for form in (M1(), M2(), M3(), M4(), BNSL(), Chinchilla(), Gadre(), Kaplan(), Rosenfeld())
}


def find_form(name: str) -> Form:
    """Return the form of that name; `FitError` names all where there is none."""
    if name not in FORMS:
        raise FitError(f"Unknown form {name!r}. Available: {', '.join(map(repr, FORMS))}.")
    return FORMS[name]

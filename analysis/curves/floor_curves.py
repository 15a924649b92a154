"""Learning curves with their floor held at the ends of its interval: what the floor may hide.

Where γ̂ ends at 0 in all folds, a jackknife takes that for certain, and what it says of larger sizes
is too narrow. Predictions and their inverse are widened to these two curves.
"""

import numpy as np

from analysis.fits.fitting import fit_form
from analysis.forms import find_form
from analysis.forms.base import Array

__all__ = ["curves_at_floors"]


def curves_at_floors(size: Array, mean_log_error: Array, floors: Array) -> Array:
    """Return (k, 3) fits (log α, β, γ) of M2 to one curve with γ held at each of (k,) `floors`.

    `size`: (n,); `mean_log_error`: (n,). A floor as high as the lowest error, or higher, leaves no
    curve; it is lowered to that error.
    """
    gamma = np.minimum(floors, np.exp(mean_log_error.min()))
    held = np.stack([[np.nan, np.nan, value] for value in gamma])
    means = np.repeat(mean_log_error[None], len(gamma), axis=0)
    return fit_form(find_form("M2"), size, means, held=held).theta

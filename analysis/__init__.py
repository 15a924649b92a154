"""Fits, verdicts and charts of scaling laws, from any pandas table of results.

The names below are what an analysis starts from. They are imported on first use: every worker of a
study imports `analysis.columns`, and none of them needs pandas or scipy for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.batch_law import BatchSizeLaw, check_batch_size_law
    from analysis.errors import FitError
    from analysis.fit_status import FitStatus
    from analysis.forms import find_form
    from analysis.loading import load_cells, load_curves, load_grids
    from analysis.negative_control import PermutationControl, permutation_control
    from analysis.optimum import OptimumLabel, optimal_batch_sizes
    from analysis.power_law import PowerLawFit, fit_power_law
    from analysis.scaling_fit import FitResult, ScalingStatus, fit_scaling_law
    from analysis.verdict import Verdict

__all__ = [
    "BatchSizeLaw",
    "FitError",
    "FitResult",
    "FitStatus",
    "OptimumLabel",
    "PermutationControl",
    "PowerLawFit",
    "ScalingStatus",
    "Verdict",
    "check_batch_size_law",
    "find_form",
    "fit_power_law",
    "fit_scaling_law",
    "load_cells",
    "load_curves",
    "load_grids",
    "optimal_batch_sizes",
    "permutation_control",
]

_HOME = {
    "BatchSizeLaw": "analysis.batch_law",
    "FitError": "analysis.errors",
    "FitResult": "analysis.scaling_fit",
    "FitStatus": "analysis.fit_status",
    "OptimumLabel": "analysis.optimum",
    "PermutationControl": "analysis.negative_control",
    "PowerLawFit": "analysis.power_law",
    "ScalingStatus": "analysis.scaling_fit",
    "Verdict": "analysis.verdict",
    "check_batch_size_law": "analysis.batch_law",
    "find_form": "analysis.forms",
    "fit_power_law": "analysis.power_law",
    "fit_scaling_law": "analysis.scaling_fit",
    "load_cells": "analysis.loading",
    "load_curves": "analysis.loading",
    "load_grids": "analysis.loading",
    "optimal_batch_sizes": "analysis.optimum",
    "permutation_control": "analysis.negative_control",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

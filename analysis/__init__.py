"""Fits, verdicts and charts of scaling laws, from any pandas table of results.

The names below are what an analysis starts from. They are imported on first use: every worker of a
study imports `analysis.columns`, and none of them needs pandas or scipy for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.backtesting import Backtest, backtest
    from analysis.batch_law import BatchSizeLaw, check_batch_size_law
    from analysis.critical_batch import (
        CriticalBatchSizes,
        CriticalBatchStatus,
        fit_critical_batch_size,
    )
    from analysis.curve_design import PowerLawDesign, power_law_design
    from analysis.design import BatchLawDesign, batch_law_design
    from analysis.errors import FitError
    from analysis.exponent_comparison import Equivalence, ExponentComparison, compare_exponents
    from analysis.fit_status import FitStatus
    from analysis.forms import find_form
    from analysis.group_holdout import GroupHoldout, leave_one_group_out
    from analysis.loading import load_cells, load_curves, load_grids
    from analysis.model_size_law import ModelSizeLaw, ModelSizeStatus, fit_model_size_law
    from analysis.negative_control import PermutationControl, permutation_control
    from analysis.noise_scale import NoiseScale, gradient_noise_scale
    from analysis.optimum import OptimumLabel, optimal_batch_sizes
    from analysis.power_law import PowerLawFit, fit_power_law
    from analysis.regions import CurveRegions, curve_regions
    from analysis.required_data import DataForError, data_for_error, data_multiple, model_multiple
    from analysis.scaling_fit import FitResult, ScalingStatus, fit_scaling_law
    from analysis.verdict import Verdict

__all__ = [
    "Backtest",
    "BatchLawDesign",
    "BatchSizeLaw",
    "CriticalBatchSizes",
    "CriticalBatchStatus",
    "CurveRegions",
    "DataForError",
    "Equivalence",
    "ExponentComparison",
    "FitError",
    "FitResult",
    "FitStatus",
    "GroupHoldout",
    "ModelSizeLaw",
    "ModelSizeStatus",
    "NoiseScale",
    "OptimumLabel",
    "PermutationControl",
    "PowerLawDesign",
    "PowerLawFit",
    "ScalingStatus",
    "Verdict",
    "backtest",
    "batch_law_design",
    "check_batch_size_law",
    "compare_exponents",
    "curve_regions",
    "data_for_error",
    "data_multiple",
    "find_form",
    "fit_critical_batch_size",
    "fit_model_size_law",
    "fit_power_law",
    "fit_scaling_law",
    "gradient_noise_scale",
    "leave_one_group_out",
    "load_cells",
    "load_curves",
    "load_grids",
    "model_multiple",
    "optimal_batch_sizes",
    "permutation_control",
    "power_law_design",
]

_HOME = {
    "Backtest": "analysis.backtesting",
    "BatchLawDesign": "analysis.design",
    "BatchSizeLaw": "analysis.batch_law",
    "CriticalBatchSizes": "analysis.critical_batch",
    "CriticalBatchStatus": "analysis.critical_batch",
    "CurveRegions": "analysis.regions",
    "DataForError": "analysis.required_data",
    "Equivalence": "analysis.exponent_comparison",
    "ExponentComparison": "analysis.exponent_comparison",
    "FitError": "analysis.errors",
    "FitResult": "analysis.scaling_fit",
    "FitStatus": "analysis.fit_status",
    "GroupHoldout": "analysis.group_holdout",
    "ModelSizeLaw": "analysis.model_size_law",
    "ModelSizeStatus": "analysis.model_size_law",
    "NoiseScale": "analysis.noise_scale",
    "OptimumLabel": "analysis.optimum",
    "PermutationControl": "analysis.negative_control",
    "PowerLawDesign": "analysis.curve_design",
    "PowerLawFit": "analysis.power_law",
    "ScalingStatus": "analysis.scaling_fit",
    "Verdict": "analysis.verdict",
    "backtest": "analysis.backtesting",
    "batch_law_design": "analysis.design",
    "check_batch_size_law": "analysis.batch_law",
    "compare_exponents": "analysis.exponent_comparison",
    "curve_regions": "analysis.regions",
    "data_for_error": "analysis.required_data",
    "data_multiple": "analysis.required_data",
    "find_form": "analysis.forms",
    "fit_critical_batch_size": "analysis.critical_batch",
    "fit_model_size_law": "analysis.model_size_law",
    "fit_power_law": "analysis.power_law",
    "fit_scaling_law": "analysis.scaling_fit",
    "gradient_noise_scale": "analysis.noise_scale",
    "leave_one_group_out": "analysis.group_holdout",
    "load_cells": "analysis.loading",
    "load_curves": "analysis.loading",
    "load_grids": "analysis.loading",
    "model_multiple": "analysis.required_data",
    "optimal_batch_sizes": "analysis.optimum",
    "permutation_control": "analysis.negative_control",
    "power_law_design": "analysis.curve_design",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Fits, verdicts and charts of scaling laws, from any pandas table of results.

The names below are what an analysis starts from. They are imported on first use: every worker of a
study imports `analysis.columns`, and none of them needs pandas or scipy for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.batches.batch_law import BatchSizeLaw, check_batch_size_law
    from analysis.batches.critical_batch import (
        CriticalBatchSizes,
        CriticalBatchStatus,
        fit_critical_batch_size,
    )
    from analysis.batches.negative_control import PermutationControl, permutation_control
    from analysis.batches.noise_scale import NoiseScale, gradient_noise_scale
    from analysis.batches.optimum import OptimumLabel, optimal_batch_sizes
    from analysis.curves.backtesting import Backtest, backtest
    from analysis.curves.exponent_comparison import (
        Equivalence,
        ExponentComparison,
        compare_exponents,
    )
    from analysis.curves.fit_status import FitStatus
    from analysis.curves.group_holdout import GroupHoldout, leave_one_group_out
    from analysis.curves.model_size_law import ModelSizeLaw, ModelSizeStatus, fit_model_size_law
    from analysis.curves.power_law import PowerLawFit, fit_power_law
    from analysis.curves.regions import CurveRegions, curve_regions
    from analysis.curves.required_data import (
        DataForError,
        data_for_error,
        data_multiple,
        model_multiple,
    )
    from analysis.design.batch_law import BatchLawDesign, batch_law_design
    from analysis.design.power_law import PowerLawDesign, power_law_design
    from analysis.errors import FitError
    from analysis.fits.scaling_fit import FitResult, ScalingStatus, fit_scaling_law
    from analysis.forms import find_form
    from analysis.loading import load_cells, load_curves, load_grids
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
    "Backtest": "analysis.curves.backtesting",
    "BatchLawDesign": "analysis.design.batch_law",
    "BatchSizeLaw": "analysis.batches.batch_law",
    "CriticalBatchSizes": "analysis.batches.critical_batch",
    "CriticalBatchStatus": "analysis.batches.critical_batch",
    "CurveRegions": "analysis.curves.regions",
    "DataForError": "analysis.curves.required_data",
    "Equivalence": "analysis.curves.exponent_comparison",
    "ExponentComparison": "analysis.curves.exponent_comparison",
    "FitError": "analysis.errors",
    "FitResult": "analysis.fits.scaling_fit",
    "FitStatus": "analysis.curves.fit_status",
    "GroupHoldout": "analysis.curves.group_holdout",
    "ModelSizeLaw": "analysis.curves.model_size_law",
    "ModelSizeStatus": "analysis.curves.model_size_law",
    "NoiseScale": "analysis.batches.noise_scale",
    "OptimumLabel": "analysis.batches.optimum",
    "PermutationControl": "analysis.batches.negative_control",
    "PowerLawDesign": "analysis.design.power_law",
    "PowerLawFit": "analysis.curves.power_law",
    "ScalingStatus": "analysis.fits.scaling_fit",
    "Verdict": "analysis.verdict",
    "backtest": "analysis.curves.backtesting",
    "batch_law_design": "analysis.design.batch_law",
    "check_batch_size_law": "analysis.batches.batch_law",
    "compare_exponents": "analysis.curves.exponent_comparison",
    "curve_regions": "analysis.curves.regions",
    "data_for_error": "analysis.curves.required_data",
    "data_multiple": "analysis.curves.required_data",
    "find_form": "analysis.forms",
    "fit_critical_batch_size": "analysis.batches.critical_batch",
    "fit_model_size_law": "analysis.curves.model_size_law",
    "fit_power_law": "analysis.curves.power_law",
    "fit_scaling_law": "analysis.fits.scaling_fit",
    "gradient_noise_scale": "analysis.batches.noise_scale",
    "leave_one_group_out": "analysis.curves.group_holdout",
    "load_cells": "analysis.loading",
    "load_curves": "analysis.loading",
    "load_grids": "analysis.loading",
    "model_multiple": "analysis.curves.required_data",
    "optimal_batch_sizes": "analysis.batches.optimum",
    "permutation_control": "analysis.batches.negative_control",
    "power_law_design": "analysis.design.power_law",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]

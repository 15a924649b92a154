"""Fits, verdicts and charts of scaling laws, from any pandas table of results."""

from analysis.batch_law import BatchSizeLaw as BatchSizeLaw
from analysis.batch_law import check_batch_size_law as check_batch_size_law
from analysis.errors import FitError as FitError
from analysis.fit_status import FitStatus as FitStatus
from analysis.loading import load_cells as load_cells
from analysis.loading import load_curves as load_curves
from analysis.optimum import OptimumLabel as OptimumLabel
from analysis.optimum import optimal_batch_sizes as optimal_batch_sizes
from analysis.permutation_control import PermutationControl as PermutationControl
from analysis.permutation_control import permutation_control as permutation_control
from analysis.power_law import PowerLawFit as PowerLawFit
from analysis.power_law import fit_power_law as fit_power_law
from analysis.verdict import Verdict as Verdict

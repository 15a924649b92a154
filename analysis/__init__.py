"""Fits, verdicts and charts of scaling laws, from any pandas table of results."""

from analysis.errors import FitError as FitError
from analysis.fit_status import FitStatus as FitStatus
from analysis.loading import load_cells as load_cells
from analysis.loading import load_curves as load_curves
from analysis.power_law import PowerLawFit as PowerLawFit
from analysis.power_law import fit_power_law as fit_power_law

"""Fitting, whatever is fitted: forms to tables, intervals, censored numbers, the jackknife."""

"""Fits, verdicts and charts of scaling laws, from any pandas table of results."""

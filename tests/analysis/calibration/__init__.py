"""Whether intervals cover and verdicts err as often as they say, on tables of known truth.

`python -m tests.analysis.calibration` runs every section at full size, prints one table, and exits
with 1 where a required figure is missed; `--sets` makes it smaller. The ordinary tests run the same
functions on a few hundred tables.
"""

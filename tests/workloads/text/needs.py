"""Tests on real data run where the data are; where they must be, their lack is a failure."""

import os

import pytest

from workloads.data.data_set import DataSet

VARIABLE = "SCALING_STUDY_REQUIRE_DATA"


def needs(*data_sets: DataSet) -> pytest.MarkDecorator:
    """Return the mark of tests that read `data_sets`: skipped where one is missing.

    With the variable set nothing is skipped, and a missing set fails by its own error.
    """
    missing = [each.name for each in data_sets if each.find() is None]
    return pytest.mark.skipif(
        bool(missing) and not os.environ.get(VARIABLE),
        reason=f"not on this machine: {', '.join(missing)} (see `scaling-study data`)",
    )

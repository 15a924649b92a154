"""Tests that need a data set are skipped without it, unless data are required, as in `.ci/run`."""

import os

import pytest

from workloads.data.data_set import DataSet

REQUIRED = "SCALING_STUDY_REQUIRE_DATA"
"""Variable that makes a missing data set a failure, by the error that says how to get it."""


def needs(data_set: DataSet) -> pytest.MarkDecorator:
    """Return the mark of a test that reads a data set."""
    missing = data_set.find() is None and not os.environ.get(REQUIRED)
    return pytest.mark.skipif(missing, reason=data_set.how_to_get())

"""Tests that need a data set are skipped without it, unless data are required, as in `.ci/run`."""

import os

import pytest

from workloads.data.data_set import DataSet

REQUIRED = "SCALING_STUDY_REQUIRE_DATA"
"""Variable that makes a missing data set a failure, by the error that says how to get it."""


def needs(*data_sets: DataSet) -> pytest.MarkDecorator:
    """Return the mark of a test that reads `data_sets`."""
    missing = [each for each in data_sets if each.find() is None]
    skipped = bool(missing) and not os.environ.get(REQUIRED)
    return pytest.mark.skipif(
        skipped, reason=" ".join(each.how_to_get() for each in missing) or "all are here"
    )

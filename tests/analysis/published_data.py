"""Where published tables lie that are compared against; they are no part of the project."""

import os
from pathlib import Path

import pytest

VARIABLE = "SCALING_STUDY_PUBLISHED_DATA"
BESIDE = Path(__file__).parents[2].parent / "shared" / "data"
"""Beside the checkout, where `.ci/run` looks too when the variable is not set."""
FOLDER = Path(os.environ.get(VARIABLE) or BESIDE)


def missing(path: Path) -> str:
    """Return the sentence that says that a published table is not there."""
    return f"no {path}; set {VARIABLE} to the folder of published data"


def published(name: str) -> Path:
    """Return the path of a published table.

    Where it is absent the test is skipped, and fails if `SCALING_STUDY_PUBLISHED_DATA` is set.
    """
    path = FOLDER / name
    if not path.exists():
        (pytest.fail if os.environ.get(VARIABLE) else pytest.skip)(missing(path))
    return path

"""Where published tables lie that tests compare against; they are no part of the project."""

import os
from pathlib import Path

import pytest

FOLDER = Path(
    os.environ.get(
        "SCALING_STUDY_PUBLISHED_DATA", Path(__file__).parents[2].parent / "shared" / "data"
    )
)


def published(name: str) -> Path:
    """Return the path of a published table, or skip the test where it is absent."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"no {path}; set SCALING_STUDY_PUBLISHED_DATA to the folder of published data")
    return path

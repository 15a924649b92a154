"""Where data are looked for and where made things are kept: folders of the user's, then packages'.

`SCALING_STUDY_DATA` may name folders, parted as in PATH; each holds one folder a data set, by the
set's name. Without it that is `scaling-study` in the user's data folder (XDG_DATA_HOME, else
~/.local/share). Workers look too, so that on a cluster the variable is set on every node. This is
the one place of the workloads that reads the environment.
"""

import os
from pathlib import Path

__all__ = ["VARIABLE", "cache_folder", "data_folders"]

VARIABLE = "SCALING_STUDY_DATA"


def data_folders() -> list[Path]:
    """Return the folders that hold the user's data sets, the first of which gets new ones."""
    named = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return named or [_of_user("XDG_DATA_HOME", ".local/share")]


def cache_folder() -> Path:
    """Return the folder of what was made from data sets, and can be made again."""
    return _of_user("XDG_CACHE_HOME", ".cache")


def _of_user(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "scaling-study"

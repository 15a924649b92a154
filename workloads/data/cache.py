"""Arrays that are slow to make of a data set, kept between processes and read by memory map."""

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.data.folders import cache_folder
from workloads.errors import WorkloadError

__all__ = ["cached_arrays"]

Arrays = Mapping[str, NDArray[np.generic]]


def cached_arrays(
    name: str, key: str, make: Callable[[], Arrays]
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays that `make` makes, from the cache where an equal key has been made.

    `name`: of the data set. `key`: all that the arrays depend on, such as the version of the
    recipe, its settings, and the digest of the files. What comes back is read-only. Raises
    `WorkloadError` where the cache cannot be written or read.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name}-{digest}"
    made = None if folder.is_dir() else make()
    try:
        if made is not None:
            _write(folder, made)
        return {
            path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
            for path in sorted(folder.glob("*.npy"))
        }
    except (OSError, EOFError, ValueError) as error:
        raise WorkloadError(
            f"What was made of data set {name!r} cannot be kept in {folder}, or read there: "
            f"{error}. Remove that folder if it is there; or name one in XDG_CACHE_HOME where you "
            "may write, on every node."
        ) from error


def _write(folder: Path, arrays: Arrays) -> None:
    """Write all or nothing: into a folder beside, then renamed; the first of two writers stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        made = Path(beside) / "made"
        made.mkdir()
        for name, array in arrays.items():
            np.save(made / f"{name}.npy", array, allow_pickle=False)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first, with the same bytes
                raise

"""Arrays that are slow to make of a data set, kept between processes and read by memory map."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workloads.data.folders import cache_folder
from workloads.errors import WorkloadError

__all__ = ["cached_arrays"]

Arrays = Mapping[str, NDArray[np.generic]]

NAMES = "names.json"
"""Lists what the folder holds when it is whole."""


def cached_arrays(
    name: str, key: str, make: Callable[[], Arrays]
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays that `make` makes, from the cache where an equal key has been made.

    `name`: of the data set. `key`: all that the arrays depend on, such as the version of the
    recipe, its settings, and the digest of the files. What comes back is read-only. What a cache
    has lost, or holds torn, is made again. Raises `WorkloadError` where the cache cannot be written
    or read.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name}-{digest}"
    with _explained(name, folder):
        kept = _read(folder)
    if kept is not None:
        return kept
    made = make()
    with _explained(name, folder):
        _write(folder, made)
        kept = _read(folder)
        if kept is None:
            raise OSError("what was just written is not there")
        return kept


@contextmanager
def _explained(name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkloadError(
            f"What was made of data set {name!r} cannot be kept in {folder}, or read there: "
            f"{error}. Name a folder in XDG_CACHE_HOME where you may write, on every node."
        ) from error


def _read(folder: Path) -> dict[str, NDArray[np.generic]] | None:
    """Return the arrays of a whole folder; None where it is none."""
    try:
        names = json.loads((folder / NAMES).read_text())
        return {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in names
        }
    except (FileNotFoundError, EOFError, ValueError):  # ValueError: torn, or no JSON
        return None


def _write(folder: Path, arrays: Arrays) -> None:
    """Write all or nothing: into a folder beside, then renamed; instead of what is not whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        made = Path(beside) / "made"
        made.mkdir()
        for name, array in arrays.items():
            np.save(made / f"{name}.npy", array, allow_pickle=False)
        (made / NAMES).write_text(json.dumps(list(arrays)))
        with suppress(FileNotFoundError):
            if _read(folder) is None:
                folder.rename(Path(beside) / "damaged")
        try:
            made.rename(folder)
        except OSError:
            if _read(folder) is None:  # else another process was first, with the same bytes
                raise

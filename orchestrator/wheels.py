"""Wheels of pure Python, unpacked so that their packages can travel with a job.

Ray would install a wheel together with all that it requires: a second torch, a second Ray.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import RequestError

__all__ = ["unpacked"]

PURE = "-none-any.whl"
"""How the name of a wheel ends that runs on every platform."""


def unpacked(wheels: Sequence[Path], folder: Path) -> list[Path]:
    """Unpack `wheels` into `folder`; return what is to be on the path of a worker.

    These are packages and modules, and their metadata, by which plug-ins are found. Raises
    `RequestError` for a file that is no wheel of pure Python, that has anything else at its top, or
    that holds what another one holds.
    """
    found: list[Path] = []
    for wheel in wheels:
        if not wheel.name.endswith(PURE):
            raise RequestError(
                f"--wheel {wheel}: only wheels of pure Python travel; allowed: a file whose name "
                f"ends with {PURE}. Install others in the environment of every node."
            )
        try:
            with zipfile.ZipFile(wheel) as archive:
                tops = sorted({name.split("/")[0] for name in archive.namelist()})
                _refuse_others(wheel, tops, archive.namelist())
                twice = [top for top in tops if (folder / top).exists()]
                if twice:
                    raise RequestError(
                        f"--wheel {wheel}: {', '.join(twice)} is in another of the wheels too. "
                        "Leave one of them out."
                    )
                archive.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise RequestError(
                f"--wheel {wheel} cannot be read: {error}. Make one with "
                "'pip wheel --no-deps --wheel-dir dist FOLDER'."
            ) from error
        found += [folder / top for top in tops]
    return found


def _refuse_others(wheel: Path, tops: Sequence[str], names: Sequence[str]) -> None:
    """Raise `RequestError` for our own, and for what is neither a package nor a module."""
    if "orchestrator" in tops:
        raise RequestError(
            f"--wheel {wheel} holds scaling-study itself, which must be in the environment of "
            "every node, with what it requires."
        )
    for top in tops:
        if (top in names and not top.endswith(".py")) or top.endswith(".data"):
            raise RequestError(
                f"--wheel {wheel} holds {top} at its top; allowed: packages, modules and their "
                "metadata. Install it in the environment of every node."
            )

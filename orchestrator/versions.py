"""What must be alike on every node: rows of one study are compared with each other."""

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_versions"]

PACKAGES = ("scaling-study", "ray", "torch", "numpy", "pandas", "pyarrow")


def installed_versions() -> dict[str, str]:
    """Return the versions of python and of our packages here; "missing" where there is none."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
